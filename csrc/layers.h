// The tensors of small networks, as they lie in the packed form.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "kernels.h"
#include "multiply.h"

namespace mipoison {
namespace MIPOISON_ISA {

// Where the tensors of `Layers` (mipoison/reference/network.py) lie in the packed network.
class Layers {
 public:
  explicit Layers(const Network& network, int64_t k)
      : members(network.members), width(network.width), features(2 * k) {
    lanes = (features + 31) / 32 * 32;
    const int64_t once = 2 * lanes, each = 2 * lanes * width + 2 * width * width + 2 * width;
    const int64_t left = network.length - once - members * each;
    depth = std::max<int64_t>(0, left) / (members * (2 * width + 1));
    if (members < 1 || width < kUnitLanes || width % 32 != 0 || depth < kUnitLanes ||
        depth % 32 != 0 || left != members * depth * (2 * width + 1))
      throw std::invalid_argument(
          "expected networks packed by Layers for this K, members and width, got other numbers");
    const float* next = network.numbers;
    const auto take = [&](int64_t size) {
      const float* const here = next;
      next += size;
      return here;
    };
    mean = take(lanes);
    inverse = take(lanes);
    weight[0] = take(members * lanes * width);
    bias[0] = take(members * width);
    weight[1] = take(members * width * width);
    bias[1] = take(members * width);
    weight[2] = take(members * width * depth);
    bias[2] = take(members * depth);
    back[2] = take(members * depth * width);
    back[1] = take(members * width * width);
    back[0] = take(members * width * lanes);
  }

  int64_t members, width, features, lanes, depth;
  const float *mean, *inverse, *weight[3], *bias[3], *back[3];
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
