// flip: the keyed choice of rows and of their new labels, and the flipped vectors.
#pragma once

#include <utility>

#include "philox.h"
#include "simplex.h"

namespace mipoison {
namespace MIPOISON_ISA {

template <class T>
class Flipper {
 public:
  Flipper(int64_t classes, uint64_t threshold, const Key& key, Exchange style)
      : k_(classes), threshold_(threshold), key_(key), style_(style), rows_(classes, 3) {}

  // `target` may be null: drawn by key; -1: keep the row.
  bool operator()(const T* p, const int64_t* target, T* out, int64_t* label) {
    const int64_t width = rows_.width();
    const Quality quality = load_probability(p, k_, width, p_);
    const int64_t own = quality == Quality::kNotFinite ? -1 : label_of(p, k_);
    *label = std::max<int64_t>(own, 0);
    if (quality != Quality::kProbability || (target && (*target < -1 || *target >= k_))) {
      write_safe_answer(k_, own, out);
      return false;
    }
    const Words r = words_of(hash_row(p, k_, key_, 0), key_, 0);
    const int64_t wanted = target ? *target : other_label(r.word[1], own);
    const bool flips = r.word[0] < threshold_ && wanted >= 0 && wanted != own;
    if (flips) {
      *label = wanted;
      if (style_ == Exchange::kSwap) {
        std::swap(p_[own], p_[wanted]);
      } else {
        std::copy(p_, p_ + k_, z_);
        pad(z_, k_, width, -kInfinity);
        project_simplex(z_, width, wanted, 0, q_);
      }
    }
    finish(flips && style_ == Exchange::kProject ? q_ : p_, k_, *label, 0, out);
    return true;
  }

 private:
  // Uniform among the labels that are not the row's own.
  int64_t other_label(uint32_t word, int64_t own) const {
    if (k_ < 2) return -1;
    const int64_t draw = static_cast<int64_t>(uint64_t{word} * static_cast<uint64_t>(k_ - 1) >> 32);
    return draw + (draw >= own);
  }

  int64_t k_;
  uint64_t threshold_;
  Key key_;
  Exchange style_;
  Workspace rows_;
  double *p_ = rows_.row(0), *z_ = rows_.row(1), *q_ = rows_.row(2);
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
