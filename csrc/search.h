// Bracketed Newton for decreasing, piecewise linear functions: one search a row, in either shape.
#pragma once

#include "layout.h"

namespace mipoison {
namespace MIPOISON_ISA {

// The root of f in [lo, hi], f(lo) >= 0 >= f(hi), is x where `running` no longer holds. A row that
// has its root no longer changes: its result must not depend on its neighbours.
template <class S>
struct Search {
  using Value = typename S::Value;
  using Truth = typename S::Truth;

  // A value within float32 rounding of zero counts as zero; one last Newton step follows.
  static constexpr double kNone = 1.2e-7;
  // Newton can converge slowly from one end; from here on every other step divides the bracket.
  static constexpr int kPatience = 8;
  static constexpr int kLimit = 60;

  Value lo, hi, x;
  Truth running;
  Value fine = 0;       // Newton steps, and brackets, so short that x may stay where it is
  double none = kNone;  // values of f that count as zero
  int steps = 0;

  Search(const Value& low, const Value& high, const Value& start, const Truth& wanted)
      : lo(low),
        hi(high),
        x(select((start > low) & (start < high), start, (low + high) * Value(0.5))),
        running(wanted) {}

  bool goes_on() const { return steps < kLimit && any(running); }

  // Where Newton's step from f(x) leads.
  Value newton_from(const Value& value, const Value& slope) const {
    return x - value / select(slope < Value(0), slope, Value(-1));
  }

  // Takes f(x) and its slope, 0 where f is flat or jumps. divide(lo, hi), a point between, is tried
  // where Newton fails.
  template <class Divide>
  void advance(const Value& value, const Value& slope, const Divide& divide) {
    advance(value, slope, newton_from(value, slope), divide);
  }

  // The same with Newton's step as the caller shortened it.
  template <class Divide>
  void advance(const Value& value, const Value& slope, const Value& newton, const Divide& divide) {
    const Truth up = value > Value(0), sloped = slope < Value(0);
    lo = select(running & up, x, lo);
    hi = select(running & !up, x, hi);
    // No last step where f is flat.
    const Truth found = size_of(value) <= select(sloped, Value(none), Value(none / 4));
    const Truth still = sloped & (size_of(newton - x) <= fine);
    Truth usable = sloped & (newton > lo) & (newton < hi);
    if (steps >= kPatience && steps % 2) usable = S::no_rows();
    Value next = newton;
    if (any(running & !found & !usable)) next = select(usable, newton, divide(lo, hi));
    const Truth between = (next > lo) & (next < hi) & (hi - lo > fine);
    next = select(found, select(sloped, newton, x), select(between, next, x));
    x = select(running & !still, next, x);
    running = running & !found & !still & between;
    ++steps;
  }

  void advance(const Value& value, const Value& slope) {
    advance(value, slope, [](const Value& a, const Value& b) { return (a + b) * Value(0.5); });
  }
};

// A bracket of every level of a row of moderate size.
constexpr double kDeepest = -6, kHighest = 6;

// Relative rounding of float32: the resolution of a root that is rounded to float32, as caps are.
constexpr double kSingle = 1.2e-7;

// Divides a bracket where a function may jump, at min(p_j + offset, 1): at the most central of
// these.
template <class S>
inline typename S::Value divide_at_jump32(const float* p, Block<float> offset, int64_t blocks,
                                          const typename S::Value& lo,
                                          const typename S::Value& hi) {
  using Value = typename S::Value;
  const Value middle = (lo + hi) * Value(0.5);
  const Block<float> low = S::spread(S::rounded(lo)), high = S::spread(S::rounded(hi));
  const Block<float> center = S::spread(S::rounded(middle)), zero = Block<float>::all(0);
  const Block<float> far = Block<float>::all(kDeepest);
  // The nearest from above and from below; which of the two is nearer is decided by the row.
  Block<float> above = zero - far, below = far;
  for (int64_t i = 0; i < blocks * kLanes<float>; i += kLanes<float>) {
    const Block<float> x = min(Block<float>::load(p + i) + offset, Block<float>::all(1));
    const Mask<float> inside = (x > low) & (high > x);
    above = min(above, select(inside & (x >= center), x, zero - far));
    below = max(below, select(inside & (center > x), x, far));
  }
  const Value up = S::exact(S::lowest(above)), down = S::exact(S::highest(below));
  const Value nearest = select(up - middle < middle - down, up, down);
  return select((nearest > lo) & (nearest < hi), nearest, middle);
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
