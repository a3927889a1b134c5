// What the three balls share, in every layout.
#pragma once

#include <cmath>

#include "kernels.h"
#include "search.h"
#include "simplex.h"

namespace mipoison {
namespace MIPOISON_ISA {

// A row, or a group of rows: the point z to project and the renormalised p, both
// padded (z with -inf, p with 0), and the label.
template <class S>
struct Rows {
  typename S::Element *z, *p;
  int64_t blocks;
  typename S::Index t;
  typename S::Value margin;
};

// An answer before the last rounding: q_t, and which rows are solved.
template <class S>
struct Solved {
  typename S::Value q_t;
  typename S::Truth solved;
};

// Takes the label's entries out of z and p for its lifetime.
template <class S>
class WithoutLabel {
 public:
  explicit WithoutLabel(const Rows<S>& rows)
      : rows_(rows), z_t_(S::take(rows.z, rows.t)), p_t_(S::take(rows.p, rows.t)) {
    S::put(rows.z, rows.t, S::rounded(typename S::Value(kNothing)));
    S::put(rows.p, rows.t, S::rounded(typename S::Value(0)));
  }
  ~WithoutLabel() {
    S::put(rows_.z, rows_.t, z_t_);
    S::put(rows_.p, rows_.t, p_t_);
  }
  WithoutLabel(const WithoutLabel&) = delete;
  WithoutLabel& operator=(const WithoutLabel&) = delete;
  typename S::Value z_t() const { return S::exact(z_t_); }
  typename S::Value p_t() const { return S::exact(p_t_); }

 private:
  const Rows<S>& rows_;
  typename S::Single z_t_, p_t_;
};

// The smallest and the largest z_j - p_j: a bracket, within epsilon, of the levels of a ball
// without the label constraint.
template <class S>
struct LevelRange {
  typename S::Value low, high;
};

// Gathers it block by block.
template <class S>
struct LevelRangeSoFar {
  Entries<S> low = Entries<S>::all(-kNothing), high = Entries<S>::all(kNothing);

  void take(const Entries<S>& z, const Entries<S>& p) {
    const Entries<S> d = z - p;
    low = min(low, select(z > Entries<S>::all(kNothing), d, low));
    high = max(high, d);
  }
  // With room for the rounding of the ends.
  LevelRange<S> ends() const {
    return {S::exact(S::lowest(low)) - 1e-6, S::exact(S::highest(high)) + 1e-6};
  }
};

template <class S>
inline LevelRange<S> level_range_of(const Rows<S>& rows) {
  LevelRangeSoFar<S> range;
  for (int64_t i = 0; i < rows.blocks * kStride<S>; i += kStride<S>)
    range.take(Entries<S>::load(rows.z + i), Entries<S>::load(rows.p + i));
  return range.ends();
}

// |q - p|, squared in l2, and the sum of q.
template <class S>
struct Measured {
  typename S::Value distance, sum;
};

// take(p_j, i) is told of every block on the way.
template <class S, bool kFinely = false, class Take>
inline Measured<S> measure(const typename S::Element* q, const typename S::Element* p,
                           int64_t blocks, Norm norm, const Take& take) {
  const Entries<S> zero = Entries<S>::all(0);
  Entries<S> widest = zero;
  typename S::Value sum[2];
  const auto each = [&](const auto& add) {
    const auto body = [&](int64_t i, Entries<S>* part) {
      const Entries<S> x = Entries<S>::load(q + i), from = Entries<S>::load(p + i);
      add(x - from, part);
      part[1] = part[1] + x;
      take(from, i);
    };
    if constexpr (kFinely)
      accumulate_finely<S>(blocks, sum, body);
    else
      accumulate<S>(blocks, sum, body);
  };
  if (norm == Norm::kL2)
    each([&](Entries<S> d, Entries<S>* part) { part[0] = part[0] + d * d; });
  else if (norm == Norm::kL1)
    each([&](Entries<S> d, Entries<S>* part) { part[0] = part[0] + max(d, zero - d); });
  else
    each([&](Entries<S> d, Entries<S>*) { widest = max(widest, max(d, zero - d)); });
  if (norm == Norm::kLinf) return {S::exact(S::highest(widest)), sum[1]};
  return {sum[0], sum[1]};
}

template <class S, bool kFinely = false>
inline Measured<S> measure(const typename S::Element* q, const typename S::Element* p,
                           int64_t blocks, Norm norm) {
  return measure<S, kFinely>(q, p, blocks, norm, [](const Entries<S>&, int64_t) {});
}

// The largest entry other than q_t; q is left as it was.
template <class S>
inline typename S::Single rival_of(typename S::Element* q, int64_t blocks,
                                   const typename S::Index& t) {
  const typename S::Single q_t = S::take(q, t);
  S::put(q, t, S::rounded(typename S::Value(0)));
  Entries<S> high = Entries<S>::all(0);
  for (int64_t i = 0; i < blocks * kStride<S>; i += kStride<S>)
    high = max(high, Entries<S>::load(q + i));
  S::put(q, t, q_t);
  return S::highest(high);
}

// The negative of a function that jumps from `left` to `right` >= left at a point; 0 if the root
// lies in the jump.
template <class S>
struct Jump {
  typename S::Value value, slope;
  Jump(const typename S::Value& left, const typename S::Value& right,
       const typename S::Value& rise) {
    using Value = typename S::Value;
    const auto low = left > Value(0), high = right < Value(0);
    value = select(low, Value(0) - left, select(high, Value(0) - right, Value(0)));
    slope = select((left == right) & (low | high), Value(0) - rise, Value(0));
  }
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
