// What a single row of any dtype is: its label, whether it is finite; and the safe answer to an
// invalid row.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "lanes.h"
#include "round.h"

namespace mipoison {
namespace MIPOISON_ISA {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

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

// An entry of a direction in [-1, 1].
template <class T>
inline T signed_entry(double x) {
  if constexpr (sizeof(T) > 2) {
    return static_cast<T>(x);
  } else {
    T entry = Rounded<T>::nearest(std::abs(x));
    if (x < 0) entry.bits |= 0x8000;
    return entry;
  }
}

// from + share * (to - from) in float32 or wider.
template <class T, class To>
inline T between(T from, To to, float share) {
  if constexpr (sizeof(T) > 2) {
    return from + static_cast<T>(share) * (static_cast<T>(to) - from);
  } else {
    const float a = static_cast<float>(widen(from)), b = static_cast<float>(widen(to));
    return Rounded<T>::nearest(a + share * (b - a));
  }
}

// Beyond this, differences and sums of entries leave the range of float64.
constexpr double kLargest = 1e200;

// A point to project with larger entries than this has lost the digits that distinguish them.
constexpr double kFarthest = 1e15;

template <class T>
inline bool finite(const T* row, int64_t k) {
  bool finite = true;
  for (int64_t j = 0; j < k; ++j) finite &= std::abs(widen(row[j])) <= kLargest;
  return finite;
}

// The safe answer: it tells the label and nothing else. `label` < 0: unknown, and the answer is
// uniform.
template <class T>
inline void write_safe_answer(int64_t k, int64_t label, T* out) {
  const T fill = Rounded<T>::nearest(label < 0 ? 1.0 / static_cast<double>(k) : 0.0);
  std::fill(out, out + k, fill);
  if (label >= 0) out[label] = Rounded<T>::nearest(1.0);
}

// The same for a row whose label its entries tell. Returns that, or -1 if they are not finite.
template <class T>
inline int64_t refuse(const T* row, int64_t k, T* out) {
  const int64_t label = finite(row, k) ? label_of(row, k) : -1;
  write_safe_answer(k, label, out);
  return label;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
