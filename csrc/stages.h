// project in float32, for one row or sixteen, in three stages: without the ball, in the ball, in
// the ball with the label. A row goes on to the next stage where the answer violates a constraint
// that the stage left out.
#pragma once

#include "l1_label32.h"
#include "l2_32.h"
#include "row.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Larger entries lose more than 1e-7 in float32.
constexpr float kModerate = 2;

// Smaller balls are solved in float64.
constexpr double kSmallestBall = 1e-5;

// Whether float32 is tried for calls of this kind.
template <class T>
inline bool moderate(const Projection<T>& call) {
  return call.region.margin <= 1 && std::abs(call.alpha) <= 1 &&
         (!call.in_ball() || call.region.epsilon >= kSmallestBall);
}

// Where the search for tau starts: the largest entry, a guess, and the support that it came from.
template <class S>
struct TauStart {
  typename S::Single top, start, count;
};

// Of the rows in `good`, those that are answered and those for the next stage.
template <class S>
struct Verdict {
  typename S::Truth answered, next;
};

// How an answer without a ball is written.
struct Output {
  int last = kLanes<float>;      // how many entries of the last block there is room for
  bool streams = false;          // see stream_simplex
  const float* ahead = nullptr;  // see stream_simplex
  double* squares = nullptr;
};

template <class S>
class Stages {
 public:
  using Value = typename S::Value;
  using Truth = typename S::Truth;
  using Single = typename S::Single;

  // q receives the answers; spare and y are scratch, y for the l2 ball only.
  Stages(const Rows<S>& rows, const Region& region, bool ball, float* q, float* spare, float* y)
      : rows_(rows),
        ball_(ball),
        norm_(region.norm),
        epsilon_(region.epsilon),
        q_(q),
        spare_(spare),
        y_(y) {}

  // Without the ball. warm_start: where the next stage starts, the tau found or in l2 the distance.
  Verdict<S> without_ball(const Truth& good, const TauStart<S>& tau_start, Value* warm_start,
                          const Output& output = {}) {
    const Single z_t = S::take(rows_.z, rows_.t);
    S::put(rows_.z, rows_.t, S::rounded(Value(kNothing)));
    Levels<S> at = solve_levels<S, false>(rows_.z, rows_.blocks, z_t, rows_.margin, tau_start.top,
                                          tau_start.start, tau_start.count, spare_);
    Single lead;
    Truth summed = write(at, output, &lead);
    const Truth usable = good & (size_of(at.w) <= Value(kModerate));
    if constexpr (S::kRough) {
      // Many float32 terms can lose too much; only rows whose sum shows it are refined.
      if (any(usable & !summed)) {
        at.tau = refine<S>(at.rest, at.w - 1, at.tau, usable & !summed, Value(-1));
        summed = write(at, output, &lead);
      }
    }
    S::put(q_, rows_.t, lead);
    *warm_start = at.tau;
    if (ball_) S::put(rows_.z, rows_.t, z_t);
    if (!ball_) return {Truth(usable & summed), S::no_rows()};
    const Value far = measured();
    if (norm_ == Norm::kL2) *warm_start = root_of(far);
    const Truth inside = far <= Value(norm_ == Norm::kL2 ? epsilon_ * epsilon_ : epsilon_);
    return {Truth(usable & summed & inside), Truth(usable & !inside)};
  }

  // In the ball; in l1 and l-infinity without the label constraint.
  Verdict<S> in_ball(const Truth& good, const Value& warm_start) {
    if (norm_ == Norm::kL2) {
      // The search starts at p, which must lie in the set up to float32 rounding.
      const Value lead = S::exact(S::take(rows_.p, rows_.t)) -
                         S::exact(rival_of<S>(rows_.p, rows_.blocks, rows_.t));
      const Solved<S> found = project_l2_32(rows_, epsilon_, warm_start, good, y_, q_);
      return finish(good & found.solved & (lead >= rows_.margin - 1e-6), found.q_t, rival());
    }
    // Rows in columns have waited until sixteen of their kind were there.
    const LevelRange<S> range = S::kRows == 1 ? range_ : level_range_of(rows_);
    const Solved<S> found = norm_ == Norm::kL1
                                ? free_l1_32(rows_, epsilon_, range, warm_start, good, q_)
                                : free_linf32(rows_, epsilon_, range, warm_start, good, q_);
    const Single most = rival();
    const Truth leads = found.solved & (found.q_t >= S::exact(most) + rows_.margin);
    const Verdict<S> verdict = finish(good & leads, found.q_t, most);
    return {verdict.answered, Truth(good & !leads)};
  }

  // In the ball, with the label binding. warm_start: as `without_ball` left it. In l1 with a
  // margin, many entries may lie at a cap that is the small difference of two large numbers: those
  // rows are left to float64.
  Verdict<S> in_ball_with_label(const Truth& good, const Value& warm_start) {
    if (norm_ == Norm::kLinf) {
      const Solved<S> found = bound_linf32(rows_, epsilon_, q_);
      return finish(good & found.solved, found.q_t, rival());
    }
    const Solved<S> found = bound_l1_32(rows_, epsilon_, warm_start, q_);
    return finish(good & found.solved & (rows_.margin == Value(0)), found.q_t, rival());
  }

 private:
  // Tolerances after rounding of a row's sum and of the ball. The guarantee for the ball is 2e-7;
  // the rest is left for the rounding of the renormalised p.
  static constexpr double kMissing = 3e-7, kBeyond = 8e-8;

  // Writes q except q_t. Returns which rows sum to 1.
  Truth write(const Levels<S>& at, const Output& output, Single* lead) {
    const Written<S> written = write_all(at, output);
    *lead = leading_entry<S>(at.w - at.tau, written.highest, rows_.margin);
    return size_of(written.sum + S::exact(*lead) - 1) <= Value(kMissing);
  }

  Written<S> write_all(const Levels<S>& at, const Output& output) const {
    if constexpr (S::kRows == 1) {
      if (output.streams) return stream_simplex<S>(at, q_, output.ahead, output.squares);
    }
    return write_simplex<S>(at, q_, output.last);
  }

  // How far q is from p; of one row also the range of levels that the next stage needs, from the
  // same pass. (In l2 it needs none.)
  Value measured() {
    if constexpr (S::kRows == 1) {
      if (norm_ != Norm::kL2) {
        LevelRangeSoFar<S> so_far;
        const auto take = [&](const Entries<S>& from, int64_t i) {
          so_far.take(Entries<S>::load(rows_.z + i), from);
        };
        const Value far = measure<S>(q_, rows_.p, rows_.blocks, norm_, take).distance;
        range_ = so_far.ends();
        return far;
      }
    }
    return measure<S>(q_, rows_.p, rows_.blocks, norm_).distance;
  }

  // The largest entry of the answer other than q_t.
  Single rival() const { return rival_of<S>(q_, rows_.blocks, rows_.t); }

  Verdict<S> finish(const Truth& good, const Value& q_t, const Single& rival) {
    S::put(q_, rows_.t, leading_entry<S>(q_t, rival, rows_.margin));
    const Measured<S> m = measure<S>(q_, rows_.p, rows_.blocks, norm_);
    const double most = epsilon_ + kBeyond;
    const Truth inside = m.distance <= Value(norm_ == Norm::kL2 ? most * most : most);
    return {Truth(good & inside & (size_of(m.sum - 1) <= Value(kMissing))), S::no_rows()};
  }

  const Rows<S>& rows_;
  bool ball_;
  Norm norm_;
  double epsilon_;
  float *q_, *spare_, *y_;
  LevelRange<S> range_;
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
