// What is done across the lanes of blocks: every reduction adds them in the same order.
#pragma once

#include "masks.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Sum of the lanes in float64, as a tree.
template <class T>
inline double total(Block<T> b) {
#if defined(__AVX512DQ__)
  if constexpr (sizeof(T) == 4) {
    const __m512d low = _mm512_maskz_cvtps_pd(0xFF, _mm512_castps512_ps256((__m512)b.part[0]));
    const __m512d high = _mm512_maskz_cvtps_pd(0xFF, _mm512_extractf32x8_ps((__m512)b.part[0], 1));
    return _mm512_reduce_add_pd(_mm512_add_pd(low, high));
  } else {
    return _mm512_reduce_add_pd((__m512d)b.part[0]);
  }
#endif
  constexpr int n = kLanes<T>;
  T lane[n];
  b.store(lane);
  double wide[n];
  for (int i = 0; i < n; ++i) wide[i] = lane[i];
  for (int half = n / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) wide[i] += wide[i + half];
  return wide[0];
}

template <class T>
inline T largest(Block<T> b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return _mm512_reduce_max_ps((__m512)b.part[0]);
  else
    return _mm512_reduce_max_pd((__m512d)b.part[0]);
#endif
  T lane[kLanes<T>];
  b.store(lane);
  for (int half = kLanes<T> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
  return lane[0];
}

template <class T>
inline int64_t padded(int64_t n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// A sum over many blocks: float32 lanes are flushed to float64 before their rounding shows.
constexpr int kFlushBlocks = 64;

// Copies the last, partial block of a row into `block`, filled up with `filler`.
template <class T>
inline void load_tail(const T* from, int64_t n, T filler, T* block) {
  for (int i = 0; i < kLanes<T>; ++i) block[i] = i < n ? from[i] : filler;
}

// Lowest index whose entry equals `value`; n if there is none.
template <class T>
inline int64_t first_index_of(const T* row, int64_t n, T value) {
  const Block<T> wanted = Block<T>::all(value);
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>)
    if (any(Block<T>::load(row + i) == wanted)) break;
  for (; i < n; ++i)
    if (row[i] == value) return i;
  return n;
}

// Copies the entries above a bound to `to`, which has room for a block more, and fills the last
// block up with -inf. Returns how many blocks they take. Only where one instruction does it.
#if defined(__AVX512F__)
constexpr bool kCanPack = true;
inline int64_t pack_above(const float* from, int64_t blocks, float bound, float* to) {
  constexpr int n = kLanes<float>;
  const __m512 level = _mm512_set1_ps(bound);
  float* end = to;
  for (int64_t i = 0; i < blocks * n; i += n) {
    const __m512 x = _mm512_loadu_ps(from + i);
    const __mmask16 above = _mm512_cmp_ps_mask(x, level, _CMP_GT_OQ);
    _mm512_storeu_ps(end, _mm512_maskz_compress_ps(above, x));
    end += __builtin_popcount(above);
  }
  Block<float>::all(-__builtin_inff()).store(end);
  return (end - to + n - 1) / n;
}
#else
constexpr bool kCanPack = false;
inline int64_t pack_above(const float*, int64_t blocks, float, float*) { return blocks; }
#endif

}  // namespace MIPOISON_ISA
}  // namespace mipoison
