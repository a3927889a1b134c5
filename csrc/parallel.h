// Splits rows over threads that live for one call, so that a process may fork between calls.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

#include "environment.h"
#include "isa.h"

namespace mipoison {
namespace MIPOISON_ISA {

// With less work than this, starting a thread costs more than it saves.
constexpr int64_t kElementsPerThread = 65536;

// Sum of work(begin, end) over a partition of [0, rows), each row of as much work as `entries`
// entries of a row operation.
template <class Work>
inline int64_t parallel_rows(int64_t rows, int64_t entries, int threads, const Work& work) {
  if (rows == 0) return 0;
  const int64_t worthwhile = rows * entries / kElementsPerThread;
  const int64_t parts = std::max<int64_t>(1, std::min({worthwhile, rows, int64_t{threads}}));
  std::vector<int64_t> counts(parts, 0);
  std::vector<std::exception_ptr> errors(parts);
  const auto run = [&](int64_t part) noexcept {
    try {
      // New threads inherit the settings of the one that starts them.
      counts[part] = with_standard_floats(work, rows * part / parts, rows * (part + 1) / parts);
    } catch (...) {
      errors[part] = std::current_exception();
    }
  };
  std::vector<std::thread> pool;
  pool.reserve(parts);
  int64_t started = 1;
  try {
    for (; started < parts; ++started) pool.emplace_back(run, started);
  } catch (const std::system_error&) {
    // No more threads are available: the calling thread does the rest.
  }
  run(0);
  for (int64_t part = started; part < parts; ++part) run(part);
  for (std::thread& thread : pool) thread.join();
  int64_t sum = 0;
  for (int64_t part = 0; part < parts; ++part) {
    if (errors[part]) std::rethrow_exception(errors[part]);
    sum += counts[part];
  }
  return sum;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
