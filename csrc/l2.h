// 5. The l2 ball: q = Proj(p + s (z - p)) onto the set without ball, and a search on s in (0, 1].
#pragma once

#include "ball.h"

namespace mipoison {
namespace MIPOISON_ISA {

// |q - p + delta v|^2 = a delta^2 + 2 b delta + |q - p|^2, v = J d the derivative of the
// projection.
struct Quadratic {
  double a, b;
};

// J d: average d over the label and the entries at its cap, then subtract the mean over the
// support; zero elsewhere.
inline Quadratic slide(const double* q, const double* p, const double* d, int64_t width, int64_t t,
                       double margin) {
  // An entry counts as capped within rounding; the bracketed search tolerates a wrong guess.
  const Block<double> cap = Block<double>::all(q[t] - margin - 1e-15), zero = Block<double>::all(0);
  Block<double> pooled = zero, free = zero;
  Counter<double> members, others;
  for (int64_t i = 0; i < width; i += kLanes<double>) {
    const Block<double> x = Block<double>::load(q + i), along = Block<double>::load(d + i);
    const Mask<double> in_pool = (x > cap) & (x > zero), is_free = (cap > x) & (x > zero);
    pooled = pooled + keep(along, in_pool);
    free = free + keep(along, is_free);
    members.add(in_pool);
    others.add(is_free);
  }
  const double size = static_cast<double>(members.total());
  const double mean = (total(pooled) + total(free)) / (size + static_cast<double>(others.total()));
  const Block<double> together = Block<double>::all(total(pooled) / size - mean);
  const Block<double> shift = Block<double>::all(mean);
  Block<double> a = zero, b = zero;
  for (int64_t i = 0; i < width; i += kLanes<double>) {
    const Block<double> x = Block<double>::load(q + i);
    const Mask<double> in_pool = (x > cap) & (x > zero), is_free = (cap > x) & (x > zero);
    // The two masks exclude each other.
    const Block<double> v =
        keep(together, in_pool) + keep(Block<double>::load(d + i) - shift, is_free);
    a = a + v * v;
    b = b + v * (x - Block<double>::load(p + i));
  }
  return {total(a), total(b)};
}

// Writes q for z and p (padded), whose projection without ball lies outside the ball. d, y:
// scratch. False if the set is empty.
inline bool project_l2(const double* z, const double* p, int64_t k, int64_t width, int64_t t,
                       double epsilon, double margin, double* d, double* y, double* q) {
  // The direction is scaled to largest entry 1, so that neither it nor its square overflows.
  double longest = 0;
  for (int64_t j = 0; j < k; ++j) longest = std::max(longest, std::abs(z[j] - p[j]));
  for (int64_t j = 0; j < k; ++j) d[j] = longest > 0 ? (z[j] - p[j]) / longest : 0;
  pad(d, k, width, 0);
  const auto project_at = [&](double s) {
    for (int64_t j = 0; j < k; ++j) y[j] = p[j] + s * d[j];
    pad(y, k, width, -kInfinity);
    project_simplex(y, width / kStride<Exact>, t, margin, q);
    return distance(q, p, width, Norm::kL2);
  };
  const double least = project_at(0);
  if (least > epsilon + kSlack) return false;
  if (least >= epsilon) return true;
  double lo = 0, hi = longest, s = 0;
  if (least <= kSlack) {
    // Projections are non-expansive: from p inside the set, a step of epsilon never leaves the
    // ball.
    std::fill(y, y + width, 0.0);
    s = std::min(epsilon / distance(d, y, width, Norm::kL2), longest);
  }
  constexpr int kPatience = 24, kLimit = 200;
  for (int i = 0; i < kLimit; ++i) {
    const double n = project_at(s);
    (n <= epsilon ? lo : hi) = s;
    const auto [a, b] = slide(q, p, d, width, t, margin);
    // Exact while the active set stays the same.
    const double c = (n - epsilon) * (n + epsilon);
    const double root = b + std::sqrt(b * b - a * c);
    const double delta = a > 0 && root > 0 ? -c / root : kInfinity;
    if (std::abs(delta) <= kResolution + kRoundoff * s) return true;
    double next = s + delta;
    if (!(next > lo && next < hi) || (i >= kPatience && i % 2)) next = midpoint(lo, hi);
    if (!(next > lo && next < hi)) break;
    s = next;
  }
  project_at(lo);
  return true;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
