// 5. The l2 ball in float32: l2.h for rows of moderate size, in either shape.
#pragma once

#include <cmath>

#include "ball32.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Writes q for rows whose projection without ball lies outside the ball: the projection of
// p + s (z - p), and a search on s. p must lie in the set without ball. far: the distance at s = 1.
// y: scratch.
template <class S>
inline Solved<S> project_l2_32(const Rows<S>& rows, double epsilon, const typename S::Value& far,
                               const typename S::Truth& wanted, float* y, float* q) {
  using Value = typename S::Value;
  using Truth = typename S::Truth;
  using Single = typename S::Single;
  const Value zero = 0, one = 1, radius = epsilon * epsilon;
  const Block<float> nothing = Block<float>::all(0), unit = Block<float>::all(1);
  const Block<float> absent = Block<float>::all(kNothing);

  Value length[1];
  accumulate<S>(rows.blocks, length, [&](int64_t i, Block<float>* part) {
    const Block<float> z = Block<float>::load(rows.z + i);
    const Block<float> d = keep(z - Block<float>::load(rows.p + i), z > absent);
    part[0] = part[0] + d * d;
  });
  const Value p_t = S::exact(S::take(rows.p, rows.t));
  const Value d_t = S::exact(S::take(rows.z, rows.t)) - p_t;

  // Projections are non-expansive: from p inside the set, a step of epsilon never leaves the ball.
  // The distance is linear in s or concave, as entries reach zero.
  const Value safe = Value(epsilon) / root_of(length[0]);
  Search<S> slide(zero, one, max(safe, Value(epsilon) / far), wanted);
  // The answer is what the last step computed; nothing is computed after it.
  slide.fine = Value(6e-8) / root_of(length[0]);
  slide.none = 0;
  Single near = S::rounded(zero);  // a row's last tau
  const auto levels_at = [&] {
    slide.x = S::exact(S::rounded(slide.x));
    const Block<float> s = S::spread(S::rounded(slide.x)), theta = S::spread(near);
    Block<float> high = absent;
    Value above[2];
    accumulate<S>(rows.blocks, above, [&](int64_t i, Block<float>* part) {
      const Block<float> p = Block<float>::load(rows.p + i);
      const Block<float> moved = p + s * (Block<float>::load(rows.z + i) - p);
      moved.store(y + i);
      high = max(high, moved);
      part[0] = part[0] + max(moved - theta, nothing);
      part[1] = part[1] + keep(unit, moved > theta);
    });
    const Single y_t = S::take(y, rows.t);
    S::put(y, rows.t, S::rounded(Value(kNothing)));
    // The first Newton step is formed in this pass, as in `ascend` of group.h.
    const Truth some = above[1] > zero;
    const Value start = S::exact(near) + (above[0] - one) / max(above[1], one);
    return solve_levels<S>(y, rows.blocks, y_t, rows.margin, S::highest(high),
                           S::rounded(select(some, start, S::exact(near))),
                           S::rounded(select(some, above[1], zero) - one), q);
  };
  Levels<S> at = levels_at();
  while (true) {
    const Value q_t = at.w - at.tau;
    // |q - p + delta v|^2 = a delta^2 + 2 b delta + |q - p|^2, v = J d the derivative of the
    // projection: average d over the label and the entries at its cap, then subtract the mean over
    // the support.
    const SplitLevel<S> tau(at.tau);
    const Block<float> cap = at.rest.capped ? at.rest.cap : Block<float>::all(-kNothing);
    Value sum[9];
    accumulate<S>(rows.blocks, sum, [&](int64_t i, Block<float>* part) {
      const Block<float> point = Block<float>::load(y + i), p = Block<float>::load(rows.p + i);
      const Block<float> x = max(tau.below(min(point, cap)), nothing);
      const Mask<float> support = x > nothing, pooled = support & (point >= cap);
      const Mask<float> free = support & (cap > point);
      // The label's entry is added below.
      const Block<float> d = Block<float>::load(rows.z + i) - p;
      const Block<float> r = keep(x - p, point > absent);
      const Block<float> along = keep(d, free);
      part[0] = part[0] + r * r;
      part[1] = part[1] + keep(d, pooled);
      part[2] = part[2] + keep(unit, pooled);
      part[3] = part[3] + keep(r, pooled);
      part[4] = part[4] + along;
      part[5] = part[5] + keep(unit, free);
      part[6] = part[6] + along * along;
      part[7] = part[7] + keep(r, free);
      part[8] = part[8] + along * r;
    });
    const Value r_t = q_t - p_t;
    const Value members = sum[2] + one, everyone = members + sum[5];
    const Value pool_d = sum[1] + d_t, pool_r = sum[3] + r_t;
    const Value mean = (pool_d + sum[4]) / everyone, together = pool_d / members - mean;
    const Value a = members * together * together +
                    max(sum[6] - (mean + mean) * sum[4] + mean * mean * sum[5], zero);
    const Value b = together * pool_r + sum[8] - mean * sum[7];
    const Value c = sum[0] + r_t * r_t - radius;
    const Value root = b + root_of(max(b * b - a * c, zero));
    // Scaled to a decreasing function of about the size of the distance; Newton's step is exact
    // while the active set stays the same.
    const Value scale = 0.5 / epsilon;
    slide.advance((zero - c) * scale, select(a > zero, (zero - root) * scale, zero));
    if (!slide.goes_on()) break;
    // Solved rows are computed again from the same start, so that their answer stays the same.
    near = select(slide.running, S::rounded(at.tau), near);
    at = levels_at();
  }
  write_simplex<S>(at, q);
  return {at.w - at.tau, !slide.running};
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
