// 2. The l1 ball in float32: l1.h for rows of moderate size, in either shape.
#pragma once

#include "linf32.h"

namespace mipoison {
namespace MIPOISON_ISA {

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
inline Solved<S> free_l1_32(const Rows<S>& rows, double epsilon, const typename S::Value& start,
                            const typename S::Truth& wanted, float* q) {
  using Value = typename S::Value;
  const Moves32<S> moves{rows.z, rows.p, rows.blocks, Block<float>::all(2)};
  const Value half = epsilon / 2;
  const LevelRange<S> range = level_range_of(rows);
  // No entry rises by more than epsilon / 2.
  Search<S> plus(range.high - half - 2e-6, range.high, start, wanted);
  Search<S> minus(range.low, range.high, start, wanted);
  moves.template solve<false>(half, half, &plus, &minus);
  moves.write({plus.x, minus.x}, q);
  const typename S::Truth open = plus.running | minus.running;
  return {S::exact(S::take(q, rows.t)), typename S::Truth((plus.x > minus.x) & !open)};
}

// The same where the label binds: an outer root in the cap c = u - m, u = q_t.
template <class S>
inline Solved<S> bound_l1_32(const Rows<S>& rows, double epsilon, float* q) {
  using Value = typename S::Value;
  using Truth = typename S::Truth;
  const WithoutLabel<S> label(rows);
  const Value z_t = label.z_t(), p_t = label.p_t(), m = rows.margin, zero = 0, half = epsilon / 2;
  const Block<float> one = Block<float>::all(1), nothing = Block<float>::all(0);
  Moves32<S> moves{rows.z, rows.p, rows.blocks, one};
  Box32 box{rows.z, rows.p, rows.blocks, Block<float>::all(2), one};  // no ball

  Truth lost = S::no_rows();
  Value tau = 0;
  typename Moves32<S>::Levels at{zero, zero};
  Truth inactive = S::no_rows();
  // The entries above the cap may come down by epsilon / 2 in total.
  Block<float> tallest = nothing;
  for (int64_t i = 0; i < rows.blocks * kLanes<float>; i += kLanes<float>)
    tallest = max(tallest, Block<float>::load(rows.p + i));
  const Value deepest = max(S::exact(S::highest(tallest)) - half, zero);
  Search<S> cap(deepest, min(p_t + half, Value(1)) - m, p_t - m, S::all_rows());
  cap.fine = size_of(cap.hi) * Value(kSingle);

  // Levels under the cap, where `wanted`. Returns where the cap is too low: the ball does not allow
  // it, or the row cannot sum to one under it.
  const auto solve_at = [&](const Truth& wanted) {
    const Value u = cap.x + m;
    moves.cap = box.cap = S::spread(S::rounded(cap.x));
    Value sum[3];
    accumulate<S>(rows.blocks, sum, [&](int64_t i, Block<float>* part) {
      const Block<float> from = Block<float>::load(rows.p + i);
      const Mask<float> real = Block<float>::load(rows.z + i) > Block<float>::all(kNothing);
      part[0] = part[0] + max(from - moves.cap, nothing);
      part[1] = part[1] + keep(max(moves.cap - from, nothing), real);
      part[2] = part[2] + keep(moves.cap, real);
    });
    const Value gain = max(half - max(u - p_t, zero), zero);
    const Value loss = max(half - max(p_t - u, zero), zero);
    const Truth too_low = (sum[0] > loss) | (u + sum[2] < Value(1));
    const Truth fits = wanted & !too_low;
    // Where the cap leaves less room than `gain`, the ball is inactive.
    Truth open = fits & (gain < sum[1]);
    Truth slack = fits & !(gain < sum[1]);
    typename Moves32<S>::Levels found = at;
    Truth unsolved = open;
    moves.solve(gain, loss, &found, &unsolved);
    lost = lost | unsolved;
    at.plus = select(open, found.plus, at.plus);
    at.minus = select(open, found.minus, at.minus);
    slack = slack | (open & !(found.plus > found.minus));
    inactive = (inactive & !wanted) | slack;
    unsolved = slack;
    if (any(slack)) tau = box.level<S>(Value(1) - u, tau, &unsolved);
    lost = lost | (unsolved & slack);
    return too_low;
  };

  while (cap.goes_on()) {
    cap.x = S::exact(S::rounded(cap.x));
    // u = p_t is a jump as well.
    const Truth too_low = solve_at(cap.running);
    const Value u = cap.x + m;
    const Value plus = select(inactive, tau, at.plus), minus = select(inactive, tau, at.minus);
    const SplitLevel<S> high(plus), low(minus);
    Value sum[8];
    accumulate<S>(rows.blocks, sum, [&](int64_t i, Block<float>* part) {
      const Block<float> x = Block<float>::load(rows.z + i), from = Block<float>::load(rows.p + i);
      const Block<float> above = high.below(x), below = low.below(x);
      const Block<float> up = above - moves.cap, down = below - moves.cap;
      const Mask<float> pushed = up > nothing, pulled = down > nothing;
      const Mask<float> raised = pushed & (moves.cap > from), lowered = pulled & (from > moves.cap);
      part[0] = part[0] + keep(up, raised);
      part[1] = part[1] + keep(one, raised);
      part[2] = part[2] + keep(down, lowered);
      part[3] = part[3] + keep(one, lowered);
      part[4] = part[4] + keep(up, pushed & (moves.cap == from));
      part[5] = part[5] + keep(down, pulled & (moves.cap == from));
      part[6] = part[6] + keep(one, (above > from) & (moves.cap > above));
      part[7] = part[7] + keep(one, (from > below) & (moves.cap > below) & (below > nothing));
    });
    const Value fixed = u - sum[0] - sum[2];
    const Value raising = fixed + (plus - z_t), lowering = fixed + (minus - z_t);
    const Value left = select(u > p_t, raising, lowering) - sum[5];
    const Value right = select(u < p_t, lowering, raising) - sum[4];
    const Value up = sum[1] + select(u > p_t, Value(1), zero);
    const Value down = sum[3] + select(u < p_t, Value(1), zero);
    const Value free_up = max(sum[6], Value(1)), free_down = max(sum[7], Value(1));
    const Truth smooth = ((sum[6] > zero) | (up == zero)) & ((sum[7] > zero) | (down == zero));
    const Value rise = Value(1) + sum[1] + sum[3] + up * up / free_up + down * down / free_down;
    const Jump<S> jump(left, right, select(smooth, rise, zero));
    cap.advance(select(too_low, Value(1), jump.value), select(too_low, zero, jump.slope),
                [&](const Value& lo, const Value& hi) {
                  const Value own_jump = p_t - m;
                  const Value other = divide_at_jump32<S>(rows.p, nothing, rows.blocks, lo, hi);
                  const Value middle = (lo + hi) * Value(0.5);
                  const Truth nearer =
                      (own_jump > lo) & (own_jump < hi) &
                      ((size_of(own_jump - middle) < size_of(other - middle)) | (other == middle));
                  return select(nearer, own_jump, other);
                });
  }
  cap.x = S::exact(S::rounded(cap.x));
  lost = lost | (solve_at(!lost) & !lost);
  moves.write(at, q);
  if (any(inactive)) {
    // Some rows of the group may have an active ball, and others not.
    const SplitLevel<S> level(tau);
    const Mask<float> no_ball = S::lanes(inactive);
    for (int64_t i = 0; i < rows.blocks * kLanes<float>; i += kLanes<float>)
      select(no_ball, box.entry(i, level).clipped(), Block<float>::load(q + i)).store(q + i);
  }
  return {cap.x + m, Truth(!(lost | cap.running))};
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
