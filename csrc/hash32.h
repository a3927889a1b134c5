// philox.h for sixteen float32 entries at a time. Integers only, so that the words are the same.
#pragma once

#include "philox.h"
#include "rows32.h"

namespace mipoison {
namespace MIPOISON_ISA {

typedef uint64_t WordVector __attribute__((vector_size(kVectorBytes)));
typedef int64_t SignedVector __attribute__((vector_size(kVectorBytes)));
typedef uint32_t HalfWords __attribute__((vector_size(kVectorBytes / 2)));
typedef int32_t SignedHalfWords __attribute__((vector_size(kVectorBytes / 2)));

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;

// Sixteen words of 64 bits.
struct Sixteen {
  WordVector part[2 * kParts];

  static Sixteen all(uint64_t value) {
    Sixteen s;
    for (WordVector& p : s.part) p = WordVector{} + value;
    return s;
  }
  static Sixteen load(const uint64_t* from) {
    Sixteen s;
    std::memcpy(&s, from, sizeof s);
    return s;
  }
  void store(uint64_t* to) const { std::memcpy(to, this, sizeof *this); }
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

inline WordVector mix(WordVector x) {
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9;
  x ^= x >> 27;
  x *= 0x94D049BB133111EB;
  x ^= x >> 31;
  return x;
}

// exact_cell of each entry.
struct ExactCells {
  Sixteen operator()(const Block<float>& b) const {
    Sixteen cell;
    for (int i = 0; i < kParts; ++i) {
      const FloatVector x = b.part[i] + 0.0f;
      cell.part[2 * i] = __builtin_convertvector((HalfWords)lower_half(x), WordVector);
      cell.part[2 * i + 1] = __builtin_convertvector((HalfWords)upper_half(x), WordVector);
    }
    return cell;
  }
};

// coarse_cell of each entry.
struct CoarseCells {
  float cells_per_unit;

  Sixteen operator()(const Block<float>& b) const {
    using Integers = Native<float>::Mask;
    const Block<float> integer = Block<float>::all(8388608), zero = Block<float>::all(0);
    const Block<float> scaled = b * Block<float>::all(cells_per_unit);
    const Block<float> size = max(scaled, zero - scaled);
    Sixteen cell;
    if (any(!(size < integer))) {
      float entry[kGroup];
      uint64_t word[kGroup];
      b.store(entry);
      for (int i = 0; i < kGroup; ++i) word[i] = coarse_cell(entry[i], cells_per_unit);
      return Sixteen::load(word);
    }
    const Block<float> whole = (size + integer) - integer;
    const Block<float> rounded = select(scaled < zero, zero - whole, whole);
    for (int i = 0; i < kParts; ++i) {
      const FloatVector x = (FloatVector)__builtin_convertvector(rounded.part[i], Integers);
      cell.part[2 * i] =
          (WordVector)__builtin_convertvector((SignedHalfWords)lower_half(x), SignedVector);
      cell.part[2 * i + 1] =
          (WordVector)__builtin_convertvector((SignedHalfWords)upper_half(x), SignedVector);
    }
    return cell;
  }
};

// hash += mix(cell + place), lane by lane.
template <class Cells>
inline void add_mixed(const Cells& cells, const Block<float>& x, const Sixteen& place,
                      Sixteen* hash) {
  const Sixteen cell = cells(x);
  for (int i = 0; i < 2 * kParts; ++i) hash->part[i] += mix(cell.part[i] + place.part[i]);
}

// hash_row of each of sixteen rows in columns.
inline Sixteen hash_columns(const float* columns, int64_t k, const Key& key) {
  Sixteen hash = Sixteen::all(0), place = Sixteen::all(uint64_t{key.word[3]} << 32);
  for (int64_t i = 0; i < k * kGroup; i += kGroup) {
    for (WordVector& p : place.part) p += kGolden;
    add_mixed(ExactCells{}, Block<float>::load(columns + i), place, &hash);
  }
  return hash;
}

template <class Cells>
inline uint64_t hash_line(const float* row, int64_t k, const Key& key, const Cells& cells) {
  uint64_t lane[kGroup];
  for (uint64_t i = 0; i < kGroup; ++i) lane[i] = (uint64_t{key.word[3]} << 32) + (i + 1) * kGolden;
  Sixteen hash = Sixteen::all(0), place = Sixteen::load(lane);
  const int64_t whole = k / kGroup * kGroup;
  for (int64_t i = 0; i < whole; i += kGroup) {
    add_mixed(cells, Block<float>::load(row + i), place, &hash);
    for (WordVector& p : place.part) p += kGroup * kGolden;
  }
  hash.store(lane);
  uint64_t sum = 0;
  for (int i = 0; i < kGroup; ++i) sum += lane[i];
  const int rest = static_cast<int>(k - whole);
  if (rest == 0) return sum;
  hash = Sixteen::all(0);
  add_mixed(cells, load_first(row + whole, rest, false), place, &hash);
  hash.store(lane);
  for (int i = 0; i < rest; ++i) sum += lane[i];
  return sum;
}

inline uint64_t hash_row(const float* row, int64_t k, const Key& key, double grid) {
  if (grid > 0) return hash_line(row, k, key, CoarseCells{static_cast<float>(1 / grid)});
  return hash_line(row, k, key, ExactCells{});
}

// The first two of words_of(hash, key, 0), for each row of a lot.
template <class S>
struct TwoWords {
  uint64_t first[S::kRows], second[S::kRows];
};

inline TwoWords<Columns> two_words(const float* columns, int64_t k, const Key& key, Columns) {
  const Sixteen hash = hash_columns(columns, k, key);
  Sixteen first, second;
  for (int i = 0; i < 2 * kParts; ++i) {
    // What the upper halves of words hold never comes down.
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
  first.store(words.first);
  second.store(words.second);
  return words;
}

inline TwoWords<Line> two_words(const float* row, int64_t k, const Key& key, Line) {
  const Words words = words_of(hash_line(row, k, key, ExactCells{}), key, 0);
  return {{words.word[0]}, {words.word[1]}};
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
