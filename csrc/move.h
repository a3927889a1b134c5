// 7. move: a bounded step toward a vector of the same label, along the segment or by water-filling.
#pragma once

#include "ball.h"

namespace mipoison {
namespace MIPOISON_ISA {

template <class T>
class Mover {
 public:
  explicit Mover(const Motion<T>& call) : k_(call.batch.classes), call_(call), rows_(k_, 5) {}

  // Writes row i. False if it is invalid.
  bool operator()(int64_t i) {
    const T *p = call_.p + i * k_, *target = call_.target + i * k_;
    T* out = call_.out + i * k_;
    const int64_t width = rows_.width();
    const Quality from = load_probability(p, k_, width, p_);
    const Quality to = load_probability(target, k_, width, v_);
    const int64_t t = from == Quality::kNotFinite ? -1 : label_of(p, k_);
    if (from != Quality::kProbability || to != Quality::kProbability || label_of(target, k_) != t) {
      write_safe_answer(k_, t, out);
      return false;
    }
    if (call_.style == Travel::kStraight)
      go_straight();
    else
      fill();
    finish(q_, k_, t, 0, out);
    return true;
  }

 private:
  void go_straight() {
    const int64_t width = rows_.width();
    const double length = distance(v_, p_, width, call_.norm);
    const double share = length > call_.epsilon ? call_.epsilon / length : 1;
    for (int64_t j = 0; j < width; ++j) q_[j] = share < 1 ? p_[j] + share * (v_[j] - p_[j]) : v_[j];
  }

  void fill() {
    const int64_t width = rows_.width();
    for (int64_t j = 0; j < width; ++j) {
      up_[j] = std::max(v_[j] - p_[j], 0.0);
      down_[j] = std::max(p_[j] - v_[j], 0.0);
    }
    const double most_up = water_line(up_), most_down = water_line(down_);
    for (int64_t j = 0; j < width; ++j)
      q_[j] = p_[j] + std::min(up_[j], most_up) - std::min(down_[j], most_down);
  }

  // Cap of the changes at which they add up to epsilon / 2; infinite if they never do.
  double water_line(const double* changes) const {
    const double surplus = sum_of(changes, rows_.width()) - call_.epsilon / 2;
    if (surplus <= 0) return kInfinity;
    // Where epsilon is 0, rounding can put the root just below zero.
    return std::max(water_level(changes, rows_.width(), 0, -surplus, 0), 0.0);
  }

  int64_t k_;
  Motion<T> call_;
  Workspace rows_;
  double *p_ = rows_.row(0), *v_ = rows_.row(1), *q_ = rows_.row(2);
  double *up_ = rows_.row(3), *down_ = rows_.row(4);
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
