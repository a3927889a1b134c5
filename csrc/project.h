// project and step in float64, one row at a time: float64 rows, and the rows that float32 declines.
#pragma once

#include "kernels.h"
#include "l1.h"
#include "l2.h"
#include "linf.h"
#include "rows.h"
#include "scratch.h"

namespace mipoison {
namespace MIPOISON_ISA {

template <class T>
class Projector {
 public:
  explicit Projector(const Projection<T>& call)
      : k_(call.batch.classes),
        width_(padded<double>(k_)),
        region_(call.region),
        call_(call),
        rows_(5, k_) {}

  // Writes row i. False if it is invalid.
  bool operator()(int64_t i) {
    T* out = call_.out + i * k_;
    if (find_label(i) && form(i) && solve()) {
      finish(q_, k_, t_, margin_, out);
      return true;
    }
    const int64_t label = refuse((call_.center ? call_.center : call_.from) + i * k_, k_, out);
    if (label >= 0 && call_.label)
      write_safe_answer(k_, call_.label[i] < k_ ? call_.label[i] : -1, out);
    return false;
  }

 private:
  // z and the renormalised p; the label. False if there is none, or p is no probability vector.
  bool find_label(int64_t i) {
    load_rows(call_.from, call_.batch.rows, k_, Tile<Exact>{i}, z_);
    if (call_.center) {
      load_rows(call_.center, call_.batch.rows, k_, Tile<Exact>{i}, p_);
      const Judged<Exact> center = judge(p_, k_, kSumTolerance<T>, Exact{});
      if (!center.valid) return false;
      renormalise<Exact>(p_, width_ / kStride<Exact>, center.sum);
      t_ = center.label;
    } else {
      t_ = label_of(z_, k_);
    }
    if (call_.label) t_ = call_.label[i];
    return t_ >= 0 && t_ < k_;
  }

  // Adds alpha * along / |along|_2 to z. False if that is not finite.
  bool form(int64_t i) {
    if (!call_.along) return true;
    load_rows(call_.along, call_.batch.rows, k_, Tile<Exact>{i}, q_);
    if (!finite(q_, k_)) return false;
    double longest = 0;
    for (int64_t j = 0; j < k_; ++j) longest = std::max(longest, std::abs(q_[j]));
    if (longest == 0) return true;
    for (int64_t j = 0; j < k_; ++j) q_[j] /= longest;
    for (int64_t j = 0; j < width_; ++j) work_[0][j] = q_[j] * q_[j];
    const double scale = call_.alpha / std::sqrt(sum_of(work_[0], width_));
    for (int64_t j = 0; j < k_; ++j) z_[j] += scale * q_[j];
    return true;
  }

  // How far t leads the center; 0 where it does not.
  double lead() {
    const Blanked label_entry(p_, t_, 0);
    return std::max(label_entry.value() - max_of(p_, width_), 0.0);
  }

  // Writes q for z, p and the label. False if the set is empty, or a number was lost.
  bool solve() {
    margin_ = region_.margin;
    if (region_.shrink) margin_ = std::min(margin_, call_.center ? lead() : 0);
    if (margin_ > 1 + kSlack) return false;
    for (int64_t j = 0; j < k_; ++j)
      if (!(std::abs(z_[j]) <= kFarthest)) return false;
    double *a = work_[0], *b = work_[1];
    std::copy(z_, z_ + k_, a);
    pad(a, k_, width_, -kInfinity);
    project_simplex(a, width_ / kStride<Exact>, t_, margin_, q_);
    const double epsilon = region_.epsilon;
    if (call_.in_ball() && !(distance(q_, p_, width_, region_.norm) <= epsilon)) {
      bool found = false;
      switch (region_.norm) {
        case Norm::kL1:
          found = project_l1(z_, p_, k_, width_, t_, epsilon, margin_, a, b, q_);
          break;
        case Norm::kL2:
          found = project_l2(z_, p_, k_, width_, t_, epsilon, margin_, a, b, q_);
          break;
        case Norm::kLinf:
          found = project_linf(z_, p_, k_, width_, t_, epsilon, margin_, a, b, q_);
          break;
      }
      // Final check of the ball; a row that fails gets the safe answer.
      if (!found || !(distance(q_, p_, width_, region_.norm) <= epsilon + 1e-7)) return false;
    }
    return std::abs(sum_of(q_, width_) - 1) <= 1e-6;
  }

  int64_t k_, width_;
  Region region_;
  Projection<T> call_;
  Scratch<double> rows_;
  double *z_ = rows_.row(0), *p_ = rows_.row(1), *q_ = rows_.row(2);
  double* work_[2] = {rows_.row(3), rows_.row(4)};
  int64_t t_ = 0;
  double margin_ = 0;
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
