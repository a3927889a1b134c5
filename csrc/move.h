// 7. move: a bounded step toward a vector of the same label: along the segment, by water-filling,
// or sparse.
#pragma once

#include "rows.h"
#include "scratch.h"
#include "sparse.h"
#include "stages.h"

namespace mipoison {
namespace MIPOISON_ISA {

// One side's changes, and the level min(change, x) at which they add up to half of epsilon: the
// root of sum_j (change_j - x)_+ = surplus, by Newton, monotone from the left.
template <class S>
struct WaterLine {
  using Value = typename S::Value;
  using Truth = typename S::Truth;
  Value surplus, count, x;
  Truth running;

  // In float64 from 0, whose step has fewer digits: entries near 0 are to stay what they are.
  WaterLine(const Value& sum, const Value& members, double budget, const Truth& wanted)
      : surplus(sum - budget),
        count(S::kExact ? Value(-1) : members),
        x(S::kExact ? Value(0) : Value(budget) / max(members, Value(1))),
        running(wanted & (surplus > Value(0))) {}

  // Takes sum_j (change_j - x)_+ and the number of its terms at x rounded. Exact once that number
  // repeats.
  void advance(const Value& sum, const Value& members) {
    const Value at = S::exact(S::rounded(x));
    const Value next = at + (sum - surplus) / max(members, Value(1));
    x = select(running & (members > Value(0)), next, x);
    running = running & (next > at) & (members > Value(0)) & !(members == count);
    count = members;
  }

  // Where epsilon is 0, rounding can put the root just below zero.
  Entries<S> level() const {
    return S::spread(S::rounded(select(surplus > Value(0), max(x, Value(0)), Value(kInfinity))));
  }
};

template <class S, class T>
class Mover {
 public:
  using Value = typename S::Value;
  using Truth = typename S::Truth;

  explicit Mover(const Motion<T>& call)
      : call_(call),
        blocks_(S::blocks(call.batch.classes)),
        scratch_(2, S::kRows * padded<typename S::Element>(call.batch.classes)) {}

  // Writes the rows [begin, end) that it can solve, and calls decline(row) for the others.
  template <class Decline>
  void operator()(int64_t begin, int64_t end, const Decline& decline) {
    each_tile<S>(
        begin, end, call_.batch.classes, [&](const Tile<S>& tile) { return move(tile); }, decline);
  }

 private:
  // As in stages.h: the rest of the guaranteed 2e-7 is the rounding of p.
  static constexpr double kMissing = 3e-7, kBeyond = 8e-8;

  // Writes a tile's rows. Returns which it has written.
  uint32_t move(const Tile<S>& tile) {
    load_rows(call_.p, call_.batch.rows, call_.batch.classes, tile, p_);
    const Judged<S> from = judge(p_, call_.batch.classes, kSumTolerance<T>, S{});
    load_rows(call_.target, call_.batch.rows, call_.batch.classes, tile, v_);
    const Judged<S> to = judge(v_, call_.batch.classes, kSumTolerance<T>, S{});
    Truth good = from.valid & to.valid & same_label(from.label, to.label);
    if (!any(good)) return 0;
    renormalise<S>(p_, blocks_, from.sum);
    renormalise<S>(v_, blocks_, to.sum);
    if (call_.epsilon < kInfinity || S::kExact) {
      if (call_.style == Travel::kStraight)
        go_straight();
      else if (call_.style == Travel::kWaterfill)
        good = good & fill(good);
      else
        good = good & replace(good, from.label);
    }
    if constexpr (!S::kExact) {
      const Value v_t = S::exact(S::take(v_, from.label));
      const typename S::Single rival = rival_of<S>(v_, blocks_, from.label);
      S::put(v_, from.label, leading_entry<S>(v_t, rival, Value(0)));
      good = good & keeps_promises();
    }
    store_rows(v_, call_.batch.classes, tile, bits(good), from.label, call_.out);
    return bits(good);
  }

  // v = p + min(1, epsilon / |v - p|) (v - p).
  void go_straight() {
    const Value length = distance();
    const Entries<S> share = S::spread(S::rounded(Value(call_.epsilon) / length));
    const auto all_the_way = S::lanes(length <= Value(call_.epsilon));
    each([&](const Entries<S>& p, const Entries<S>& v) {
      return select(all_the_way, v, p + share * (v - p));
    });
  }

  // Water-filling. Returns where the levels were found.
  Truth fill(const Truth& wanted) {
    Entries<S> most, least;
    const Truth found = find_levels(wanted, &most, &least);
    each([&](const Entries<S>& p, const Entries<S>& v) { return filled(p, v, most, least); });
    return found;
  }

  // The sparse move; water-filling where that loses the label t. Returns which rows are solved.
  Truth replace(const Truth& wanted, const typename S::Index& t) {
    SparseMove<S> sparse;
    Truth solved = sparse.solve(p_, v_, blocks_, call_.epsilon, wanted);
    const Value rival = S::exact(rival_after(sparse, t));
    const Value ahead = S::exact(lead_after(sparse, t)) - rival;
    const Truth lost = ahead < Value(-SparseMove<S>::kNear);
    if constexpr (!S::kExact) solved = solved & (lost | (ahead > Value(SparseMove<S>::kNear)));
    if (!any(lost & wanted)) {
      each([&](const Entries<S>& p, const Entries<S>& v) { return sparse.moved(p, v); });
      return solved;
    }
    Entries<S> most, least;
    const Truth found = find_levels(lost & wanted, &most, &least);
    const auto fills = S::lanes(lost);
    each([&](const Entries<S>& p, const Entries<S>& v) {
      return select(fills, filled(p, v, most, least), sparse.moved(p, v));
    });
    return solved & ((!lost) | found);
  }

  // Changes of less than a level are made in full, the others up to the level. Returns where the
  // levels were found.
  Truth find_levels(const Truth& wanted, Entries<S>* most, Entries<S>* least) {
    const Entries<S> zero = Entries<S>::all(0), one = Entries<S>::all(1);
    const double half = call_.epsilon / 2;
    Value sum[4];
    const auto changes = [&](const Entries<S>& above, const Entries<S>& below) {
      return [=](int64_t i, Entries<S>* part) {
        const Entries<S> d = Entries<S>::load(v_ + i) - Entries<S>::load(p_ + i);
        const Entries<S> up = d - above, down = below - d;
        part[0] = part[0] + max(up, zero);
        part[1] = part[1] + keep(one, up > zero);
        part[2] = part[2] + max(down, zero);
        part[3] = part[3] + keep(one, down > zero);
      };
    };
    accumulate_finely<S>(blocks_, sum, changes(zero, zero));
    WaterLine<S> raised(sum[0], sum[1], half, wanted), lowered(sum[2], sum[3], half, wanted);
    constexpr int kLimit = S::kExact ? 128 : 64;
    for (int i = 0; i < kLimit && any(raised.running | lowered.running); ++i) {
      const auto over =
          changes(S::spread(S::rounded(raised.x)), zero - S::spread(S::rounded(lowered.x)));
      if constexpr (S::kExact)
        accumulate<S>(blocks_, sum, over);
      else
        accumulate_finely<S>(blocks_, sum, over);
      raised.advance(sum[0], sum[1]);
      lowered.advance(sum[2], sum[3]);
    }
    *most = raised.level();
    *least = zero - lowered.level();
    return !(raised.running | lowered.running);
  }

  static Entries<S> filled(const Entries<S>& p, const Entries<S>& v, const Entries<S>& most,
                           const Entries<S>& least) {
    const Entries<S> d = v - p, moved = p + max(min(d, most), least);
    if constexpr (S::kExact) return moved;
    return select((d > most) | (least > d), moved, v);
  }

  // The label's entry after a sparse move, and the largest other one.
  typename S::Single lead_after(const SparseMove<S>& sparse, const typename S::Index& t) const {
    return S::highest(sparse.moved(S::spread(S::take(p_, t)), S::spread(S::take(v_, t))));
  }

  typename S::Single rival_after(const SparseMove<S>& sparse, const typename S::Index& t) const {
    const typename S::Single p_t = S::take(p_, t), v_t = S::take(v_, t);
    const typename S::Single none = S::rounded(Value(0));
    S::put(p_, t, none);
    S::put(v_, t, none);
    Entries<S> rival = Entries<S>::all(0);
    for (int64_t i = 0; i < blocks_ * kStride<S>; i += kStride<S>)
      rival = max(rival, sparse.moved(Entries<S>::load(p_ + i), Entries<S>::load(v_ + i)));
    S::put(p_, t, p_t);
    S::put(v_, t, v_t);
    return S::highest(rival);
  }

  template <class Body>
  void each(const Body& body) {
    for (int64_t i = 0; i < blocks_ * kStride<S>; i += kStride<S>)
      body(Entries<S>::load(p_ + i), Entries<S>::load(v_ + i)).store(v_ + i);
  }

  Value distance() const {
    const Measured<S> measured = measure<S, true>(v_, p_, blocks_, call_.norm);
    return call_.norm == Norm::kL2 ? root_of(measured.distance) : measured.distance;
  }

  Truth keeps_promises() const {
    const Measured<S> m = measure<S, true>(v_, p_, blocks_, call_.norm);
    const double most = call_.epsilon + kBeyond;
    return (size_of(m.sum - 1) <= Value(kMissing)) &
           (m.distance <= Value(call_.norm == Norm::kL2 ? most * most : most));
  }

  Motion<T> call_;
  int64_t blocks_;
  Scratch<typename S::Element> scratch_;
  typename S::Element *p_ = scratch_.row(0), *v_ = scratch_.row(1);
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
