// 10. quantize: the nearest codeword of the row's label.
#pragma once

#include "codewords.h"
#include "rows.h"
#include "scratch.h"

namespace mipoison {
namespace MIPOISON_ISA {

template <class S, class T>
class Quantizer {
 public:
  explicit Quantizer(const Quantization<T>& call)
      : call_(call),
        codewords_(call),
        scratch_(1, S::kRows * padded<typename S::Element>(call.batch.classes)),
        units_(1, S::kRows * padded<float>(call.batch.classes)) {}

  // Writes the rows [begin, end) that it can answer, and calls decline(row) for the others.
  template <class Decline>
  void operator()(int64_t begin, int64_t end, const Decline& decline) {
    each_tile<S>(
        begin, end, call_.batch.classes, [&](const Tile<S>& tile) { return answer(tile); },
        decline);
  }

 private:
  // Writes a tile's rows. Returns which it has written.
  uint32_t answer(const Tile<S>& tile) {
    const int64_t k = call_.batch.classes;
    typename S::Element* const p = scratch_.row(0);
    int32_t* const units = units_.row(0);
    load_rows(call_.p, call_.batch.rows, k, tile, p);
    const Judged<S> row = judge(p, k, kSumTolerance<T>, S{});
    const uint32_t good = bits(row.valid);
    if (!good) return 0;
    // (Of invalid rows beside valid ones too, whose units nobody uses.)
    to_units(p, S::blocks(k) * kStride<S>, units);
    uint32_t answered = 0;
    for (int lane = 0; lane < S::kRows; ++lane) {
      if (!(good >> lane & 1) || !has_row(tile, lane)) continue;
      const int64_t i = row_at(tile, lane), label = label_at(row.label, lane);
      const int64_t number = codewords_.nearest(units + lane, S::kRows, label);
      if (number < 0) continue;
      codewords_.write(label, number, call_.out + i * k);
      call_.numbers[i] = number;
      answered |= uint32_t{1} << lane;
    }
    return answered;
  }

  Quantization<T> call_;
  Codewords<T> codewords_;
  Scratch<typename S::Element> scratch_;
  Scratch<int32_t> units_;
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
