// What the operations are called with: raw pointers to row-major [rows, classes]; no framework is
// used here.
#pragma once

#include <cstdint>
#include <limits>

namespace mipoison {

enum class DType { kFloat32, kFloat64, kFloat16, kBFloat16 };
enum class Norm { kL1, kL2, kLinf };
enum class Travel { kStraight, kWaterfill, kSparse };
enum class Exchange { kSwap, kProject };

struct Batch {
  int64_t rows, classes;
  DType dtype;
  int threads;  // at most; small batches use fewer
};

// q >= 0, sum 1, q_t >= q_j + margin, |q - p| <= epsilon (infinite: no ball).
struct Region {
  double epsilon;
  Norm norm;
  double margin;
  bool shrink;  // margin at most the lead that p has
};

struct Key {
  uint32_t word[4];
};

// The calls: row-major [rows, classes] of T, void until the dtype is looked at. Results are written
// to `out`; inputs that are said to may be null.

// Projects z = from + alpha * along / |along|_2, or just `from` where along is null. `center` and
// `label` may be null: no center, and the label of the center (or else of `from`).
template <class T>
struct Projection {
  Batch batch;
  const T *from, *along, *center;
  const int64_t* label;
  double alpha;
  Region region;
  T* out;

  bool in_ball() const {
    return center && region.epsilon < std::numeric_limits<double>::infinity();
  }
  template <class U>
  Projection<U> of() const {
    return {batch,
            static_cast<const U*>(from),
            static_cast<const U*>(along),
            static_cast<const U*>(center),
            label,
            alpha,
            region,
            static_cast<U*>(out)};
  }
};

template <class T>
struct Motion {
  Batch batch;
  const T *p, *target;
  double epsilon;
  Norm norm;
  Travel style;
  T* out;

  template <class U>
  Motion<U> of() const {
    return {batch, static_cast<const U*>(p), static_cast<const U*>(target), epsilon, norm,
            style, static_cast<U*>(out)};
  }
};

// Flips the rows whose first word is below `threshold`. `targets` may be null: drawn by key.
template <class T>
struct Flips {
  Batch batch;
  const T* p;
  const int64_t* targets;
  uint64_t threshold;
  Key key;
  Exchange style;
  T* out;
  int64_t* labels;

  template <class U>
  Flips<U> of() const {
    return {batch, static_cast<const U*>(p), targets, threshold, key,
            style, static_cast<U*>(out),     labels};
  }
};

// Writes `words` words a row; in cells of `grid`, or of the canonical form where that is 0.
template <class T>
struct Draws {
  Batch batch;
  const T* p;
  Key key;
  int64_t draw;
  double grid;
  int64_t words;
  int64_t* out;

  template <class U>
  Draws<U> of() const {
    return {batch, static_cast<const U*>(p), key, draw, grid, words, out};
  }
};

// Answers with the nearest of the `words` codewords of the row's label, of [classes, words,
// classes] in all; `offsets` [classes, words] are added to the distances and may be null. The
// numbers of the codewords go to `numbers`, -1 for an invalid row.
template <class T>
struct Quantization {
  Batch batch;
  const T* p;
  const float *codewords, *offsets;
  int64_t words;
  T* out;
  int64_t* numbers;

  template <class U>
  Quantization<U> of() const {
    return {batch, static_cast<const U*>(p), codewords, offsets,
            words, static_cast<U*>(out),     numbers};
  }
};

}  // namespace mipoison
