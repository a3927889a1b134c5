// project and step in float64, one row at a time: float64 rows, and the rows that float32 declines.
#pragma once

#include "kernels.h"
#include "l1.h"
#include "l2.h"
#include "linf.h"

namespace mipoison {
namespace MIPOISON_ISA {

// The row to project: z = from + alpha * along / |along|_2, or just `from` where along is null.
template <class T>
struct Origin {
  const T* from;
  const T* along;
  double alpha;
};

template <class T>
class Projector {
 public:
  Projector(int64_t classes, const Region& region)
      : k_(classes), region_(region), rows_(classes, 5) {}

  // Writes one row. `center` and `label` may be null. False if the row is invalid.
  bool operator()(const Origin<T>& origin, const T* center, const int64_t* label, T* out) {
    const Quality quality =
        center ? load_probability(center, k_, rows_.width(), p_) : Quality::kProbability;
    const bool moved = form(origin);
    const bool readable = center ? quality != Quality::kNotFinite : from_finite_;
    int64_t t = -1;
    if (readable) t = label ? *label : label_of(center ? center : origin.from, k_);
    if (t >= k_) t = -1;
    double margin = region_.margin;
    if (quality == Quality::kProbability && moved && t >= 0) {
      if (region_.shrink) margin = std::min(margin, center ? lead_of(t) : 0);
      if (solve(t, margin, center != nullptr)) {
        finish(q_, k_, t, margin, out);
        return true;
      }
    }
    write_safe_answer(k_, t, out);
    return false;
  }

 private:
  // z in float64. False if an input is not finite.
  bool form(const Origin<T>& origin) {
    from_finite_ = widen_row(origin.from, k_, z_);
    if (!origin.along) return from_finite_;
    const bool along_finite = widen_row(origin.along, k_, q_);
    if (!from_finite_ || !along_finite) return false;
    double longest = 0;
    for (int64_t j = 0; j < k_; ++j) longest = std::max(longest, std::abs(q_[j]));
    if (longest == 0) return true;
    for (int64_t j = 0; j < k_; ++j) q_[j] /= longest;
    pad(q_, k_, rows_.width(), 0);
    for (int64_t j = 0; j < rows_.width(); ++j) work_[0][j] = q_[j] * q_[j];
    const double scale = origin.alpha / std::sqrt(sum_of(work_[0], rows_.width()));
    for (int64_t j = 0; j < k_; ++j) z_[j] += scale * q_[j];
    return true;
  }

  // How far t leads the center; 0 where it does not.
  double lead_of(int64_t t) {
    const Blanked label_entry(p_, t, 0);
    return std::max(label_entry.value() - max_of(p_, rows_.width()), 0.0);
  }

  bool solve(int64_t t, double margin, bool centered) {
    if (margin > 1 + kSlack) return false;
    for (int64_t j = 0; j < k_; ++j)
      if (!(std::abs(z_[j]) <= kFarthest)) return false;
    const int64_t width = rows_.width();
    double *a = work_[0], *b = work_[1];
    std::copy(z_, z_ + k_, a);
    pad(a, k_, width, -kInfinity);
    project_simplex(a, width, t, margin, q_);
    const bool ball = centered && region_.epsilon < kInfinity;
    const double epsilon = region_.epsilon;
    if (ball && !(distance(q_, p_, width, region_.norm) <= epsilon)) {
      bool found = false;
      switch (region_.norm) {
        case Norm::kL1:
          found = project_l1(z_, p_, k_, width, t, epsilon, margin, a, b, q_);
          break;
        case Norm::kL2:
          found = project_l2(z_, p_, k_, width, t, epsilon, margin, a, b, q_);
          break;
        case Norm::kLinf:
          found = project_linf(z_, p_, k_, width, t, epsilon, margin, a, b, q_);
          break;
      }
      // Final check of the ball; a row that fails gets the safe answer.
      if (!found || !(distance(q_, p_, width, region_.norm) <= epsilon + 1e-7)) return false;
    }
    return std::abs(sum_of(q_, width) - 1) <= 1e-6;
  }

  int64_t k_;
  Region region_;
  Workspace rows_;
  double *z_ = rows_.row(0), *p_ = rows_.row(1), *q_ = rows_.row(2);
  double* work_[2] = {rows_.row(3), rows_.row(4)};
  bool from_finite_ = false;
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
