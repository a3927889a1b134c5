// 12. What a defense asks of rows before and after its answer: clean rows, labels, how far they
// lead, and rows softened for the key cells.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "kernels.h"
#include "row.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Whether a row is a probability vector.
template <class T>
inline bool is_probability(const T* row, int64_t k) {
  double sum = 0;
  for (int64_t j = 0; j < k; ++j) {
    const double x = static_cast<double>(widen(row[j]));
    if (!(x >= 0)) return false;
    sum += x;
  }
  return std::abs(sum - 1) <= kSumTolerance<T>;
}

// Writes rows over their sums, in float32, with a strict label; an invalid row becomes uniform.
// Smaller entries than float32's least normal number become zero.
template <class T>
inline int64_t clean_rows(const Cleaning<T>& call, int64_t begin, int64_t end) {
  const int64_t k = call.batch.classes;
  std::vector<double> q(k);
  int64_t invalid = 0;
  for (int64_t i = begin; i < end; ++i) {
    const T* const row = call.p + i * k;
    const bool valid = is_probability(row, k);
    invalid += !valid;
    double sum = 0;
    for (int64_t j = 0; j < k; ++j) sum += valid ? widen(row[j]) : 1;
    for (int64_t j = 0; j < k; ++j) {
      const double x = (valid ? widen(row[j]) : 1) / sum;
      q[j] = x < std::numeric_limits<float>::min() ? 0 : x;
    }
    finish(q.data(), k, valid ? label_of(row, k) : 0, 0, call.out + i * k);
  }
  return invalid;
}

template <class T>
inline int64_t label_rows(const Labelling<T>& call, int64_t begin, int64_t end) {
  const int64_t k = call.batch.classes;
  for (int64_t i = begin; i < end; ++i) call.labels[i] = label_of(call.p + i * k, k);
  return 0;
}

// How far the label of a row p leads in q.
template <class T>
inline double lead_of(const T* q, const T* p, int64_t k) {
  const int64_t t = label_of(p, k);
  double rival = -kInfinity;
  for (int64_t j = 0; j < k; ++j)
    if (j != t) rival = std::max<double>(rival, widen(q[j]));
  return widen(q[t]) - rival;
}

template <class T>
inline int64_t lead_rows(const Leading<T>& call, int64_t begin, int64_t end) {
  const int64_t k = call.batch.classes;
  for (int64_t i = begin; i < end; ++i) call.out[i] = lead_of(call.q + i * k, call.p + i * k, k);
  return 0;
}

// The length of q - p; NaN where an entry is.
template <class T>
inline double length_of(const T* q, const T* p, int64_t k, Norm norm) {
  double sum = 0, most = 0;
  for (int64_t j = 0; j < k; ++j) {
    const double d = std::abs(static_cast<double>(widen(q[j])) - widen(p[j]));
    sum += norm == Norm::kL2 ? d * d : d;
    most = std::max(most, d);
  }
  if (norm == Norm::kLinf) return std::isnan(sum) ? sum : most;
  return norm == Norm::kL2 ? std::sqrt(sum) : sum;
}

template <class T>
inline int64_t measure_rows(const Measuring<T>& call, int64_t begin, int64_t end) {
  const int64_t k = call.batch.classes;
  for (int64_t i = begin; i < end; ++i)
    call.out[i] = length_of(call.q + i * k, call.p + i * k, k, call.norm);
  return 0;
}

// Writes which rows of q went too far or not far enough, or lead by too little; returns how many.
template <class T>
inline int64_t stray_rows(const Straying<T>& call, int64_t begin, int64_t end) {
  const int64_t k = call.batch.classes;
  int64_t count = 0;
  for (int64_t i = begin; i < end; ++i) {
    const T *const q = call.q + i * k, *const p = call.p + i * k;
    const double length = length_of(q, p, k, call.norm);
    const bool inside = length >= call.least && length <= call.most;
    call.out[i] = !inside || lead_of(q, p, k) < call.ahead;
    count += call.out[i];
  }
  return count;
}

// Whether label t wins where every entry is read(entry).
template <class T, class Read>
inline bool wins(const T* row, int64_t k, int64_t t, const Read& read) {
  const auto mine = read(row[t]);
  for (int64_t j = 0; j < k; ++j) {
    const auto other = read(row[j]);
    if (j < t ? other >= mine : other > mine) return false;
  }
  return true;
}

template <class T>
inline bool loses(const Losing<T>& call, int64_t i) {
  const int64_t k = call.batch.classes, t = call.labels[i];
  const T *const q = call.q + i * k, *const given = call.given + i * k;
  if (t < 0 || t >= k) return false;
  const auto lost = [&](const auto& read) {
    return wins(given, k, t, read) && !wins(q, k, t, read);
  };
  if (lost([](T x) { return widen(Rounded<Half>::nearest(static_cast<float>(widen(x)))); }))
    return true;
  if (lost([](T x) { return widen(Rounded<BFloat16>::nearest(static_cast<float>(widen(x)))); }))
    return true;
  double unit = std::pow(10.0, static_cast<double>(call.first));
  for (int64_t decimals = call.first; decimals <= call.last; ++decimals, unit *= 10) {
    const auto single = static_cast<float>(unit);
    if (lost([&](T x) { return std::nearbyint(widen(x) * unit) / unit; })) return true;
    if (lost([&](T x) { return std::nearbyint(static_cast<float>(widen(x)) * single) / single; }))
      return true;
  }
  return false;
}

template <class T>
inline int64_t lose_rows(const Losing<T>& call, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) call.out[i] = loses(call, i);
  return 0;
}

// Writes p^(1/temperature) over its sum, in float64 rounded to float32.
template <class T>
inline int64_t soften_rows(const Softening<T>& call, int64_t begin, int64_t end) {
  const int64_t k = call.batch.classes;
  std::vector<double> q(k);
  for (int64_t i = begin; i < end; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < k; ++j) {
      const float x = static_cast<float>(widen(call.p[i * k + j]));
      sum += q[j] = std::exp(std::log(std::max<double>(x, call.floor)) / call.temperature);
    }
    for (int64_t j = 0; j < k; ++j) call.out[i * k + j] = static_cast<float>(q[j] / sum);
  }
  return 0;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
