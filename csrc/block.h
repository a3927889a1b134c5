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

}  // namespace MIPOISON_ISA
}  // namespace mipoison
