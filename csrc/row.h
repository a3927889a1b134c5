// Widens one row to float64, validates and renormalises it; and the safe answer to an invalid row.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>

#include "lanes.h"
#include "round.h"

namespace mipoison {
namespace MIPOISON_ISA {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A thread's float64 rows, each padded to whole blocks.
class Workspace {
 public:
  Workspace(int64_t classes, int rows)
      : width_(padded<double>(classes)), memory_(new double[width_ * rows]) {}
  double* row(int index) const { return memory_.get() + width_ * index; }
  int64_t width() const { return width_; }

 private:
  int64_t width_;
  std::unique_ptr<double[]> memory_;
};

// A row whose sum is farther than this from 1 is no probability vector.
template <class T>
constexpr double kSumTolerance = sizeof(T) == 2 ? 1e-2 : 1e-4;

// Lowest index of the largest entry.
template <class T>
inline int64_t label_of(const T* row, int64_t k) {
  int64_t best = 0;
  for (int64_t j = 1; j < k; ++j)
    if (widen(row[j]) > widen(row[best])) best = j;
  return best;
}

inline void pad(double* row, int64_t k, int64_t width, double filler) {
  for (int64_t j = k; j < width; ++j) row[j] = filler;
}

inline double sum_of(const double* row, int64_t width) {
  Block<double> sum = Block<double>::all(0);
  for (int64_t i = 0; i < width; i += kLanes<double>) sum = sum + Block<double>::load(row + i);
  return total(sum);
}

inline double max_of(const double* row, int64_t width) {
  Block<double> high = Block<double>::all(-kInfinity);
  for (int64_t i = 0; i < width; i += kLanes<double>)
    high = max(high, Block<double>::load(row + i));
  return largest(high);
}

// Beyond this, differences and sums of entries leave the range of float64.
constexpr double kLargest = 1e200;

// A point to project with larger entries than this has lost the digits that distinguish them.
constexpr double kFarthest = 1e15;

// Widens a row. Returns whether every entry is finite, and small enough to compute with.
template <class T>
inline bool widen_row(const T* from, int64_t k, double* to) {
  bool finite = true;
  for (int64_t j = 0; j < k; ++j) {
    to[j] = widen(from[j]);
    finite &= std::abs(to[j]) <= kLargest;
  }
  return finite;
}

enum class Quality { kNotFinite, kNotProbability, kProbability };

// Widens a row that should be a probability vector and divides it by its sum; pads with zeros.
template <class T>
inline Quality load_probability(const T* from, int64_t k, int64_t width, double* to) {
  if (!widen_row(from, k, to)) return Quality::kNotFinite;
  pad(to, k, width, 0);
  bool negative = false;
  for (int64_t j = 0; j < k; ++j) negative |= to[j] < 0;
  const double sum = sum_of(to, width);
  if (negative || !(std::abs(sum - 1) <= kSumTolerance<T>)) return Quality::kNotProbability;
  // + 0.0 turns a negative zero into zero.
  for (int64_t j = 0; j < k; ++j) to[j] = to[j] / sum + 0.0;
  return Quality::kProbability;
}

// The safe answer: it tells the label and nothing else. `label` < 0: unknown, and the answer is
// uniform.
template <class T>
inline void write_safe_answer(int64_t k, int64_t label, T* out) {
  const T fill = Rounded<T>::nearest(label < 0 ? 1.0 / static_cast<double>(k) : 0.0);
  std::fill(out, out + k, fill);
  if (label >= 0) out[label] = Rounded<T>::nearest(1.0);
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
