// One side of a sparse move: entries whose changes are smallest change in full until they add up to
// half of epsilon, and the others stay.
#pragma once

#include "layout.h"
#include "row.h"

namespace mipoison {
namespace MIPOISON_ISA {

// The search for theta, the largest change of which anything fits: the changes below it fit into
// half of epsilon and with theta they do not. Every point that is tried replaces an end of a
// bracket by the next change, so that the bracket ends at theta itself.
template <class S>
class SparseSide {
 public:
  using Value = typename S::Value;
  using Truth = typename S::Truth;
  using Single = typename S::Single;

  // Changes nearer to theta than this share what is left: rounding would decide which of them comes
  // first. float32 leaves such rows to float64.
  static constexpr double kTie = S::kExact ? 1e-14 : 4e-7;

  SparseSide(const Value& sum, const Single& least, const Single& most, double half,
             const Truth& wanted)
      : half_(half),
        lo_(S::exact(least)),
        hi_(S::exact(most)),
        bounded_(wanted & (sum > Value(half))),
        running_(bounded_ & (lo_ < hi_)) {}

  const Truth& running() const { return running_; }

  // Where to look next, in (lo, hi].
  Single point() const {
    const Value middle = S::exact(S::rounded(root_of(lo_) * root_of(hi_)));
    return S::rounded(select((middle > lo_) & (middle < hi_), middle, hi_));
  }

  // Takes the sum of the changes below the point, the largest of these, and the smallest other one.
  void advance(const Value& sum, const Single& below, const Single& other) {
    const Truth fits = sum <= Value(half_);
    lo_ = select(running_ & fits, S::exact(other), lo_);
    hi_ = select(running_ & !fits, S::exact(below), hi_);
    running_ = running_ & (lo_ < hi_);
  }

  // Changes below this are made in full, those from here to `last` in part, and larger ones not.
  Entries<S> first() const { return end(Value(-kTie)); }
  Entries<S> last() const { return end(Value(kTie)); }

  // Takes the sum of the changes below the first tied one, and the sum and the number of the tied.
  // Returns which rows are solved. Rounding may leave the share beyond its range, and entries
  // negative.
  Truth share(const Value& full, const Value& tied, const Value& count) {
    const Value part = max(Value(half_) - full, Value(0)) / max(tied, Value(kSmallest));
    part_ = select(bounded_, min(part, Value(1)), Value(1));
    if constexpr (S::kExact) return S::all_rows();
    return (!bounded_) | (count == Value(1));
  }

  Entries<S> part() const { return S::spread(S::rounded(part_)); }

 private:
  static constexpr double kSmallest = 1e-300;

  Entries<S> end(const Value& offset) const {
    return S::spread(S::rounded(select(bounded_, lo_ + offset, Value(kInfinity))));
  }

  double half_;
  Value lo_, hi_, part_ = Value(1);
  Truth bounded_, running_;
};

// Both sides of the move from p to v.
template <class S>
class SparseMove {
 public:
  using Truth = typename S::Truth;
  using Single = typename S::Single;

  // Where rounding would decide whether the label still leads.
  static constexpr double kNear = S::kExact ? 1e-14 : 1e-6;

  // Changes of no more than epsilon in all. Returns the rows that are solved.
  Truth solve(const typename S::Element* p, const typename S::Element* v, int64_t blocks,
              double epsilon, const Truth& wanted) {
    const Entries<S> zero = Entries<S>::all(0), one = Entries<S>::all(1);
    const Entries<S> far = Entries<S>::all(kFar);
    typename S::Value sum[6];
    Extremes ends[2] = {{far, zero}, {far, zero}};
    accumulate_finely<S>(blocks, sum, [&](int64_t i, Entries<S>* part) {
      each_side(p + i, v + i, [&](int side, const Entries<S>& change) {
        part[side] = part[side] + change;
        ends[side].take(change > zero, change, change);
      });
    });
    SparseSide<S> sides[2] = {{sum[0], ends[0].least(), ends[0].most(), epsilon / 2, wanted},
                              {sum[1], ends[1].least(), ends[1].most(), epsilon / 2, wanted}};
    while (any(sides[0].running() | sides[1].running())) {
      const Entries<S> at[2] = {S::spread(sides[0].point()), S::spread(sides[1].point())};
      Extremes near[2] = {{far, zero}, {far, zero}};
      accumulate<S>(blocks, sum, [&](int64_t i, Entries<S>* part) {
        each_side(p + i, v + i, [&](int side, const Entries<S>& change) {
          const Mask<typename S::Element> below = change < at[side];
          part[side] = part[side] + keep(change, below);
          near[side].take(!below, change, keep(change, below));
        });
      });
      for (int side = 0; side < 2; ++side)
        sides[side].advance(sum[side], near[side].most(), near[side].least());
    }
    for (int side = 0; side < 2; ++side) {
      first_[side] = sides[side].first();
      last_[side] = sides[side].last();
    }
    accumulate_finely<S>(blocks, sum, [&](int64_t i, Entries<S>* part) {
      each_side(p + i, v + i, [&](int side, const Entries<S>& change) {
        const auto tied = (change >= first_[side]) & (change <= last_[side]);
        part[side] = part[side] + keep(change, change < first_[side]);
        part[2 + side] = part[2 + side] + keep(change, tied);
        part[4 + side] = part[4 + side] + keep(one, tied & (change > zero));
      });
    });
    Truth solved = S::all_rows();
    for (int side = 0; side < 2; ++side) {
      solved = solved & sides[side].share(sum[side], sum[2 + side], sum[4 + side]);
      part_[side] = sides[side].part();
    }
    return solved;
  }

  // An entry of the answer.
  Entries<S> moved(const Entries<S>& p, const Entries<S>& v) const {
    const Entries<S> zero = Entries<S>::all(0), d = v - p;
    const auto rises = d > zero;
    const Entries<S> change = max(d, zero - d);
    const Entries<S> first = select(rises, first_[0], first_[1]);
    const Entries<S> last = select(rises, last_[0], last_[1]);
    const Entries<S> part = p + d * select(rises, part_[0], part_[1]);
    return select(change < first, v, select(change <= last, part, p));
  }

 private:
  // Beyond every change; finite, since it is summed and subtracted.
  static constexpr double kFar = 4;

  // The smallest and the largest of some changes.
  struct Extremes {
    Entries<S> low, high;
    void take(const Mask<typename S::Element>& counts, const Entries<S>& a, const Entries<S>& b) {
      low = min(low, select(counts, a, Entries<S>::all(kFar)));
      high = max(high, b);
    }
    Single least() const { return S::lowest(low); }
    Single most() const { return S::highest(high); }
  };

  // Calls take(side, change) for the changes upward and for those downward of a block.
  template <class Take>
  static void each_side(const typename S::Element* p, const typename S::Element* v,
                        const Take& take) {
    const Entries<S> zero = Entries<S>::all(0), d = Entries<S>::load(v) - Entries<S>::load(p);
    take(0, max(d, zero));
    take(1, max(zero - d, zero));
  }

  // Upward and downward: changes below the first are made in full, up to the last in part.
  Entries<S> first_[2], last_[2], part_[2];
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
