// The operations on raw pointers to row-major [rows, classes]; no framework is used here.
#pragma once

#include <cstdint>

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

// The operations compiled for one instruction set. Those that return a number return how many rows
// are invalid (they get the safe answer); all write every entry of their outputs.
struct Kernels {
  const char* instruction_set;

  // `center` and `label` may be null: no center, and the label of the center (or else of z).
  int64_t (*project)(const Batch& batch, const void* z, const void* center, const int64_t* label,
                     const Region& region, void* out);

  // Projects q + alpha * g / |g|_2.
  int64_t (*step)(const Batch& batch, const void* q, const void* g, const void* center,
                  const int64_t* label, double alpha, const Region& region, void* out);

  int64_t (*move)(const Batch& batch, const void* p, const void* target, double epsilon, Norm norm,
                  Travel style, void* out);

  // Flips the rows whose first word is below `threshold`. `targets` may be null: drawn by key.
  int64_t (*flip)(const Batch& batch, const void* p, const int64_t* targets, uint64_t threshold,
                  const Key& key, Exchange style, void* out, int64_t* labels);

  // `words` words a row.
  void (*row_bits)(const Batch& batch, const void* p, const Key& key, int64_t draw, double grid,
                   int64_t words, int64_t* out);
};

namespace MIPOISON_ISA {
extern const Kernels kKernels;
}  // namespace MIPOISON_ISA

}  // namespace mipoison
