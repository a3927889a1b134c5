// 2. The l1 ball: raises and lowers sum to epsilon / 2 each, which gives two independent roots,
// tau_plus and tau_minus; 4. under a binding label, an outer root in u = q_t.
#pragma once

#include "ball.h"
#include "linf.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Raised entries min(z_j - tau_plus, c) > p_j, lowered ones min((z_j - tau_minus)_+, c) < p_j; the
// others stay at p_j. Padding and a blanked label: z = -inf, p = 0.
struct Moves {
  double *z, *p;
  int64_t width;

  struct Side {
    double sum;    // raised or lowered in total
    double free;   // entries that move with their level
    double held;   // entries that the cap holds, moved to this side
    double force;  // sum of the multipliers of these
    double tied;   // the same of entries that the cap holds exactly at p_j
  };

  Side raise(Level plus, double cap) const {
    const Block<double> base = Block<double>::all(plus.base),
                        rest = Block<double>::all(plus.offset);
    const Block<double> caps = Block<double>::all(cap), zero = Block<double>::all(0);
    Block<double> sum = zero, force = zero, tied = zero;
    Counter<double> free, held;
    for (int64_t i = 0; i < width; i += kLanes<double>) {
      const Block<double> y = Block<double>::load(z + i) - base - rest;
      const Block<double> from = Block<double>::load(p + i);
      sum = sum + max(min(y, caps) - from, zero);
      free.add((y > from) & (caps > y));
      const Mask<double> over = (caps > from) & (y > caps);
      tied = tied + keep(y - caps, (caps == from) & (y > caps));
      force = force + keep(y - caps, over);
      held.add(over);
    }
    return {total(sum), static_cast<double>(free.total()), static_cast<double>(held.total()),
            total(force), total(tied)};
  }

  Side lower(Level minus, double cap) const {
    const Block<double> base = Block<double>::all(minus.base),
                        rest = Block<double>::all(minus.offset);
    const Block<double> caps = Block<double>::all(cap), zero = Block<double>::all(0);
    Block<double> sum = zero, force = zero, tied = zero;
    Counter<double> free, held;
    for (int64_t i = 0; i < width; i += kLanes<double>) {
      const Block<double> y = Block<double>::load(z + i) - base - rest;
      const Block<double> from = Block<double>::load(p + i);
      sum = sum + max(from - min(max(y, zero), caps), zero);
      free.add((from > y) & (caps > y) & (y > zero));
      const Mask<double> over = (from > caps) & (y > caps);
      tied = tied + keep(y - caps, (caps == from) & (y > caps));
      force = force + keep(y - caps, over);
      held.add(over);
    }
    return {total(sum), static_cast<double>(free.total()), static_cast<double>(held.total()),
            total(force), total(tied)};
  }

  // plus >= minus: an entry moves to one side at most.
  void write(Level plus, Level minus, double cap, double* q) const {
    const Block<double> up = Block<double>::all(plus.base), more = Block<double>::all(plus.offset);
    const Block<double> down = Block<double>::all(minus.base);
    const Block<double> less = Block<double>::all(minus.offset);
    const Block<double> caps = Block<double>::all(cap), zero = Block<double>::all(0);
    for (int64_t i = 0; i < width; i += kLanes<double>) {
      const Block<double> x = Block<double>::load(z + i), from = Block<double>::load(p + i);
      const Block<double> raised = min(x - up - more, caps);
      const Block<double> lowered = min(from, min(max(x - down - less, zero), caps));
      max(lowered, keep(raised, raised > from)).store(q + i);
    }
  }
};

// Root of sum_j (p_j - c)_+ = most, by Newton from `start` on its left.
inline double lowest_cap(const double* p, int64_t width, double most, double start) {
  const Rest<Exact> rest(p, width / kStride<Exact>);
  double c = start;
  for (double previous = -1;;) {
    const Above<Exact> over = above<Exact>(rest, Block<double>::all(c));
    if (over.count == 0) return c;
    const double next = c + (over.sum - most) / over.count;
    if (over.count == previous || (previous >= 0 && next <= c)) return next;
    previous = over.count;
    c = next;
  }
}

// tau_plus and tau_minus. `inactive`: the ball does not bind.
struct ExchangeLevels {
  Level plus, minus;
  bool inactive;
};

// The levels at which `gain` is raised and `loss` lowered under the cap; lo <= z_j - 1, hi >= z_j.
inline ExchangeLevels exchange_levels(const Moves& row, double gain, double loss, double cap,
                                      double lo, double hi, const ExchangeLevels& start) {
  const double most_gain = row.raise({lo, 0}, cap).sum;
  const double most_loss = row.lower({hi, 0}, cap).sum;
  if (gain >= most_gain || loss >= most_loss) return {start.plus, start.minus, true};
  const Level plus = decreasing_level(lo, hi, start.plus, [&](Level x) {
    const Moves::Side at = row.raise(x, cap);
    return Tangent{at.sum - gain, -at.free};
  });
  const Level minus = decreasing_level(lo, hi, start.minus, [&](Level x) {
    const Moves::Side at = row.lower(x, cap);
    return Tangent{loss - at.sum, -at.free};
  });
  const double between = (plus.base - minus.base) + (plus.offset - minus.offset);
  return {plus, minus, !(between > 0)};
}

// Writes q for z and p (padded; destroyed), whose projection without ball lies outside the ball.
// zeros, ones: scratch. False if the set is empty.
inline bool project_l1(double* z, double* p, int64_t k, int64_t width, int64_t t, double epsilon,
                       double margin, double* zeros, double* ones, double* q) {
  pad(z, k, width, -kInfinity);
  std::fill(zeros, zeros + width, 0.0);
  std::fill(ones, ones + k, 1.0);
  pad(ones, k, width, 0);
  Box box{z, zeros, ones, width, kInfinity, -kInfinity};
  for (int64_t j = 0; j < k; ++j) {
    box.lo = std::min(box.lo, z[j] - 1);
    box.hi = std::max(box.hi, z[j]);
  }
  widen_bracket(box.lo, box.hi);
  const Moves row{z, p, width};
  const double half = epsilon / 2;

  Level tau = first_guess(max_of(z, width));
  ExchangeLevels at{tau, tau, false};
  at = exchange_levels(row, half, half, kInfinity, box.lo, box.hi, at);
  if (at.inactive) {
    tau = box.level(1, kInfinity, tau);
    box.write(tau, kInfinity, q);
  } else {
    row.write(at.plus, at.minus, kInfinity, q);
  }
  if (leads(q, width, t, margin)) return true;

  const double p_t = p[t];
  const double n = static_cast<double>(k);
  double first = std::max(margin, (1 + (n - 1) * margin) / n);
  const double last = std::min(1.0, p_t + half);
  {
    // Below this u, the cap forces more than epsilon / 2 down.
    const Blanked label_entry(p, t, p_t - margin);
    const Rest<Exact> rest(p, width / kStride<Exact>);
    if (above<Exact>(rest, Block<double>::all(first - margin)).sum > half)
      first = lowest_cap(p, width, half, first - margin) + margin;
  }
  if (first > last + kSlack) return false;

  const Blanked own_z(z, t, -kInfinity), own_p(p, t, 0), own_one(ones, t, 0);
  const double z_t = own_z.value();
  const double m = margin;
  const auto solve_at = [&](double u, double cap) {
    const double gain = std::max(half - std::max(u - p_t, 0.0), 0.0);
    const double loss = std::max(half - std::max(p_t - u, 0.0), 0.0);
    at = exchange_levels(row, gain, loss, cap, box.lo, box.hi, at);
    if (at.inactive) tau = box.level(1 - u, cap, tau);
  };
  // The root is sought in the cap c = u - m; the function jumps at every c = p_j.
  double cap = std::min(first, last) - m;
  if (first < last)
    cap = decreasing_root(
        first - m, last - m, p_t - m,
        [&](double c) {
          // Without rounding, so that the jump at u = p_t is hit.
          const double u = c == p_t - m ? p_t : c + m;
          solve_at(u, c);
          if (at.inactive) return pull_on_label(box, u, c, z_t, tau);
          const Moves::Side up = row.raise(at.plus, c), down = row.lower(at.minus, c);
          const double fixed = u - up.force - down.force;
          const double raised = fixed + (at.plus.base - z_t + at.plus.offset);
          const double lowered = fixed + (at.minus.base - z_t + at.minus.offset);
          // It also jumps at u = p_t, where the label changes sides.
          const double left = (u > p_t ? raised : lowered) - down.tied;
          const double right = (u < p_t ? lowered : raised) - up.tied;
          const double pushed_up = up.held + (u > p_t), pushed_down = down.held + (u < p_t);
          const bool smooth =
              (up.free > 0 || pushed_up == 0) && (down.free > 0 || pushed_down == 0);
          const double slope = 1 + up.held + down.held +
                               (up.free > 0 ? pushed_up * pushed_up / up.free : 0) +
                               (down.free > 0 ? pushed_down * pushed_down / down.free : 0);
          return negated_jump(left, right, smooth ? slope : 0);
        },
        [&](double lo, double hi) { return divide_at_jump(p, k, lo, hi); });
  const double u = cap == p_t - m ? p_t : cap + m;
  solve_at(u, cap);
  if (at.inactive)
    box.write(tau, cap, q);
  else
    row.write(at.plus, at.minus, cap, q);
  q[t] = u;
  return true;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
