// Sums over columns while they are still in registers, tile by tile.
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include "layout.h"

namespace mipoison {
namespace MIPOISON_ISA {

// What `accumulate` of layout.h computes for columns, fed with tiles of them.
template <int kSums>
struct TileSums {
  Wide sum[kSums];
  TileSums() {
    for (Wide& s : sum) s = 0;
  }

  // body(j, part) adds the terms of the j-th of n columns.
  template <class Body>
  __attribute__((always_inline)) void add(int n, const Body& body) {
    for (int begin = 0; begin < n; begin += kFew) {
      Parts even, odd;
      for (int j = begin; j < std::min(n, begin + kFew); ++j) body(j, j % 2 ? odd.of : even.of);
      flush(even, odd);
    }
  }

  // The same of a whole tile, unrolled: it stays in registers.
  template <class Body>
  __attribute__((always_inline)) void add(std::integral_constant<int, kGroup>, const Body& body) {
    static_assert(kGroup == 2 * kFew);
    add_few<0>(body, std::make_integer_sequence<int, kFew / 2>{});
    add_few<kFew>(body, std::make_integer_sequence<int, kFew / 2>{});
  }

 private:
  static constexpr int kFew = Columns::kFlush;
  struct Parts {
    Block<float> of[kSums];
    Parts() {
      for (Block<float>& p : of) p = Block<float>::all(0);
    }
  };

  template <int kBegin, class Body, int... kPairs>
  __attribute__((always_inline)) void add_few(const Body& body,
                                              std::integer_sequence<int, kPairs...>) {
    Parts even, odd;
    ((body(kBegin + 2 * kPairs, even.of), body(kBegin + 2 * kPairs + 1, odd.of)), ...);
    flush(even, odd);
  }

  void flush(const Parts& even, const Parts& odd) {
    for (int s = 0; s < kSums; ++s) sum[s] = sum[s] + widen(even.of[s] + odd.of[s]);
  }
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
