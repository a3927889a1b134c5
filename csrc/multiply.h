// The matrix products of small networks: lanes are units of a layer.
//
// Every sum adds its terms in the order of the layer below, one multiply-add after the other, so
// that a row's bits depend neither on the rows beside it nor on how many of them are worked on at a
// time. Instruction sets without a fused multiply-add round twice.
#pragma once

#include <cstdint>

#include "lanes.h"

namespace mipoison {
namespace MIPOISON_ISA {

constexpr int kUnitLanes = kLanes<float>;

// sum + a * b.
inline Block<float> fused(const Block<float>& sum, const Block<float>& a, const Block<float>& b) {
#if defined(__AVX512F__)
  Block<float> r;
  r.part[0] = (Native<float>::Vector)_mm512_fmadd_ps((__m512)a.part[0], (__m512)b.part[0],
                                                     (__m512)sum.part[0]);
  return r;
#elif defined(__FMA__)
  Block<float> r;
  for (int i = 0; i < kParts; ++i)
    r.part[i] = (Native<float>::Vector)_mm256_fmadd_ps((__m256)a.part[i], (__m256)b.part[i],
                                                       (__m256)sum.part[i]);
  return r;
#else
  return sum + a * b;
#endif
}

// What becomes of a sum before it is stored.
enum class Unit { kPlain, kRelu };

// out[r][j] = start + sum over i of x[r][i] w[i][j], for kRows rows and kBlocks blocks of units.
// The start is the bias, or where there is none what is in `out`.
template <int kRows, int kBlocks, Unit kUnit>
inline void multiply_some(const float* x, int64_t x_stride, int64_t inner, const float* w,
                          int64_t w_stride, const float* bias, float* out, int64_t out_stride) {
  Block<float> sum[kRows][kBlocks];
  for (int r = 0; r < kRows; ++r)
    for (int b = 0; b < kBlocks; ++b)
      sum[r][b] = Block<float>::load((bias ? bias : out + r * out_stride) + b * kUnitLanes);
  for (int64_t i = 0; i < inner; ++i) {
    Block<float> weights[kBlocks];
    for (int b = 0; b < kBlocks; ++b)
      weights[b] = Block<float>::load(w + i * w_stride + b * kUnitLanes);
    for (int r = 0; r < kRows; ++r) {
      const Block<float> value = Block<float>::all(x[r * x_stride + i]);
      for (int b = 0; b < kBlocks; ++b) sum[r][b] = fused(sum[r][b], value, weights[b]);
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int b = 0; b < kBlocks; ++b) {
      // NaN stays: it must not pass for an idle unit.
      if constexpr (kUnit == Unit::kRelu)
        sum[r][b] = keep(sum[r][b], !(sum[r][b] < Block<float>::all(0)));
      sum[r][b].store(out + r * out_stride + b * kUnitLanes);
    }
}

// The same for some rows and all units, as many at a time as there are registers for.
template <int kRows, int kBlocks, Unit kUnit>
inline void multiply_rows(const float* x, int64_t x_stride, int64_t inner, const float* w,
                          int64_t w_stride, const float* bias, int64_t units, float* out,
                          int64_t out_stride) {
  int64_t j = 0;
  for (; j + kBlocks * kUnitLanes <= units; j += kBlocks * kUnitLanes)
    multiply_some<kRows, kBlocks, kUnit>(x, x_stride, inner, w + j, w_stride,
                                         bias ? bias + j : nullptr, out + j, out_stride);
  for (; j < units; j += kUnitLanes)
    multiply_some<kRows, 1, kUnit>(x, x_stride, inner, w + j, w_stride, bias ? bias + j : nullptr,
                                   out + j, out_stride);
}

// Registers: 32 of a block on AVX-512, eight and four blocks' worth elsewhere.
#if defined(__AVX512F__)
constexpr int kMostRows = 12, kMostBlocks = 2, kFewBlocks = 4, kOneBlocks = 8;
#elif defined(__AVX2__)
constexpr int kMostRows = 6, kMostBlocks = 1, kFewBlocks = 1, kOneBlocks = 4;
#else
constexpr int kMostRows = 3, kMostBlocks = 1, kFewBlocks = 1, kOneBlocks = 2;
#endif

template <Unit kUnit>
inline void multiply(int64_t rows, const float* x, int64_t x_stride, int64_t inner, const float* w,
                     int64_t w_stride, const float* bias, int64_t units, float* out,
                     int64_t out_stride) {
  int64_t r = 0;
  for (; r + kMostRows <= rows; r += kMostRows)
    multiply_rows<kMostRows, kMostBlocks, kUnit>(x + r * x_stride, x_stride, inner, w, w_stride,
                                                 bias, units, out + r * out_stride, out_stride);
  if constexpr (kMostRows > 4) {
    for (; r + 4 <= rows; r += 4)
      multiply_rows<4, kFewBlocks, kUnit>(x + r * x_stride, x_stride, inner, w, w_stride, bias,
                                          units, out + r * out_stride, out_stride);
  }
  for (; r < rows; ++r)
    multiply_rows<1, kOneBlocks, kUnit>(x + r * x_stride, x_stride, inner, w, w_stride, bias, units,
                                        out + r * out_stride, out_stride);
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
