// 1. No ball: the pooled level w and the simplex level tau, two roots of one equation
// (docs/mathematics.md, section 1). With float64 sums, in every layout.
#pragma once

#include <limits>

#include "layout.h"
#include "transpose.h"

namespace mipoison {
namespace MIPOISON_ISA {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// The entries other than t, as they are or cut off at the cap c = w - m.
template <class S>
struct Rest {
  const typename S::Element* z;
  int64_t blocks;
  bool capped = false;
  Entries<S> cap;

  Rest(const typename S::Element* entries, int64_t count) : z(entries), blocks(count) {}
  Entries<S> plain(int64_t i) const { return Entries<S>::load(z + i); }
  Entries<S> cut(int64_t i) const { return min(Entries<S>::load(z + i), cap); }
};

template <class S>
struct Above {
  typename S::Value sum;    // of (z_j - theta)_+
  typename S::Value count;  // of z_j > theta
};

template <class S>
inline Above<S> above(const Rest<S>& rest, const Entries<S>& theta) {
  const Entries<S> zero = Entries<S>::all(0);
  Tally<typename S::Element> count;
  typename S::Value sum[1];
  const auto add = [&](Entries<S> y, Entries<S>* part) {
    y = less(y, theta);
    part[0] = part[0] + positive_part(y);
    count.add(y > zero);
  };
  if (rest.capped)
    accumulate<S>(rest.blocks, sum, [&](int64_t i, Entries<S>* part) { add(rest.cut(i), part); });
  else
    accumulate<S>(rest.blocks, sum, [&](int64_t i, Entries<S>* part) { add(rest.plain(i), part); });
  return {sum[0], S::collect(count.counts())};
}

// Newton's steps in float32 on theta = x + sum_j (z_j - theta)_+. The result is close to the root
// and, up to rounding, on its left. `count`: the support that theta came from; on return, that of
// the result.
template <class S>
inline Entries<S> approach(const Rest<S>& rest, const Entries<S>& x, Entries<S> theta,
                           Mask<typename S::Element> running, Entries<S>* count) {
  constexpr int kLimit = 32;
  const Entries<S> zero = Entries<S>::all(0), one = Entries<S>::all(1);
  for (int i = 0; i < kLimit && any(running); ++i) {
    Entries<S> sums[2] = {zero, zero};
    Tally<typename S::Element> counts;
    const auto add = [&](Entries<S> y, int turn) {
      y = less(y, theta);
      sums[turn] = sums[turn] + positive_part(y);
      counts.add(y > zero);
    };
    const auto add_all = [&](const auto& entries) {
      constexpr int n = kStride<S>;
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
    const Entries<S> members = counts.counts();
    const Entries<S> next = theta + (sums[0] + sums[1] + x - theta) / (members + one);
    const auto same = members == *count;
    const auto rises = next > theta;
    theta = select(running, next, theta);
    *count = select(running, members, *count);
    running = running & !same;
    if (i > 0) running = running & rises;
  }
  return theta;
}

// The same with float64 sums, to full precision: the root is exact once the count repeats.
template <class S>
__attribute__((noinline)) typename S::Value refine(const Rest<S>& rest, const typename S::Value& x,
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
inline typename S::Value water(const Rest<S>& rest, const typename S::Value& x,
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

// q_t = w - tau, q_j = (min(z_j, cap) - tau)_+, in the coordinates that z is left in.
template <class S>
struct Levels {
  typename S::Value w, tau;
  Rest<S> rest;
};

// `z`: padded, z_t taken out; `top` its largest entry. `start` guesses tau; `count`
// is the support that it came from, without t (-1: none). spare: scratch as wide as z and a block,
// or null.
template <class S, bool kFinely = true>
inline Levels<S> solve_levels(typename S::Element* z, int64_t blocks, typename S::Single z_t,
                              const typename S::Value& margin, typename S::Single top,
                              typename S::Single start, typename S::Single count,
                              typename S::Element* spare = nullptr) {
  using Value = typename S::Value;
  using Single = typename S::Single;
  Levels<S> at{S::exact(z_t), Value(0), Rest<S>(z, blocks)};
  const Value x = at.w - margin;
  typename S::Truth pooled = S::exact(top) > x;
  Value level = x;
  if (any(pooled))
    level = S::exact(
        S::rounded(water<S, kFinely>(at.rest, x, S::rounded(x), pooled, S::rounded(Value(-1)))));
  if constexpr (S::kExact) pooled = level > x;
  if (any(pooled)) {
    const Value cap = select(pooled, level, Value(kInfinity));
    at.w = select(pooled, level + margin, at.w);
    if constexpr (S::kExact) {
      // A huge w would leave no digits for q: z is cut off, and shifted so that w becomes 0.
      const Entries<S> down = S::spread(at.w), limit = S::spread(-margin);
      for (int64_t i = 0; i < blocks * kStride<S>; i += kStride<S>)
        min(Entries<S>::load(z + i) - down, limit).store(z + i);
      start -= at.w;
      at.w = 0;
    } else {
      at.rest.cap = S::spread(S::rounded(cap));
      at.rest.capped = true;
    }
    count = S::rounded(select(pooled, Value(-1), S::exact(count)));
  }
  const Single x_tau = S::rounded(at.w - 1);
  const Single from = max(start, x_tau);
  count = select(start > x_tau, count, S::rounded(Value(-1)));
  if constexpr (S::kPacks) {
    // Newton's steps stay left of the root: an entry below the first step ends as zero.
    constexpr float kRounding = 1e-6f;
    if (spare && count >= 0) {
      const Rest<S> few(spare, pack_above(z, blocks, from - kRounding, spare));
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
  Entries<S> high = Entries<S>::all(0);

  Entries<S> operator()(const Entries<S>& z, Entries<S>* part) {
    const Entries<S> y = positive_part(tau.below(z));
    high = max(high, y);
    part[0] = part[0] + y;
    return y;
  }
};

// Writes q, all but q_t. last: how many entries of the last block there is room for.
template <class S>
inline Written<S> write_simplex(const Levels<S>& at, typename S::Element* q,
                                int last = kStride<S>) {
  Leveller<S> level{SplitLevel<S>(at.tau)};
  typename S::Value sum[1];
  const int64_t whole = at.rest.blocks - (last < kStride<S>), end = whole * kStride<S>;
  const auto write_all = [&](const auto& entries) {
    accumulate<S>(whole, sum,
                  [&](int64_t i, Entries<S>* part) { level(entries(i), part).store(q + i); });
    if constexpr (!S::kExact) {
      if (whole == at.rest.blocks) return;
      Entries<S> part[1] = {Entries<S>::all(0)};
      store_first(level(entries(end), part), q + end, last);
      sum[0] = sum[0] + S::collect(part[0]);
    }
  };
  if (at.rest.capped)
    write_all([&](int64_t i) { return at.rest.cut(i); });
  else
    write_all([&](int64_t i) { return at.rest.plain(i); });
  return {sum[0], S::highest(level.high)};
}

// The same by streaming stores, for a multiple of blocks at an aligned address. ahead: an array
// of as many entries, or null; its squares are added up meanwhile, as memory has nothing else to
// read. (Not inline: the loops of write_simplex would get fewer registers.)
template <class S>
__attribute__((noinline)) Written<S> stream_simplex(const Levels<S>& at, typename S::Element* q,
                                                    const typename S::Element* ahead,
                                                    typename S::Value* squares) {
  Leveller<S> level{SplitLevel<S>(at.tau)};
  typename S::Value sum[2];
  const auto stream_all = [&](const auto& entries) {
    if (ahead) {
      accumulate<S>(at.rest.blocks, sum, [&](int64_t i, Entries<S>* part) {
        const Entries<S> x = Entries<S>::load(ahead + i);
        part[1] = part[1] + x * x;
        stream(level(entries(i), part), q + i);
      });
      *squares = sum[1];
    } else {
      typename S::Value one[1];
      accumulate<S>(at.rest.blocks, one,
                    [&](int64_t i, Entries<S>* part) { stream(level(entries(i), part), q + i); });
      sum[0] = one[0];
    }
  };
  if (at.rest.capped)
    stream_all([&](int64_t i) { return at.rest.cut(i); });
  else
    stream_all([&](int64_t i) { return at.rest.plain(i); });
  settle_streams();
  return {sum[0], S::highest(level.high)};
}

inline double max_of(const double* row, int64_t width) {
  Block<double> high = Block<double>::all(-kInfinity);
  for (int64_t i = 0; i < width; i += kLanes<double>)
    high = max(high, Block<double>::load(row + i));
  return largest(high);
}

// Projects z (padded with -inf; destroyed) and writes q, padded with zeros. The largest entry
// becomes 0, so that a huge z keeps digits; Newton starts from tau = 0, which is close for a z near
// the simplex.
inline void project_simplex(double* z, int64_t blocks, int64_t t, double margin, double* q) {
  const double top = max_of(z, blocks * kStride<Exact>);
  for (int64_t i = 0; i < blocks * kStride<Exact>; ++i) z[i] -= top;
  const double z_t = Exact::take(z, t);
  Exact::put(z, t, -kInfinity);
  const Levels<Exact> at = solve_levels<Exact>(z, blocks, z_t, margin, 0, -top, -1);
  write_simplex<Exact>(at, q);
  q[t] = at.w - at.tau;
}

// leading_entry of round.h in every layout: x rounded, lifted until it is margin above the largest
// other entry and no tie.
template <class S>
inline typename S::Single leading_entry(const typename S::Value& x, typename S::Single rival,
                                        const typename S::Value& margin) {
  const typename S::Value floor = S::exact(rival) + margin;
  typename S::Single lifted = S::rounded(floor);
  lifted = select(S::exact(lifted) < floor, next_above(lifted), lifted);
  return max(max(S::rounded(x), lifted), next_above(rival));
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
