// flip: the keyed choice of rows and of their new labels, and the flipped vectors.
#pragma once

#include <utility>

#include "philox.h"
#include "simplex.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Uniform among the labels that are not the row's.
inline int64_t other_label(int64_t classes, uint32_t word, int64_t old) {
  if (classes < 2) return old;
  const int64_t draw =
      static_cast<int64_t>(uint64_t{word} * static_cast<uint64_t>(classes - 1) >> 32);
  return draw + (draw >= old);
}

// The label that a row is served with, by its first two words. `target` may be null: drawn by key;
// -1: keep the row.
inline int64_t served_label(int64_t classes, uint64_t threshold, uint64_t first, uint64_t second,
                            const int64_t* target, int64_t old) {
  if (first >= threshold) return old;
  if (target) return *target < 0 ? old : *target;
  return other_label(classes, static_cast<uint32_t>(second), old);
}

template <class T>
class Flipper {
 public:
  explicit Flipper(const Flips<T>& call)
      : k_(call.batch.classes), call_(call), canonical_(k_, call.key), rows_(k_, 3) {}

  // Writes row i. False if it is invalid.
  bool operator()(int64_t i) {
    const T* p = call_.p + i * k_;
    const int64_t* target = call_.targets ? call_.targets + i : nullptr;
    T* out = call_.out + i * k_;
    int64_t* label = call_.labels + i;
    const int64_t width = rows_.width();
    const Quality quality = load_probability(p, k_, width, p_);
    const int64_t old = quality == Quality::kNotFinite ? -1 : label_of(p, k_);
    *label = std::max<int64_t>(old, 0);
    if (quality != Quality::kProbability || (target && (*target < -1 || *target >= k_))) {
      write_safe_answer(k_, old, out);
      return false;
    }
    const Words r = words_of(canonical_(p), call_.key, 0);
    *label = served_label(k_, call_.threshold, r.word[0], r.word[1], target, old);
    const bool flips = *label != old;
    if (flips) {
      if (call_.style == Exchange::kSwap) {
        std::swap(p_[old], p_[*label]);
      } else {
        std::copy(p_, p_ + k_, z_);
        pad(z_, k_, width, -kInfinity);
        project_simplex(z_, width, *label, 0, q_);
      }
    }
    finish(flips && call_.style == Exchange::kProject ? q_ : p_, k_, *label, 0, out);
    return true;
  }

 private:
  int64_t k_;
  Flips<T> call_;
  Canonical canonical_;
  Workspace rows_;
  double *p_ = rows_.row(0), *z_ = rows_.row(1), *q_ = rows_.row(2);
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
