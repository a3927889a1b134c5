#include "dispatch.h"

#include <atomic>
#include <stdexcept>

namespace mipoison {

// setup.py compiles kernels.cpp once more for each of these that the compiler knows.
#ifdef MIPOISON_HAS_AVX512
namespace avx512 {
extern const Kernels kKernels;
}
#endif
#ifdef MIPOISON_HAS_AVX2
namespace avx2 {
extern const Kernels kKernels;
}
#endif

namespace {

std::vector<const Kernels*> usable() {
  std::vector<const Kernels*> found;
#ifdef MIPOISON_HAS_AVX512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    found.push_back(&avx512::kKernels);
#endif
#ifdef MIPOISON_HAS_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    found.push_back(&avx2::kKernels);
#endif
  found.push_back(&baseline::kKernels);
  return found;
}

std::atomic<const Kernels*>& in_use() {
  static std::atomic<const Kernels*> kernels{usable().front()};
  return kernels;
}

}  // namespace

const Kernels& kernels() { return *in_use().load(std::memory_order_relaxed); }

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* kernels : usable()) names.emplace_back(kernels->instruction_set);
  return names;
}

void use_instruction_set(const std::string& name) {
  std::string known;
  for (const Kernels* kernels : usable()) {
    if (name == kernels->instruction_set) {
      in_use() = kernels;
      return;
    }
    known += known.empty() ? "" : ", ";
    known += kernels->instruction_set;
  }
  throw std::invalid_argument("expected an instruction set of this machine (" + known + "), got " +
                              name);
}

}  // namespace mipoison
