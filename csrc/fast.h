// The common case in float32 registers: float32 rows, no ball, entries of moderate size.
//
// Every function here may decline (return false); the float64 path then decides the row from
// scratch. So nothing in this file has to know what an invalid row deserves.
#pragma once

#include <cmath>
#include <limits>

#include "attempt.h"
#include "lanes.h"
#include "round.h"
#include "simplex.h"

namespace mipoison {
namespace MIPOISON_ISA {

struct Summary {
  double sum;
  float smallest, largest;
};

// Sum, minimum and maximum of a row. NaN shows in the sum.
inline Summary summarise(const float* row, int64_t k) {
  constexpr int n = kLanes<float>;
  constexpr float inf = std::numeric_limits<float>::infinity();
  Block<float> low = Block<float>::all(inf), high = Block<float>::all(-inf);
  double sum = 0;
  const int64_t whole = k / n * n;
  for (int64_t begin = 0; begin < whole; begin += kFlushBlocks * n) {
    const int64_t end = std::min<int64_t>(whole, begin + kFlushBlocks * n);
    Block<float> part = Block<float>::all(0);
    for (int64_t i = begin; i < end; i += n) {
      const Block<float> x = Block<float>::load(row + i);
      part = part + x;
      low = min(low, x);
      high = max(high, x);
    }
    sum += total(part);
  }
  Summary s{sum, -largest(Block<float>::all(0) - low), largest(high)};
  for (int64_t i = whole; i < k; ++i) {
    s.sum += row[i];
    s.smallest = std::min(s.smallest, row[i]);
    s.largest = std::max(s.largest, row[i]);
  }
  return s;
}

inline double sum_of_squares(const float* row, int64_t k) {
  constexpr int n = kLanes<float>;
  double sum = 0;
  const int64_t whole = k / n * n;
  for (int64_t begin = 0; begin < whole; begin += kFlushBlocks * n) {
    const int64_t end = std::min<int64_t>(whole, begin + kFlushBlocks * n);
    Block<float> part = Block<float>::all(0);
    for (int64_t i = begin; i < end; i += n) {
      const Block<float> x = Block<float>::load(row + i);
      part = part + x * x;
    }
    sum += total(part);
  }
  for (int64_t i = whole; i < k; ++i) sum += static_cast<double>(row[i]) * row[i];
  return sum;
}

// z = q + scale * g, padded with -inf. Returns max z, NaN-blind.
inline float ascend(const float* q, const float* g, float scale, int64_t k, float* z) {
  constexpr int n = kLanes<float>;
  constexpr float inf = std::numeric_limits<float>::infinity();
  const Block<float> factor = Block<float>::all(scale);
  Block<float> high = Block<float>::all(-inf);
  const auto block = [&](const float* from_q, const float* from_g, float* to) {
    const Block<float> x = Block<float>::load(from_q) + factor * Block<float>::load(from_g);
    high = max(high, x);
    x.store(to);
  };
  const int64_t whole = k / n * n;
  for (int64_t i = 0; i < whole; i += n) block(q + i, g + i, z + i);
  if (whole < k) {
    float tail_q[n], tail_g[n];
    load_tail(q + whole, k - whole, -inf, tail_q);
    load_tail(g + whole, k - whole, 0.f, tail_g);
    block(tail_q, tail_g, z + whole);
  }
  return largest(high);
}

// z = from - top, padded with -inf: exact where it matters, within 1 of the largest entry.
inline void lower_by(const float* from, float top, int64_t k, float* z) {
  constexpr int n = kLanes<float>;
  const Block<float> level = Block<float>::all(top);
  const int64_t whole = k / n * n;
  for (int64_t i = 0; i < whole; i += n) (Block<float>::load(from + i) - level).store(z + i);
  for (int64_t i = whole; i < padded<float>(k); ++i)
    z[i] = i < k ? from[i] - top : -std::numeric_limits<float>::infinity();
}

// Projects the padded row z (destroyed) onto the simplex and the cone of t, and writes k entries.
// `top` is its largest entry, `start` a guess of tau.
inline bool project_moderate(float* z, int64_t k, int64_t t, double margin, float top, double start,
                             float* out) {
  constexpr int n = kLanes<float>;
  if (!(std::abs(top) <= kModerate)) return false;
  const Levels at = solve_levels(z, padded<float>(k), t, margin, top, start);
  if (!(std::abs(at.pool) <= kModerate)) return false;
  const double tau = at.tau;
  const float tau_high = static_cast<float>(tau);
  const float tau_low = static_cast<float>(tau - tau_high);

  const Block<float> upper = Block<float>::all(tau_high), lower = Block<float>::all(tau_low);
  const Block<float> zero = Block<float>::all(0);
  Block<float> high = zero;
  double sum = 0;
  const auto block = [&](const float* from, float* to) {
    const Block<float> q = max(Block<float>::load(from) - upper - lower, zero);
    high = max(high, q);
    q.store(to);
    return q;
  };
  const int64_t whole = k / n * n;
  for (int64_t begin = 0; begin < whole; begin += kFlushBlocks * n) {
    const int64_t end = std::min<int64_t>(whole, begin + kFlushBlocks * n);
    Block<float> part = zero;
    for (int64_t i = begin; i < end; i += n) part = part + block(z + i, out + i);
    sum += total(part);
  }
  if (whole < k) {
    float tail[n];
    sum += total(block(z + whole, tail));
    std::memcpy(out + whole, tail, (k - whole) * sizeof(float));
  }
  out[t] = leading_entry<float>(at.w - tau, largest(high), margin);
  return std::abs(sum + out[t] - 1) <= 3e-7;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
