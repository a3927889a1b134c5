// What the operations of networks and banks are called with.
#pragma once

#include <cstdint>

#include "calls.h"

namespace mipoison {

// Networks of one shape, packed as mipoison/reference/network.py says.
struct Network {
  const float* numbers;
  int64_t length, members, width;
};

// Writes what the networks recover from each row, [rows, outputs]; zeros for an invalid row, NaN
// for one whose numbers overflow.
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

// Writes how far the recovered from `answers` answers a row, [rows * answers, classes], is from the
// row's goal, [rows, outputs]; not finite where numbers overflow.
template <class T>
struct Distances {
  Batch batch;
  const T* q;
  Network network;
  const float* goal;
  int64_t answers, outputs;
  float* out;

  template <class U>
  Distances<U> of() const {
    return {batch, static_cast<const U*>(q), network, goal, answers, outputs, out};
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

// Writes which rows of q are not from `least` to `most` away from those of p, or have p's label
// lead by less than `ahead`.
template <class T>
struct Straying {
  Batch batch;
  const T *q, *p;
  Norm norm;
  double least, most, ahead;
  bool* out;

  template <class U>
  Straying<U> of() const {
    return {batch, static_cast<const U*>(q), static_cast<const U*>(p), norm, least, most, ahead,
            out};
  }
};

// Steps along a keyed direction, or against it. The key is that of rows in cells of `grid`: of
// `seen` [rows, columns], or of p where that is null.
template <class T>
struct KeyedStep {
  Batch batch;
  const T* p;
  const float* seen;
  int64_t columns;
  Key key;
  double grid, alpha, epsilon;
  Norm norm;
  T* out;

  template <class U>
  KeyedStep<U> of() const {
    return {batch, static_cast<const U*>(p), seen, columns, key, grid, alpha, epsilon,
            norm,  static_cast<U*>(out)};
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

// Writes whether a row's label has no vector but the row itself; `spread` tells how far the vectors
// of each label are from its first one at most.
template <class T>
struct Solitude {
  Batch batch;
  const T* p;
  Bank bank;
  const float* spread;
  bool* out;
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

// Writes rows a share of the way toward vectors; a negative place is that of none.
template <class T>
struct Approach {
  Batch batch;
  const T* p;
  const float* vectors;
  const int64_t* places;
  const float* shares;
  T* out;

  template <class U>
  Approach<U> of() const {
    return {batch, static_cast<const U*>(p), vectors, places, shares, static_cast<U*>(out)};
  }
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

}  // namespace mipoison
