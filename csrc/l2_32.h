// 3. The l2 ball in float32: l2.h for rows of moderate size, in either shape.
#pragma once

#include <cmath>

#include "ball32.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Writes q for rows whose projection without ball lies outside the ball: the projection of
// p + s (z - p), and a search on s. p must lie in the set without ball. y: scratch.
template <class S>
inline Solved<S> project_l2_32(const Rows32<S>& rows, double epsilon, float* y, float* q) {
  using Value = typename S::Value;
  using Truth = typename S::Truth;
  using Single = typename S::Single;
  const Value zero = 0, one = 1, radius = epsilon * epsilon;
  const Block<float> nothing = Block<float>::all(0), unit = Block<float>::all(1);
  const Block<float> absent = Block<float>::all(kNothing);
  const int64_t end = rows.blocks * kLanes<float>;

  Value length[1];
  accumulate<S>(rows.blocks, length, [&](int64_t i, Block<float>* part) {
    const Block<float> z = Block<float>::load(rows.z + i);
    const Block<float> d = keep(z - Block<float>::load(rows.p + i), z > absent);
    part[0] = part[0] + d * d;
  });
  const Value p_t = S::exact(S::take(rows.p, rows.t));
  const Value d_t = S::exact(S::take(rows.z, rows.t)) - p_t;

  // Projections are non-expansive: from p inside the set, a step of epsilon never leaves the ball.
  Search<S> slide(zero, one, Value(epsilon) / root_of(length[0]), zero == zero, 1e-8);
  Single tau = S::rounded(zero), count = S::rounded(Value(-1));
  Value q_t = zero;
  const auto project = [&](const Truth& wanted) {
    const Block<float> s = S::spread(S::rounded(slide.x));
    Block<float> high = absent;
    for (int64_t i = 0; i < end; i += kLanes<float>) {
      const Block<float> p = Block<float>::load(rows.p + i);
      const Block<float> moved = p + s * (Block<float>::load(rows.z + i) - p);
      high = max(high, moved);
      moved.store(y + i);
    }
    const Single y_t = S::take(y, rows.t);
    S::put(y, rows.t, S::rounded(Value(kNothing)));
    const Levels32<S> at =
        solve_levels32<S>(y, rows.blocks, y_t, rows.margin, S::highest(high), tau, count);
    q_t = at.w - at.tau;
    write_simplex<S>(at, q);
    S::put(q, rows.t, S::rounded(q_t));
    tau = select(wanted, S::rounded(at.tau), tau);
    return at;
  };
  while (slide.goes_on()) {
    slide.x = S::exact(S::rounded(slide.x));
    const Levels32<S> at = project(slide.running);
    // |q - p + delta v|^2 = a delta^2 + 2 b delta + |q - p|^2, v = J d the derivative of the
    // projection: average d over the label and the entries at its cap, then subtract the mean over
    // the support.
    const Block<float> cap = at.rest.capped ? at.rest.cap : Block<float>::all(-kNothing);
    Value sum[9];
    accumulate<S>(rows.blocks, sum, [&](int64_t i, Block<float>* part) {
      const Block<float> x = Block<float>::load(q + i), from = Block<float>::load(rows.p + i);
      const Block<float> point = Block<float>::load(y + i);
      const Block<float> d = Block<float>::load(rows.z + i) - from, r = x - from;
      const Mask<float> support = (x > nothing) & (point > absent);
      const Mask<float> pooled = support & (point >= cap), free = support & (cap > point);
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
    const Value members = sum[2] + one, everyone = members + sum[5];
    const Value pool_d = sum[1] + d_t, pool_r = sum[3] + (q_t - p_t);
    const Value mean = (pool_d + sum[4]) / everyone, together = pool_d / members - mean;
    const Value a = members * together * together +
                    max(sum[6] - (mean + mean) * sum[4] + mean * mean * sum[5], zero);
    const Value b = together * pool_r + sum[8] - mean * sum[7];
    const Value c = sum[0] - radius;
    const Value root = b + root_of(max(b * b - a * c, zero));
    // As a decreasing function of about the size of the distance; Newton's step on it is exact
    // while the piece lasts.
    const Value scale = 0.5 / epsilon;
    slide.advance((zero - c) * scale, select(a > zero, (zero - root) * scale, zero));
  }
  slide.x = S::exact(S::rounded(slide.x));
  project(zero == zero);
  return {q_t, !slide.running};
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
