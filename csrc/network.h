// 11. Small networks on [p, log p], evaluated on a tile of rows: what they recover, and its
// gradient.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "layers.h"
#include "scratch.h"
#include "transpose.h"

namespace mipoison {
namespace MIPOISON_ISA {

constexpr float kLogFloor = 1e-7f, kSmoothing = 1e-3f, kRamp = 0.5f;
// Rows of a tile: activities and weights stay in the cache.
constexpr int64_t kTileRows = 48;

// log x for normal x > 0, to two units in the last place: 2 artanh of (m - 1)/(m + 1), m in
// [sqrt(1/2), sqrt(2)), and the exponent.
inline Block<float> log_of(const Block<float>& x) {
  using V = FloatVector;
  using I = Native<float>::Mask;
  Block<float> r;
  for (int i = 0; i < kParts; ++i) {
    const I bits = (I)x.part[i];
    // As if the mantissa began at sqrt(1/2).
    const I shifted = bits - 0x3F3504F3;
    const I exponent = shifted >> 23;
    const V m = (V)((shifted & 0x007FFFFF) + 0x3F3504F3);
    const V e = __builtin_convertvector(exponent, V);
    const V s = (m - 1.0f) / (m + 1.0f), z = s * s;
    const V tail = z * (2.0f / 3 + z * (2.0f / 5 + z * (2.0f / 7 + z * (2.0f / 9))));
    // log 2 in two parts, the first of few digits: its multiples are exact.
    r.part[i] = e * 0.693359375f + (2.0f * s + (s * tail + e * -2.12194440e-4f));
  }
  return r;
}

// The networks on one tile of at most kTileRows rows of T after the other.
template <class T>
class Evaluator {
 public:
  Evaluator(const Network& network, int64_t k, int64_t outputs, int64_t rows)
      : layers_(network, k),
        k_(k),
        outputs_(outputs),
        rows_(std::min(rows, kTileRows)),
        blocks_((outputs + kUnitLanes - 1) / kUnitLanes * kUnitLanes),
        inputs_(rows_, layers_.lanes),
        first_(rows_ * layers_.members, layers_.width),
        second_(rows_ * layers_.members, layers_.width),
        carried_(2 * rows_, layers_.width),
        answer_(rows_, layers_.depth),
        gradient_(rows_, layers_.lanes) {
    if (outputs < 1 || outputs > layers_.depth)
      throw std::invalid_argument("expected no more outputs than the networks have");
  }

  int64_t tile_rows() const { return rows_; }

  // Mean outputs of `rows` rows, each of them of `outputs` numbers from output(row) on.
  void forward(const T* q, int64_t rows) {
    standardise(q, rows);
    for (int64_t m = 0; m < layers_.members; ++m) {
      float *const h1 = first(m), *const h2 = second(m);
      const int64_t f = layers_.lanes, w = layers_.width, d = layers_.depth;
      multiply<Unit::kRelu>(rows, inputs_.row(0), f, layers_.features,
                            layers_.weight[0] + m * f * w, w, layers_.bias[0] + m * w, w, h1, w);
      multiply<Unit::kRelu>(rows, h1, w, w, layers_.weight[1] + m * w * w, w,
                            layers_.bias[1] + m * w, w, h2, w);
      // The first member's sums begin at its bias, the others' at the sums so far and their bias.
      if (m > 0) add_bias(layers_.bias[2] + m * d, rows);
      multiply<Unit::kPlain>(rows, h2, w, w, layers_.weight[2] + m * w * d, d,
                             m == 0 ? layers_.bias[2] : nullptr, blocks_, answer_.row(0), d);
    }
    if (layers_.members > 1) {
      const Block<float> members = Block<float>::all(static_cast<float>(layers_.members));
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < blocks_; j += kUnitLanes)
          (Block<float>::load(output(r) + j) / members).store(output(r) + j);
    }
  }

  float* output(int64_t row) { return answer_.row(row); }

  // How far the outputs of a row are from `goal`; leaves the difference in their place.
  float distance(int64_t row, const float* goal) {
    float* const error = output(row);
    Block<float> squares = Block<float>::all(0);
    float tail[kUnitLanes];
    for (int64_t j = 0; j < outputs_; j += kUnitLanes) {
      const float* wanted = goal + j;
      if (j + kUnitLanes > outputs_) {
        // Outputs beyond the goal's have no error.
        load_tail(goal + j, outputs_ - j, 0.0f, tail);
        std::fill(error + outputs_, error + blocks_, 0.0f);
        wanted = tail;
      }
      const Block<float> off = Block<float>::load(error + j) - Block<float>::load(wanted);
      off.store(error + j);
      squares = fused(squares, off, off);
    }
    return static_cast<float>(std::sqrt(total(squares)));
  }

  // The gradient of half the squared distance of the outputs from `goal`, and the distance, after
  // `forward` of the same rows; not finite for a row whose numbers overflow.
  void backward(const T* q, int64_t rows, const float* goal, bool smooth, float* gradient,
                float* distance) {
    const int64_t f = layers_.lanes, w = layers_.width, d = layers_.depth;
    const float share = 1.0f / static_cast<float>(layers_.members);
    const Block<float> part = Block<float>::all(share);
    for (int64_t r = 0; r < rows; ++r) {
      distance[r] = this->distance(r, goal + r * outputs_);
      float* const error = output(r);
      for (int64_t j = 0; j < blocks_; j += kUnitLanes)
        (part * Block<float>::load(error + j)).store(error + j);
    }
    const int64_t blocks = (layers_.features + kUnitLanes - 1) / kUnitLanes * kUnitLanes;
    const Block<float> zero = Block<float>::all(0);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t j = 0; j < blocks; j += kUnitLanes) zero.store(gradient_.row(r) + j);
    float *const upper = carried_.row(0), *const lower = carried_.row(rows_);
    for (int64_t m = 0; m < layers_.members; ++m) {
      clear(upper, rows);
      multiply<Unit::kPlain>(rows, answer_.row(0), d, outputs_, layers_.back[2] + m * d * w, w,
                             nullptr, w, upper, w);
      slope(upper, second(m), rows, smooth);
      clear(lower, rows);
      multiply<Unit::kPlain>(rows, upper, w, w, layers_.back[1] + m * w * w, w, nullptr, w, lower,
                             w);
      slope(lower, first(m), rows, smooth);
      multiply<Unit::kPlain>(rows, lower, w, w, layers_.back[0] + m * w * f, f, nullptr, blocks,
                             gradient_.row(0), f);
    }
    for (int64_t r = 0; r < rows; ++r)
      carry_through_features(q + r * k_, gradient_.row(r), smooth, gradient + r * k_);
  }

 private:
  float* first(int64_t member) { return first_.row(member * rows_); }
  float* second(int64_t member) { return second_.row(member * rows_); }

  void standardise(const T* q, int64_t rows) {
    const Block<float> floor = Block<float>::all(kLogFloor);
    for (int64_t r = 0; r < rows; ++r) {
      float* const x = inputs_.row(r);
      for (int64_t j = 0; j < k_; ++j) x[j] = static_cast<float>(widen(q[r * k_ + j]));
      float last[kUnitLanes];
      int64_t j = 0;
      for (; j + kUnitLanes <= k_; j += kUnitLanes)
        log_of(max(Block<float>::load(x + j), floor)).store(x + k_ + j);
      if (j < k_) {
        load_tail(x + j, k_ - j, 1.0f, last);
        log_of(max(Block<float>::load(last), floor)).store(last);
        std::copy(last, last + (k_ - j), x + k_ + j);
      }
      for (int64_t i = 0; i < layers_.lanes; i += kUnitLanes) {
        const Block<float> centered =
            Block<float>::load(x + i) - Block<float>::load(layers_.mean + i);
        (centered * Block<float>::load(layers_.inverse + i)).store(x + i);
      }
    }
  }

  // The chain rule for [q, log q], from the error of the standardised features.
  void carry_through_features(const T* q, const float* error, bool smooth, float* out) const {
    const Block<float> floor = Block<float>::all(kLogFloor), one = Block<float>::all(1);
    const Block<float> smoothing = Block<float>::all(kSmoothing * kSmoothing);
    float x[kUnitLanes], tail[kUnitLanes];
    for (int64_t j = 0; j < k_; j += kUnitLanes) {
      const int64_t n = std::min<int64_t>(kUnitLanes, k_ - j);
      for (int64_t i = 0; i < kUnitLanes; ++i)
        x[i] = i < n ? static_cast<float>(widen(q[j + i])) : 1.0f;
      const Block<float> p = Block<float>::load(x);
      const Block<float> inverse = smooth ? p / (p * p + smoothing) : keep(one / p, p > floor);
      const auto times = [&](int64_t at) {
        load_tail(error + at, n, 0.0f, tail);
        const Block<float> e = Block<float>::load(tail);
        load_tail(layers_.inverse + at, n, 0.0f, tail);
        return e * Block<float>::load(tail);
      };
      (times(j) + times(k_ + j) * inverse).store(tail);
      std::copy(tail, tail + n, out + j);
    }
  }

  void add_bias(const float* bias, int64_t rows) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t j = 0; j < blocks_; j += kUnitLanes)
        (Block<float>::load(output(r) + j) + Block<float>::load(bias + j)).store(output(r) + j);
  }

  void clear(float* rows_of_units, int64_t rows) {
    std::fill(rows_of_units, rows_of_units + rows * layers_.width, 0.0f);
  }

  // error * the derivative of ReLU at units of these activities.
  void slope(float* error, const float* active, int64_t rows, bool smooth) {
    const Block<float> zero = Block<float>::all(0), one = Block<float>::all(1);
    const Block<float> rise = Block<float>::all(1 / kRamp);
    for (int64_t j = 0; j < rows * layers_.width; j += kUnitLanes) {
      const Block<float> e = Block<float>::load(error + j), a = Block<float>::load(active + j);
      (smooth ? e * min(a * rise, one) : keep(e, a > zero)).store(error + j);
    }
  }

  Layers layers_;
  int64_t k_, outputs_, rows_, blocks_;
  Scratch<float> inputs_, first_, second_, carried_, answer_, gradient_;
};

inline bool all_finite(const float* x, int64_t n) {
  bool finite = true;
  for (int64_t j = 0; j < n; ++j) finite &= std::abs(x[j]) <= std::numeric_limits<float>::max();
  return finite;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
