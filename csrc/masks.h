// Which lanes of a block a condition holds in, and what is done with it.
//
// A mask is a vector of integers, all bits set where it holds; with AVX-512 it is a bit a lane, in
// a mask register, so that comparisons need not be turned into vectors and back.
#pragma once

#include "block.h"

namespace mipoison {
namespace MIPOISON_ISA {

#if defined(__AVX512F__)

template <class T>
struct Mask;
template <>
struct Mask<float> {
  __mmask16 lanes;
};
template <>
struct Mask<double> {
  __mmask8 lanes;
};

#define MIPOISON_BLOCK_COMPARISON(op, predicate)                                    \
  inline Mask<float> operator op(Block<float> a, Block<float> b) {                  \
    return {_mm512_cmp_ps_mask((__m512)a.part[0], (__m512)b.part[0], predicate)};   \
  }                                                                                 \
  inline Mask<double> operator op(Block<double> a, Block<double> b) {               \
    return {_mm512_cmp_pd_mask((__m512d)a.part[0], (__m512d)b.part[0], predicate)}; \
  }
MIPOISON_BLOCK_COMPARISON(>, _CMP_GT_OQ)
MIPOISON_BLOCK_COMPARISON(<, _CMP_LT_OQ)
MIPOISON_BLOCK_COMPARISON(>=, _CMP_GE_OQ)
MIPOISON_BLOCK_COMPARISON(<=, _CMP_LE_OQ)
MIPOISON_BLOCK_COMPARISON(==, _CMP_EQ_OQ)
#undef MIPOISON_BLOCK_COMPARISON

template <class T>
inline Mask<T> operator&(Mask<T> a, Mask<T> b) {
  a.lanes &= b.lanes;
  return a;
}

template <class T>
inline Mask<T> operator|(Mask<T> a, Mask<T> b) {
  a.lanes |= b.lanes;
  return a;
}

template <class T>
inline Mask<T> operator!(Mask<T> a) {
  a.lanes = static_cast<decltype(a.lanes)>(~a.lanes);
  return a;
}

inline Block<float> select(Mask<float> where, Block<float> a, Block<float> b) {
  a.part[0] = (Native<float>::Vector)_mm512_mask_blend_ps(where.lanes, (__m512)b.part[0],
                                                          (__m512)a.part[0]);
  return a;
}
inline Block<double> select(Mask<double> where, Block<double> a, Block<double> b) {
  a.part[0] = (Native<double>::Vector)_mm512_mask_blend_pd(where.lanes, (__m512d)b.part[0],
                                                           (__m512d)a.part[0]);
  return a;
}

// a where the mask holds, else +0.
inline Block<float> keep(Block<float> a, Mask<float> where) {
  a.part[0] = (Native<float>::Vector)_mm512_maskz_mov_ps(where.lanes, (__m512)a.part[0]);
  return a;
}
inline Block<double> keep(Block<double> a, Mask<double> where) {
  a.part[0] = (Native<double>::Vector)_mm512_maskz_mov_pd(where.lanes, (__m512d)a.part[0]);
  return a;
}

// sum + a where the mask holds. For sums that are no -0.
inline Block<float> add_where(Block<float> sum, Mask<float> where, Block<float> a) {
  sum.part[0] = (Native<float>::Vector)_mm512_mask_add_ps((__m512)sum.part[0], where.lanes,
                                                          (__m512)sum.part[0], (__m512)a.part[0]);
  return sum;
}
inline Block<double> add_where(Block<double> sum, Mask<double> where, Block<double> a) {
  sum.part[0] = (Native<double>::Vector)_mm512_mask_add_pd(
      (__m512d)sum.part[0], where.lanes, (__m512d)sum.part[0], (__m512d)a.part[0]);
  return sum;
}

// One bit a lane, set where the mask holds.
template <class T>
inline uint32_t bits(Mask<T> m) {
  return m.lanes;
}

// The larger and the smaller, the second where there is none.
#define MIPOISON_BLOCK_CHOICE(name)                                                        \
  inline Block<float> name(Block<float> a, Block<float> b) {                               \
    a.part[0] = (Native<float>::Vector)_mm512_maskz_##name##_ps(0xFFFF, (__m512)a.part[0], \
                                                                (__m512)b.part[0]);        \
    return a;                                                                              \
  }                                                                                        \
  inline Block<double> name(Block<double> a, Block<double> b) {                            \
    a.part[0] = (Native<double>::Vector)_mm512_maskz_##name##_pd(0xFF, (__m512d)a.part[0], \
                                                                 (__m512d)b.part[0]);      \
    return a;                                                                              \
  }
MIPOISON_BLOCK_CHOICE(max)
MIPOISON_BLOCK_CHOICE(min)
#undef MIPOISON_BLOCK_CHOICE

// max(a, 0), where adders have much to do and those of integers little: negative numbers have a
// negative bit pattern.
inline Block<float> positive_part(Block<float> a) {
  a.part[0] = (Native<float>::Vector)_mm512_maskz_max_epi32(0xFFFF, (__m512i)a.part[0], __m512i{});
  return a;
}
inline Block<double> positive_part(Block<double> a) { return max(a, Block<double>::all(0)); }

// a - b by the multipliers, where adders have much to do: the same to the last bit.
inline Block<float> less(Block<float> a, Block<float> b) {
  const __m512 one = _mm512_set1_ps(1);
  a.part[0] = (Native<float>::Vector)_mm512_fmsub_ps((__m512)a.part[0], one, (__m512)b.part[0]);
  return a;
}
inline Block<double> less(Block<double> a, Block<double> b) { return a - b; }

// Number of lanes in which masks held.
template <class T>
struct Counter {
  int64_t held = 0;
  void add(Mask<T> m) { held += __builtin_popcount(m.lanes); }
  int64_t total() const { return held; }
};

#else

template <class T>
struct Mask {
  typename Native<T>::Mask part[kParts];
};

template <class T>
inline Block<T> max(Block<T> a, Block<T> b) {
  for (int i = 0; i < kParts; ++i) a.part[i] = a.part[i] > b.part[i] ? a.part[i] : b.part[i];
  return a;
}

template <class T>
inline Block<T> min(Block<T> a, Block<T> b) {
  for (int i = 0; i < kParts; ++i) a.part[i] = a.part[i] < b.part[i] ? a.part[i] : b.part[i];
  return a;
}

#define MIPOISON_BLOCK_COMPARISON(op)                                    \
  template <class T>                                                     \
  inline Mask<T> operator op(Block<T> a, Block<T> b) {                   \
    Mask<T> m;                                                           \
    for (int i = 0; i < kParts; ++i) m.part[i] = a.part[i] op b.part[i]; \
    return m;                                                            \
  }
MIPOISON_BLOCK_COMPARISON(>)
MIPOISON_BLOCK_COMPARISON(<)
MIPOISON_BLOCK_COMPARISON(>=)
MIPOISON_BLOCK_COMPARISON(<=)
MIPOISON_BLOCK_COMPARISON(==)
#undef MIPOISON_BLOCK_COMPARISON

template <class T>
inline Mask<T> operator&(Mask<T> a, Mask<T> b) {
  for (int i = 0; i < kParts; ++i) a.part[i] &= b.part[i];
  return a;
}

template <class T>
inline Mask<T> operator|(Mask<T> a, Mask<T> b) {
  for (int i = 0; i < kParts; ++i) a.part[i] |= b.part[i];
  return a;
}

template <class T>
inline Mask<T> operator!(Mask<T> a) {
  for (int i = 0; i < kParts; ++i) a.part[i] = ~a.part[i];
  return a;
}

template <class T>
inline Block<T> select(Mask<T> where, Block<T> a, Block<T> b) {
  for (int i = 0; i < kParts; ++i) a.part[i] = where.part[i] ? a.part[i] : b.part[i];
  return a;
}

// a where the mask holds, else +0.
template <class T>
inline Block<T> keep(Block<T> a, Mask<T> where) {
  using V = typename Native<T>::Vector;
  using M = typename Native<T>::Mask;
  for (int i = 0; i < kParts; ++i) a.part[i] = (V)((M)a.part[i] & where.part[i]);
  return a;
}

// Number of lanes in which masks held. One register for all parts: integers add in any order.
template <class T>
struct Counter {
  typename Native<T>::Mask held = typename Native<T>::Mask{};
  void add(Mask<T> m) {
    for (int i = 0; i < kParts; ++i) held -= m.part[i];
  }
  int64_t total() const {
    int64_t n = 0;
    for (int i = 0; i < kVectorBytes / static_cast<int>(sizeof(T)); ++i) n += held[i];
    return n;
  }
};

// One bit a lane, set where the mask holds.
inline uint32_t bits(const Mask<float>& m) {
  uint32_t all = 0;
  for (int i = 0; i < kParts; ++i) {
#if defined(__AVX2__)
    all |= static_cast<uint32_t>(_mm256_movemask_ps((__m256)m.part[i])) << 8 * i;
#elif defined(__SSE2__)
    all |= static_cast<uint32_t>(_mm_movemask_ps((__m128)m.part[i])) << 4 * i;
#else
    for (int lane = 0; lane < kVectorBytes / 4; ++lane)
      all |= static_cast<uint32_t>(m.part[i][lane] & 1) << (kVectorBytes / 4 * i + lane);
#endif
  }
  return all;
}

inline uint32_t bits(const Mask<double>& m) {
  uint32_t all = 0;
  for (int i = 0; i < kParts; ++i) {
#if defined(__AVX2__)
    all |= static_cast<uint32_t>(_mm256_movemask_pd((__m256d)m.part[i])) << 4 * i;
#elif defined(__SSE2__)
    all |= static_cast<uint32_t>(_mm_movemask_pd((__m128d)m.part[i])) << 2 * i;
#else
    for (int lane = 0; lane < kVectorBytes / 8; ++lane)
      all |= static_cast<uint32_t>(m.part[i][lane] & 1) << (kVectorBytes / 8 * i + lane);
#endif
  }
  return all;
}

template <class T>
inline Block<T> positive_part(Block<T> a) {
  return max(a, Block<T>::all(0));
}

template <class T>
inline Block<T> less(Block<T> a, Block<T> b) {
  return a - b;
}

// sum + a where the mask holds. For sums that are no -0.
template <class T>
inline Block<T> add_where(Block<T> sum, Mask<T> where, Block<T> a) {
  return sum + keep(a, where);
}

#endif

// How often masks held, lane by lane. Integers: additions of numbers have more to do than those of
// counts, and counts need no flush.
template <class T>
struct Tally {
  typename Native<T>::Mask part[kParts] = {};
  void add(Mask<T> m) {
#if defined(__AVX512F__)
    const __m512i held = (__m512i)part[0], more = _mm512_set1_epi32(-1);
    if constexpr (sizeof(T) == 4)
      part[0] = (typename Native<T>::Mask)_mm512_mask_sub_epi32(held, m.lanes, held, more);
    else
      part[0] = (typename Native<T>::Mask)_mm512_mask_sub_epi64(held, m.lanes, held, more);
#else
    for (int i = 0; i < kParts; ++i) part[i] -= m.part[i];
#endif
  }
  Block<T> counts() const {
    Block<T> b;
    for (int i = 0; i < kParts; ++i)
      b.part[i] = __builtin_convertvector(part[i], typename Native<T>::Vector);
    return b;
  }
};

template <class T>
inline bool any(const Mask<T>& m) {
  return bits(m) != 0;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
