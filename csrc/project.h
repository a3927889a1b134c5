// project and step in float64, one row at a time: float64 rows, and the rows that float32 declines.
#pragma once

#include "kernels.h"
#include "l1.h"
#include "l2.h"
#include "linf.h"

namespace mipoison {
namespace MIPOISON_ISA {

template <class T>
class Projector {
 public:
  explicit Projector(const Projection<T>& call)
      : k_(call.batch.classes), region_(call.region), call_(call), rows_(k_, 5) {}

  // Writes row i. False if it is invalid.
  bool operator()(int64_t i) {
    const T* from = call_.from + i * k_;
    const T* center = call_.center ? call_.center + i * k_ : nullptr;
    T* out = call_.out + i * k_;
    const Quality quality =
        center ? load_probability(center, k_, rows_.width(), p_) : Quality::kProbability;
    const bool moved = form(from, call_.along ? call_.along + i * k_ : nullptr);
    const bool readable = center ? quality != Quality::kNotFinite : from_finite_;
    int64_t t = -1;
    if (readable) t = call_.label ? call_.label[i] : label_of(center ? center : from, k_);
    if (t >= k_) t = -1;
    double margin = region_.margin;
    if (quality == Quality::kProbability && moved && t >= 0) {
      if (region_.shrink) margin = std::min(margin, center ? lead_of(t) : 0);
      if (solve(t, margin)) {
        finish(q_, k_, t, margin, out);
        return true;
      }
    }
    write_safe_answer(k_, t, out);
    return false;
  }

 private:
  // z in float64. False if an input is not finite.
  bool form(const T* from, const T* along) {
    from_finite_ = widen_row(from, k_, z_);
    if (!along) return from_finite_;
    const bool along_finite = widen_row(along, k_, q_);
    if (!from_finite_ || !along_finite) return false;
    double longest = 0;
    for (int64_t j = 0; j < k_; ++j) longest = std::max(longest, std::abs(q_[j]));
    if (longest == 0) return true;
    for (int64_t j = 0; j < k_; ++j) q_[j] /= longest;
    pad(q_, k_, rows_.width(), 0);
    for (int64_t j = 0; j < rows_.width(); ++j) work_[0][j] = q_[j] * q_[j];
    const double scale = call_.alpha / std::sqrt(sum_of(work_[0], rows_.width()));
    for (int64_t j = 0; j < k_; ++j) z_[j] += scale * q_[j];
    return true;
  }

  // How far t leads the center; 0 where it does not.
  double lead_of(int64_t t) {
    const Blanked label_entry(p_, t, 0);
    return std::max(label_entry.value() - max_of(p_, rows_.width()), 0.0);
  }

  bool solve(int64_t t, double margin) {
    if (margin > 1 + kSlack) return false;
    for (int64_t j = 0; j < k_; ++j)
      if (!(std::abs(z_[j]) <= kFarthest)) return false;
    const int64_t width = rows_.width();
    double *a = work_[0], *b = work_[1];
    std::copy(z_, z_ + k_, a);
    pad(a, k_, width, -kInfinity);
    project_simplex(a, width, t, margin, q_);
    const double epsilon = region_.epsilon;
    if (call_.in_ball() && !(distance(q_, p_, width, region_.norm) <= epsilon)) {
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
  Projection<T> call_;
  Workspace rows_;
  double *z_ = rows_.row(0), *p_ = rows_.row(1), *q_ = rows_.row(2);
  double* work_[2] = {rows_.row(3), rows_.row(4)};
  bool from_finite_ = false;
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
