// Three layouts of rows in blocks, and the operations in which an algorithm is written once for
// all.
//
// Columns: sixteen float32 rows side by side, block j holds their j-th entries, a value is a Wide.
// Line: one float32 row fills the blocks and a value is a double.
// Exact: the same in float64, for rows of any size and the rows that float32 declines.
//
// Rows are padded with entries that change no sum. Entry t is taken out of a row where the other
// entries are worked on (`take`, `put`).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "lanes.h"
#include "wide.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Keeps the compiler from gathers and scatters, which are slower here.
inline void one_by_one() { __asm__ volatile(""); }

struct Columns {
  using Element = float;
  using Value = Wide;
  using Truth = WideMask;
  using Single = Block<float>;  // a value in the precision of the entries
  struct Index {
    int32_t place[kGroup];  // of each row's entry among the columns
  };
  static constexpr bool kExact = false;
  // Relative rounding of the entries.
  static constexpr double kEpsilon = 1.2e-7;
  // Blocks after which float32 sums are flushed to float64, so that their rounding stays small.
  static constexpr int64_t kFlush = 8;
  // Rows are so short that float32 sums suffice until the last steps to a root.
  static constexpr bool kRough = true;
  // Whether the entries above a lower bound of the root are packed together before the search.
  static constexpr bool kPacks = false;
  static constexpr int kRows = kGroup;

  static int64_t blocks(int64_t k) { return k; }
  static WideMask all_rows() { return Wide(0) == Wide(0); }
  static WideMask no_rows() { return !all_rows(); }
  static Wide gather(const Wide& w) { return w; }
  static Wide collect(const Block<float>& b) { return widen(b); }
  static Block<float> highest(const Block<float>& b) { return b; }
  static Block<float> lowest(const Block<float>& b) { return b; }
  static Wide exact(const Block<float>& b) { return widen(b); }
  static Block<float> rounded(const Wide& v) { return narrow(v); }
  static Block<float> spread(const Block<float>& b) { return b; }
  static Mask<float> lanes(const WideMask& m) { return narrow(m); }
  static Block<float> take(const float* row, const Index& t) {
    float entry[kGroup];
    for (int i = 0; i < kGroup; ++i) {
      entry[i] = row[t.place[i]];
      one_by_one();
    }
    return Block<float>::load(entry);
  }
  static void put(float* row, const Index& t, const Block<float>& v) {
    float entry[kGroup];
    v.store(entry);
    for (int i = 0; i < kGroup; ++i) {
      row[t.place[i]] = entry[i];
      one_by_one();
    }
  }
};

template <class E>
struct OneRow {
  using Element = E;
  using Value = double;
  using Truth = bool;
  using Single = E;
  using Index = int64_t;
  static constexpr bool kExact = sizeof(E) == sizeof(double);
  static constexpr double kEpsilon = kExact ? 2.3e-16 : 1.2e-7;
  static constexpr int64_t kFlush = kFlushBlocks;
  static constexpr bool kRough = false;
  static constexpr bool kPacks = kCanPack && !kExact;
  static constexpr int kRows = 1;

  static int64_t blocks(int64_t k) { return padded<E>(k) / kLanes<E>; }
  static bool all_rows() { return true; }
  static bool no_rows() { return false; }
  static double gather(const Wide& w) { return total(w.half[0]) + total(w.half[1]); }
  static double gather(const Block<double>& b) { return total(b); }
  static double collect(const Block<E>& b) { return total(b); }
  static E highest(const Block<E>& b) { return largest(b); }
  static E lowest(const Block<E>& b) { return -largest(Block<E>::all(0) - b); }
  static double exact(E v) { return v; }
  static E rounded(double v) { return static_cast<E>(v); }
  static Block<E> spread(E v) { return Block<E>::all(v); }
  static Mask<E> lanes(bool m) { return Block<E>::all(m) > Block<E>::all(0); }
  static E take(const E* row, int64_t t) { return row[t]; }
  static void put(E* row, int64_t t, E v) { row[t] = v; }
};
using Line = OneRow<float>;
using Exact = OneRow<double>;

// A block of a layout's entries.
template <class S>
using Entries = Block<typename S::Element>;
template <class S>
constexpr int kStride = kLanes<typename S::Element>;

// A float64 level in two floats: (z - high) - low is exact near it. In float64 low is 0.
template <class S>
struct SplitLevel {
  Entries<S> high, low;
  explicit SplitLevel(const typename S::Value& tau)
      : high(S::spread(S::rounded(tau))),
        low(S::spread(S::rounded(tau - S::exact(S::rounded(tau))))) {}
  Entries<S> below(const Entries<S>& z) const {
    if constexpr (S::kExact) return z - high;
    return less(z, high) - low;
  }
};

// Float64 sums over a row: body(i, part) adds the i-th block's terms to part[0], part[1], ...
// Float64 rows are added up in order: what their sums lose shows in entries near 0, and these are
// to stay what they are.
template <class S, int kSums, class Body>
inline void accumulate(int64_t blocks, typename S::Value (&sum)[kSums], const Body& body) {
  for (auto& s : sum) s = 0;
  for (int64_t begin = 0; begin < blocks; begin += S::kFlush) {
    const int64_t end = std::min(blocks, begin + S::kFlush);
    // Two accumulators for each sum hide the latency of an addition.
    Entries<S> even[kSums], odd[kSums];
    for (int s = 0; s < kSums; ++s) even[s] = odd[s] = Entries<S>::all(0);
    int64_t i = begin;
    if constexpr (!S::kExact) {
      for (; i + 1 < end; i += 2) {
        body(i * kStride<S>, even);
        body((i + 1) * kStride<S>, odd);
      }
    }
    for (; i < end; ++i) body(i * kStride<S>, even);
    for (int s = 0; s < kSums; ++s) sum[s] = sum[s] + S::collect(even[s] + odd[s]);
  }
}

// The same with flushes after every few blocks: nearly exact even where many equal terms round the
// same way.
template <class S, int kSums, class Body>
inline void accumulate_finely(int64_t blocks, typename S::Value (&sum)[kSums], const Body& body) {
  constexpr int64_t kFew = 4;
  decltype(widen(Entries<S>())) wide[kSums];
  for (auto& w : wide) w = widen(Entries<S>::all(0));
  for (int64_t begin = 0, end; begin < blocks; begin = end) {
    end = S::kExact ? blocks : std::min(blocks, begin + kFew);
    Entries<S> part[kSums];
    for (auto& p : part) p = Entries<S>::all(0);
    for (int64_t i = begin; i < end; ++i) body(i * kStride<S>, part);
    for (int s = 0; s < kSums; ++s) wide[s] = wide[s] + widen(part[s]);
  }
  for (int s = 0; s < kSums; ++s) sum[s] = S::gather(wide[s]);
}

// The exact sum of a row. In float32, many equal entries round the same way, and their sum is off
// by more than the ball's tolerance.
template <class E>
inline auto exact_sum(const E* row, int64_t blocks) {
  auto sum = widen(Block<E>::all(0));
  for (int64_t i = 0; i < blocks * kLanes<E>; i += kLanes<E>)
    sum = sum + widen(Block<E>::load(row + i));
  return sum;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
