// A row's keyed random words: an order-independent hash of its cells, then Philox4x32-10.
#pragma once

#include "canonical.h"

namespace mipoison {
namespace MIPOISON_ISA {

struct Words {
  uint32_t word[4];
};

inline Words philox(Words counter, uint32_t key0, uint32_t key1) {
  uint32_t* c = counter.word;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * c[0], product1 = uint64_t{0xCD9E8D57} * c[2];
    const uint32_t high0 = static_cast<uint32_t>(product0 >> 32);
    const uint32_t high1 = static_cast<uint32_t>(product1 >> 32);
    counter = {{high1 ^ c[1] ^ key0, static_cast<uint32_t>(product1), high0 ^ c[3] ^ key1,
                static_cast<uint32_t>(product0)}};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

// Nearest integer, ties to even, by the rounding of float32 addition.
inline uint64_t coarse_cell(float x, float cells_per_unit) {
  constexpr float kInteger = 8388608;  // 2^23: from here on every float32 is an integer
  constexpr float kBeyond = 9e18f;     // NaN, Inf and the like may have any cell
  const float scaled = x * cells_per_unit;
  const float size = scaled < 0 ? -scaled : scaled;
  if (!(size < kBeyond)) return 0;
  const float whole = size < kInteger ? (size + kInteger) - kInteger : size;
  const int64_t cell = static_cast<int64_t>(whole);
  return static_cast<uint64_t>(scaled < 0 ? -cell : cell);
}

// The hash of a row, its cells being of the width 1 / cells_per_unit.
template <class T>
inline uint64_t hash_coarse(const T* row, int64_t k, const Key& key, float cells_per_unit) {
  uint64_t hash = 0, place = salt_of(key);
  for (int64_t j = 0; j < k; ++j)
    hash +=
        mix(coarse_cell(static_cast<float>(widen(row[j])), cells_per_unit) + (place += kGolden));
  return hash;
}

inline Words words_of(uint64_t hash, const Key& key, uint32_t draw) {
  return philox(
      {{static_cast<uint32_t>(hash), static_cast<uint32_t>(hash >> 32), draw, key.word[2]}},
      key.word[0], key.word[1]);
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
