// Loads, validates, labels, renormalises and stores float32 probability vectors, in either shape.
#pragma once

#include <algorithm>

#include "row.h"
#include "shape.h"
#include "transpose.h"

namespace mipoison {
namespace MIPOISON_ISA {

// The widest rows that are worth turning into columns.
constexpr int64_t kWidestColumns = 320;

// A tile: the rows that are worked on at a time.
template <class S>
struct Tile;
template <>
struct Tile<Columns> : Group {};
template <>
struct Tile<Line> {
  int64_t row;
};

inline void load_rows(const float* matrix, int64_t rows, int64_t k, const Tile<Columns>& tile,
                      float* to) {
  load_columns(matrix, matrix + rows * k, k, tile, to);
}

inline void load_rows(const float* matrix, int64_t, int64_t k, const Tile<Line>& tile, float* to) {
  const float* from = matrix + tile.row * k;
  std::copy(from, from + k, to);
  std::fill(to + k, to + padded<float>(k), 0.f);
}

// Writes the rows that `wanted` has a bit for.
inline void store_rows(const float* from, int64_t k, const Tile<Columns>& tile, uint32_t wanted,
                       float* matrix) {
  store_columns(from, k, tile, wanted & tile.lanes, matrix);
}

inline void store_rows(const float* from, int64_t k, const Tile<Line>& tile, uint32_t wanted,
                       float* matrix) {
  if (wanted) std::copy(from, from + k, matrix + tile.row * k);
}

// Tiles of rows, or of `n` rows picked out of a matrix; each row's number and label by its lane.
inline Tile<Columns> tile_of(const int64_t* rows, int n, int64_t k, Columns) {
  Tile<Columns> tile;
  tile.lanes = ~uint32_t{0} >> (32 - n);
  for (int i = 0; i < kGroup; ++i) {
    tile.row[i] = rows[std::min(i, n - 1)];
    tile.place[i] = tile.row[i] * k;
  }
  return tile;
}
inline Tile<Line> tile_of(const int64_t* rows, int, int64_t, Line) { return {rows[0]}; }

inline int64_t row_at(const Tile<Columns>& tile, int lane) { return tile.row[lane]; }
inline int64_t row_at(const Tile<Line>& tile, int) { return tile.row; }
inline bool has_row(const Tile<Columns>& tile, int lane) { return tile.lanes >> lane & 1; }
inline bool has_row(const Tile<Line>&, int) { return true; }
inline int64_t label_at(const Columns::Index& t, int lane) { return t.place[lane] / kGroup; }
inline int64_t label_at(const Line::Index& t, int) { return t; }
inline void set_label(Columns::Index* t, int lane, int64_t label) {
  t->place[lane] = static_cast<int32_t>(label) * kGroup + lane;
}
inline void set_label(Line::Index* t, int, int64_t label) { *t = label; }

// Calls decline(row) for the rows of a tile that are not among the answered.
template <class Decline>
inline void decline_others(const Tile<Columns>& tile, uint32_t answered, const Decline& decline) {
  const uint32_t left = tile.lanes & ~answered;
  for (int lane = 0; left >> lane; ++lane)
    if (left >> lane & 1) decline(tile.row[lane]);
}
template <class Decline>
inline void decline_others(const Tile<Line>& tile, uint32_t answered, const Decline& decline) {
  if (!answered) decline(tile.row);
}

// Tiles of the rows [begin, end); work(tile) returns a bit for each row that it answers.
template <class S, class Work, class Decline>
inline void each_tile(int64_t begin, int64_t end, int64_t k, const Work& work,
                      const Decline& decline) {
  for (int64_t i = begin; i < end; i += S::kRows) {
    Tile<S> tile;
    if constexpr (S::kRows == 1)
      tile = {i};
    else
      tile = {group_at(i, end, k)};
    decline_others(tile, work(tile), decline);
  }
}

// What validation finds: the sum, whether the row is a probability vector, and its label.
template <class S>
struct Judged {
  typename S::Value sum;
  typename S::Truth valid;  // a probability vector
  typename S::Index label;
};

// The sum is exact: see exact_sum.
inline Judged<Columns> judge(const float* columns, int64_t k, Columns) {
  Block<float> low = Block<float>::all(0), high = Block<float>::all(-1), label = low, j = low;
  const Block<float> zero = low, one = Block<float>::all(1);
  Wide sum = 0;
  for (int64_t i = 0; i < k * kGroup; i += kGroup) {
    const Block<float> x = Block<float>::load(columns + i);
    sum = sum + widen(x);
    low = min(low, x);
    label = select(x > high, j, label);
    high = max(high, x);
    j = j + one;
  }
  Judged<Columns> judged{sum, {}, {}};
  judged.valid = widened(low >= zero) & (size_of(sum - 1) <= Wide(kSumTolerance<float>));
  float index[kGroup];
  label.store(index);
  for (int i = 0; i < kGroup; ++i)
    judged.label.place[i] = static_cast<int32_t>(index[i]) * kGroup + i;
  return judged;
}

inline Judged<Line> judge(const float* row, int64_t k, Line) {
  Block<float> low = Block<float>::all(0), high = low;
  Wide sum = 0;
  for (int64_t i = 0; i < k; i += kLanes<float>) {
    const Block<float> x = Block<float>::load(row + i);
    sum = sum + widen(x);
    low = min(low, x);
    high = max(high, x);
  }
  Judged<Line> judged{Line::gather(sum), false, 0};
  judged.valid = Line::lowest(low) >= 0 && std::abs(judged.sum - 1) <= kSumTolerance<float>;
  if (judged.valid) judged.label = first_index_of(row, k, Line::highest(high));
  return judged;
}

inline WideMask same_label(const Columns::Index& a, const Columns::Index& b) {
  float same[kGroup];
  for (int i = 0; i < kGroup; ++i) same[i] = a.place[i] == b.place[i];
  return widened(Block<float>::load(same) > Block<float>::all(0));
}

inline bool same_label(int64_t a, int64_t b) { return a == b; }

// row / sum as row + row * (1 / sum - 1), which loses fewer digits than a division. No entry is
// left a negative zero.
template <class S>
inline void renormalise(float* row, int64_t blocks, const typename S::Value& sum) {
  using Value = typename S::Value;
  const Block<float> more = S::spread(S::rounded(Value(1) / sum - 1)), zero = Block<float>::all(0);
  for (int64_t i = 0; i < blocks * kLanes<float>; i += kLanes<float>) {
    const Block<float> x = Block<float>::load(row + i);
    max(x + x * more, zero).store(row + i);
  }
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
