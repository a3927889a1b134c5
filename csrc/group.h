// project and step for rows of few classes in float32 or less, sixteen at a time, each in its own
// lane.
//
// A lane may decline; project.h then solves its row from the start, in float64. So invalid rows are
// never handled here, and no lane depends on its neighbours.
#pragma once

#include "row.h"
#include "rows.h"
#include "scratch.h"
#include "stages.h"
#include "tiles.h"

namespace mipoison {
namespace MIPOISON_ISA {

template <class T>
class GroupProjector {
 public:
  using S = Columns;

  explicit GroupProjector(const Projection<T>& call)
      : k_(call.batch.classes),
        region_(call.region),
        call_(call),
        ball_(call.in_ball()),
        scratch_(ball_ ? 4 : 2, kGroup * padded_columns(k_)) {}

  // Writes the rows [begin, end) that it can solve, and calls decline(row) for the others.
  template <class Decline>
  void operator()(int64_t begin, int64_t end, const Decline& decline) {
    for (int64_t i = begin; i < end; i += kGroup) {
      run(kWithoutBall, group_at(i, end, k_), Wide(0), decline);
      for (int stage = kInBall; stage <= kInBallWithLabel; ++stage)
        if (waiting_[stage].size >= kGroup) run_waiting(stage, decline);
    }
    for (int stage = kInBall; stage <= kInBallWithLabel; ++stage)
      while (waiting_[stage].size > 0) run_waiting(stage, decline);
  }

 private:
  // So many of sixteen rows go on to the ball at once, fewer wait until there are more.
  static constexpr int kEnough = 12;
  enum Stage { kWithoutBall, kInBall, kInBallWithLabel };

  // Rows that wait for a stage until they fill a group. One group may add as many again.
  struct Queue {
    int size = 0;
    int64_t row[2 * kGroup];
    double warm_start[2 * kGroup];
  };

  template <class Decline>
  void run_waiting(int stage, const Decline& decline) {
    Queue& queue = waiting_[stage];
    const int taken = std::min(queue.size, kGroup);
    queue.size -= taken;
    double warm_start[kGroup];
    for (int i = 0; i < kGroup; ++i)
      warm_start[i] = queue.warm_start[queue.size + std::min(i, taken - 1)];
    Wide start;
    std::memcpy(&start, warm_start, sizeof start);
    run(stage, tile_of(queue.row + queue.size, taken, k_, S{}), start, decline);
  }

  template <class Decline>
  void run(int stage, const Group& group, Wide warm_start, const Decline& decline) {
    Rows<S> rows{z_, p_, k_, {}, Wide(0)};
    TauStart<S> tau_start;
    const WideMask good = prepare(group, &rows, &tau_start);
    Stages<S> stages(rows, region_, ball_, q_, q_, y_);
    const Verdict<S> verdict = stage == kWithoutBall
                                   ? stages.without_ball(good, tau_start, &warm_start)
                               : stage == kInBall ? stages.in_ball(good, warm_start)
                                                  : stages.in_ball_with_label(good, warm_start);
    const uint32_t answered = bits(verdict.answered) & group.lanes;
    const uint32_t next = bits(verdict.next) & group.lanes & ~answered;
    write(group, rows, answered);
    if (stage == kWithoutBall && __builtin_popcount(next) >= kEnough) {
      // Most rows go on: with those of the others idle, before they would have to be loaded again.
      const Verdict<S> second = stages.in_ball(verdict.next, warm_start);
      const uint32_t done = bits(second.answered) & next;
      write(group, rows, done);
      leave(kInBallWithLabel, group, bits(second.next) & next & ~done, warm_start);
      decline_lanes(group, next & ~done & ~bits(second.next), decline);
    } else {
      leave(stage + 1, group, next, warm_start);
    }
    decline_lanes(group, group.lanes & ~answered & ~next, decline);
  }

  // Writes the answers of the rows that have a bit.
  void write(const Group& group, const Rows<S>& rows, uint32_t answered) {
    if (!answered) return;
    if constexpr (kSixteen<T>) round_answer<T, S>(q_, k_, rows.t, rows.margin);
    store_columns(q_, k_, group, answered, call_.out);
  }

  // Rows that wait for a stage.
  void leave(int stage, const Group& group, uint32_t lanes, const Wide& warm_start) {
    if (!lanes) return;
    double level[kGroup];
    std::memcpy(level, &warm_start, sizeof level);
    Queue& queue = waiting_[stage];
    for (int i = 0; i < kGroup; ++i) {
      if (!(lanes >> i & 1)) continue;
      queue.row[queue.size] = group.row[i];
      queue.warm_start[queue.size++] = level[i];
    }
  }

  template <class Decline>
  void decline_lanes(const Group& group, uint32_t lanes, const Decline& decline) {
    for (int i = 0; lanes >> i; ++i)
      if (lanes >> i & 1) decline(group.row[i]);
  }

  struct Summary {
    Wide sum, exact_sum;  // by float32 blocks, and of float64 terms
    Block<float> low, high;
    S::Index label;
  };

  // Loads a group, forms z and the renormalised p. Returns which lanes may be tried.
  WideMask prepare(const Group& group, Rows<S>* rows, TauStart<S>* tau_start) {
    const Block<float> moderate = Block<float>::all(kModerate), zero = Block<float>::all(0);
    WideMask close;
    Summary summary;
    const bool keeps = ball_ || region_.margin > 0;
    if (call_.along) {
      const Wide squares = load_direction(group);
      close = (squares > Wide(1e-24)) & (squares < Wide(1e24));
      const Block<float> scale =
          Block<float>::all(static_cast<float>(call_.alpha)) / root_of(narrow(squares));
      summary =
          keeps ? ascend<true>(group, scale, tau_start) : ascend<false>(group, scale, tau_start);
    } else {
      summary = summarise(call_.from, group);
      close = size_of(summary.sum) <= Wide(std::numeric_limits<float>::max());
    }
    Mask<float> good = (summary.high <= moderate) & (summary.low >= zero - moderate);
    close = close & (size_of(summary.sum) <= Wide(std::numeric_limits<float>::max()));
    if (!call_.along) {
      const Block<float> farthest = Block<float>::all(kFarthest);
      if (!ball_) good = (summary.high <= farthest) & (summary.low >= zero - farthest);
      lower(summary.high, tau_start);
    }
    if (call_.center) {
      if (call_.center != call_.from) summary = summarise(call_.center, group);
      good = good & (summary.low >= zero);
      close = close & (size_of(summary.sum - 1) <= Wide(kSumTolerance<T>));
    }
    rows->t = summary.label;
    if (call_.label) good = good & read_labels(group, &rows->t);
    if (keeps) {
      rows->margin = margin_of(rows->t, summary.exact_sum);
      if (ball_) renormalise<S>(p_, k_, summary.exact_sum);
    }
    return close & widened(good);
  }

  template <class Take>
  __attribute__((always_inline)) void each_tile_of(const T* matrix, const Group& group,
                                                   const Take& take) const {
    each_column_tile(matrix, matrix + call_.batch.rows * k_, k_, group, take);
  }

  // z = along. Returns its squared length.
  Wide load_direction(const Group& group) {
    float* const to = z_;
    TileSums<1> squares;
    each_tile_of(call_.along, group, [&](int64_t c, auto n, const Block<float>(&tile)[kGroup]) {
      squares.add(n, [&](int j, Block<float>* part) {
        tile[j].store(to + (c + j) * kGroup);
        part[0] = part[0] + tile[j] * tile[j];
      });
    });
    return squares.sum[0];
  }

  // What judges a group's rows as they are loaded.
  template <bool kExactly>
  struct Judge {
    Block<float> low = Block<float>::all(-kNothing), high = Block<float>::all(kNothing);
    Block<float> label = Block<float>::all(0), j = label;
    Wide exact_sum = 0;
    void see(const Block<float>& x) {
      low = min(low, x);
      label = select(x > high, j, label);
      high = max(high, x);
      j = j + Block<float>::all(1);
      if constexpr (kExactly) exact_sum = exact_sum + widen(x);
    }
  };

  // p = the rows of a matrix.
  Summary summarise(const T* matrix, const Group& group) {
    float* const to = p_;
    Judge<true> judge;
    TileSums<1> sums;
    each_tile_of(matrix, group, [&](int64_t c, auto n, const Block<float>(&tile)[kGroup]) {
      sums.add(n, [&](int j, Block<float>* part) {
        tile[j].store(to + (c + j) * kGroup);
        part[0] = part[0] + tile[j];
        judge.see(tile[j]);
      });
    });
    return {sums.sum[0], judge.exact_sum, judge.low, judge.high, places_of(judge.label)};
  }

  // z = from + scale * z; and if kKeeps, p = from.
  template <bool kKeeps>
  Summary ascend(const Group& group, const Block<float>& scale, TauStart<S>* tau_start) {
    const Block<float> zero = Block<float>::all(0), one = Block<float>::all(1);
    // (Not members, which the compiler would read anew after every store.)
    float *const p = p_, *const z = z_;
    Block<float> top = Block<float>::all(kNothing), above = zero;
    Tally<float> positive;
    Judge<kKeeps> judge;
    TileSums<1> sums;
    each_tile_of(call_.from, group, [&](int64_t c, auto n, const Block<float>(&tile)[kGroup]) {
      sums.add(n, [&](int j, Block<float>* part) {
        const int64_t at = (c + j) * kGroup;
        if constexpr (kKeeps) tile[j].store(p + at);
        part[0] = part[0] + tile[j];
        judge.see(tile[j]);
        const Block<float> x = tile[j] + scale * Block<float>::load(z + at);
        x.store(z + at);
        top = max(top, x);
        above = above + positive_part(x);
        positive.add(x > zero);
      });
    });
    // The first Newton step, from tau = 0, costs no extra pass; a short step ends near tau = 0.
    const Block<float> count = positive.counts();
    const Mask<float> some = count > zero;
    *tau_start = {top, select(some, (above - one) / max(count, one), zero),
                  select(some, count, zero) - one};
    return {sums.sum[0], judge.exact_sum, judge.low, judge.high, places_of(judge.label)};
  }

  // z = p; a row of large entries is shifted so that the largest is 0, to keep digits.
  void lower(Block<float> high, TauStart<S>* tau_start) {
    const Block<float> zero = Block<float>::all(0), moderate = Block<float>::all(kModerate);
    const Block<float> shift = select(max(high, zero - high) > moderate, high, zero);
    for (int64_t i = 0; i < k_ * kGroup; i += kGroup)
      (Block<float>::load(p_ + i) - shift).store(z_ + i);
    *tau_start = {high - shift, zero - shift, zero - Block<float>::all(1)};
  }

  Mask<float> read_labels(const Group& group, S::Index* t) const {
    float valid[kGroup];
    for (int i = 0; i < kGroup; ++i) {
      const int64_t wanted = call_.label[group.row[i]];
      const bool known = wanted >= 0 && wanted < k_;
      valid[i] = known;
      t->place[i] = (known ? static_cast<int32_t>(wanted) : 0) * kGroup + i;
    }
    return Block<float>::load(valid) > Block<float>::all(0);
  }

  Wide margin_of(const S::Index& t, const Wide& sum) {
    if (!region_.shrink || region_.margin == 0) return region_.margin;
    if (!call_.center) return 0;
    const Wide lead = widen(S::take(p_, t)) - widen(rival_of<S>(p_, k_, t));
    return min(Wide(region_.margin), max(lead / sum, Wide(0)));
  }

  int64_t k_;
  Region region_;
  Projection<T> call_;
  bool ball_;
  Scratch<float> scratch_;
  float *z_ = scratch_.row(0), *p_ = scratch_.row(1);
  float* q_ = ball_ ? scratch_.row(2) : p_;
  float* y_ = ball_ ? scratch_.row(3) : nullptr;
  Queue waiting_[kInBallWithLabel + 1];
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
