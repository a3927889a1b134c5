// Names the instruction set that a translation unit is compiled for.
//
// Every row algorithm lives in `namespace mipoison::MIPOISON_ISA`, so that the same headers
// compiled with other flags give other symbols, and no inline function of a wide build can end up
// in a narrow one.
#pragma once

#ifndef MIPOISON_ISA
#define MIPOISON_ISA baseline
#endif

#define MIPOISON_STRING_(x) #x
#define MIPOISON_STRING(x) MIPOISON_STRING_(x)

// setup.py's flags come last and override the user's; what they miss is refused here.
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error \
    "mipoison refuses rows with NaN and cannot be compiled with -ffast-math or -ffinite-math-only"
#endif

namespace mipoison {
namespace MIPOISON_ISA {

// What the instruction set is called. Every aarch64 processor has NEON, so its baseline is that.
#if defined(__aarch64__)
constexpr const char* kInstructionSet = "neon";
#else
constexpr const char* kInstructionSet = MIPOISON_STRING(MIPOISON_ISA);
#endif

static_assert(0.1 != static_cast<double>(0.1f), "expected float64 constants in float64");

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

}  // namespace MIPOISON_ISA
}  // namespace mipoison
