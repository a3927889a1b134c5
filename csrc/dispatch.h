// Chooses among the compiled instruction sets: the widest that this processor has, unless told
// otherwise.
#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"

namespace mipoison {

// A row is selected if its word lies below this: rate * 2^32, so that rate 1 selects every row.
inline uint64_t threshold_of(double rate) {
  if (!(rate >= 0 && rate <= 1)) throw std::invalid_argument("expected rate in [0, 1]");
  return static_cast<uint64_t>(std::floor(std::ldexp(rate, 32)));
}

// The kernels in use.
const Kernels& kernels();

// Names of the instruction sets that were compiled and that this processor has, widest first.
std::vector<std::string> instruction_sets();

// Makes every later call use the named one. Throws std::invalid_argument for one not listed above.
void use_instruction_set(const std::string& name);

}  // namespace mipoison
