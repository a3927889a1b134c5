// Loads, validates, labels, renormalises and stores probability vectors, in every layout.
#pragma once

#include <algorithm>

#include "columns.h"
#include "layout.h"
#include "row.h"

namespace mipoison {
namespace MIPOISON_ISA {

// The widest rows that are worth turning into columns.
constexpr int64_t kWidestColumns = 320;

// A tile: the rows that are worked on at a time.
template <class S>
struct Tile {
  int64_t row;
};
template <>
struct Tile<Columns> : Group {};

inline void load_rows(const float* matrix, int64_t rows, int64_t k, const Tile<Columns>& tile,
                      float* to) {
  load_columns(matrix, matrix + rows * k, k, tile, to);
}

template <class T, class E>
inline void load_rows(const T* matrix, int64_t, int64_t k, const Tile<OneRow<E>>& tile, E* to) {
  const T* from = matrix + tile.row * k;
  if constexpr (std::is_same_v<T, E>)
    std::copy(from, from + k, to);
  else
    for (int64_t j = 0; j < k; ++j) to[j] = widen(from[j]);
  std::fill(to + k, to + padded<E>(k), E{0});
}

// Writes the rows that `wanted` has a bit for. Exact rows are rounded to the dtype, t leading.
inline void store_rows(const float* from, int64_t k, const Tile<Columns>& tile, uint32_t wanted,
                       const Columns::Index&, float* matrix) {
  store_columns(from, k, tile, wanted & tile.lanes, matrix);
}

inline void store_rows(const float* from, int64_t k, const Tile<Line>& tile, uint32_t wanted,
                       int64_t, float* matrix) {
  if (wanted) std::copy(from, from + k, matrix + tile.row * k);
}

template <class T>
inline void store_rows(const double* from, int64_t k, const Tile<Exact>& tile, uint32_t wanted,
                       int64_t t, T* matrix) {
  if (wanted) finish(from, k, t, 0, matrix + tile.row * k);
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
template <class E>
inline Tile<OneRow<E>> tile_of(const int64_t* rows, int, int64_t, OneRow<E>) {
  return {rows[0]};
}

inline int64_t row_at(const Tile<Columns>& tile, int lane) { return tile.row[lane]; }
template <class E>
inline int64_t row_at(const Tile<OneRow<E>>& tile, int) {
  return tile.row;
}
inline bool has_row(const Tile<Columns>& tile, int lane) { return tile.lanes >> lane & 1; }
template <class E>
inline bool has_row(const Tile<OneRow<E>>&, int) {
  return true;
}
inline int64_t label_at(const Columns::Index& t, int lane) { return t.place[lane] / kGroup; }
inline int64_t label_at(int64_t t, int) { return t; }
inline void set_label(Columns::Index* t, int lane, int64_t label) {
  t->place[lane] = static_cast<int32_t>(label) * kGroup + lane;
}
inline void set_label(int64_t* t, int, int64_t label) { *t = label; }

// Calls decline(row) for the rows of a tile that are not among the answered.
template <class Decline>
inline void decline_others(const Tile<Columns>& tile, uint32_t answered, const Decline& decline) {
  const uint32_t left = tile.lanes & ~answered;
  for (int lane = 0; left >> lane; ++lane)
    if (left >> lane & 1) decline(tile.row[lane]);
}
template <class E, class Decline>
inline void decline_others(const Tile<OneRow<E>>& tile, uint32_t answered, const Decline& decline) {
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

// Where columns have the entries of these numbers.
inline Columns::Index places_of(const Block<float>& entries) {
  float number[kGroup];
  entries.store(number);
  Columns::Index index;
  for (int i = 0; i < kGroup; ++i) index.place[i] = static_cast<int32_t>(number[i]) * kGroup + i;
  return index;
}

// The sum is exact: see exact_sum.
inline Judged<Columns> judge(const float* columns, int64_t k, double tolerance, Columns) {
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
  judged.valid = widened(low >= zero) & (size_of(sum - 1) <= Wide(tolerance));
  judged.label = places_of(label);
  return judged;
}

template <class E>
inline Judged<OneRow<E>> judge(const E* row, int64_t k, double tolerance, OneRow<E>) {
  using S = OneRow<E>;
  Entries<S> low = Entries<S>::all(0), high = low;
  auto sum = widen(low);
  for (int64_t i = 0; i < k; i += kStride<S>) {
    const Entries<S> x = Entries<S>::load(row + i);
    sum = sum + widen(x);
    low = min(low, x);
    high = max(high, x);
  }
  Judged<S> judged{S::gather(sum), false, 0};
  judged.valid = S::lowest(low) >= 0 && std::abs(judged.sum - 1) <= tolerance;
  if (judged.valid) judged.label = first_index_of(row, k, S::highest(high));
  return judged;
}

inline WideMask same_label(const Columns::Index& a, const Columns::Index& b) {
  float same[kGroup];
  for (int i = 0; i < kGroup; ++i) same[i] = a.place[i] == b.place[i];
  return widened(Block<float>::load(same) > Block<float>::all(0));
}

inline bool same_label(int64_t a, int64_t b) { return a == b; }

// row / sum, in float32 as row + row * (1 / sum - 1), which loses fewer digits than a division. No
// entry is left a negative zero.
template <class S>
inline void renormalise(typename S::Element* row, int64_t blocks, const typename S::Value& sum) {
  using Value = typename S::Value;
  const Entries<S> more = S::spread(S::rounded(Value(1) / sum - 1)), zero = Entries<S>::all(0);
  for (int64_t i = 0; i < blocks * kStride<S>; i += kStride<S>) {
    const Entries<S> x = Entries<S>::load(row + i);
    if constexpr (S::kExact)
      max(x / S::spread(sum), zero).store(row + i);
    else
      max(x + x * more, zero).store(row + i);
  }
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
