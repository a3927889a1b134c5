// The operations, compiled once for each instruction set.
#pragma once

#include <cstdint>

#include "isa.h"
#include "network_calls.h"

namespace mipoison {

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
  int64_t (*distances)(const Distances<void>& call);
  int64_t (*pull)(const Attraction<void>& call);
  int64_t (*perturb)(const Perturbation<void>& call);
  int64_t (*clean)(const Cleaning<void>& call);
  int64_t (*label)(const Labelling<void>& call);
  int64_t (*lead)(const Leading<void>& call);
  int64_t (*measure)(const Measuring<void>& call);
  int64_t (*lose)(const Losing<void>& call);
  int64_t (*soften)(const Softening<void>& call);
  int64_t (*stray)(const Straying<void>& call);
  int64_t (*keyed_step)(const KeyedStep<void>& call);
  int64_t (*approach)(const Approach<void>& call);
  int64_t (*solitary)(const Solitude<float>& call);
  int64_t (*pick)(const Picking<float>& call);
  int64_t (*nearest)(const Nearing<float>& call);
  int64_t (*choose)(const Choosing<float>& call);
};

namespace MIPOISON_ISA {
extern const Kernels kKernels;
}  // namespace MIPOISON_ISA

}  // namespace mipoison
