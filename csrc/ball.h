// What the three norms share: distances, and the slack with which a set counts as non-empty.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels.h"
#include "root.h"
#include "row.h"
#include "simplex.h"

namespace mipoison {
namespace MIPOISON_ISA {

constexpr double kSlack = 1e-12;

inline void pad(double* row, int64_t k, int64_t width, double filler) {
  for (int64_t j = k; j < width; ++j) row[j] = filler;
}

inline double sum_of(const double* row, int64_t width) {
  Block<double> sum = Block<double>::all(0);
  for (int64_t i = 0; i < width; i += kLanes<double>) sum = sum + Block<double>::load(row + i);
  return total(sum);
}

inline double distance(const double* a, const double* b, int64_t width, Norm norm) {
  const Block<double> zero = Block<double>::all(0);
  Block<double> sum = zero;
  for (int64_t i = 0; i < width; i += kLanes<double>) {
    const Block<double> d = Block<double>::load(a + i) - Block<double>::load(b + i);
    const Block<double> size = max(d, zero - d);
    sum = norm == Norm::kLinf ? max(sum, size) : sum + (norm == Norm::kL1 ? size : size * size);
  }
  if (norm == Norm::kLinf) return largest(sum);
  return norm == Norm::kL1 ? total(sum) : std::sqrt(total(sum));
}

// Replaces entry t of a row by `blank` for its lifetime.
class Blanked {
 public:
  Blanked(double* row, int64_t t, double blank) : entry_(row + t), value_(row[t]) {
    *entry_ = blank;
  }
  ~Blanked() { *entry_ = value_; }
  Blanked(const Blanked&) = delete;
  Blanked& operator=(const Blanked&) = delete;
  double value() const { return value_; }

 private:
  double* entry_;
  double value_;
};

// Whether label t leads q by the margin.
inline bool leads(double* q, int64_t width, int64_t t, double margin) {
  const Blanked label_entry(q, t, 0);
  return label_entry.value() >= max_of(q, width) + margin;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
