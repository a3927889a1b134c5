// 1. No ball: the pooled level w and the simplex level tau, two roots of one equation
// (docs/mathematics.md, section 1).
#pragma once

#include <algorithm>
#include <limits>

#include "row.h"

namespace mipoison {
namespace MIPOISON_ISA {

struct Excess {
  double sum;    // sum_j (z_j - theta)_+
  double count;  // number of z_j > theta
};

template <class T>
inline Excess excess(const T* z, int64_t width, T theta) {
  const Block<T> level = Block<T>::all(theta), zero = Block<T>::all(0);
  Excess result{0, 0};
  for (int64_t begin = 0; begin < width; begin += kFlushBlocks * kLanes<T>) {
    const int64_t end = std::min<int64_t>(width, begin + kFlushBlocks * kLanes<T>);
    Block<T> sum = zero;
    Counter<T> count;
    for (int64_t i = begin; i < end; i += kLanes<T>) {
      const Block<T> above = Block<T>::load(z + i) - level;
      const Mask<T> positive = above > zero;
      sum = sum + keep(above, positive);
      count.add(positive);
    }
    result.sum += total(sum);
    result.count += static_cast<double>(count.total());
  }
  return result;
}

// Root of  weight * theta = x + sum_j (z_j - theta)_+ , weight in {0, 1}, by Newton: the cap w - m
// for x = z_t - m, and tau for x = w - 1.
//
// The right side minus the left is convex and decreasing, so Newton is monotone from the left, and
// one step from the right lands on the left. The support is exact once its count repeats. T is the
// precision of the evaluation points; the root itself has float64 resolution.
template <class T>
inline double water_level(const T* z, int64_t width, double weight, double x, double start) {
  T theta = static_cast<T>(start);
  double previous = -1;
  double next = start;
  for (int iteration = 0; iteration < 128; ++iteration) {
    const Excess e = excess(z, width, theta);
    if (weight + e.count == 0) return next;
    next = theta + (e.sum + x - weight * theta) / (weight + e.count);
    if (e.count == previous || (iteration > 0 && next <= theta)) break;
    previous = e.count;
    theta = static_cast<T>(next);
  }
  return next;
}

struct Levels {
  double w;    // the pooled level
  double z_t;  // w in the coordinates that z is left in
  double tau;  // the simplex level, in those coordinates
};

// Levels of the projection of z onto the simplex and the cone q_t >= q_j + margin:
// q_t = z_t - tau, q_j = (z_j - tau)_+ with z as this function leaves it, but for its entry t,
// which is -inf.
//
// z is padded with -inf, and `top` is its largest entry. `start` is a guess of tau. A pooled row is
// shifted so that w = 0: otherwise a huge z would leave no digits for q.
template <class T>
inline Levels solve_levels(T* z, int64_t width, int64_t t, double margin, T top, double start) {
  const double z_t = z[t];
  z[t] = -std::numeric_limits<T>::infinity();
  Levels at{z_t, z_t, 0};
  if (margin != 0 || z_t != top) {
    const double x = z_t - margin;
    const double cap = water_level(z, width, 1, x, x);
    if (cap > x) {
      at.w = cap + margin;
      const Block<T> shift = Block<T>::all(static_cast<T>(at.w));
      const Block<T> limit = Block<T>::all(static_cast<T>(-margin));
      for (int64_t i = 0; i < width; i += kLanes<T>)
        min(Block<T>::load(z + i) - shift, limit).store(z + i);
      start -= at.w;
      at.z_t = 0;
    }
  }
  at.tau = water_level(z, width, 1, at.z_t - 1, std::max(start, at.z_t - 1));
  return at;
}

// Projects z (padded with -inf; destroyed) and writes q, padded with zeros. Newton starts from
// tau = 0, which is close for a z near the simplex.
inline void project_simplex(double* z, int64_t width, int64_t t, double margin, double* q) {
  const double highest = max_of(z, width);
  const Block<double> top = Block<double>::all(highest);
  for (int64_t i = 0; i < width; i += kLanes<double>)
    (Block<double>::load(z + i) - top).store(z + i);
  const Levels at = solve_levels(z, width, t, margin, 0.0, -highest);
  const Block<double> tau = Block<double>::all(at.tau), zero = Block<double>::all(0);
  for (int64_t i = 0; i < width; i += kLanes<double>)
    max(Block<double>::load(z + i) - tau, zero).store(q + i);
  q[t] = at.z_t - at.tau;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
