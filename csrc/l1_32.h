// 2. The l1 ball in float32: l1.h for rows of moderate size, in either shape.
#pragma once

#include "linf32.h"

namespace mipoison {
namespace MIPOISON_ISA {

// A search by float32 that only finds where another is to start: a fixed number of Newton's steps,
// and where one leaves the bracket, a secant between its ends. (Bisection would need many.)
struct RoughSearch {
  Block<float> lo, hi, x, above, below;  // above, below: f at lo, -f at hi, guessed at first

  template <class S>
  RoughSearch(const Search<S>& search, const Block<float>& guess)
      : lo(S::rounded(search.lo)),
        hi(S::rounded(search.hi)),
        x(S::rounded(search.x)),
        above(guess),
        below(guess) {}

  // Takes f(x) and minus its slope.
  void advance(const Block<float>& value, const Block<float>& fall) {
    const Block<float> zero = Block<float>::all(0);
    const Mask<float> up = value > zero;
    lo = select(up, x, lo);
    above = select(up, value, above);
    hi = select(up, hi, x);
    below = select(up, below, zero - value);
    const Block<float> newton = x + value / max(fall, Block<float>::all(1));
    const Block<float> secant = lo + (hi - lo) * (above / (above + below));
    x = select((fall > zero) & (newton > lo) & (hi > newton), newton, secant);
  }

  template <class S>
  void hand_over(Search<S>* to) const {
    const typename S::Value found = S::exact(x);
    to->x = select((found > to->lo) & (found < to->hi), found, to->x);
  }
};

// Raised entries min(z_j - tau_plus, c) > p_j, lowered ones min((z_j - tau_minus)_+, c) < p_j; the
// others stay at p_j.
template <class S>
struct Moves32 {
  using Value = typename S::Value;
  using Truth = typename S::Truth;
  const float *z, *p;
  int64_t blocks;
  Block<float> cap;

  struct Levels {
    Value plus, minus;
  };

  // Levels at which `gain` is raised and `loss` lowered, where `wanted`; as they were elsewhere.
  // Both sides are searched in the same passes.
  void solve(const Value& gain, const Value& loss, Levels* at, Truth* wanted) const {
    Search<S> up(Value(kDeepest), Value(kHighest), at->plus, *wanted);
    Search<S> down(Value(kDeepest), Value(kHighest), at->minus, *wanted);
    up.x = select(*wanted, up.x, at->plus);
    down.x = select(*wanted, down.x, at->minus);
    solve<true>(gain, loss, &up, &down);
    *at = {up.x, down.x};
    *wanted = up.running | down.running;
  }

  // Four steps of both searches without a cap, in float32: cheap, and the searches in float64 end
  // after one or two more.
  void approach(const Block<float>& half, Search<S>* up, Search<S>* down) const {
    constexpr int kSteps = 4;
    const float *const to = z, *const center = p;
    const Block<float> zero = Block<float>::all(0);
    RoughSearch plus(*up, half), minus(*down, half);
    for (int step = 0; step < kSteps; ++step) {
      // Two accumulators for each sum hide the latency of an addition.
      Block<float> raised[2] = {zero, zero}, lowered[2] = {zero, zero};
      Tally<float> rising, falling;
      const auto add = [&](int64_t i, int turn) {
        const Block<float> from = Block<float>::load(center + i);
        const Block<float> rise = less(Block<float>::load(to + i), from);
        const Block<float> fall = less(minus.x, rise);
        raised[turn] = raised[turn] + positive_part(less(rise, plus.x));
        lowered[turn] = lowered[turn] + min(positive_part(fall), from);
        rising.add(rise > plus.x);
        falling.add((fall > zero) & (from > fall));
      };
      constexpr int n = kLanes<float>;
      int64_t j = 0;
      for (; j + 1 < blocks; j += 2) {
        add(j * n, 0);
        add((j + 1) * n, 1);
      }
      if (j < blocks) add(j * n, 0);
      plus.advance(raised[0] + raised[1] - half, rising.counts());
      minus.advance(half - (lowered[0] + lowered[1]), falling.counts());
    }
    plus.hand_over(up);
    minus.hand_over(down);
  }

  // A side that has its root is left out. kCapped: else the cap is above every entry.
  template <bool kCapped>
  void solve(const Value& gain, const Value& loss, Search<S>* up, Search<S>* down) const {
    while (true) {
      const bool raises = up->goes_on(), lowers = down->goes_on();
      if (raises && lowers)
        advance<kCapped, true, true>(gain, loss, up, down);
      else if (raises)
        advance<kCapped, true, false>(gain, loss, up, down);
      else if (lowers)
        advance<kCapped, false, true>(gain, loss, up, down);
      else
        return;
    }
  }

  template <bool kCapped, bool kRaises, bool kLowers>
  void advance(const Value& gain, const Value& loss, Search<S>* up, Search<S>* down) const {
    const Block<float> zero = Block<float>::all(0), most = cap;
    const float *const to = z, *const center = p;
    const SplitLevel<S> plus(up->x), minus(down->x);
    Tally<float> raised, lowered;
    Value sum[kRaises + kLowers];
    accumulate<S>(blocks, sum, [&](int64_t i, Block<float>* part) {
      const Block<float> x = Block<float>::load(to + i), from = Block<float>::load(center + i);
      if constexpr (kRaises) {
        const Block<float> high = plus.below(x);
        const Mask<float> rises = high > from;
        part[0] = kCapped ? part[0] + positive_part(min(high, most) - from)
                          : add_where(part[0], rises, high - from);
        raised.add(kCapped ? rises & (most > high) : rises);
      }
      if constexpr (kLowers) {
        const Block<float> low = minus.below(x), bounded = positive_part(low);
        const Mask<float> falls = from > low, moves = falls & (low > zero);
        part[kRaises] = kCapped ? part[kRaises] + positive_part(from - min(bounded, most))
                                : add_where(part[kRaises], falls, from - bounded);
        lowered.add(kCapped ? moves & (most > low) : moves);
      }
    });
    if constexpr (kRaises) up->advance(sum[0] - gain, Value(0) - S::collect(raised.counts()));
    if constexpr (kLowers)
      down->advance(loss - sum[kRaises], Value(0) - S::collect(lowered.counts()));
  }

  // plus >= minus: an entry moves to one side at most.
  void write(const Levels& at, float* q) const {
    const SplitLevel<S> plus(at.plus), minus(at.minus);
    const Block<float> zero = Block<float>::all(0);
    for (int64_t i = 0; i < blocks * kLanes<float>; i += kLanes<float>) {
      const Block<float> x = Block<float>::load(z + i), from = Block<float>::load(p + i);
      const Block<float> raised = min(plus.below(x), cap);
      const Block<float> lowered = min(from, min(max(minus.below(x), zero), cap));
      max(lowered, keep(raised, raised > from)).store(q + i);
    }
  }
};

// Writes q for rows whose projection without ball, at tau near `start`, lies outside the ball;
// without the label constraint. A row that lies in the ball once that is dropped is not solved.
template <class S>
inline Solved<S> free_l1_32(const Rows<S>& rows, double epsilon, const LevelRange<S>& range,
                            const typename S::Value& start, const typename S::Truth& wanted,
                            float* q) {
  using Value = typename S::Value;
  const Moves32<S> moves{rows.z, rows.p, rows.blocks, Block<float>::all(2)};
  const Value half = epsilon / 2;
  // No entry rises by more than epsilon / 2.
  Search<S> plus(range.high - half - 2e-6, range.high, start, wanted);
  Search<S> minus(range.low, range.high, start, wanted);
  if constexpr (S::kRough) moves.approach(S::rounded(half), &plus, &minus);
  moves.template solve<false>(half, half, &plus, &minus);
  moves.write({plus.x, minus.x}, q);
  const typename S::Truth open = plus.running | minus.running;
  return {S::exact(S::take(q, rows.t)), typename S::Truth((plus.x > minus.x) & !open)};
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
