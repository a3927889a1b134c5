// 7. move in float32: move.h for rows of either shape.
//
// Rows that this declines are solved by move.h from the start, in float64.
#pragma once

#include "rows32.h"
#include "scratch.h"
#include "stages.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Whether calls of this kind are worth a try in float32.
inline bool moderate(const Motion<float>& call) { return call.epsilon >= kSmallestBall; }

// One side's changes, and the level min(change, x) at which they add up to half of epsilon: the
// root of sum_j (change_j - x)_+ = surplus, by Newton, monotone from the left.
template <class S>
struct WaterLine {
  using Value = typename S::Value;
  using Truth = typename S::Truth;
  Value surplus, count, x;
  Truth running;

  WaterLine(const Value& sum, const Value& members, double budget, const Truth& wanted)
      : surplus(sum - budget),
        count(members),
        x(Value(budget) / max(members, Value(1))),
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

  Block<float> level() const {
    return S::spread(S::rounded(select(surplus > Value(0), x, Value(kInfinity))));
  }
};

template <class S>
class Mover32 {
 public:
  using Value = typename S::Value;
  using Truth = typename S::Truth;

  explicit Mover32(const Motion<float>& call)
      : call_(call),
        blocks_(S::blocks(call.batch.classes)),
        scratch_(2, S::kRows * padded<float>(call.batch.classes)) {}

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
    const Judged<S> from = judge(p_, call_.batch.classes, S{});
    load_rows(call_.target, call_.batch.rows, call_.batch.classes, tile, v_);
    const Judged<S> to = judge(v_, call_.batch.classes, S{});
    Truth good = from.valid & to.valid & same_label(from.label, to.label);
    if (!any(good)) return 0;
    renormalise<S>(p_, blocks_, from.sum);
    renormalise<S>(v_, blocks_, to.sum);
    if (call_.epsilon < kInfinity) {
      if (call_.style == Travel::kStraight)
        go_straight();
      else
        good = good & fill(good);
    }
    const Value v_t = S::exact(S::take(v_, from.label));
    const typename S::Single rival = rival_of<S>(v_, blocks_, from.label);
    S::put(v_, from.label, leading_entry32<S>(v_t, rival, Value(0)));
    good = good & keeps_promises();
    store_rows(v_, call_.batch.classes, tile, bits(good), call_.out);
    return bits(good);
  }

  // v = p + min(1, epsilon / |v - p|) (v - p).
  void go_straight() {
    const Value length = distance();
    const Block<float> share = S::spread(S::rounded(Value(call_.epsilon) / length));
    const Mask<float> all_the_way = S::lanes(length <= Value(call_.epsilon));
    each([&](const Block<float>& p, const Block<float>& v) {
      return select(all_the_way, v, p + share * (v - p));
    });
  }

  // Changes of less than a level are made in full, the others up to the level. Returns where the
  // levels were found.
  Truth fill(const Truth& wanted) {
    const Block<float> zero = Block<float>::all(0), one = Block<float>::all(1);
    const double half = call_.epsilon / 2;
    Value sum[4];
    const auto measure = [&](const Block<float>& above, const Block<float>& below) {
      accumulate_finely<S>(blocks_, sum, [&](int64_t i, Block<float>* part) {
        const Block<float> d = Block<float>::load(v_ + i) - Block<float>::load(p_ + i);
        const Block<float> up = d - above, down = below - d;
        part[0] = part[0] + max(up, zero);
        part[1] = part[1] + keep(one, up > zero);
        part[2] = part[2] + max(down, zero);
        part[3] = part[3] + keep(one, down > zero);
      });
    };
    measure(zero, zero);
    WaterLine<S> raised(sum[0], sum[1], half, wanted), lowered(sum[2], sum[3], half, wanted);
    constexpr int kLimit = 64;
    for (int i = 0; i < kLimit && any(raised.running | lowered.running); ++i) {
      measure(S::spread(S::rounded(raised.x)), zero - S::spread(S::rounded(lowered.x)));
      raised.advance(sum[0], sum[1]);
      lowered.advance(sum[2], sum[3]);
    }
    const Block<float> most = raised.level(), least = zero - lowered.level();
    each([&](const Block<float>& p, const Block<float>& v) {
      const Block<float> d = v - p;
      return select((d > most) | (least > d), p + max(min(d, most), least), v);
    });
    return !(raised.running | lowered.running);
  }

  template <class Body>
  void each(const Body& body) {
    for (int64_t i = 0; i < blocks_ * kLanes<float>; i += kLanes<float>)
      body(Block<float>::load(p_ + i), Block<float>::load(v_ + i)).store(v_ + i);
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

  Motion<float> call_;
  int64_t blocks_;
  Scratch scratch_;
  float *p_ = scratch_.row(0), *v_ = scratch_.row(1);
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
