// 3. The l-infinity ball: a box, one root in tau; 4. under a binding label, an outer root in u =
// q_t.
#pragma once

#include "ball.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Entries clip(z_j - tau, low_j, min(high_j, cap)). Padding and a blanked label: z = -inf, bounds
// 0.
struct Box {
  double *z, *low, *high;
  int64_t width;
  double lo, hi;  // a bracket of every tau

  struct Fill {
    double sum;
    double free;  // entries strictly between their bounds
  };

  Fill fill(Level tau, double cap) const {
    const Block<double> base = Block<double>::all(tau.base), rest = Block<double>::all(tau.offset);
    const Block<double> caps = Block<double>::all(cap);
    Block<double> sum = Block<double>::all(0);
    Counter<double> free;
    for (int64_t i = 0; i < width; i += kLanes<double>) {
      const Block<double> y = Block<double>::load(z + i) - base - rest;
      const Block<double> l = Block<double>::load(low + i);
      const Block<double> h = min(Block<double>::load(high + i), caps);
      sum = sum + max(min(y, h), l);
      free.add((y > l) & (h > y));
    }
    return {total(sum), static_cast<double>(free.total())};
  }

  // tau at which the entries sum to `target`, which must lie between their least and largest sum.
  Level level(double target, double cap, Level start) const {
    return decreasing_level(lo, hi, start, [&](Level tau) {
      const Fill at = fill(tau, cap);
      return Tangent{at.sum - target, -at.free};
    });
  }

  struct Pressure {
    double sum;    // of the multipliers of the entries that only the cap holds down
    double count;  // of these entries
    double tied;   // of the multipliers of entries whose bound high_j equals the cap
  };

  Pressure pressure(Level tau, double cap) const {
    const Block<double> base = Block<double>::all(tau.base), rest = Block<double>::all(tau.offset);
    const Block<double> caps = Block<double>::all(cap), zero = Block<double>::all(0);
    Block<double> sum = zero, tied = zero;
    Counter<double> count;
    for (int64_t i = 0; i < width; i += kLanes<double>) {
      const Block<double> over = Block<double>::load(z + i) - base - rest - caps;
      const Block<double> h = Block<double>::load(high + i);
      const Mask<double> held = (h > caps) & (over > zero);
      sum = sum + keep(over, held);
      count.add(held);
      tied = tied + keep(over, (h == caps) & (over > zero));
    }
    return {total(sum), static_cast<double>(count.total()), total(tied)};
  }

  // Total of min(high_j, cap) and how many entries the cap shortens.
  Fill capacity(double cap) const {
    const Block<double> caps = Block<double>::all(cap);
    Block<double> sum = Block<double>::all(0);
    Counter<double> shortened;
    for (int64_t i = 0; i < width; i += kLanes<double>) {
      const Block<double> h = Block<double>::load(high + i);
      sum = sum + min(h, caps);
      shortened.add(h > caps);
    }
    return {total(sum), static_cast<double>(shortened.total())};
  }

  void write(Level tau, double cap, double* q) const {
    const Block<double> base = Block<double>::all(tau.base), rest = Block<double>::all(tau.offset);
    const Block<double> caps = Block<double>::all(cap);
    for (int64_t i = 0; i < width; i += kLanes<double>) {
      const Block<double> h = min(Block<double>::load(high + i), caps);
      max(min(Block<double>::load(z + i) - base - rest, h), Block<double>::load(low + i))
          .store(q + i);
    }
  }
};

// The negative of a function that jumps from `left` to `right` >= left at a point; 0 if the root
// lies in the jump.
inline Tangent negated_jump(double left, double right, double slope) {
  if (left <= 0 && right >= 0) return {0, 0};
  return {left > 0 ? -left : -right, left == right ? -slope : 0};
}

// phi(u), u = cap + margin, the derivative of the smallest squared distance once q_t = u; negated.
// It jumps up where the cap rises past a bound high_j.
inline Tangent pull_on_label(const Box& box, double u, double cap, double z_t, Level tau) {
  const Box::Pressure held = box.pressure(tau, cap);
  const double free = box.fill(tau, cap).free;
  const double value = u + (tau.base - z_t + tau.offset) - held.sum;
  const double slope = free > 0 ? (1 + held.count) * (1 + (1 + held.count) / free) : 0;
  return negated_jump(value - held.tied, value, slope);
}

// Writes q for z and p (both padded; z is destroyed). low, high: scratch. False if the set is
// empty.
inline bool project_linf(double* z, const double* p, int64_t k, int64_t width, int64_t t,
                         double epsilon, double margin, double* low, double* high, double* q) {
  Box box{z, low, high, width, kInfinity, -kInfinity};
  for (int64_t j = 0; j < k; ++j) {
    low[j] = std::max(p[j] - epsilon, 0.0);
    high[j] = std::min(p[j] + epsilon, 1.0);
    box.lo = std::min(box.lo, z[j] - high[j]);
    box.hi = std::max(box.hi, z[j] - low[j]);
  }
  widen_bracket(box.lo, box.hi);
  pad(low, k, width, 0);
  pad(high, k, width, 0);
  pad(z, k, width, -kInfinity);

  Level tau = box.level(1, kInfinity, first_guess(max_of(z, width)));
  box.write(tau, kInfinity, q);
  if (leads(q, width, t, margin)) return true;

  const double start = q[t];
  const Blanked own_z(z, t, -kInfinity), own_low(low, t, 0), own_high(high, t, 0);
  double first = std::max(own_low.value(), max_of(low, width) + margin);
  const double last = std::min(own_high.value(), 1 - sum_of(low, width));
  const auto missing = [&](double u) {
    const Box::Fill at = box.capacity(u - margin);
    return Tangent{1 - u - at.sum, -1 - at.free};
  };
  if (first < last && missing(first).value > 0) {
    if (missing(last).value > kSlack) return false;
    first = decreasing_root(first, last, last, missing);
  }
  if (first > last + kSlack || missing(first).value > kSlack) return false;

  // The root is sought in the cap u - m, at whose bounds high_j the function jumps.
  const double m = margin, z_t = own_z.value();
  double cap = first - m;
  if (first < last)
    cap = decreasing_root(
        first - m, last - m, start - m,
        [&](double c) {
          tau = box.level(1 - (c + m), c, tau);
          return pull_on_label(box, c + m, c, z_t, tau);
        },
        [&](double lo, double hi) { return divide_at_jump(high, k, lo, hi); });
  tau = box.level(1 - (cap + m), cap, tau);
  box.write(tau, cap, q);
  q[t] = cap + m;
  return true;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
