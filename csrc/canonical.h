// The canonical cells of a row, which the row hash is taken of: four cells that a classifier's
// rounding noise hardly ever changes.
//
// A float32 pattern, read as an integer, is a piecewise linear logarithm. Four keyed sums of them,
// cut into cells, are integers throughout: every backend and instruction set finds the same ones
// (mipoison/random.py).
#pragma once

#include <memory>

#include "kernels.h"
#include "round.h"

namespace mipoison {
namespace MIPOISON_ISA {

// SplitMix64's finaliser, of a word or of a vector of them.
template <class W>
inline W mix(W x) {
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9;
  x ^= x >> 27;
  x *= 0x94D049BB133111EB;
  x ^= x >> 31;
  return x;
}

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;
// The pattern of 2^-100: smaller entries count as this one.
constexpr int32_t kFloor = 27 << 23;
constexpr int kCells = 4;
// Cells are wider by up to this many powers of two, the wider the row's logarithms range.
constexpr int kWidest = 6;
// Weights are bytes less this.
constexpr uint64_t kMiddle = 128;

inline uint64_t salt_of(const Key& key) { return uint64_t{key.word[3]} << 32; }

inline uint64_t depth_of(float x) {
  int32_t pattern;
  std::memcpy(&pattern, &x, sizeof x);
  return static_cast<uint64_t>((pattern > kFloor ? pattern : kFloor) - kFloor);
}

// What determines the cells: sums of depths, with the key's weights and with weight 1, and the
// largest depth.
struct Sums {
  uint64_t weighted[kCells], plain, top;
};

// The key's weights for rows of one length, and what follows from a row's sums.
class Canonical {
 public:
  Canonical(int64_t classes, const Key& key)
      : k_(classes), salt_(salt_of(key)), weights_(new uint32_t[classes]) {
    int digits = 0;
    while (classes >> digits) ++digits;
    shift_ = 24 + digits / 2;
    uint64_t place = salt_ + 1;
    for (int64_t j = 0; j < k_; ++j) weights_[j] = static_cast<uint32_t>(mix(place += kGolden));
    place = salt_ + 2;
    for (uint64_t& offset : offsets_) offset = mix(place += kGolden);
  }

  // Weight i of entry j, in [0, 256).
  uint32_t weight(int64_t j, int i) const { return weights_[j] >> 8 * i & 255; }

  uint64_t hash(const Sums& sums) const {
    const uint64_t k = static_cast<uint64_t>(k_), range = k * sums.top - sums.plain;
    int shift = shift_;
    for (int octave = 1; octave <= kWidest; ++octave) shift += range >= k << (23 + octave);
    const uint64_t mask = (uint64_t{1} << shift) - 1;
    uint64_t result = 0, place = salt_;
    for (int i = 0; i < kCells; ++i) {
      const uint64_t sum = sums.weighted[i] - kMiddle * sums.plain + (offsets_[i] & mask);
      result += mix(static_cast<uint64_t>(static_cast<int64_t>(sum) >> shift) + (place += kGolden));
    }
    return result;
  }

  // The hash of a row, by its entries' float32 values.
  template <class T>
  uint64_t operator()(const T* row) const {
    Sums sums = {};
    for (int64_t j = 0; j < k_; ++j) {
      const uint64_t x = depth_of(static_cast<float>(widen(row[j])));
      sums.plain += x;
      sums.top = sums.top > x ? sums.top : x;
      for (int i = 0; i < kCells; ++i) sums.weighted[i] += x * weight(j, i);
    }
    return hash(sums);
  }

 private:
  int64_t k_;
  uint64_t salt_;
  int shift_;
  std::unique_ptr<uint32_t[]> weights_;
  uint64_t offsets_[kCells];
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
