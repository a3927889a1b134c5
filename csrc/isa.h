// The one place that knows for which instruction set a translation unit is compiled.
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

namespace mipoison {
namespace MIPOISON_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

}  // namespace MIPOISON_ISA
}  // namespace mipoison
