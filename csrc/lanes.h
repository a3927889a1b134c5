// Sixty-four bytes of a row at a time, on GCC/Clang vector extensions.
//
// A block has the same number of lanes whatever the width of the machine's registers, and every
// reduction adds the lanes in the same order: the bits of an answer depend on the row only. Rows
// in scratch memory are padded to whole blocks, so tails go through the same lane code.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "isa.h"

namespace mipoison {
namespace MIPOISON_ISA {

constexpr int kBlockBytes = 64;

template <class T>
struct Native;
template <>
struct Native<float> {
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
  typedef int32_t Mask __attribute__((vector_size(kVectorBytes)));
};
template <>
struct Native<double> {
  typedef double Vector __attribute__((vector_size(kVectorBytes)));
  typedef int64_t Mask __attribute__((vector_size(kVectorBytes)));
};

template <class T>
constexpr int kLanes = kBlockBytes / static_cast<int>(sizeof(T));
constexpr int kParts = kBlockBytes / kVectorBytes;

template <class T>
struct Mask {
  typename Native<T>::Mask part[kParts];
};

template <class T>
struct Block {
  using Vector = typename Native<T>::Vector;
  Vector part[kParts];

  static Block load(const T* from) {
    Block b;
    for (int i = 0; i < kParts; ++i)
      std::memcpy(&b.part[i], from + i * (kVectorBytes / sizeof(T)), kVectorBytes);
    return b;
  }
  static Block all(T value) {
    Block b;
    for (int i = 0; i < kParts; ++i) b.part[i] = Vector{} + value;
    return b;
  }
  void store(T* to) const {
    for (int i = 0; i < kParts; ++i)
      std::memcpy(to + i * (kVectorBytes / sizeof(T)), &part[i], kVectorBytes);
  }
};

// Streaming store to a multiple of kBlockBytes; `settle_streams` makes it visible.
template <class T>
inline void stream(const Block<T>& b, T* to) {
  for (int i = 0; i < kParts; ++i) {
    float* at = reinterpret_cast<float*>(to) + i * (kVectorBytes / sizeof(float));
#if defined(__AVX512F__)
    _mm512_stream_ps(at, (__m512)b.part[i]);
#elif defined(__AVX2__)
    _mm256_stream_ps(at, (__m256)b.part[i]);
#elif defined(__SSE2__)
    _mm_stream_ps(at, (__m128)b.part[i]);
#else
    std::memcpy(at, &b.part[i], kVectorBytes);
#endif
  }
}

// Streaming stores are not ordered with others, even those that hand a result to another thread.
inline void settle_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

#define MIPOISON_BLOCK_OPERATOR(op)                                      \
  template <class T>                                                     \
  inline Block<T> operator op(Block<T> a, Block<T> b) {                  \
    for (int i = 0; i < kParts; ++i) a.part[i] = a.part[i] op b.part[i]; \
    return a;                                                            \
  }
MIPOISON_BLOCK_OPERATOR(+)
MIPOISON_BLOCK_OPERATOR(-)
MIPOISON_BLOCK_OPERATOR(*)
MIPOISON_BLOCK_OPERATOR(/)
#undef MIPOISON_BLOCK_OPERATOR

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

// sum + a where the mask holds. For sums that are no -0.
template <class T>
inline Block<T> add_where(Block<T> sum, Mask<T> where, Block<T> a) {
#if defined(__AVX512F__)
  return select(where, sum + a, sum);
#else
  return sum + keep(a, where);
#endif
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
#if defined(__AVX512DQ__)
    all |= static_cast<uint32_t>(_mm512_movepi32_mask((__m512i)m.part[i]));
#elif defined(__AVX2__)
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
#if defined(__AVX512DQ__)
    all |= static_cast<uint32_t>(_mm512_movepi64_mask((__m512i)m.part[i])) << 8 * i;
#elif defined(__AVX2__)
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
inline bool any(const Mask<T>& m) {
  return bits(m) != 0;
}

// Sum of the lanes in float64, as a tree.
template <class T>
inline double total(Block<T> b) {
#if defined(__AVX512DQ__)
  if constexpr (sizeof(T) == 4) {
    const __m512d low = _mm512_maskz_cvtps_pd(0xFF, _mm512_castps512_ps256((__m512)b.part[0]));
    const __m512d high = _mm512_maskz_cvtps_pd(0xFF, _mm512_extractf32x8_ps((__m512)b.part[0], 1));
    return _mm512_reduce_add_pd(_mm512_add_pd(low, high));
  } else {
    return _mm512_reduce_add_pd((__m512d)b.part[0]);
  }
#endif
  constexpr int n = kLanes<T>;
  T lane[n];
  b.store(lane);
  double wide[n];
  for (int i = 0; i < n; ++i) wide[i] = lane[i];
  for (int half = n / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) wide[i] += wide[i + half];
  return wide[0];
}

template <class T>
inline T largest(Block<T> b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return _mm512_reduce_max_ps((__m512)b.part[0]);
  else
    return _mm512_reduce_max_pd((__m512d)b.part[0]);
#endif
  T lane[kLanes<T>];
  b.store(lane);
  for (int half = kLanes<T> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
  return lane[0];
}

template <class T>
inline int64_t padded(int64_t n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// A sum over many blocks: float32 lanes are flushed to float64 before their rounding shows.
constexpr int kFlushBlocks = 64;

// Copies the last, partial block of a row into `block`, filled up with `filler`.
template <class T>
inline void load_tail(const T* from, int64_t n, T filler, T* block) {
  for (int i = 0; i < kLanes<T>; ++i) block[i] = i < n ? from[i] : filler;
}

// Lowest index whose entry equals `value`; n if there is none.
template <class T>
inline int64_t first_index_of(const T* row, int64_t n, T value) {
  const Block<T> wanted = Block<T>::all(value);
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>)
    if (any(Block<T>::load(row + i) == wanted)) break;
  for (; i < n; ++i)
    if (row[i] == value) return i;
  return n;
}

// Copies the entries above a bound to `to`, which has room for a block more, and fills the last
// block up with -inf. Returns how many blocks they take. Only where one instruction does it.
#if defined(__AVX512F__)
constexpr bool kCanPack = true;
inline int64_t pack_above(const float* from, int64_t blocks, float bound, float* to) {
  constexpr int n = kLanes<float>;
  const __m512 level = _mm512_set1_ps(bound);
  float* end = to;
  for (int64_t i = 0; i < blocks * n; i += n) {
    const __m512 x = _mm512_loadu_ps(from + i);
    const __mmask16 above = _mm512_cmp_ps_mask(x, level, _CMP_GT_OQ);
    _mm512_storeu_ps(end, _mm512_maskz_compress_ps(above, x));
    end += __builtin_popcount(above);
  }
  Block<float>::all(-__builtin_inff()).store(end);
  return (end - to + n - 1) / n;
}
#else
constexpr bool kCanPack = false;
inline int64_t pack_above(const float*, int64_t blocks, float, float*) { return blocks; }
#endif

}  // namespace MIPOISON_ISA
}  // namespace mipoison
