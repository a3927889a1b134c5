// 1. No ball, in float32 with float64 sums: simplex.h for rows of moderate size, in either shape.
#pragma once

#include <limits>

#include "shape.h"
#include "transpose.h"

namespace mipoison {
namespace MIPOISON_ISA {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// The entries other than t, as they are or cut off at the cap c = w - m.
struct Rest {
  const float* z;
  int64_t blocks;
  bool capped = false;
  Block<float> cap;

  Rest(const float* entries, int64_t count) : z(entries), blocks(count) {}
  Block<float> plain(int64_t i) const { return Block<float>::load(z + i); }
  Block<float> cut(int64_t i) const { return min(Block<float>::load(z + i), cap); }
};

template <class S>
struct Above {
  typename S::Value sum;    // of (z_j - theta)_+
  typename S::Value count;  // of z_j > theta
};

template <class S>
inline Above<S> above(const Rest& rest, const Block<float>& theta) {
  const Block<float> zero = Block<float>::all(0), one = Block<float>::all(1);
  typename S::Value sum[2];
  const auto add = [&](Block<float> y, Block<float>* part) {
    y = y - theta;
    part[0] = add_where(part[0], y > zero, y);
    part[1] = add_where(part[1], y > zero, one);
  };
  if (rest.capped)
    accumulate<S>(rest.blocks, sum, [&](int64_t i, Block<float>* part) { add(rest.cut(i), part); });
  else
    accumulate<S>(rest.blocks, sum,
                  [&](int64_t i, Block<float>* part) { add(rest.plain(i), part); });
  return {sum[0], sum[1]};
}

// Newton's steps in float32 on theta = x + sum_j (z_j - theta)_+. The result is close to the root
// and, up to rounding, on its left. `count`: the support that theta came from; on return, that of
// the result.
inline Block<float> approach(const Rest& rest, const Block<float>& x, Block<float> theta,
                             Mask<float> running, Block<float>* count) {
  constexpr int kLimit = 32;
  const Block<float> zero = Block<float>::all(0), one = Block<float>::all(1);
  for (int i = 0; i < kLimit && any(running); ++i) {
    Block<float> sums[2] = {zero, zero}, counts[2] = {zero, zero};
    const auto add = [&](Block<float> y, int turn) {
      y = y - theta;
      sums[turn] = add_where(sums[turn], y > zero, y);
      counts[turn] = add_where(counts[turn], y > zero, one);
    };
    const auto add_all = [&](const auto& entries) {
      constexpr int n = kLanes<float>;
      int64_t j = 0;
      for (; j + 1 < rest.blocks; j += 2) {
        add(entries(j * n), 0);
        add(entries((j + 1) * n), 1);
      }
      if (j < rest.blocks) add(entries(j * n), 0);
    };
    if (rest.capped)
      add_all([&](int64_t j) { return rest.cut(j); });
    else
      add_all([&](int64_t j) { return rest.plain(j); });
    const Block<float> members = counts[0] + counts[1];
    const Block<float> next = theta + (sums[0] + sums[1] + x - theta) / (members + one);
    const Mask<float> same = members == *count;
    const Mask<float> rises = next > theta;
    theta = select(running, next, theta);
    *count = select(running, members, *count);
    running = running & !same;
    if (i > 0) running = running & rises;
  }
  return theta;
}

// The same with float64 sums, to full precision: the root is exact once the count repeats.
template <class S>
__attribute__((noinline)) typename S::Value refine(const Rest& rest, const typename S::Value& x,
                                                   const typename S::Value& start,
                                                   typename S::Truth running,
                                                   const typename S::Value& count) {
  using Value = typename S::Value;
  constexpr int kLimit = 100;
  Value root = start, members = count;
  for (int i = 0; i < kLimit && any(running); ++i) {
    const Above<S> at = above<S>(rest, S::spread(S::rounded(root)));
    const Value theta = S::exact(S::rounded(root));
    const Value next = theta + (at.sum + x - theta) / (at.count + 1);
    root = select(running, next, root);
    running = running & !(at.count == members);
    if (i > 0) running = running & (next > theta);
    members = at.count;
  }
  return root;
}

// Root of theta = x + sum_j (z_j - theta)_+ where `running`, `start` elsewhere. Newton: monotone
// from the left, and one step from the right lands on the left. `count`: the support
// that `start` came from. kFinely: to full precision, where columns would otherwise stop at the
// precision of float32 sums.
template <class S, bool kFinely>
inline typename S::Value water(const Rest& rest, const typename S::Value& x,
                               typename S::Single start, const typename S::Truth& running,
                               typename S::Single count) {
  if constexpr (S::kRough) {
    start = approach(rest, S::rounded(x), start, narrow(running), &count);
    // With so few terms the check of the written sum catches what float32 loses.
    constexpr int64_t kFew = 16;
    if (!kFinely || rest.blocks <= kFew) return S::exact(start);
  }
  return refine<S>(rest, x, S::exact(start), running, S::exact(count));
}

// q_t = w - tau, q_j = (min(z_j, cap) - tau)_+.
template <class S>
struct Levels32 {
  typename S::Value w, tau;
  Rest rest;
};

// `z`: padded, z_t taken out; `top` its largest entry. `start` guesses tau; `count`
// is the support that it came from, without t (-1: none). spare: scratch as wide as z and a block,
// or null.
template <class S, bool kFinely = true>
inline Levels32<S> solve_levels32(const float* z, int64_t blocks, typename S::Single z_t,
                                  const typename S::Value& margin, typename S::Single top,
                                  typename S::Single start, typename S::Single count,
                                  float* spare = nullptr) {
  using Value = typename S::Value;
  using Single = typename S::Single;
  Levels32<S> at{S::exact(z_t), Value(0), Rest(z, blocks)};
  const Value x = at.w - margin;
  const typename S::Truth pooled = S::exact(top) > x;
  if (any(pooled)) {
    const Value level = S::exact(
        S::rounded(water<S, kFinely>(at.rest, x, S::rounded(x), pooled, S::rounded(Value(-1)))));
    const Value cap = select(pooled, level, Value(kInfinity));
    at.w = select(pooled, level + margin, at.w);
    at.rest.cap = S::spread(S::rounded(cap));
    at.rest.capped = true;
    count = S::rounded(select(pooled, Value(-1), S::exact(count)));
  }
  const Single x_tau = S::rounded(at.w - 1);
  const Single from = max(start, x_tau);
  count = select(start > x_tau, count, S::rounded(Value(-1)));
  if constexpr (S::kPacks) {
    // Newton's steps stay left of the root: an entry below the first step ends as zero.
    constexpr float kRounding = 1e-6f;
    if (spare && count >= 0) {
      const Rest few(spare, pack_above(z, blocks, from - kRounding, spare));
      at.tau = water<S, kFinely>(few, at.w - 1, from, S::all_rows(), count);
      return at;
    }
  }
  at.tau = water<S, kFinely>(at.rest, at.w - 1, from, S::all_rows(), count);
  return at;
}

// The sum and the largest of what was written.
template <class S>
struct Written {
  typename S::Value sum;
  typename S::Single highest;
};

// max(z - tau, 0) of each block; accumulates the row's sum and largest entry.
template <class S>
struct Leveller {
  SplitLevel<S> tau;
  Block<float> high = Block<float>::all(0);

  Block<float> operator()(const Block<float>& z, Block<float>* part) {
    const Block<float> y = max(tau.below(z), Block<float>::all(0));
    high = max(high, y);
    part[0] = part[0] + y;
    return y;
  }
};

// Writes q, all but q_t. last: how many entries of the last block there is room for.
template <class S>
inline Written<S> write_simplex(const Levels32<S>& at, float* q, int last = kLanes<float>) {
  Leveller<S> level{SplitLevel<S>(at.tau)};
  typename S::Value sum[1];
  const int64_t whole = at.rest.blocks - (last < kLanes<float>), end = whole * kLanes<float>;
  const auto write_all = [&](const auto& entries) {
    accumulate<S>(whole, sum,
                  [&](int64_t i, Block<float>* part) { level(entries(i), part).store(q + i); });
    if (whole == at.rest.blocks) return;
    Block<float> part[1] = {Block<float>::all(0)};
    store_first(level(entries(end), part), q + end, last);
    sum[0] = sum[0] + S::collect(part[0]);
  };
  if (at.rest.capped)
    write_all([&](int64_t i) { return at.rest.cut(i); });
  else
    write_all([&](int64_t i) { return at.rest.plain(i); });
  return {sum[0], S::highest(level.high)};
}

// The same by streaming stores, for a multiple of blocks at an aligned address. ahead: an array
// of as many entries to prefetch meanwhile, or null. (Not inline: the loops of write_simplex would
// get fewer registers.)
template <class S>
__attribute__((noinline)) Written<S> stream_simplex(const Levels32<S>& at, float* q,
                                                    const float* ahead) {
  Leveller<S> level{SplitLevel<S>(at.tau)};
  typename S::Value sum[1];
  const auto stream_all = [&](const auto& entries) {
    accumulate<S>(at.rest.blocks, sum, [&](int64_t i, Block<float>* part) {
      if (ahead) __builtin_prefetch(ahead + i, 0, 2);
      stream(level(entries(i), part), q + i);
    });
  };
  if (at.rest.capped)
    stream_all([&](int64_t i) { return at.rest.cut(i); });
  else
    stream_all([&](int64_t i) { return at.rest.plain(i); });
  settle_streams();
  return {sum[0], S::highest(level.high)};
}

// leading_entry of round.h in either shape: x rounded, lifted until it is margin above the largest
// other entry and no tie.
template <class S>
inline typename S::Single leading_entry32(const typename S::Value& x, typename S::Single rival,
                                          const typename S::Value& margin) {
  const typename S::Value floor = S::exact(rival) + margin;
  typename S::Single lifted = S::rounded(floor);
  lifted = select(S::exact(lifted) < floor, next_above(lifted), lifted);
  return max(max(S::rounded(x), lifted), next_above(rival));
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
