// The four dtypes in and out of float64, and the last rounding of a row.
//
// In software, so that no build needs F16C: an exact widening, and one rounding to nearest even
// straight from float64 (by way of float32 a tie could round twice).
#pragma once

#include <cstdint>
#include <cstring>

#include "isa.h"

namespace mipoison {
namespace MIPOISON_ISA {

// A 16-bit binary format: kMantissa explicit bits, the rest of 15 are the exponent.
template <int kMantissa>
struct Narrow {
  uint16_t bits;
};
using Half = Narrow<10>;
using BFloat16 = Narrow<7>;

inline double widen(float x) { return x; }
inline double widen(double x) { return x; }

constexpr double inverse_power_of_two(int exponent) {
  return exponent == 0 ? 1.0 : inverse_power_of_two(exponent - 1) / 2;
}

template <int kMantissa>
inline double widen(Narrow<kMantissa> x) {
  constexpr int kBias = (1 << (14 - kMantissa)) - 1;
  constexpr int kTop = (1 << (15 - kMantissa)) - 1;
  const int exponent = (x.bits >> kMantissa) & kTop;
  const uint64_t fraction = x.bits & ((1u << kMantissa) - 1);
  const double sign = x.bits & 0x8000 ? -1.0 : 1.0;
  constexpr double kSubnormal = inverse_power_of_two(kBias + kMantissa - 1);
  if (exponent == 0) return sign * static_cast<double>(fraction) * kSubnormal;
  const uint64_t wide = exponent == kTop ? 0x7FF : static_cast<uint64_t>(exponent - kBias + 1023);
  const uint64_t bits = wide << 52 | fraction << (52 - kMantissa);
  double magnitude;
  std::memcpy(&magnitude, &bits, sizeof bits);
  return sign * magnitude;
}

template <class Bits, class T>
inline T with_next_bits(T x) {
  Bits bits;
  std::memcpy(&bits, &x, sizeof x);
  ++bits;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// The next value of the dtype above, for values >= 0.
inline float next_above(float x) { return with_next_bits<uint32_t>(x); }
inline double next_above(double x) { return with_next_bits<uint64_t>(x); }

// Rounds x, 0 <= x <= 1, to the nearest value of the dtype, ties to even.
template <class T>
struct Rounded;

template <>
struct Rounded<float> {
  static float nearest(double x) { return static_cast<float>(x); }
  static float above(float x) { return next_above(x); }
};

template <>
struct Rounded<double> {
  static double nearest(double x) { return x; }
  static double above(double x) { return next_above(x); }
};

template <int kMantissa>
struct Rounded<Narrow<kMantissa>> {
  static Narrow<kMantissa> nearest(double x) {
    constexpr int kBias = (1 << (14 - kMantissa)) - 1;
    if (!(x > 0)) return {0};
    uint64_t bits;
    std::memcpy(&bits, &x, sizeof x);
    const int exponent = static_cast<int>(bits >> 52) - 1023;
    const uint64_t significand = (bits & 0xFFFFFFFFFFFFFull) | 1ull << 52;
    const int below_normal = exponent < 1 - kBias ? 1 - kBias - exponent : 0;
    const int shift = 52 - kMantissa + below_normal;
    if (shift > 53) return {0};
    uint64_t kept = significand >> shift;
    const uint64_t rest = significand & ((1ull << shift) - 1), tie = 1ull << (shift - 1);
    kept += rest > tie || (rest == tie && (kept & 1));
    // The implicit one, and a carry out of the fraction, count the exponent up by themselves.
    const uint64_t base = below_normal ? 0 : static_cast<uint64_t>(exponent + kBias - 1);
    return {static_cast<uint16_t>((base << kMantissa) + kept)};
  }
  static Narrow<kMantissa> above(Narrow<kMantissa> x) {
    return {static_cast<uint16_t>(x.bits + 1)};
  }
};

// The label's entry: x rounded, lifted until it is margin above every other entry and no tie.
// `rival` is the largest other entry, as written.
template <class T>
inline T leading_entry(double x, T rival, double margin) {
  using R = Rounded<T>;
  const double floor = widen(rival) + margin;
  T entry = R::nearest(x);
  if (widen(entry) < floor) entry = R::nearest(floor);
  if (widen(entry) < floor) entry = R::above(entry);
  return widen(entry) > widen(rival) ? entry : R::above(rival);
}

// Writes the float64 solution q of k entries so that label t leads strictly after rounding.
template <class T>
inline void finish(const double* q, int64_t k, int64_t t, double margin, T* out) {
  T rival = Rounded<T>::nearest(0);
  for (int64_t j = 0; j < k; ++j) {
    out[j] = Rounded<T>::nearest(q[j]);
    if (j != t && widen(out[j]) > widen(rival)) rival = out[j];
  }
  out[t] = leading_entry(q[t], rival, margin);
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
