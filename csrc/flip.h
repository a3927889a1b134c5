// flip: the keyed choice of rows and of their new labels, and the flipped vectors.
#pragma once

#include "hash.h"
#include "scratch.h"
#include "stages.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Uniform among the labels that are not the row's.
inline int64_t other_label(int64_t classes, uint32_t word, int64_t old) {
  if (classes < 2) return old;
  const int64_t draw =
      static_cast<int64_t>(uint64_t{word} * static_cast<uint64_t>(classes - 1) >> 32);
  return draw + (draw >= old);
}

// The label that a row is served with, by its first two words. `target` may be null: drawn by key;
// -1: keep the row.
inline int64_t served_label(int64_t classes, uint64_t threshold, uint64_t first, uint64_t second,
                            const int64_t* target, int64_t old) {
  if (first >= threshold) return old;
  if (target) return *target < 0 ? old : *target;
  return other_label(classes, static_cast<uint32_t>(second), old);
}

template <class S, class T>
class Flipper {
 public:
  using Value = typename S::Value;
  using Truth = typename S::Truth;

  explicit Flipper(const Flips<T>& call)
      : call_(call),
        k_(call.batch.classes),
        blocks_(S::blocks(call.batch.classes)),
        canonical_(call.batch.classes, call.key),
        scratch_(2, S::kRows * padded<typename S::Element>(call.batch.classes)) {}

  // Writes the rows [begin, end) that it can solve, and calls decline(row) for the others.
  template <class Decline>
  void operator()(int64_t begin, int64_t end, const Decline& decline) {
    const auto work = [&](const Tile<S>& tile) {
      const uint32_t answered = flip(tile);
      if constexpr (!S::kExact)
        if (waiting_.size >= S::kRows) project_waiting(decline);
      return answered;
    };
    each_tile<S>(begin, end, k_, work, decline);
    if constexpr (!S::kExact)
      if (waiting_.size > 0) project_waiting(decline);
  }

 private:
  static constexpr double kMissing = 3e-7;  // as in stages.h

  // Rows that wait for their projection until they fill a tile: an answer must not depend on how
  // many neighbours flip. One tile may add as many again. Exact rows do not wait.
  struct Queue {
    int size = 0;
    int64_t row[2 * S::kRows], label[2 * S::kRows];
  };

  // Returns which rows of a tile are written, or wait.
  uint32_t flip(const Tile<S>& tile) {
    load_rows(call_.p, call_.batch.rows, k_, tile, p_);
    const Judged<S> row = judge(p_, k_, kSumTolerance<T>, S{});
    uint32_t good = bits(row.valid);
    if (!good) return 0;
    typename S::Index t = row.label;
    const uint32_t flipped = choose(tile, &good, &t);
    renormalise<S>(p_, blocks_, row.sum);
    if constexpr (S::kExact) {
      if (flipped && call_.style == Exchange::kProject) {
        std::fill(p_ + k_, p_ + blocks_ * kStride<S>, -kInfinity);
        project_simplex(p_, blocks_, t, 0, q_);
        store_rows(q_, k_, tile, good, t, call_.out);
        return good;
      }
    }
    if (flipped) {
      const typename S::Single old = S::take(p_, row.label), other = S::take(p_, t);
      S::put(p_, row.label, other);
      S::put(p_, t, old);
    }
    if constexpr (!S::kExact) {
      const Value p_t = S::exact(S::take(p_, t));
      S::put(p_, t, leading_entry<S>(p_t, rival_of<S>(p_, blocks_, t), Value(0)));
    }
    const uint32_t waits = call_.style == Exchange::kProject ? flipped : 0;
    store_rows(p_, k_, tile, good & ~waits, t, call_.out);
    return good;
  }

  // Draws the labels of a tile's good rows, of which those without a valid target are taken out;
  // makes rows wait for their projection. Returns which change their labels.
  uint32_t choose(const Tile<S>& tile, uint32_t* good, typename S::Index* t) {
    const TwoWords<S> words = two_words(p_, k_, call_.key, canonical_, S{});
    uint32_t flipped = 0;
    for (int lane = 0; lane < S::kRows; ++lane) {
      const uint32_t bit = uint32_t{1} << lane;
      const int64_t row = row_at(tile, lane), old = label_at(*t, lane);
      const int64_t* target = call_.targets ? call_.targets + row : nullptr;
      if (target && (*target < -1 || *target >= k_)) *good &= ~bit;
      if (!(*good & bit)) continue;
      const int64_t label =
          served_label(k_, call_.threshold, words.first[lane], words.second[lane], target, old);
      call_.labels[row] = label;
      if (label == old) continue;
      set_label(t, lane, label);
      flipped |= bit;
      if (!S::kExact && call_.style == Exchange::kProject && has_row(tile, lane)) {
        waiting_.row[waiting_.size] = row;
        waiting_.label[waiting_.size++] = label;
      }
    }
    return flipped;
  }

  template <class Decline>
  void project_waiting(const Decline& decline) {
    const int taken = std::min(waiting_.size, S::kRows);
    waiting_.size -= taken;
    const Tile<S> tile = tile_of(waiting_.row + waiting_.size, taken, k_, S{});
    load_rows(call_.p, call_.batch.rows, k_, tile, p_);
    const Judged<S> row = judge(p_, k_, kSumTolerance<T>, S{});
    renormalise<S>(p_, blocks_, row.sum);
    // Padding takes no part in the projection.
    std::fill(p_ + S::kRows * k_, p_ + blocks_ * kStride<S>, -kInfinity);
    const typename S::Single highest = S::take(p_, row.label);
    Rows<S> rows{p_, p_, blocks_, {}, Value(0)};
    for (int lane = 0; lane < S::kRows; ++lane)
      set_label(&rows.t, lane, waiting_.label[waiting_.size + std::min(lane, taken - 1)]);
    Stages<S> stages(rows, {kInfinity, Norm::kL1, 0, false}, false, q_, q_, nullptr);
    Value tau = 0;
    const TauStart<S> tau_start{highest, S::rounded(Value(0)), S::rounded(Value(-1))};
    const Truth solved = stages.without_ball(row.valid, tau_start, &tau).answered;
    // The stages' sum is not exact for many equal entries, so it is checked again.
    const Value sum = S::gather(exact_sum(q_, blocks_));
    const uint32_t answered = bits(solved & (size_of(sum - 1) <= Value(kMissing)));
    store_rows(q_, k_, tile, answered, rows.t, call_.out);
    decline_others(tile, answered, decline);
  }

  Flips<T> call_;
  int64_t k_, blocks_;
  Canonical canonical_;
  Scratch<typename S::Element> scratch_;
  typename S::Element *p_ = scratch_.row(0), *q_ = scratch_.row(1);
  Queue waiting_;
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
