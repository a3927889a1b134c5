// 4. The l1 ball in float32 where the label binds: an outer root in the cap c = u - m, u = q_t.
#pragma once

#include "l1_32.h"

namespace mipoison {
namespace MIPOISON_ISA {

// The lowest cap c: under a lower one, more than `half` comes down, or the row does not sum to one.
// Root of sum_j (p_j - c)_+ = half, with the label's p_t - m among them, by Newton from its left.
template <class S>
inline typename S::Value lowest_cap32(const Rows<S>& rows, const typename S::Value& p_t,
                                      const typename S::Value& half) {
  using Value = typename S::Value;
  constexpr int kLimit = 32;
  constexpr double kNone = 1e-8;
  const Value own = p_t - rows.margin, zero = 0;
  const Rest<S> rest(rows.p, rows.blocks);
  Block<float> tallest = Block<float>::all(0);
  Tally<float> others;
  for (int64_t i = 0; i < rows.blocks * kLanes<float>; i += kLanes<float>) {
    tallest = max(tallest, Block<float>::load(rows.p + i));
    others.add(Block<float>::load(rows.z + i) > Block<float>::all(kNothing));
  }
  const Value capacity = (Value(1) - rows.margin) / (S::collect(others.counts()) + 1);
  Value cap = max(max(S::exact(S::highest(tallest)), own) - half, capacity);
  for (int i = 0; i < kLimit; ++i) {
    cap = S::exact(S::rounded(cap));
    const Above<S> over = above<S>(rest, S::spread(S::rounded(cap)));
    const Value beyond = over.sum + max(own - cap, zero) - half;
    const typename S::Truth more = beyond > Value(kNone);
    if (!any(more)) break;
    const Value count = over.count + select(own > cap, Value(1), zero);
    cap = select(more, cap + beyond / max(count, Value(1)), cap);
  }
  return cap;
}

// Writes q for rows whose answer without the label constraint violates it. start: a guess of the
// levels.
//
// The derivative in c jumps at every p_j, at u = p_t, and where the entries that move freely to one
// side are used up: the label and the capped entries then make up the whole of this side, and the
// level leaps to where one of them is free again.
template <class S>
inline Solved<S> bound_l1_32(const Rows<S>& rows, double epsilon, const typename S::Value& start,
                             float* q) {
  using Value = typename S::Value;
  using Truth = typename S::Truth;
  const WithoutLabel<S> label(rows);
  const Value z_t = label.z_t(), p_t = label.p_t(), m = rows.margin, zero = 0, half = epsilon / 2;
  const Block<float> one = Block<float>::all(1), nothing = Block<float>::all(0);
  Moves32<S> moves{rows.z, rows.p, rows.blocks, one};
  Box32 box{rows.z, rows.p, rows.blocks, Block<float>::all(2), one};  // no ball

  const Value first = lowest_cap32(rows, p_t, half), last = min(p_t + half, Value(1)) - m;
  Truth lost = first > last;
  Value tau = start;
  typename Moves32<S>::Levels at{start, start};
  Truth inactive = S::no_rows();
  const Value fine = size_of(last) * Value(kSingle);
  Search<S> cap(first - fine * 4, last, p_t - m, !lost);
  cap.fine = fine;
  // edge: where the entries that move freely at cap.lo are used up.
  Value edge = last, gain = zero, loss = zero;

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
    gain = max(half - max(u - p_t, zero), zero);
    loss = max(half - max(p_t - u, zero), zero);
    // (The searches take so little for zero.)
    constexpr double kNone = 2e-8;
    const Truth too_low = (sum[0] > loss + kNone) | (u + sum[2] < Value(1));
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
    Value sum[10];
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
      const Mask<float> falls = (from > below) & (moves.cap > below) & (below > nothing);
      part[6] = part[6] + keep(one, (above > from) & (moves.cap > above));
      part[7] = part[7] + keep(one, falls);
      part[8] = part[8] + keep(moves.cap - from, raised);
      part[9] = part[9] + keep(below, falls);
    });
    const Value fixed = u - sum[0] - sum[2];
    const Value raising = fixed + (plus - z_t), lowering = fixed + (minus - z_t);
    const Value left = select(u > p_t, raising, lowering) - sum[5];
    const Value right = select(u < p_t, lowering, raising) - sum[4];
    const Jump<S> jump(left, right, zero);
    // What is held on each side, the label among it, and what is free: to the right of c if the
    // root lies there, else to its left.
    const Truth rightward = right < zero;
    const Value own = select((u > p_t) | (rightward & (u == p_t)), Value(1), zero);
    const Value up = sum[1] + own, down = sum[3] + (Value(1) - own), held = up + down;
    const Value free_up = max(sum[6], Value(1)), free_down = max(sum[7], Value(1));
    const Value free = sum[6] + sum[7];
    const Truth both = ((sum[6] > zero) | (up == zero)) & ((sum[7] > zero) | (down == zero));
    const Truth smooth = (inactive & (free > zero)) | ((!inactive) & both);
    const Value rise = held + select(inactive, held * held / max(free, Value(1)),
                                     up * up / free_up + down * down / free_down);
    // As c grows, held raises leave less for the free ones, and held lowers more.
    const Value far = 1;
    const Truth raised = (up > zero) & ((!inactive) | (sum[6] == zero));
    const Truth lowered = (down > zero) & !inactive;
    const Value room = min(select(raised, (gain - sum[8]) / max(up, far), far),
                           select(lowered, sum[9] / max(down, far), far));
    edge = select(too_low, last, select(rightward, cap.x + room, edge));
    const Value value = select(too_low, Value(1), jump.value);
    const Value slope = select(smooth & !too_low, zero - rise, zero);
    // Newton's step, no farther than the lowest cap or to just before a jump; from there, across
    // it, as the root may lie in it or beyond. A step to the other end of the bracket, within
    // rounding, is none: `beyond` makes it fail.
    const Value free_step = cap.newton_from(value, slope), beyond = 2;
    const Value across = max(edge, cap.x) + fine * 1.5;
    const Value to_right = min(free_step, select(edge - cap.x > fine, edge - fine * 0.5, across));
    const Value to_left = max(free_step, first + fine * 0.5);
    const Value newton =
        select(value > zero, select(to_right < cap.hi - fine * 0.5, to_right, beyond),
               select(to_left > cap.lo + fine * 0.5, to_left, beyond));
    cap.advance(value, slope, newton, [&](const Value& lo, const Value& hi) {
      const Value own_jump = p_t - m;
      const Value other = divide_at_jump32<S>(rows.p, nothing, rows.blocks, lo, hi);
      const Value middle = (lo + hi) * Value(0.5);
      const Truth nearer =
          (own_jump > lo) & (own_jump < hi) &
          ((size_of(own_jump - middle) < size_of(other - middle)) | (other == middle));
      // A right end that was meant to lie left of an edge: the root is next to it.
      const Value inside = hi - fine * 4;
      const Truth missed = (size_of(edge - hi) <= fine * 2) & (inside > lo);
      return select(missed, inside, select(nearer, own_jump, other));
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
