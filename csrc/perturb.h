// 11. recover, pull and perturb: what small networks recover from rows, its gradient, and projected
// steps along that.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "clean.h"
#include "network.h"

namespace mipoison {
namespace MIPOISON_ISA {

// work(first row, rows) for the rows [begin, end) of a matrix, as many at a time as a tile has.
template <class Work>
inline void each_tile_of(int64_t rows, int64_t begin, int64_t end, const Work& work) {
  for (int64_t i = begin; i < end; i += rows) work(i, std::min(rows, end - i));
}

template <class T>
inline int64_t recover_rows(const Recovery<T>& call, int64_t begin, int64_t end) {
  const int64_t k = call.batch.classes, d = call.outputs;
  Evaluator<T> networks(call.network, k, d, end - begin);
  int64_t invalid = 0;
  each_tile_of(networks.tile_rows(), begin, end, [&](int64_t i, int64_t n) {
    networks.forward(call.p + i * k, n);
    for (int64_t r = 0; r < n; ++r) {
      const float* const found = networks.output(r);
      float* const out = call.out + (i + r) * d;
      const bool valid = is_probability(call.p + (i + r) * k, k);
      if (valid && all_finite(found, d)) {
        std::copy(found, found + d, out);
      } else {
        std::fill(out, out + d, valid ? std::numeric_limits<float>::quiet_NaN() : 0.0f);
        ++invalid;
      }
    }
  });
  return invalid;
}

template <class T>
inline int64_t distance_rows(const Distances<T>& call, int64_t begin, int64_t end) {
  const int64_t k = call.batch.classes, d = call.outputs;
  const int64_t first = begin * call.answers, last = end * call.answers;
  Evaluator<T> networks(call.network, k, d, last - first);
  each_tile_of(networks.tile_rows(), first, last, [&](int64_t i, int64_t n) {
    networks.forward(call.q + i * k, n);
    for (int64_t r = 0; r < n; ++r)
      call.out[i + r] = networks.distance(r, call.goal + (i + r) / call.answers * d);
  });
  return 0;
}

template <class T>
inline int64_t pull_rows(const Attraction<T>& call, int64_t begin, int64_t end) {
  const int64_t k = call.batch.classes, d = call.outputs;
  Evaluator<T> networks(call.network, k, d, end - begin);
  int64_t invalid = 0;
  each_tile_of(networks.tile_rows(), begin, end, [&](int64_t i, int64_t n) {
    const T* const q = call.p + i * k;
    float *const out = call.out + i * k, *const distance = call.distance + i;
    networks.forward(q, n);
    networks.backward(q, n, call.goal + i * d, call.smooth, out, distance);
    for (int64_t r = 0; r < n; ++r) {
      if (is_probability(q + r * k, k) && all_finite(out + r * k, k) && all_finite(distance + r, 1))
        continue;
      std::fill(out + r * k, out + (r + 1) * k, 0.0f);
      distance[r] = 0;
      ++invalid;
    }
  });
  return invalid;
}

// Step writes the rows of a Projection<T> and returns how many it refuses.
template <class T, class Step>
class Perturber {
 public:
  Perturber(const Perturbation<T>& call, int64_t rows, const Step& step)
      : call_(call),
        step_(step),
        k_(call.batch.classes),
        networks_(call.network, k_, call.outputs, rows),
        gradient_(networks_.tile_rows() * k_),
        distance_(networks_.tile_rows()),
        q_(networks_.tile_rows() * k_),
        along_(q_.size()),
        stepped_(q_.size()),
        label_(networks_.tile_rows()),
        refused_(networks_.tile_rows()) {}

  // Writes the rows [begin, end). Returns how many are invalid.
  int64_t operator()(int64_t begin, int64_t end) {
    int64_t invalid = 0;
    each_tile_of(networks_.tile_rows(), begin, end,
                 [&](int64_t i, int64_t n) { invalid += write(i, n); });
    return invalid;
  }

 private:
  int64_t write(int64_t i, int64_t n) {
    const T* const center = (call_.center ? call_.center : call_.p) + i * k_;
    std::copy(call_.p + i * k_, call_.p + (i + n) * k_, q_.begin());
    for (int64_t r = 0; r < n; ++r) {
      const T* const c = center + r * k_;
      const bool known = is_probability(c, k_) && is_probability(&q_[r * k_], k_);
      label_[r] = known ? label_of(c, k_) : 0;
      refused_[r] = !known || !all_finite(call_.goal + (i + r) * call_.outputs, call_.outputs) ||
                    (call_.near && !(call_.near[i + r] > 0 && all_finite(call_.near + i + r, 1)));
      if (refused_[r]) level(r);
    }
    if (call_.near) {
      // A part of a step keeps what both of its ends keep.
      take_step(center, n, false);
      for (int64_t r = 0; r < n; ++r) {
        if (refused_[r])
          level(r);
        else
          std::copy(&stepped_[r * k_], &stepped_[r * k_] + k_, &q_[r * k_]);
      }
    }
    for (int64_t s = 0; s < call_.steps; ++s) advance(center, i, n);
    int64_t invalid = 0;
    for (int64_t r = 0; r < n; ++r) {
      T* const out = call_.out + (i + r) * k_;
      if (refused_[r]) {
        refuse(center + r * k_, k_, out);
        ++invalid;
      } else {
        std::copy(&q_[r * k_], &q_[r * k_] + k_, out);
      }
    }
    return invalid;
  }

  // An invalid row goes on from a harmless one.
  void level(int64_t r) {
    std::fill_n(&q_[r * k_], k_, Rounded<T>::nearest(1.0 / static_cast<double>(k_)));
  }

  void advance(const T* center, int64_t i, int64_t n) {
    networks_.forward(q_.data(), n);
    networks_.backward(q_.data(), n, call_.goal + i * call_.outputs, call_.smooth, gradient_.data(),
                       distance_.data());
    for (int64_t r = 0; r < n; ++r) {
      const float* const g = &gradient_[r * k_];
      refused_[r] |= !all_finite(g, k_) || !all_finite(&distance_[r], 1);
      float size = 0;
      for (int64_t j = 0; j < k_; ++j) size = std::max(size, std::abs(g[j]));
      const bool moves = size > 0 && !refused_[r];
      for (int64_t j = 0; j < k_; ++j)
        along_[r * k_ + j] = signed_entry<T>(moves ? g[j] / size : 0);
    }
    take_step(center, n, true);
    for (int64_t r = 0; r < n; ++r) {
      if (refused_[r]) {
        level(r);
      } else if (call_.near && distance_[r] / call_.near[i + r] < 1) {
        shorten(r, distance_[r] / call_.near[i + r]);
      } else {
        std::copy(&stepped_[r * k_], &stepped_[r * k_] + k_, &q_[r * k_]);
      }
    }
  }

  // Projects the tile's rows, moved along their directions if so; marks those that are refused.
  void take_step(const T* center, int64_t n, bool moves) {
    if (step_(step_of(center, 0, n, moves)) == 0) return;
    for (int64_t r = 0; r < n; ++r) refused_[r] |= step_(step_of(center, r, 1, moves)) > 0;
  }

  // The step of n rows of the tile from row r on.
  Projection<T> step_of(const T* center, int64_t r, int64_t n, bool moves) {
    Batch batch = call_.batch;
    batch.rows = n;
    return {batch,           &q_[r * k_],      moves ? &along_[r * k_] : nullptr,
            center + r * k_, &label_[r],       moves ? -call_.alpha : 0,
            call_.region,    &stepped_[r * k_]};
  }

  double at_label(const T* row, int64_t r) const { return widen(row[label_[r]]); }

  // The largest entry but that of the label.
  double rival(const T* row, int64_t r) const {
    double most = -1;
    for (int64_t j = 0; j < k_; ++j)
      if (j != label_[r]) most = std::max<double>(most, widen(row[j]));
    return most;
  }

  // A share of the step. Both ends have the label, or one of them ties: rounding can only make a
  // tie.
  void shorten(int64_t r, float share) {
    T *const q = &q_[r * k_], *const to = &stepped_[r * k_];
    for (int64_t j = 0; j < k_; ++j) q[j] = between(q[j], to[j], share);
    q[label_[r]] =
        leading_entry(at_label(q, r), Rounded<T>::nearest(std::max(rival(q, r), 0.0)), 0);
  }

  Perturbation<T> call_;
  const Step& step_;
  int64_t k_;
  Evaluator<T> networks_;
  std::vector<float> gradient_, distance_;
  std::vector<T> q_, along_, stepped_;
  std::vector<int64_t> label_;
  std::vector<char> refused_;
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
