// Bracketed Newton for a decreasing, piecewise linear function of one variable.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "isa.h"

namespace mipoison {
namespace MIPOISON_ISA {

struct Tangent {
  double value;
  double slope;  // 0 where the function is flat or jumps: bisect
};

// Integers in the order of the reals: halving a bracket in them takes at most 64 steps at any
// scale.
inline int64_t rank_of(double x) {
  int64_t bits;
  std::memcpy(&bits, &x, sizeof x);
  return bits < 0 ? INT64_MIN - bits : bits;
}

inline double at_rank(int64_t rank) {
  const int64_t bits = rank < 0 ? INT64_MIN - rank : rank;
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// Middle of a bracket: in value once it is as narrow as the entries of a row, in rank before.
inline double midpoint(double lo, double hi) {
  if (hi - lo <= 8) return lo + (hi - lo) / 2;
  const int64_t a = rank_of(lo), b = rank_of(hi);
  return at_rank((a & b) + ((a ^ b) >> 1));
}

constexpr double kResolution = 1e-17;  // entries of a row are at most 1
constexpr double kRoundoff = 2.3e-16;

// Root in [lo, hi] of f, f(lo) >= 0 >= f(hi), from `start`. f returns a Tangent; divide(lo, hi), a
// point between, is tried where Newton fails.
template <class F, class Divide>
inline double decreasing_root(double lo, double hi, double start, F f, Divide divide) {
  double x = start > lo && start < hi ? start : midpoint(lo, hi);
  // Newton can converge slowly from one end; from here on every other step divides the bracket.
  constexpr int kPatience = 8, kLimit = 160;
  for (int i = 0; i < kLimit; ++i) {
    const Tangent at = f(x);
    if (at.value == 0) return x;
    (at.value > 0 ? lo : hi) = x;
    double next = at.slope < 0 ? x - at.value / at.slope : lo - 1;
    if (std::abs(next - x) <= kResolution + kRoundoff * std::abs(x)) return next;
    if (!(next > lo && next < hi) || (i >= kPatience && i % 2)) next = divide(lo, hi);
    if (!(next > lo && next < hi)) return x;
    x = next;
  }
  return x;
}

template <class F>
inline double decreasing_root(double lo, double hi, double start, F f) {
  return decreasing_root(lo, hi, start, f, midpoint);
}

// Divides a bracket at one of the `jumps` of a function, the most central one.
inline double divide_at_jump(const double* jumps, int64_t n, double lo, double hi) {
  const double middle = midpoint(lo, hi);
  double nearest = middle, gap = hi - lo;
  for (int64_t j = 0; j < n; ++j) {
    const double x = jumps[j], d = std::abs(x - middle);
    const bool better = x > lo && x < hi && d < gap;
    nearest = better ? x : nearest;
    gap = better ? d : gap;
  }
  return nearest;
}

// A level tau = base + offset: z_j - base is exact near the level, whatever the scale of z.
struct Level {
  double base, offset;
};

// Widens a bracket by the rounding of its ends.
inline void widen_bracket(double& lo, double& hi) {
  lo -= 1 + 4 * kRoundoff * std::abs(lo);
  hi += 1 + 4 * kRoundoff * std::abs(hi);
}

// The first guess of a level: 0 if z is near the simplex, else near its largest entry.
inline Level first_guess(double top) { return std::abs(top) <= 8 ? Level{0, 0} : Level{top, -1}; }

// decreasing_root in a level. f takes a Level.
template <class F>
inline Level decreasing_level(double lo, double hi, Level start, F f) {
  constexpr double kNear = 8;
  Level at = start;
  for (int pass = 0; pass < 3; ++pass) {
    at.offset = decreasing_root(lo - at.base, hi - at.base, at.offset,
                                [&](double offset) { return f(Level{at.base, offset}); });
    if (std::abs(at.offset) <= kNear) break;
    at = {at.base + at.offset, 0};
  }
  return at;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
