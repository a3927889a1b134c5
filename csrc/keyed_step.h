// 14. keyed_step: one projected step along a keyed direction, or against it where that moves a row
// clearly farther.
#pragma once

#include <algorithm>
#include <vector>

#include "clean.h"
#include "philox.h"
#include "rows.h"

namespace mipoison {
namespace MIPOISON_ISA {

// How many times as far the way back must lead to be taken.
constexpr double kFarther = 1.1;

// Step writes the rows of a Projection<T>.
template <class T, class Step>
class KeyedStepper {
 public:
  KeyedStepper(const KeyedStep<T>& call, int64_t rows, const Step& step)
      : call_(call),
        step_(step),
        k_(call.batch.classes),
        height_(std::min(rows, k_ <= kWidestColumns ? kTogether : 1)),
        cells_per_unit_(static_cast<float>(1 / call.grid)),
        short_of_(std::min(call.alpha, call.epsilon) / 2),
        gone_(height_),
        short_(height_),
        along_(height_ * k_),
        from_(height_ * k_),
        back_(height_ * k_) {}

  void operator()(int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += height_) write(i, std::min(height_, end - i));
  }

 private:
  // Short rows are stepped together.
  static constexpr int64_t kTogether = 64;

  void write(int64_t first, int64_t n) {
    const T* const p = call_.p + first * k_;
    for (int64_t r = 0; r < n; ++r) direct(first + r, 1, r);
    step(p, n, call_.out + first * k_);
    int64_t left = 0;
    for (int64_t r = 0; r < n; ++r) {
      const T* const row = p + r * k_;
      gone_[left] = length(call_.out + (first + r) * k_, row);
      if (!(gone_[left] < short_of_)) continue;
      direct(first + r, -1, left);
      std::copy(row, row + k_, &from_[left * k_]);
      short_[left++] = first + r;
    }
    if (left == 0) return;
    step(from_.data(), left, back_.data());
    for (int64_t r = 0; r < left; ++r) {
      const T* const back = &back_[r * k_];
      if (length(back, &from_[r * k_]) > kFarther * gone_[r])
        std::copy(back, back + k_, call_.out + short_[r] * k_);
    }
  }

  // The direction of row i: entries uniform in (-1, 1), or their opposites.
  void direct(int64_t i, int sign, int64_t to) {
    const uint64_t hash =
        call_.seen ? hash_of(call_.seen, call_.columns, i) : hash_of(call_.p, k_, i);
    Words words{};
    for (int64_t j = 0; j < k_; ++j) {
      if (j % 4 == 0) words = words_of(hash, call_.key, static_cast<uint32_t>(j / 4));
      const double uniform = (words.word[j % 4] + 0.5) * 0x1p-32;
      along_[to * k_ + j] = signed_entry<T>(sign * (2 * uniform - 1));
    }
  }

  template <class Seen>
  uint64_t hash_of(const Seen* seen, int64_t columns, int64_t i) const {
    return hash_coarse(seen + i * columns, columns, call_.key, cells_per_unit_);
  }

  void step(const T* from, int64_t n, T* out) const {
    const Batch batch{n, k_, call_.batch.dtype, 1};
    const Region region{call_.epsilon, call_.norm, 0, false};
    step_(Projection<T>{batch, from, along_.data(), from, nullptr, call_.alpha, region, out});
  }

  double length(const T* q, const T* p) const { return length_of(q, p, k_, call_.norm); }

  KeyedStep<T> call_;
  const Step& step_;
  int64_t k_, height_;
  float cells_per_unit_;
  double short_of_;
  std::vector<double> gone_;
  std::vector<int64_t> short_;
  std::vector<T> along_, from_, back_;
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
