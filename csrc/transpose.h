// Squares of sixteen rows and columns turned in registers, and the pieces that are narrower.
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

#if defined(__AVX512F__)

// Squares of 4 x 4 in each quarter of four registers: register j gets the j-th lanes of all.
inline void transpose_quarters(__m512 (&m)[4]) {
  const __m512d a = (__m512d)_mm512_maskz_unpacklo_ps(0xFFFF, m[0], m[1]);
  const __m512d b = (__m512d)_mm512_maskz_unpackhi_ps(0xFFFF, m[0], m[1]);
  const __m512d c = (__m512d)_mm512_maskz_unpacklo_ps(0xFFFF, m[2], m[3]);
  const __m512d d = (__m512d)_mm512_maskz_unpackhi_ps(0xFFFF, m[2], m[3]);
  m[0] = (__m512)_mm512_maskz_unpacklo_pd(0xFF, a, c);
  m[1] = (__m512)_mm512_maskz_unpackhi_pd(0xFF, a, c);
  m[2] = (__m512)_mm512_maskz_unpacklo_pd(0xFF, b, d);
  m[3] = (__m512)_mm512_maskz_unpackhi_pd(0xFF, b, d);
}

// A tile of sixteen rows, row(i, half) eight entries of row i: reading two rows into a register is
// a step of the transposition, and only one of the others crosses quarters.
template <class Row>
inline void transpose(const Row& row, Block<float> (&tile)[kGroup]) {
  for (int half = 0; half < 2; ++half) {
    __m512 m[2][4];
    for (int q = 0; q < 2; ++q) {
      for (int i = 0; i < 4; ++i)
        m[q][i] = (__m512)_mm512_maskz_insertf64x4(
            0xFF, _mm512_zextpd256_pd512((__m256d)row(8 * q + i, half)),
            (__m256d)row(8 * q + i + 4, half), 1);
      transpose_quarters(m[q]);
    }
    for (int i = 0; i < 4; ++i) {
      FloatVector &left = tile[8 * half + i].part[0], &right = tile[8 * half + i + 4].part[0];
      left = (FloatVector)_mm512_maskz_shuffle_f32x4(0xFFFF, m[0][i], m[1][i], 0x88);
      right = (FloatVector)_mm512_maskz_shuffle_f32x4(0xFFFF, m[0][i], m[1][i], 0xDD);
    }
  }
}

inline void transpose(Block<float> (&tile)[kGroup]) {
  Block<float> turned[kGroup];
  transpose(
      [&](int i, int half) {
        return half ? _mm512_maskz_extractf32x8_ps(0xFF, (__m512)tile[i].part[0], 1)
                    : _mm512_maskz_extractf32x8_ps(0xFF, (__m512)tile[i].part[0], 0);
      },
      turned);
  for (int i = 0; i < kGroup; ++i) tile[i] = turned[i];
}

#else

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

#endif

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

}  // namespace MIPOISON_ISA
}  // namespace mipoison
