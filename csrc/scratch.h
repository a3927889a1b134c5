// A thread's rows, aligned to blocks.
#pragma once

#include <cstdint>
#include <memory>

#include "lanes.h"

namespace mipoison {
namespace MIPOISON_ISA {

template <class E>
class Scratch {
 public:
  // Zeros: what pads a row is read before it is written. A block more than asked for may be
  // written.
  Scratch(int64_t rows, int64_t width)
      : width_((width + kLanes<E> - 1) / kLanes<E> * kLanes<E>),
        memory_(new E[rows * width_ + 2 * kLanes<E>]()) {
    const uintptr_t beyond = reinterpret_cast<uintptr_t>(memory_.get()) % kBlockBytes;
    first_ = memory_.get() + (kBlockBytes - beyond) / sizeof(E);
  }
  E* row(int64_t index) const { return first_ + index * width_; }

 private:
  int64_t width_;
  std::unique_ptr<E[]> memory_;
  E* first_;
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
