// One float64 for each of the sixteen rows of a group, with the same operations as a plain double
// for a single row: root searches are written once for both.
#pragma once

#include <cmath>
#include <cstdint>

#include "lanes.h"
#include "round.h"

namespace mipoison {
namespace MIPOISON_ISA {

using FloatVector = Native<float>::Vector;
constexpr int kGroup = kLanes<float>;  // rows of a group: as many as float32 lanes in a block

struct Wide {
  Block<double> half[2];

  Wide() = default;
  Wide(double value) : half{Block<double>::all(value), Block<double>::all(value)} {}  // NOLINT
};

struct WideMask {
  Mask<double> half[2];
};

#define MIPOISON_WIDE_OPERATOR(op)          \
  inline Wide operator op(Wide a, Wide b) { \
    a.half[0] = a.half[0] op b.half[0];     \
    a.half[1] = a.half[1] op b.half[1];     \
    return a;                               \
  }
MIPOISON_WIDE_OPERATOR(+)
MIPOISON_WIDE_OPERATOR(-)
MIPOISON_WIDE_OPERATOR(*)
MIPOISON_WIDE_OPERATOR(/)
#undef MIPOISON_WIDE_OPERATOR

#define MIPOISON_WIDE_COMPARISON(op)                           \
  inline WideMask operator op(const Wide& a, const Wide& b) {  \
    return {{a.half[0] op b.half[0], a.half[1] op b.half[1]}}; \
  }
MIPOISON_WIDE_COMPARISON(>)
MIPOISON_WIDE_COMPARISON(<)
MIPOISON_WIDE_COMPARISON(>=)
MIPOISON_WIDE_COMPARISON(<=)
MIPOISON_WIDE_COMPARISON(==)
#undef MIPOISON_WIDE_COMPARISON

inline WideMask operator&(const WideMask& a, const WideMask& b) {
  return {{a.half[0] & b.half[0], a.half[1] & b.half[1]}};
}
inline WideMask operator|(const WideMask& a, const WideMask& b) {
  return {{a.half[0] | b.half[0], a.half[1] | b.half[1]}};
}
inline WideMask operator!(const WideMask& a) { return {{!a.half[0], !a.half[1]}}; }

inline Wide select(const WideMask& where, const Wide& a, const Wide& b) {
  Wide r;
  r.half[0] = select(where.half[0], a.half[0], b.half[0]);
  r.half[1] = select(where.half[1], a.half[1], b.half[1]);
  return r;
}
inline Wide max(const Wide& a, const Wide& b) {
  Wide r;
  r.half[0] = max(a.half[0], b.half[0]);
  r.half[1] = max(a.half[1], b.half[1]);
  return r;
}
inline Wide min(const Wide& a, const Wide& b) {
  Wide r;
  r.half[0] = min(a.half[0], b.half[0]);
  r.half[1] = min(a.half[1], b.half[1]);
  return r;
}
inline Wide size_of(const Wide& a) { return max(a, Wide(0) - a); }
inline Wide root_of(Wide a) {
  for (Block<double>& half : a.half)
    for (auto& part : half.part)
      for (int i = 0; i < kVectorBytes / 8; ++i) part[i] = std::sqrt(part[i]);
  return a;
}
inline Block<float> root_of(Block<float> a) {
  for (auto& part : a.part)
    for (int i = 0; i < kVectorBytes / 4; ++i) part[i] = std::sqrt(part[i]);
  return a;
}
inline uint32_t bits(const WideMask& m) {
  return bits(m.half[0]) | bits(m.half[1]) << kLanes<double>;
}
inline bool any(const WideMask& m) { return bits(m.half[0] | m.half[1]) != 0; }

// The same for a single row.
inline double select(bool where, double a, double b) { return where ? a : b; }
inline float select(bool where, float a, float b) { return where ? a : b; }
inline double max(double a, double b) { return a > b ? a : b; }
inline float max(float a, float b) { return a > b ? a : b; }
inline double min(double a, double b) { return a < b ? a : b; }
inline double size_of(double a) { return std::abs(a); }
inline double root_of(double a) { return std::sqrt(a); }
inline uint32_t bits(bool m) { return m; }
inline bool any(bool m) { return m; }

using DoubleVector = Native<double>::Vector;
typedef float HalfVector __attribute__((vector_size(kVectorBytes / 2)));

// Half a register of float32 to a register of float64 and back: __builtin_convertvector where the
// compiler makes one instruction of it, else that one.
inline DoubleVector converted(HalfVector x) {
#if defined(__AVX512F__)
  return (DoubleVector)_mm512_maskz_cvtps_pd(0xFF, (__m256)x);
#elif defined(__AVX2__)
  return (DoubleVector)_mm256_cvtps_pd((__m128)x);
#else
  return __builtin_convertvector(x, DoubleVector);
#endif
}

inline HalfVector converted(DoubleVector x) {
#if defined(__AVX512F__)
  return (HalfVector)_mm512_maskz_cvtpd_ps(0xFF, (__m512d)x);
#elif defined(__AVX2__)
  return (HalfVector)_mm256_cvtpd_ps((__m256d)x);
#else
  return __builtin_convertvector(x, HalfVector);
#endif
}

#if defined(__AVX512F__)
inline HalfVector lower_half(FloatVector x) {
  return __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7);
}
inline HalfVector upper_half(FloatVector x) {
  return __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
}
inline FloatVector joined(HalfVector a, HalfVector b) {
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
#elif defined(__AVX2__)
inline HalfVector lower_half(FloatVector x) { return __builtin_shufflevector(x, x, 0, 1, 2, 3); }
inline HalfVector upper_half(FloatVector x) { return __builtin_shufflevector(x, x, 4, 5, 6, 7); }
inline FloatVector joined(HalfVector a, HalfVector b) {
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
}
#else
inline HalfVector lower_half(FloatVector x) { return __builtin_shufflevector(x, x, 0, 1); }
inline HalfVector upper_half(FloatVector x) { return __builtin_shufflevector(x, x, 2, 3); }
inline FloatVector joined(HalfVector a, HalfVector b) {
  return __builtin_shufflevector(a, b, 0, 1, 2, 3);
}
#endif

// Lanes as they are, in float64. Exact.
inline Wide widen(const Block<float>& b) {
  Wide w;
  for (int i = 0; i < kParts; ++i) {
    w.half[2 * i / kParts].part[2 * i % kParts] = converted(lower_half(b.part[i]));
    w.half[(2 * i + 1) / kParts].part[(2 * i + 1) % kParts] = converted(upper_half(b.part[i]));
  }
  return w;
}

inline Block<double> widen(const Block<double>& b) { return b; }

// Rounded to nearest.
inline Block<float> narrow(const Wide& w) {
  Block<float> b;
  for (int i = 0; i < kParts; ++i)
    b.part[i] = joined(converted(w.half[2 * i / kParts].part[2 * i % kParts]),
                       converted(w.half[(2 * i + 1) / kParts].part[(2 * i + 1) % kParts]));
  return b;
}

// Float64 masks as float32 masks, lane by lane.
inline Mask<float> narrow(const WideMask& m) {
#if defined(__AVX512F__)
  return {static_cast<__mmask16>(bits(m))};
#else
  Wide ones;
  for (int h = 0; h < 2; ++h) ones.half[h] = keep(Block<double>::all(1), m.half[h]);
  return narrow(ones) > Block<float>::all(0);
#endif
}

inline WideMask widened(const Mask<float>& m) {
#if defined(__AVX512F__)
  return {{{static_cast<__mmask8>(m.lanes)}, {static_cast<__mmask8>(m.lanes >> 8)}}};
#else
  return widen(keep(Block<float>::all(1), m)) > Wide(0);
#endif
}

inline Block<float> select(const WideMask& where, const Block<float>& a, const Block<float>& b) {
  return select(narrow(where), a, b);
}

// Each lane's next float32 above; for values >= 0.
inline Block<float> next_above(Block<float> b) {
  for (auto& part : b.part) part = (FloatVector)((Native<float>::Mask)part + 1);
  return b;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
