// project and step for rows of many classes in float32 or less, one at a time.
//
// Like group.h, this may decline a row; project.h then decides it from scratch, in float64.
#pragma once

#include <functional>

#include "row.h"
#include "scratch.h"
#include "stages.h"
#include "transpose.h"

namespace mipoison {
namespace MIPOISON_ISA {

template <class T>
class LineProjector {
 public:
  using S = Line;
  static constexpr int64_t kLong = 3000, kAhead = 512, kStreamed = 1000, kCrowding = 1 << 19,
                           kVeryLong = 24000;

  explicit LineProjector(const Projection<T>& call)
      : k_(call.batch.classes),
        whole_(k_ / kLanes<float> * kLanes<float>),
        width_(padded<float>(k_)),
        region_(call.region),
        call_(call),
        ball_(call.in_ball()),
        in_place_(apart(call)),
        streams_(k_ >= kStreamed && k_ == width_ && call.batch.rows * k_ >= kCrowding &&
                 reinterpret_cast<uintptr_t>(call.out) % kBlockBytes == 0),
        scratch_(answer_row() + 1, k_) {}

  // Writes row i. False if it declines. spills: whether the rest of the answer's last block, less
  // than a row, may be written beyond it.
  bool operator()(int64_t i, bool spills) {
    const float* from = row_of(call_.from, i, 0);
    const float* along = row_of(call_.along, i, 1);
    const float* center = call_.center == call_.from ? from : row_of(call_.center, i, 2);
    T* out = call_.out + i * k_;
    Rows<S> rows{z_, p_, width_ / kLanes<float>, 0, 0};
    TauStart<S> tau_start;
    const bool at_once = along && ball_ && center == from;
    double exact = 0;
    Summary summary = at_once ? ascend<true>(from, along, &tau_start, &exact)
                      : along ? ascend<false>(from, along, &tau_start, &exact)
                              : lower(from, &tau_start);
    if (!(std::abs(summary.sum) <= std::numeric_limits<float>::max())) return false;
    if (along || ball_) {
      if (!(summary.high <= kModerate && summary.low >= -kModerate)) return false;
    } else if (!(summary.high <= kFarthest && summary.low >= -kFarthest)) {
      return false;
    }
    const float* owner = from;
    if (center) {
      if (center != from) {
        summary = summarise(center);
        owner = center;
      }
      if (!(summary.low >= 0 && std::abs(summary.sum - 1) <= kSumTolerance<T>)) return false;
    }
    rows.t = call_.label ? call_.label[i] : first_index_of(owner, k_, summary.high);
    if (rows.t < 0 || rows.t >= k_) return false;
    if (center && (ball_ || (region_.shrink && region_.margin > 0))) {
      const double sum = at_once ? exact : exact_sum_of(center);
      if (ball_) renormalise(center, sum);
      rows.margin = margin_of(center, rows.t, sum);
    } else {
      rows.margin = region_.shrink ? 0 : region_.margin;
    }
    if constexpr (!kSixteen<T>) {
      if (in_place_ && !ball_) return without_ball(rows, tau_start, along, out);
      if (in_place_ && (spills || k_ == width_)) return solve(rows, tau_start, out);
    }
    if (!solve(rows, tau_start, q_)) return false;
    if constexpr (kSixteen<T>) {
      round_answer<T, S>(q_, rows.blocks, rows.t, rows.margin);
      for (int64_t j = 0; j < whole_; j += kLanes<float>)
        store_entries(Block<float>::load(q_ + j), out + j);
      store_first(Block<float>::load(q_ + whole_), out + whole_, static_cast<int>(k_ - whole_));
    } else {
      std::copy(q_, q_ + k_, out);
    }
    return true;
  }

 private:
  struct Summary {
    double sum;
    float low, high;
  };

  // Row i of a matrix in float32: in place, or converted into a row of scratch.
  const float* row_of(const T* matrix, int64_t i, int kept) {
    if (!matrix) return nullptr;
    const T* from = matrix + i * k_;
    if constexpr (kSixteen<T>) {
      float* to = scratch_.row((ball_ ? 3 : 1) + kept);
      for (int64_t j = 0; j < whole_; j += kLanes<float>) load_entries(from + j).store(to + j);
      if (whole_ < k_)
        load_first(from + whole_, static_cast<int>(k_ - whole_), false).store(to + whole_);
      return to;
    } else {
      (void)kept;
      return from;
    }
  }

  // Writes the answer without a ball directly to the output. A long answer is streamed past the
  // caches, which keeps the next row's inputs there.
  bool without_ball(const Rows<S>& rows, const TauStart<S>& tau_start, const float* along,
                    float* out) {
    Stages<S> stages(rows, region_, false, out, q_, nullptr);
    double tau = 0;
    Output output;
    output.last = static_cast<int>(k_ - (width_ - kLanes<float>));
    output.streams = streams_;
    if (streams_ && along && along + k_ < call_.along + call_.batch.rows * k_) {
      output.ahead = measured_ = along + k_;
      output.squares = &squares_;
    }
    return stages.without_ball(true, tau_start, &tau, output).answered;
  }

  bool solve(const Rows<S>& rows, const TauStart<S>& tau_start, float* q) {
    Stages<S> stages(rows, region_, ball_, q, q_, y_);
    double warm_start = 0;
    Verdict<S> verdict = stages.without_ball(true, tau_start, &warm_start);
    if (!verdict.next) return verdict.answered;
    verdict = stages.in_ball(true, warm_start);
    if (!verdict.next) return verdict.answered;
    return stages.in_ball_with_label(true, warm_start).answered;
  }

  // Blocks of a row in memory: body(i, block) for each, the last filled up.
  template <class Body>
  void each_block(const float* row, float filler, const Body& body) const {
    for (int64_t i = 0; i < whole_; i += kLanes<float>) body(i, Block<float>::load(row + i));
    if (whole_ < k_) {
      float tail[kLanes<float>];
      load_tail(row + whole_, k_ - whole_, filler, tail);
      body(whole_, Block<float>::load(tail));
    }
  }

  Summary summarise(const float* row) const {
    constexpr int n = kLanes<float>;
    Block<float> low = Block<float>::all(-kNothing), high = Block<float>::all(kNothing);
    double sum[1];
    accumulate<S>(whole_ / n, sum, [&](int64_t i, Block<float>* part) {
      const Block<float> x = Block<float>::load(row + i);
      part[0] = part[0] + x;
      low = min(low, x);
      high = max(high, x);
    });
    Summary s{sum[0], S::lowest(low), S::highest(high)};
    for (int64_t i = whole_; i < k_; ++i) {
      s.sum += row[i];
      s.low = std::min(s.low, row[i]);
      s.high = std::max(s.high, row[i]);
    }
    return s;
  }

  // Prefetches what will be read next: in a long row the entries of `from` while `along` is
  // measured, in a shorter one the next row. Prefetching beyond the last row is harmless.
  static void prefetch(const float* entry) { __builtin_prefetch(entry, 0, 2); }

  // |along|^2.
  double squares_of(const float* from, const float* along) const {
    if (along == measured_) return squares_;
    double squares[1];
    const bool fetches_from = k_ >= kLong;
    accumulate<S>(whole_ / kLanes<float>, squares, [&](int64_t i, Block<float>* part) {
      if (fetches_from) prefetch(from + i + kAhead);
      const Block<float> x = Block<float>::load(along + i);
      part[0] = part[0] + x * x;
    });
    for (int64_t i = whole_; i < k_; ++i) squares[0] += static_cast<double>(along[i]) * along[i];
    return squares[0];
  }

  // z = from + alpha * along / |along|, and what summarise(from) says. kExact: also exact_sum_of.
  template <bool kExact>
  Summary ascend(const float* from, const float* along, TauStart<S>* tau_start, double* exact) {
    constexpr int n = kLanes<float>;
    const Block<float> zero = Block<float>::all(0);
    // (Not members, which the compiler would read anew after every store.)
    float* const to = z_;
    const int64_t k = k_;
    const double squares = squares_of(from, along);
    if (!(squares > 1e-24 && squares < 1e24)) return {kInfinity, 0, 0};

    const bool fetches_from = !kSixteen<T> && k_ < (streams_ ? kVeryLong : kLong);
    const bool fetches_along = !kSixteen<T> && k_ < kLong;
    const Block<float> scale =
        Block<float>::all(static_cast<float>(call_.alpha / std::sqrt(squares)));
    Block<float> low = Block<float>::all(-kNothing), high = Block<float>::all(kNothing), top = high;
    double sum[2];
    Wide wide = widen(zero);
    Tally<float> positive;
    const auto step = [&](int64_t i, const Block<float>& x, const Block<float>& g,
                          Block<float>* part) {
      low = min(low, x);
      high = max(high, x);
      const Block<float> z = x + scale * g;
      z.store(to + i);
      top = max(top, z);
      part[0] = part[0] + x;
      part[1] = part[1] + positive_part(z);
      positive.add(z > zero);
    };
    accumulate<S>(whole_ / n, sum, [&](int64_t i, Block<float>* part) {
      if (fetches_along) prefetch(along + k + i);
      if (fetches_from) prefetch(from + k + i);
      const Block<float> x = Block<float>::load(from + i);
      if constexpr (kExact) wide = wide + widen(x);
      step(i, x, Block<float>::load(along + i), part);
    });
    if constexpr (kExact) *exact = total(wide.half[0]) + total(wide.half[1]);
    Summary s{sum[0], S::lowest(low), S::highest(high)};
    if (whole_ < k_) {
      // Padding is far below every entry, and the summary leaves it out.
      float x[n], g[n];
      load_tail(from + whole_, k_ - whole_, kNothing, x);
      load_tail(along + whole_, k_ - whole_, 0.f, g);
      Block<float> part[2] = {zero, zero};
      step(whole_, Block<float>::load(x), Block<float>::load(g), part);
      sum[1] += total(part[1]);
      for (int64_t i = whole_; i < k_; ++i) {
        s.sum += from[i];
        if constexpr (kExact) *exact += from[i];
        s.low = std::min(s.low, from[i]);
        s.high = std::max(s.high, from[i]);
      }
    }
    // The first Newton step, from tau = 0, costs no extra pass; a short step ends near tau = 0.
    tau_start->top = S::highest(top);
    const double count = total(positive.counts());
    tau_start->start = count > 0 ? static_cast<float>((sum[1] - 1) / count) : 0;
    tau_start->count = count > 0 ? static_cast<float>(count - 1) : -1;
    return s;
  }

  // z = from; a row of large entries is shifted so that the largest is 0, to keep digits.
  Summary lower(const float* from, TauStart<S>* tau_start) {
    const Summary s = summarise(from);
    const float shift = std::abs(s.high) > kModerate ? s.high : 0;
    const Block<float> down = Block<float>::all(shift);
    each_block(from, kNothing, [&](int64_t i, const Block<float>& x) { (x - down).store(z_ + i); });
    *tau_start = {s.high - shift, -shift, -1};
    return s;
  }

  // center / sum as center + center * (1 / sum - 1), which loses fewer digits than a division.
  void renormalise(const float* center, double sum) {
    const Block<float> more = Block<float>::all(static_cast<float>(1 / sum - 1));
    each_block(center, 0.f,
               [&](int64_t i, const Block<float>& x) { (x + x * more).store(p_ + i); });
  }

  double exact_sum_of(const float* row) const {
    const Wide wide = exact_sum(row, whole_ / kLanes<float>);
    double sum = total(wide.half[0]) + total(wide.half[1]);
    for (int64_t i = whole_; i < k_; ++i) sum += row[i];
    return sum;
  }

  double margin_of(const float* center, int64_t t, double sum) const {
    if (!region_.shrink || region_.margin == 0) return region_.margin;
    float rival = 0;
    for (int64_t j = 0; j < k_; ++j)
      if (j != t) rival = std::max(rival, center[j]);
    const double lead = (static_cast<double>(center[t]) - rival) / sum;
    return std::min(region_.margin, std::max(lead, 0.0));
  }

  // Whether no input overlaps the output: a declined row must still be intact.
  bool apart(const Projection<T>& call) const {
    const int64_t entries = call.batch.rows * k_;
    for (const T* in : {call.from, call.along, call.center})
      if (in && std::less<>()(in, call.out + entries) && std::less<>()(call.out, in + entries))
        return false;
    return true;
  }

  // The last row of scratch: packing writes up to a block beyond the answer's end.
  int64_t answer_row() const { return (ball_ ? 3 : 1) + (kSixteen<T> ? 3 : 0); }

  int64_t k_, whole_, width_;
  Region region_;
  Projection<T> call_;
  bool ball_, in_place_, streams_;
  const float* measured_ = nullptr;  // a row of call_.along, and its squares_
  double squares_ = 0;
  Scratch<float> scratch_;
  float *z_ = scratch_.row(0), *q_ = scratch_.row(answer_row());
  float* p_ = ball_ ? scratch_.row(1) : nullptr;
  float* y_ = ball_ ? scratch_.row(2) : nullptr;
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
