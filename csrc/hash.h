// philox.h for the rows of a tile: the same integers, of columns sixteen rows side by side.
#pragma once

#include "philox.h"
#include "rows.h"

namespace mipoison {
namespace MIPOISON_ISA {

typedef uint64_t WordVector __attribute__((vector_size(kVectorBytes)));
typedef uint32_t HalfWords __attribute__((vector_size(kVectorBytes / 2)));

// Sixteen words of 64 bits.
struct Sixteen {
  WordVector part[2 * kParts];
};

// Products of the lower halves of words.
inline WordVector product(WordVector a, uint32_t b) {
#if defined(__AVX512F__)
  return (WordVector)_mm512_maskz_mul_epu32(0xFF, (__m512i)a, _mm512_set1_epi64(b));
#elif defined(__AVX2__)
  return (WordVector)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b));
#elif defined(__SSE2__)
  return (WordVector)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(b));
#else
  return (a & 0xFFFFFFFF) * b;
#endif
}

// The bit patterns of float32 entries, as words.
inline WordVector patterns(HalfVector x) {
#if defined(__AVX512F__)
  return (WordVector)_mm512_maskz_cvtepu32_epi64(0xFF, (__m256i)x);
#elif defined(__AVX2__)
  return (WordVector)_mm256_cvtepu32_epi64((__m128i)x);
#else
  return __builtin_convertvector((HalfWords)x, WordVector);
#endif
}

typedef Native<float>::Mask Patterns;

// The depths of float32 entries.
inline Patterns depths(FloatVector x) {
  const Patterns pattern = (Patterns)x, floor = Patterns{} + kFloor;
  return (pattern > floor ? pattern : floor) - floor;
}

// The hash of each of sixteen rows in columns.
inline Sixteen hash_columns(const float* columns, int64_t k, const Canonical& canonical) {
  Sixteen plain = {}, weighted[kCells] = {};
  Patterns top[kParts] = {};
  for (int64_t j = 0; j < k; ++j) {
    const Block<float> entries = Block<float>::load(columns + j * kGroup);
    for (int n = 0; n < kParts; ++n) {
      const Patterns x = depths(entries.part[n]);
      top[n] = top[n] > x ? top[n] : x;
      const WordVector low = patterns(lower_half((FloatVector)x)),
                       high = patterns(upper_half((FloatVector)x));
      plain.part[2 * n] += low;
      plain.part[2 * n + 1] += high;
      for (int i = 0; i < kCells; ++i) {
        weighted[i].part[2 * n] += product(low, canonical.weight(j, i));
        weighted[i].part[2 * n + 1] += product(high, canonical.weight(j, i));
      }
    }
  }
  uint64_t sums[kCells + 1][kGroup], hash[kGroup];
  uint32_t tops[kGroup];
  for (int i = 0; i < kCells; ++i) std::memcpy(sums[i], &weighted[i], sizeof plain);
  std::memcpy(sums[kCells], &plain, sizeof plain);
  std::memcpy(tops, top, sizeof top);
  for (int row = 0; row < kGroup; ++row) {
    Sums row_sums{{}, sums[kCells][row], tops[row]};
    for (int i = 0; i < kCells; ++i) row_sums.weighted[i] = sums[i][row];
    hash[row] = canonical.hash(row_sums);
  }
  Sixteen result;
  std::memcpy(&result, hash, sizeof hash);
  return result;
}

// The first two of words_of(hash, key, 0), for each row of a tile.
template <class S>
struct TwoWords {
  uint64_t first[S::kRows], second[S::kRows];
};

inline TwoWords<Columns> two_words(const float* columns, int64_t k, const Key& key,
                                   const Canonical& canonical, Columns) {
  const Sixteen hash = hash_columns(columns, k, canonical);
  Sixteen first, second;
  for (int i = 0; i < 2 * kParts; ++i) {
    // `product` reads lower halves only, so the upper halves need no masking.
    WordVector c0 = hash.part[i], c1 = c0 >> 32, c2 = {}, c3 = WordVector{} + uint64_t{key.word[2]};
    uint32_t key0 = key.word[0], key1 = key.word[1];
    for (int round = 0; round < 10; ++round) {
      const WordVector product0 = product(c0, 0xD2511F53), product1 = product(c2, 0xCD9E8D57);
      c0 = (product1 >> 32) ^ c1 ^ uint64_t{key0};
      c2 = (product0 >> 32) ^ c3 ^ uint64_t{key1};
      c1 = product1;
      c3 = product0;
      key0 += 0x9E3779B9;
      key1 += 0xBB67AE85;
    }
    first.part[i] = c0 & 0xFFFFFFFF;
    second.part[i] = c1 & 0xFFFFFFFF;
  }
  TwoWords<Columns> words;
  std::memcpy(words.first, &first, sizeof first);
  std::memcpy(words.second, &second, sizeof second);
  return words;
}

template <class E>
inline TwoWords<OneRow<E>> two_words(const E* row, int64_t, const Key& key,
                                     const Canonical& canonical, OneRow<E>) {
  const Words words = words_of(canonical(row), key, 0);
  return {{words.word[0]}, {words.word[1]}};
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
