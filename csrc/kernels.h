// The operations on raw pointers to row-major [rows, classes]; no framework is used here.
#pragma once

#include <cstdint>
#include <limits>

#include "isa.h"

namespace mipoison {

enum class DType { kFloat32, kFloat64, kFloat16, kBFloat16 };
enum class Norm { kL1, kL2, kLinf };
enum class Travel { kStraight, kWaterfill };
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

// Networks of one shape, packed as mipoison/reference/network.py says.
struct Network {
  const float* numbers;
  int64_t length, members, width;
};

// Writes what the networks recover from each row, [rows, outputs]; zeros for an invalid row.
template <class T>
struct Recovery {
  Batch batch;
  const T* p;
  Network network;
  int64_t outputs;
  float* out;

  template <class U>
  Recovery<U> of() const {
    return {batch, static_cast<const U*>(p), network, outputs, out};
  }
};

// Writes the gradient of half the squared distance of the recovered from `goal`, [rows, outputs],
// and the distance; zeros for an invalid row.
template <class T>
struct Attraction {
  Batch batch;
  const T* p;
  Network network;
  const float* goal;
  int64_t outputs;
  bool smooth;
  float *out, *distance;

  template <class U>
  Attraction<U> of() const {
    return {batch, static_cast<const U*>(p), network, goal, outputs, smooth, out, distance};
  }
};

// Repeats a step of length alpha against that gradient, from p, and its projection. `center` may be
// null: p; so may `near`, the distances below which steps are shorter.
template <class T>
struct Perturbation {
  Batch batch;
  const T *p, *center;
  Network network;
  const float *goal, *near;
  int64_t outputs, steps;
  bool smooth;
  double alpha;
  Region region;
  T* out;

  template <class U>
  Perturbation<U> of() const {
    return {batch,
            static_cast<const U*>(p),
            static_cast<const U*>(center),
            network,
            goal,
            near,
            outputs,
            steps,
            smooth,
            alpha,
            region,
            static_cast<U*>(out)};
  }
};

// Writes clean rows, see clean.h; returns how many are invalid.
template <class T>
struct Cleaning {
  Batch batch;
  const T* p;
  float* out;

  template <class U>
  Cleaning<U> of() const {
    return {batch, static_cast<const U*>(p), out};
  }
};

template <class T>
struct Labelling {
  Batch batch;
  const T* p;
  int64_t* labels;

  template <class U>
  Labelling<U> of() const {
    return {batch, static_cast<const U*>(p), labels};
  }
};

template <class T>
struct Leading {
  Batch batch;
  const T *q, *p;
  double* out;

  template <class U>
  Leading<U> of() const {
    return {batch, static_cast<const U*>(q), static_cast<const U*>(p), out};
  }
};

// Writes the length of q - p.
template <class T>
struct Measuring {
  Batch batch;
  const T *q, *p;
  Norm norm;
  double* out;

  template <class U>
  Measuring<U> of() const {
    return {batch, static_cast<const U*>(q), static_cast<const U*>(p), norm, out};
  }
};

// Writes whether a cast or rounding that keeps the label in `given` loses it in q, rounded to as
// many decimals as from `first` to `last`.
template <class T>
struct Losing {
  Batch batch;
  const T *q, *given;
  const int64_t* labels;
  int64_t first, last;
  bool* out;

  template <class U>
  Losing<U> of() const {
    return {batch, static_cast<const U*>(q), static_cast<const U*>(given), labels, first, last,
            out};
  }
};

template <class T>
struct Softening {
  Batch batch;
  const T* p;
  double temperature, floor;
  float* out;

  template <class U>
  Softening<U> of() const {
    return {batch, static_cast<const U*>(p), temperature, floor, out};
  }
};

// Vectors [size, classes] grouped by label: where each label's begin, and how many there are. One
// within same + noise * (1 - p_t) of a row counts as the row itself.
struct Bank {
  const float* vectors;
  int64_t size;
  const int64_t *start, *count;
  double same, noise;
};

// Writes for each of a row's words the vector that it picks, and its place; see bank.h.
template <class T>
struct Picking {
  Batch batch;
  const T* p;
  Bank bank;
  const int64_t* word;
  int64_t words;
  float* out;
  int64_t* places;
};

// Writes the nearest vectors in so many subsets of at most `slots` vectors.
template <class T>
struct Nearing {
  Batch batch;
  const T* p;
  Bank bank;
  const int64_t* word;
  int64_t slots, subsets;
  float* out;
};

// Writes which vector a row moves toward, -1 where it is alone, and which share of the way.
template <class T>
struct Choosing {
  Batch batch;
  const T* p;
  Bank bank;
  const float *predicted, *recovered;
  int64_t stride, components;
  const int64_t* word;
  int64_t words, slots;
  double epsilon;
  Norm norm;
  double weight;
  bool root;
  int64_t* places;
  float* shares;
};

// The operations compiled for one instruction set. Those that return a number return how many rows
// are invalid (they get the safe answer); all write every entry of their outputs.
struct Kernels {
  const char* instruction_set;

  int64_t (*project)(const Projection<void>& call);
  int64_t (*move)(const Motion<void>& call);
  int64_t (*flip)(const Flips<void>& call);
  int64_t (*row_bits)(const Draws<void>& call);
  int64_t (*quantize)(const Quantization<void>& call);
  int64_t (*recover)(const Recovery<void>& call);
  int64_t (*pull)(const Attraction<void>& call);
  int64_t (*perturb)(const Perturbation<void>& call);
  int64_t (*clean)(const Cleaning<void>& call);
  int64_t (*label)(const Labelling<void>& call);
  int64_t (*lead)(const Leading<void>& call);
  int64_t (*measure)(const Measuring<void>& call);
  int64_t (*lose)(const Losing<void>& call);
  int64_t (*soften)(const Softening<void>& call);
  int64_t (*pick)(const Picking<float>& call);
  int64_t (*nearest)(const Nearing<float>& call);
  int64_t (*choose)(const Choosing<float>& call);
};

namespace MIPOISON_ISA {
extern const Kernels kKernels;
}  // namespace MIPOISON_ISA

}  // namespace mipoison
