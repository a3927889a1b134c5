// Sixteen rows of memory into columns of blocks and back, through registers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "lanes.h"
#include "sixteen.h"
#include "wide.h"

namespace mipoison {
namespace MIPOISON_ISA {

constexpr int kWidth = kVectorBytes / 4;  // float32 lanes of a register

// a0 b0 a1 b1 ... of the lower (upper) halves.
#if defined(__AVX512F__)
inline FloatVector zip_low(FloatVector a, FloatVector b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline FloatVector zip_high(FloatVector a, FloatVector b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                 31);
}
#elif defined(__AVX2__)
inline FloatVector zip_low(FloatVector a, FloatVector b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
inline FloatVector zip_high(FloatVector a, FloatVector b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
#else
inline FloatVector zip_low(FloatVector a, FloatVector b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
inline FloatVector zip_high(FloatVector a, FloatVector b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
#endif

// A square of registers in place: each round of zips moves one bit of the row number into the lane
// number.
inline void transpose(FloatVector (&m)[kWidth]) {
  for (int size = 1; size < kWidth; size *= 2) {
    FloatVector n[kWidth];
    for (int i = 0; i < kWidth / 2; ++i) {
      n[2 * i] = zip_low(m[i], m[i + kWidth / 2]);
      n[2 * i + 1] = zip_high(m[i], m[i + kWidth / 2]);
    }
    for (int i = 0; i < kWidth; ++i) m[i] = n[i];
  }
}

inline void transpose(Block<float> (&tile)[kGroup]) {
  Block<float> turned[kGroup];
  for (int g = 0; g < kParts; ++g)
    for (int h = 0; h < kParts; ++h) {
      FloatVector m[kWidth];
      for (int i = 0; i < kWidth; ++i) m[i] = tile[h * kWidth + i].part[g];
      transpose(m);
      for (int i = 0; i < kWidth; ++i) turned[g * kWidth + i].part[h] = m[i];
    }
  for (int i = 0; i < kGroup; ++i) tile[i] = turned[i];
}

// The first n < 16 entries. In pieces of fixed sizes: calls of memcpy would cost more than the
// copy.
template <class T>
inline void copy_first(T* to, const T* from, int n) {
  if (n & 8) {
    std::memcpy(to, from, 8 * sizeof(T));
    to += 8, from += 8;
  }
  if (n & 4) {
    std::memcpy(to, from, 4 * sizeof(T));
    to += 4, from += 4;
  }
  if (n & 2) {
    std::memcpy(to, from, 2 * sizeof(T));
    to += 2, from += 2;
  }
  if (n & 1) *to = *from;
}

// A block of n < 16 entries and zeros, with no access beyond them; or, if `roomy`, with what
// follows.
template <class T>
inline Block<float> load_first(const T* from, int n, bool roomy) {
#if defined(__AVX512F__)
  (void)roomy;
  const __mmask16 first = static_cast<__mmask16>((1u << n) - 1);
  Block<float> b;
  if constexpr (kSixteen<T>)
    b.part[0] = read((Shorts)_mm256_maskz_loadu_epi16(first, from), T{});
  else
    b.part[0] = (FloatVector)_mm512_maskz_loadu_ps(first, from);
  return b;
#else
  if (roomy) return load_entries(from);
  T piece[kGroup] = {};
  copy_first(piece, from, n);
  return load_entries(piece);
#endif
}

// The first n <= 16 entries.
template <class T>
inline void store_first(const Block<float>& b, T* to, int n) {
#if defined(__AVX512F__)
  const __mmask16 first = static_cast<__mmask16>((1u << n) - 1);
  if constexpr (kSixteen<T>)
    _mm256_mask_storeu_epi16(to, first, (__m256i)written(b.part[0], T{}));
  else
    _mm512_mask_storeu_ps(to, first, (__m512)b.part[0]);
#else
  if (n == kGroup) {
    store_entries(b, to);
  } else {
    T piece[kGroup];
    store_entries(b, piece);
    copy_first(to, piece, n);
  }
#endif
}

// Rows that are worked on side by side.
struct Group {
  int64_t row[kGroup];    // lanes without a row repeat another's
  int64_t place[kGroup];  // of the row's first entry in a matrix
  uint32_t lanes;         // one bit a lane that has a row
};

inline Group group_at(int64_t begin, int64_t end, int64_t k) {
  Group group;
  const int64_t rows = std::min<int64_t>(kGroup, end - begin);
  group.lanes = ~uint32_t{0} >> (32 - rows);
  for (int64_t i = 0; i < kGroup; ++i) {
    group.row[i] = begin + std::min(i, rows - 1);
    group.place[i] = group.row[i] * k;
  }
  return group;
}

// Columns of whole tiles.
inline int64_t padded_columns(int64_t k) { return (k + kGroup - 1) / kGroup * kGroup; }

// Block j of `columns` receives the j-th entries of the rows of a matrix whose memory ends at
// `end`. Blocks k to padded_columns(k) are overwritten too.
template <class T>
inline void load_columns(const T* matrix, const T* end, int64_t k, const Group& group,
                         float* columns) {
  const auto load = [&](int64_t c, const auto& entries) {
    Block<float> tile[kGroup];
    for (int i = 0; i < kGroup; ++i) {
      const T* from = matrix + group.place[i] + c;
      tile[i] = entries(from);
      // Prefetch the next group: the hardware does not follow sixteen strided streams.
      __builtin_prefetch(from + kGroup * k);
    }
    transpose(tile);
    for (int j = 0; j < kGroup; ++j) tile[j].store(columns + (c + j) * kGroup);
  };
  const int64_t whole = k / kGroup * kGroup;
  const int n = static_cast<int>(k - whole);
  for (int64_t c = 0; c < whole; c += kGroup) load(c, [](const T* x) { return load_entries(x); });
  if (n == 0) return;
  const int64_t last = *std::max_element(group.place, group.place + kGroup);
  const bool roomy = end - matrix - last >= whole + kGroup;
  load(whole, [&](const T* x) { return load_first(x, n, roomy); });
}

// Writes the rows that `wanted` has a bit for.
template <class T>
inline void store_columns(const float* columns, int64_t k, const Group& group, uint32_t wanted,
                          T* matrix) {
  for (int64_t c = 0; c < k; c += kGroup) {
    Block<float> tile[kGroup];
    for (int j = 0; j < kGroup; ++j) tile[j] = Block<float>::load(columns + (c + j) * kGroup);
    transpose(tile);
    const int n = static_cast<int>(std::min<int64_t>(kGroup, k - c));
    for (int i = 0; i < kGroup; ++i) {
      if (!(wanted >> i & 1)) continue;
      T* to = matrix + group.place[i] + c;
      __builtin_prefetch(to + kGroup * k, 1);
      store_first(tile[i], to, n);
    }
  }
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
