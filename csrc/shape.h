// Two layouts of float32 rows in blocks, and the operations in which an algorithm is written once
// for both.
//
// Columns: sixteen rows side by side, block j holds their j-th entries and a value is a Wide.
// Line: one row fills the blocks and a value is a double.
//
// Rows are padded with entries that change no sum. Entry t is taken out of a row where the other
// entries are worked on (`take`, `put`).
#pragma once

#include <algorithm>
#include <cstdint>

#include "lanes.h"
#include "wide.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Keeps the compiler from gathers and scatters, which are slower here.
inline void one_by_one() { __asm__ volatile(""); }

struct Columns {
  using Value = Wide;
  using Truth = WideMask;
  using Single = Block<float>;  // a value in float32
  struct Index {
    int32_t place[kGroup];  // of each row's entry among the columns
  };
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

struct Line {
  using Value = double;
  using Truth = bool;
  using Single = float;
  using Index = int64_t;
  static constexpr int64_t kFlush = kFlushBlocks;
  static constexpr bool kRough = false;
  static constexpr bool kPacks = kCanPack;
  static constexpr int kRows = 1;

  static int64_t blocks(int64_t k) { return padded<float>(k) / kLanes<float>; }
  static bool all_rows() { return true; }
  static bool no_rows() { return false; }
  static double gather(const Wide& w) { return total(w.half[0]) + total(w.half[1]); }
  static double collect(const Block<float>& b) { return total(b); }
  static float highest(const Block<float>& b) { return largest(b); }
  static float lowest(const Block<float>& b) { return -largest(Block<float>::all(0) - b); }
  static double exact(float v) { return v; }
  static float rounded(double v) { return static_cast<float>(v); }
  static Block<float> spread(float v) { return Block<float>::all(v); }
  static Mask<float> lanes(bool m) { return Block<float>::all(m) > Block<float>::all(0); }
  static float take(const float* row, int64_t t) { return row[t]; }
  static void put(float* row, int64_t t, float v) { row[t] = v; }
};

// A float64 level in two floats: (z - high) - low is exact near it.
template <class S>
struct SplitLevel {
  Block<float> high, low;
  explicit SplitLevel(const typename S::Value& tau)
      : high(S::spread(S::rounded(tau))),
        low(S::spread(S::rounded(tau - S::exact(S::rounded(tau))))) {}
  Block<float> below(const Block<float>& z) const { return z - high - low; }
};

// Float64 sums over a row: body(i, part) adds the i-th block's terms to part[0], part[1], ...
template <class S, int kSums, class Body>
inline void accumulate(int64_t blocks, typename S::Value (&sum)[kSums], const Body& body) {
  for (auto& s : sum) s = 0;
  for (int64_t begin = 0; begin < blocks; begin += S::kFlush) {
    const int64_t end = std::min(blocks, begin + S::kFlush);
    // Two accumulators for each sum hide the latency of an addition.
    Block<float> even[kSums], odd[kSums];
    for (int s = 0; s < kSums; ++s) even[s] = odd[s] = Block<float>::all(0);
    int64_t i = begin;
    for (; i + 1 < end; i += 2) {
      body(i * kLanes<float>, even);
      body((i + 1) * kLanes<float>, odd);
    }
    if (i < end) body(i * kLanes<float>, even);
    for (int s = 0; s < kSums; ++s) sum[s] = sum[s] + S::collect(even[s] + odd[s]);
  }
}

// The same with flushes after every few blocks: nearly exact even where many equal terms round the
// same way.
template <class S, int kSums, class Body>
inline void accumulate_finely(int64_t blocks, typename S::Value (&sum)[kSums], const Body& body) {
  constexpr int64_t kFew = 4;
  Wide wide[kSums];
  for (Wide& w : wide) w = 0;
  for (int64_t begin = 0; begin < blocks; begin += kFew) {
    const int64_t end = std::min(blocks, begin + kFew);
    Block<float> part[kSums];
    for (auto& p : part) p = Block<float>::all(0);
    for (int64_t i = begin; i < end; ++i) body(i * kLanes<float>, part);
    for (int s = 0; s < kSums; ++s) wide[s] = wide[s] + widen(part[s]);
  }
  for (int s = 0; s < kSums; ++s) sum[s] = S::gather(wide[s]);
}

// The exact sum of a row. In float32, many equal entries round the same way, and their sum is off
// by more than the ball's tolerance.
inline Wide exact_sum(const float* row, int64_t blocks) {
  Wide sum = 0;
  for (int64_t i = 0; i < blocks * kLanes<float>; i += kLanes<float>)
    sum = sum + widen(Block<float>::load(row + i));
  return sum;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
