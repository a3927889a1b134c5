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
                                                  : stages.in_ball_with_label(good);
    const uint32_t answered = bits(verdict.answered) & group.lanes;
    const uint32_t next = bits(verdict.next) & group.lanes & ~answered;
    if constexpr (kSixteen<T>) round_answer<T, S>(q_, k_, rows.t, rows.margin);
    store_columns(q_, k_, group, answered, call_.out);
    if (answered == group.lanes) return;
    double level[kGroup];
    std::memcpy(level, &warm_start, sizeof level);
    for (int i = 0; i < kGroup; ++i) {
      const uint32_t lane = uint32_t{1} << i;
      if (next & lane) {
        Queue& queue = waiting_[stage + 1];
        queue.row[queue.size] = group.row[i];
        queue.warm_start[queue.size++] = level[i];
      } else if (group.lanes & ~answered & lane) {
        decline(group.row[i]);
      }
    }
  }

  struct Summary {
    Wide sum;
    Block<float> low, high;
    S::Index label;
  };

  // Loads a group, forms z and the renormalised p. Returns which lanes may be tried.
  WideMask prepare(const Group& group, Rows<S>* rows, TauStart<S>* tau_start) {
    const Block<float> moderate = Block<float>::all(kModerate), zero = Block<float>::all(0);
    load(call_.from, group, p_);
    Summary summary = summarise();
    Mask<float> good = (summary.high <= moderate) & (summary.low >= zero - moderate);
    WideMask close = size_of(summary.sum) <= Wide(std::numeric_limits<float>::max());
    if (call_.along) {
      load(call_.along, group, z_);
      close = close & ascend(tau_start);
    } else {
      const Block<float> farthest = Block<float>::all(kFarthest);
      if (!ball_) good = (summary.high <= farthest) & (summary.low >= zero - farthest);
      lower(summary.high, tau_start);
    }
    if (call_.center) {
      if (call_.center != call_.from) {
        load(call_.center, group, p_);
        summary = summarise();
      }
      good = good & (summary.low >= zero);
      close = close & (size_of(summary.sum - 1) <= Wide(kSumTolerance<T>));
    }
    rows->t = summary.label;
    if (call_.label) good = good & read_labels(group, &rows->t);
    if (ball_ || region_.margin > 0) {
      const Wide sum = exact_sum(p_, k_);
      rows->margin = margin_of(rows->t, sum);
      if (ball_) renormalise<S>(p_, k_, sum);
    }
    return close & widened(good);
  }

  void load(const T* matrix, const Group& group, float* columns) const {
    load_columns(matrix, matrix + call_.batch.rows * k_, k_, group, columns);
  }

  Summary summarise() const {
    Block<float> low = Block<float>::all(-kNothing), high = Block<float>::all(kNothing);
    Block<float> label = Block<float>::all(0), j = label;
    const Block<float> one = Block<float>::all(1);
    Wide sum[1];
    accumulate<S>(k_, sum, [&](int64_t i, Block<float>* part) {
      const Block<float> x = Block<float>::load(p_ + i);
      part[0] = part[0] + x;
      low = min(low, x);
      label = select(x > high, j, label);
      high = max(high, x);
      j = j + one;
    });
    return {sum[0], low, high, places_of(label)};
  }

  // z = p + alpha * z / |z|. Returns where the length allows it.
  WideMask ascend(TauStart<S>* tau_start) {
    Wide squares[1];
    accumulate<S>(k_, squares, [&](int64_t i, Block<float>* part) {
      const Block<float> x = Block<float>::load(z_ + i);
      part[0] = part[0] + x * x;
    });
    const Block<float> scale =
        Block<float>::all(static_cast<float>(call_.alpha)) / root_of(narrow(squares[0]));
    const Block<float> zero = Block<float>::all(0), one = Block<float>::all(1);
    Block<float> high = Block<float>::all(kNothing), sum = zero, count = zero;
    // (Not members, which the compiler would read anew after every store.)
    const float* const from = p_;
    float* const to = z_;
    const int64_t end = k_ * kGroup;
    for (int64_t i = 0; i < end; i += kGroup) {
      const Block<float> x = Block<float>::load(from + i) + scale * Block<float>::load(to + i);
      x.store(to + i);
      high = max(high, x);
      sum = add_where(sum, x > zero, x);
      count = add_where(count, x > zero, one);
    }
    // The first Newton step, from tau = 0, costs no extra pass; a short step ends near tau = 0.
    const Mask<float> some = count > zero;
    *tau_start = {high, select(some, (sum - one) / max(count, one), zero),
                  select(some, count, zero) - one};
    return (squares[0] > Wide(1e-24)) & (squares[0] < Wide(1e24));
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
