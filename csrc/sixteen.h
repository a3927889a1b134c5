// Blocks of float16 and bfloat16 entries: read as float32, and one rounding on the way back.
//
// In software where there is no instruction. Answers are in [0, 1], but every input bit pattern is
// read correctly.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "lanes.h"
#include "layout.h"
#include "round.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Bits are shifted and rounded as unsigned numbers, which may wrap, and compared as signed ones,
// for which there is an instruction.
using Integers = Native<float>::Mask;
typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));
typedef uint16_t Shorts __attribute__((vector_size(kVectorBytes / 2)));
constexpr int kShorts = kVectorBytes / 4;  // as many as a register has float32 lanes

template <class T>
constexpr bool kSixteen = sizeof(T) == 2;

inline Bits all_of(uint32_t value) { return Bits{} + value; }
inline Integers below(const Bits& bits, int32_t limit) { return (Integers)bits < limit; }

// The entries as float32: exact.
template <int kMantissa>
inline FloatVector read(Shorts shorts, Narrow<kMantissa>) {
  const Bits bits = __builtin_convertvector(shorts, Bits);
  if constexpr (kMantissa == 7) return (FloatVector)(bits << 16);
#if defined(__AVX512F__)
  return (FloatVector)_mm512_maskz_cvtph_ps(0xFFFF, (__m256i)shorts);
#else
  // Moved to float32's bias; subnormal, infinite and NaN entries by another way each.
  const Bits size = (bits & all_of(0x7FFF)) << 13, sign = (bits & all_of(0x8000)) << 16;
  const Bits bias = all_of(112 << 23), least = all_of(113 << 23);
  const Bits small = (Bits)((FloatVector)(size + least) - (FloatVector)least);
  Bits whole = below(size, 1 << 23) ? small : size + bias;
  whole = below(size, 31 << 23) ? whole : size | all_of(0x7F800000);
  return (FloatVector)(whole | sign);
#endif
}

// Entries of [0, 1] to the nearest of the format, ties to even.
template <int kMantissa>
inline Shorts written(FloatVector x, Narrow<kMantissa>) {
#if defined(__AVX512F__)
  if constexpr (kMantissa == 10)
    return (Shorts)_mm512_maskz_cvtps_ph(0xFFFF, (__m512)x, _MM_FROUND_TO_NEAREST_INT);
#endif
  const Bits bits = (Bits)x;
  constexpr int kDrop = 23 - kMantissa;
  const Bits odd = bits >> kDrop & all_of(1);
  const Bits nearest = (bits + all_of((1 << (kDrop - 1)) - 1) + odd) >> kDrop;
  if constexpr (kMantissa == 7) return __builtin_convertvector(nearest, Shorts);
  // Subnormals of float16 are multiples of 2^-24: an addition to 1/2 rounds to those.
  const FloatVector half = FloatVector{} + 0.5f;
  const Bits small = (Bits)(x + half) - (Bits)half, large = nearest - all_of(112 << 10);
  return __builtin_convertvector(below(bits, 113 << 23) ? small : large, Shorts);
}

// Sixteen entries.
inline Block<float> load_entries(const float* from) { return Block<float>::load(from); }
template <int kMantissa>
inline Block<float> load_entries(const Narrow<kMantissa>* from) {
  Block<float> b;
  for (int i = 0; i < kParts; ++i) {
    Shorts shorts;
    std::memcpy(&shorts, from + i * kShorts, sizeof shorts);
    b.part[i] = read(shorts, Narrow<kMantissa>{});
  }
  return b;
}

inline void store_entries(const Block<float>& b, float* to) { b.store(to); }
template <int kMantissa>
inline void store_entries(const Block<float>& b, Narrow<kMantissa>* to) {
  for (int i = 0; i < kParts; ++i) {
    const Shorts shorts = written(b.part[i], Narrow<kMantissa>{});
    std::memcpy(to + i * kShorts, &shorts, sizeof shorts);
  }
}

// Entries of [0, 1] at the nearest values of the format, still as float32.
template <class T>
inline Block<float> at_nearest(Block<float> x) {
  for (auto& part : x.part) part = read(written(part, T{}), T{});
  return x;
}

// The next value of the format, for one that is of it.
template <class T>
inline Block<float> at_next(Block<float> x) {
  for (auto& part : x.part) {
    Shorts shorts = written(part, T{});
    part = read(static_cast<Shorts>(shorts + 1), T{});
  }
  return x;
}

template <class T>
inline float at_nearest(float x) {
  return at_nearest<T>(Block<float>::all(x)).part[0][0];
}
template <class T>
inline float at_next(float x) {
  return at_next<T>(Block<float>::all(x)).part[0][0];
}

// Rounds answers to the format; t leads strictly and by its margin as in round.h.
template <class T, class S>
inline void round_answer(float* q, int64_t blocks, const typename S::Index& t,
                         const typename S::Value& margin) {
  using Single = typename S::Single;
  const Single x = S::take(q, t);
  S::put(q, t, S::rounded(typename S::Value(0)));
  Block<float> high = Block<float>::all(0);
  for (int64_t i = 0; i < blocks * kLanes<float>; i += kLanes<float>) {
    const Block<float> y = at_nearest<T>(Block<float>::load(q + i));
    y.store(q + i);
    high = max(high, y);
  }
  const Single rival = S::highest(high);
  const typename S::Value floor = S::exact(rival) + margin;
  Single lifted = at_nearest<T>(S::rounded(floor));
  lifted = select(S::exact(lifted) < floor, at_next<T>(lifted), lifted);
  S::put(q, t, max(max(at_nearest<T>(x), lifted), at_next<T>(rival)));
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
