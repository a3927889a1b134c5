// project and step for two classes in float32, without a margin: the set is an interval.
//
// With q = (u, 1 - u), u the label's entry, the projection of z is (1 + z_t - z_o) / 2, cut to what
// the label (u > 1/2), the simplex (u <= 1) and the ball (|u - p_t| <= r) leave. As u is in
// [1/2, 1], 1 - u is exact and the answer's sum is 1 to the last bit. Sixteen rows at a time; like
// group.h, this may decline a row.
#pragma once

#include <cmath>

#include "rows.h"
#include "stages.h"

namespace mipoison {
namespace MIPOISON_ISA {

// The first and the second entries of sixteen rows.
struct Pairs {
  Block<float> first, second;
};

#if defined(__AVX512F__)
inline FloatVector evens(FloatVector a, FloatVector b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}
inline FloatVector odds(FloatVector a, FloatVector b) {
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}
#elif defined(__AVX2__)
inline FloatVector evens(FloatVector a, FloatVector b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
}
inline FloatVector odds(FloatVector a, FloatVector b) {
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}
#else
inline FloatVector evens(FloatVector a, FloatVector b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6);
}
inline FloatVector odds(FloatVector a, FloatVector b) {
  return __builtin_shufflevector(a, b, 1, 3, 5, 7);
}
#endif

inline Pairs load_pairs(const float* from) {
  Pairs pairs;
  for (int i = 0; i < kParts; ++i) {
    FloatVector v[2];
    std::memcpy(v, from + 2 * i * kWidth, sizeof v);
    pairs.first.part[i] = evens(v[0], v[1]);
    pairs.second.part[i] = odds(v[0], v[1]);
  }
  return pairs;
}

inline void store_pairs(const Pairs& pairs, float* to) {
  for (int i = 0; i < kParts; ++i) {
    const FloatVector v[2] = {zip_low(pairs.first.part[i], pairs.second.part[i]),
                              zip_high(pairs.first.part[i], pairs.second.part[i])};
    std::memcpy(to + 2 * i * kWidth, v, sizeof v);
  }
}

// How far u may be from p_t: |q - p| is 2, sqrt(2) or 1 times as much. Leaves room for float32
// rounding at the ball's border.
inline float radius_of_pair(double epsilon, Norm norm) {
  const double radius = epsilon * (1 - 2.4e-7) - 1e-7;
  const double size = norm == Norm::kL1 ? 2 : norm == Norm::kL2 ? std::sqrt(2.0) : 1;
  return static_cast<float>(radius / size);
}

class PairProjector {
 public:
  explicit PairProjector(const Projection<float>& call)
      : call_(call),
        ball_(call.in_ball()),
        radius_(ball_ ? radius_of_pair(call.region.epsilon, call.region.norm) : 0) {}

  // Writes the rows [begin, end) that it can solve, and calls decline(row) for the others.
  template <class Decline>
  void operator()(int64_t begin, int64_t end, const Decline& decline) const {
    int64_t i = begin;
    for (; i + kGroup <= end; i += kGroup) {
      Pairs q;
      const uint32_t good = solve(call_.from + 2 * i, call_.along ? call_.along + 2 * i : nullptr,
                                  call_.center ? call_.center + 2 * i : nullptr,
                                  call_.label ? call_.label + i : nullptr, &q);
      write(i, kGroup, good, q, decline);
    }
    if (i < end) run_last(i, static_cast<int>(end - i), decline);
  }

 private:
  // The last rows, fewer than sixteen: copied, and computed by the same code.
  template <class Decline>
  void run_last(int64_t i, int rows, const Decline& decline) const {
    float copies[3][2 * kGroup] = {};
    int64_t labels[kGroup] = {};
    const auto copy = [&](const float* matrix, float* to) -> const float* {
      if (!matrix) return nullptr;
      std::copy(matrix + 2 * i, matrix + 2 * (i + rows), to);
      return to;
    };
    if (call_.label) std::copy(call_.label + i, call_.label + i + rows, labels);
    Pairs q;
    const uint32_t good = solve(copy(call_.from, copies[0]), copy(call_.along, copies[1]),
                                copy(call_.center, copies[2]), call_.label ? labels : nullptr, &q);
    write(i, rows, good, q, decline);
  }

  template <class Decline>
  void write(int64_t i, int rows, uint32_t good, const Pairs& q, const Decline& decline) const {
    const uint32_t all = ~uint32_t{0} >> (32 - rows);
    if (rows == kGroup && good == all) return store_pairs(q, call_.out + 2 * i);
    float answers[2 * kGroup];
    store_pairs(q, answers);
    for (int r = 0; r < rows; ++r) {
      if (good >> r & 1)
        std::copy(answers + 2 * r, answers + 2 * r + 2, call_.out + 2 * (i + r));
      else
        decline(i + r);
    }
  }

  // Returns which of sixteen rows q answers.
  uint32_t solve(const float* from, const float* along, const float* center, const int64_t* label,
                 Pairs* q) const {
    const Block<float> zero = Block<float>::all(0), one = Block<float>::all(1);
    const Block<float> half = Block<float>::all(0.5f);
    Pairs z = load_pairs(from);
    Pairs p = center && center != from ? load_pairs(center) : z;
    // (An entry that is not finite fails a comparison.)
    const Block<float> far =
        Block<float>::all(along || ball_ ? kModerate : static_cast<float>(kFarthest));
    Mask<float> good =
        (z.first <= far) & (z.second <= far) & (min(z.first, z.second) >= zero - far);
    if (along) {
      const Pairs g = load_pairs(along);
      const Block<float> squares = g.first * g.first + g.second * g.second;
      good = good & (squares > Block<float>::all(1e-24f)) & (squares < Block<float>::all(1e24f));
      const Block<float> scale =
          Block<float>::all(static_cast<float>(call_.alpha)) / root_of(squares);
      z.first = z.first + scale * g.first;
      z.second = z.second + scale * g.second;
    }
    const Block<float> more = excess(p);
    if (center) {
      const Block<float> off = Block<float>::all(static_cast<float>(kSumTolerance<float>));
      good = good & (min(p.first, p.second) >= zero) & (more <= off) & (more >= zero - off);
    }
    Mask<float> second = p.second > p.first;
    if (label) good = good & read_labels(label, &second);
    const Block<float> lead = select(second, z.second - z.first, z.first - z.second);
    // (1 + lead) / 2, where that is no farther than 1.
    Block<float> u = min(half + min(lead, one) * half, one);
    u = max(u, next_above(half));
    if (ball_) {
      const Block<float> p_t = select(second, p.second, p.first);
      // p_t / sum is p_t - shift, up to the square of `more`.
      const Block<float> shift = p_t * (more - more * more);
      const Block<float> radius = Block<float>::all(radius_);
      const Block<float> low = p_t - (radius + shift), high = p_t + (radius - shift);
      good = good & (high > Block<float>::all(0.5f + 1e-6f)) & (low < one);
      u = min(max(u, low), high);
      u = min(max(u, next_above(half)), one);
    }
    const Block<float> rest = one - u;
    *q = {select(second, rest, u), select(second, u, rest)};
    return bits(good);
  }

  // The sum of a row less 1, exactly.
  static Block<float> excess(const Pairs& p) {
    const Block<float> high = max(p.first, p.second), low = min(p.first, p.second);
    const Block<float> sum = high + low;
    return (sum - Block<float>::all(1)) + (low - (sum - high));
  }

  static Mask<float> read_labels(const int64_t* label, Mask<float>* second) {
    float valid[kGroup], is_second[kGroup];
    for (int i = 0; i < kGroup; ++i) {
      valid[i] = label[i] == 0 || label[i] == 1;
      is_second[i] = label[i] == 1;
    }
    const Block<float> zero = Block<float>::all(0);
    *second = Block<float>::load(is_second) > zero;
    return Block<float>::load(valid) > zero;
  }

  Projection<float> call_;
  bool ball_;
  float radius_;
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
