// New memory of large outputs in huge pages, where the system has them.
#pragma once

#include <cstdint>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace mipoison {

// From this size on glibc maps every block anew and unmaps it when it is freed, so that each call
// takes its page faults again: one in 4 KiB, which costs more than a step does. Smaller blocks are
// soon used again.
constexpr int64_t kAlwaysMapped = int64_t{32} << 20;
constexpr uintptr_t kHugePage = uintptr_t{2} << 20;

// Asks for huge pages, which many systems give to nobody who does not. Only those that lie within
// the block, all of which is about to be written: it takes no more memory than without. A system
// that refuses serves small pages, as ever.
inline void prefer_huge_pages(void* block, int64_t bytes) {
  if (bytes < kAlwaysMapped) return;
#ifdef MADV_HUGEPAGE
  const uintptr_t address = reinterpret_cast<uintptr_t>(block);
  const uintptr_t begin = (address + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (address + static_cast<uintptr_t>(bytes)) / kHugePage * kHugePage;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  static_cast<void>(block);
#endif
}

}  // namespace mipoison
