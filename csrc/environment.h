// The floating-point environment: rounding to nearest and subnormal numbers, whatever the calling
// thread is set to (torch.set_flush_denormal, fesetround, a library linked with -ffast-math).
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#elif !defined(__aarch64__)
#include <cfenv>
#endif

#include <cstdint>

#include "isa.h"

namespace mipoison {
namespace MIPOISON_ISA {

// The calling thread's settings.
struct FloatState {
#if defined(__SSE2__)
  // Every exception masked; the lowest six bits tell which occurred.
  using State = uint32_t;
  static constexpr State kStandard = 0x1F80, kOccurred = 0x3F;
  static State get() { return _mm_getcsr(); }
  static void set(State state) { _mm_setcsr(state); }
  static bool standard(State state) { return (state & ~kOccurred) == kStandard; }
#elif defined(__aarch64__)
  using State = uint64_t;
  static constexpr State kStandard = 0;
  static State get() {
    State state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    return state;
  }
  static void set(State state) { __asm__ volatile("msr fpcr, %0" : : "r"(state) : "memory"); }
  static bool standard(State state) { return state == kStandard; }
#else
  // What C++ knows everywhere: the rounding mode.
  using State = int;
  static constexpr State kStandard = FE_TONEAREST;
  static State get() { return std::fegetround(); }
  static void set(State state) { std::fesetround(state); }
  static bool standard(State state) { return state == kStandard; }
#endif

  // Sets the standard; returns what was there, for `give_back`.
  static State set_standard() {
    const State before = get();
    if (!standard(before)) set(kStandard);
    return before;
  }
  static void give_back(State before) {
    if (!standard(before)) set(before);
  }
};

// The standard for as long as this lives.
class StandardFloats {
 public:
  StandardFloats() : before_(FloatState::set_standard()) {}
  ~StandardFloats() { FloatState::give_back(before_); }
  StandardFloats(const StandardFloats&) = delete;
  StandardFloats& operator=(const StandardFloats&) = delete;

 private:
  FloatState::State before_;
};

// work(begin, end) in that environment. Not inline: the compiler does not know about the state and
// could move arithmetic past the point where it is set.
template <class Work>
__attribute__((noinline)) int64_t call_alone(const Work& work, int64_t begin, int64_t end) {
  return work(begin, end);
}

template <class Work>
inline int64_t with_standard_floats(const Work& work, int64_t begin, int64_t end) {
  const StandardFloats standard;
  return call_alone(work, begin, end);
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
