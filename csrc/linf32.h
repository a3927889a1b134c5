// 3. The l-infinity ball in float32: linf.h for rows of moderate size, in either shape.
#pragma once

#include "ball32.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Entries clip(z_j - tau, (p_j - radius)_+, min(p_j + radius, 1, cap)).
struct Box32 {
  const float *z, *p;
  int64_t blocks;
  Block<float> radius, cap;

  struct Entry {
    Block<float> y, low, high;
    Block<float> clipped() const { return max(min(y, high), low); }
  };

  template <class S>
  Entry entry(int64_t i, const SplitLevel<S>& tau) const {
    const Block<float> center = Block<float>::load(p + i);
    return {tau.below(Block<float>::load(z + i)), max(center - radius, Block<float>::all(0)),
            min(min(center + radius, Block<float>::all(1)), cap)};
  }

  // tau at which the entries sum to `target`, where `wanted`; `start` elsewhere.
  template <class S>
  typename S::Value level(const typename S::Value& target, const typename S::Value& start,
                          typename S::Truth* wanted,
                          const LevelRange<S>& bracket = {typename S::Value(kDeepest),
                                                          typename S::Value(kHighest)}) const {
    using Value = typename S::Value;
    const Block<float> one = Block<float>::all(1);
    Search<S> tau(bracket.low, bracket.high, start, *wanted);
    tau.x = select(*wanted, tau.x, start);
    while (tau.goes_on()) {
      const SplitLevel<S> at(tau.x);
      Value sum[2];
      accumulate<S>(blocks, sum, [&](int64_t i, Block<float>* part) {
        const Entry e = entry(i, at);
        part[0] = part[0] + e.clipped();
        part[1] = part[1] + keep(one, (e.y > e.low) & (e.high > e.y));
      });
      tau.advance(sum[0] - target, Value(0) - sum[1]);
    }
    *wanted = tau.running;
    return tau.x;
  }

  template <class S>
  void write(const typename S::Value& tau, float* q) const {
    const SplitLevel<S> at(tau);
    for (int64_t i = 0; i < blocks * kLanes<float>; i += kLanes<float>)
      entry(i, at).clipped().store(q + i);
  }
};

// Writes q for rows whose projection without ball, at tau near `start`, lies outside the ball;
// without the label constraint.
template <class S>
inline Solved<S> free_linf32(const Rows<S>& rows, double epsilon, const LevelRange<S>& range,
                             const typename S::Value& start, const typename S::Truth& wanted,
                             float* q) {
  using Value = typename S::Value;
  const Box32 box{rows.z, rows.p, rows.blocks, Block<float>::all(static_cast<float>(epsilon)),
                  Block<float>::all(1)};
  typename S::Truth open = wanted;
  const Value tau =
      box.level<S>(Value(1), start, &open, {range.low - epsilon, range.high + epsilon});
  box.write<S>(tau, q);
  return {S::exact(S::take(q, rows.t)), !open};
}

// 4. The same where the label binds: an outer root in the cap c = u - m, u = q_t.
template <class S>
inline Solved<S> bound_linf32(const Rows<S>& rows, double epsilon, float* q) {
  using Value = typename S::Value;
  using Truth = typename S::Truth;
  const WithoutLabel<S> label(rows);
  const Value z_t = label.z_t(), p_t = label.p_t(), m = rows.margin, zero = 0;
  const Block<float> one = Block<float>::all(1), nothing = Block<float>::all(0);
  Box32 box{rows.z, rows.p, rows.blocks, Block<float>::all(static_cast<float>(epsilon)), one};

  Block<float> highest_low = nothing;
  Value lows[1];
  accumulate<S>(rows.blocks, lows, [&](int64_t i, Block<float>* part) {
    const Block<float> low = max(Block<float>::load(rows.p + i) - box.radius, nothing);
    part[0] = part[0] + low;
    highest_low = max(highest_low, low);
  });
  const Value first = max(max(p_t - epsilon, zero) - m, S::exact(S::highest(highest_low)));
  const Value last = min(min(p_t + epsilon, Value(1)), Value(1) - lows[0]) - m;

  Value tau = 0;
  Truth lost = first > last;
  Search<S> cap(first, last, p_t - m, !lost);
  cap.fine = size_of(cap.hi) * Value(kSingle);
  const auto solve_at = [&](const Truth& wanted) {
    box.cap = S::spread(S::rounded(cap.x));
    Truth open = wanted;
    tau = box.level<S>(Value(1) - (cap.x + m), tau, &open);
    lost = lost | open;
  };
  while (cap.goes_on()) {
    cap.x = S::exact(S::rounded(cap.x));
    box.cap = S::spread(S::rounded(cap.x));
    // Under a lower cap the row cannot sum to one.
    Value capacity[1];
    accumulate<S>(rows.blocks, capacity, [&](int64_t i, Block<float>* part) {
      const Block<float> high = min(Block<float>::load(rows.p + i) + box.radius, box.cap);
      part[0] = part[0] + keep(high, Block<float>::load(rows.z + i) > Block<float>::all(kNothing));
    });
    const Truth short_of = cap.x + m + capacity[0] < Value(1);
    solve_at(cap.running & !short_of);
    const SplitLevel<S> at(tau);
    Value sum[4];
    accumulate<S>(rows.blocks, sum, [&](int64_t i, Block<float>* part) {
      const Block<float> center = Block<float>::load(rows.p + i);
      const Block<float> y = at.below(Block<float>::load(rows.z + i));
      const Block<float> low = max(center - box.radius, nothing),
                         high = min(center + box.radius, one), over = y - box.cap;
      const Mask<float> pressed = over > nothing, held = pressed & (high > box.cap);
      part[0] = part[0] + keep(over, held);
      part[1] = part[1] + keep(one, held);
      part[2] = part[2] + keep(over, pressed & (high == box.cap));
      part[3] = part[3] + keep(one, (y > low) & (min(high, box.cap) > y));
    });
    const Value pull = cap.x + m + (tau - z_t) - sum[0], free = sum[3], held = sum[1] + 1;
    const Value rise = select(free > zero, held * (held / max(free, Value(1)) + 1), zero);
    const Jump<S> jump(pull - sum[2], pull, rise);
    cap.advance(select(short_of, Value(1), jump.value), select(short_of, zero, jump.slope),
                [&](const Value& lo, const Value& hi) {
                  return divide_at_jump32<S>(rows.p, box.radius, rows.blocks, lo, hi);
                });
  }
  cap.x = S::exact(S::rounded(cap.x));
  solve_at(!lost);
  box.write<S>(tau, q);
  return {cap.x + m, Truth(!(lost | cap.running))};
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
