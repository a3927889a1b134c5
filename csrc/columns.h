// Sixteen rows of memory into columns of blocks and back, tile by tile.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "transpose.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Rows that are worked on side by side.
struct Group {
  int64_t row[kGroup];    // lanes without a row repeat another's
  int64_t place[kGroup];  // of the row's first entry in a matrix
  uint32_t lanes;         // one bit a lane that has a row
  bool goes_on = false;   // the rows are neighbours, and so are those of the next group
};

inline Group group_at(int64_t begin, int64_t end, int64_t k) {
  Group group;
  const int64_t rows = std::min<int64_t>(kGroup, end - begin);
  group.lanes = ~uint32_t{0} >> (32 - rows);
  group.goes_on = true;
  for (int64_t i = 0; i < kGroup; ++i) {
    group.row[i] = begin + std::min(i, rows - 1);
    group.place[i] = group.row[i] * k;
  }
  return group;
}

// Columns of whole tiles.
inline int64_t padded_columns(int64_t k) { return (k + kGroup - 1) / kGroup * kGroup; }

// Sixteen entries of sixteen rows, the i-th at `row(i)`, as columns.
template <class T, class Row>
inline void load_tile(const Row& row, Block<float> (&tile)[kGroup]) {
#if defined(__AVX512F__)
  if constexpr (!kSixteen<T>) {
    transpose([&](int i, int half) { return _mm256_loadu_ps(row(i) + 8 * half); }, tile);
    return;
  }
#endif
  for (int i = 0; i < kGroup; ++i) tile[i] = load_entries(row(i));
  transpose(tile);
}

// Columns as sixteen entries of sixteen rows.
template <class T, class Row>
inline void store_tile(Block<float> (&tile)[kGroup], const Row& row) {
#if defined(__AVX512F__)
  if constexpr (!kSixteen<T>) {
    // Halves of two rows in each register: these are stored faster than whole rows, most of which
    // would cross a line of the cache.
    const __m512i left = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i right = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    for (int half = 0; half < 2; ++half) {
      __m512 m[2][4];
      for (int q = 0; q < 2; ++q) {
        for (int i = 0; i < 4; ++i) m[q][i] = (__m512)tile[8 * half + 4 * q + i].part[0];
        transpose_quarters(m[q]);
      }
      const auto store_two = [&](int i, __m512i order) {
        const __m512d two =
            _mm512_permutex2var_pd((__m512d)m[0][i % 4], order, (__m512d)m[1][i % 4]);
        _mm256_storeu_pd((double*)(row(i) + 8 * half), _mm512_castpd512_pd256(two));
        _mm256_storeu_pd((double*)(row(i + 4) + 8 * half),
                         _mm512_maskz_extractf64x4_pd(0xF, two, 1));
      };
      for (int i = 0; i < 4; ++i) {
        store_two(i, left);
        store_two(i + 8, right);
      }
    }
    return;
  }
#endif
  transpose(tile);
  for (int i = 0; i < kGroup; ++i) store_entries(tile[i], row(i));
}

// Prefetches the part of the next sixteen rows of a matrix that is due with the tile at c: as many
// lines of memory as a tile has, one after the other, as the hardware does not follow sixteen
// strided streams. Beyond the last row it is harmless. Into the second level: the first is full of
// the rows in work. (Always inline: a function that does nothing else is dropped by GCC.)
template <int kWrites, class T>
__attribute__((always_inline)) inline void prefetch_next(const T* matrix, int64_t k,
                                                         const Group& group, int64_t c) {
  const T* const from = matrix + group.place[0] + (k + c) * kGroup;
  for (int j = 0; j < kGroup; ++j) __builtin_prefetch(from + j * kGroup, kWrites, 2);
}

// Calls take(c, n, tile) for the rows of a matrix whose memory ends at `end`: column c + j of the
// group is block j < n of the tile, what follows is anything.
template <class T, class Take>
__attribute__((always_inline)) inline void each_column_tile(const T* matrix, const T* end,
                                                            int64_t k, const Group& group,
                                                            const Take& take) {
  const int64_t whole = k / kGroup * kGroup;
  const int n = static_cast<int>(k - whole);
  for (int64_t c = 0; c < whole; c += kGroup) {
    Block<float> tile[kGroup];
    // (Sixteen addresses are more than there are registers for: they are read anew.)
    const int64_t* place = group.place;
    __asm__("" : "+r"(place));
    load_tile<T>([&](int i) { return matrix + place[i] + c; }, tile);
    if (group.goes_on) prefetch_next<0>(matrix, k, group, c);
    take(c, std::integral_constant<int, kGroup>{}, tile);
  }
  if (n == 0) return;
  const int64_t last = *std::max_element(group.place, group.place + kGroup);
  const bool roomy = end - matrix - last >= whole + kGroup;
  Block<float> tile[kGroup];
  for (int i = 0; i < kGroup; ++i) tile[i] = load_first(matrix + group.place[i] + whole, n, roomy);
  if (group.goes_on) prefetch_next<0>(matrix, k, group, whole);
  transpose(tile);
  take(whole, n, tile);
}

// Block j of `columns` receives the j-th entries of the rows. Blocks k to padded_columns(k) are
// overwritten too.
template <class T>
inline void load_columns(const T* matrix, const T* end, int64_t k, const Group& group,
                         float* columns) {
  each_column_tile(matrix, end, k, group, [&](int64_t c, auto, const Block<float>(&tile)[kGroup]) {
    for (int j = 0; j < kGroup; ++j) tile[j].store(columns + (c + j) * kGroup);
  });
}

// Writes the rows that `wanted` has a bit for.
template <class T>
inline void store_columns(const float* columns, int64_t k, const Group& group, uint32_t wanted,
                          T* matrix) {
  constexpr uint32_t kAll = (uint32_t{1} << kGroup) - 1;
  for (int64_t c = 0; c < k; c += kGroup) {
    Block<float> tile[kGroup];
    for (int j = 0; j < kGroup; ++j) tile[j] = Block<float>::load(columns + (c + j) * kGroup);
    const int64_t* place = group.place;
    __asm__("" : "+r"(place));
    if (group.goes_on) prefetch_next<1>(matrix, k, group, c);
    if (wanted == kAll && k - c >= kGroup) {
      store_tile<T>(tile, [&](int i) { return matrix + place[i] + c; });
      continue;
    }
    transpose(tile);
    const int n = static_cast<int>(std::min<int64_t>(kGroup, k - c));
    for (int i = 0; i < kGroup; ++i)
      if (wanted >> i & 1) store_first(tile[i], matrix + place[i] + c, n);
  }
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
