// The operators of small networks.
#pragma once

#include <utility>

#include "checked.h"

namespace mipoison {
namespace operators {

// The networks, what is asked of them and what they are to come near.
struct Networks {
  explicit Networks(Arguments& in)
      : numbers(in.tensor()), members(in.integer()), width(in.integer()) {}

  void check() { numbers = shared(std::move(numbers), stable::torch.float32, 1, 0); }

  Network network() const {
    return {numbers.data<const float>(), numbers.sizes()[0], members, width};
  }

  Tensor numbers;
  int64_t members, width;
};

inline void recover(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor p = in.tensor();
  Networks networks(in);
  const int64_t outputs = in.integer();

  const Batch batch = batch_of(p);
  p = std::move(p).contiguous();
  networks.check();
  const int64_t sizes[] = {batch.rows, outputs};
  Tensor out = Tensor::empty(2, sizes, stable::torch.float32), status = new_status();
  *status.data<int64_t>() =
      kernels().recover({batch, p.data(), networks.network(), outputs, out.data<float>()});
  stable::give(stack, out, status);
}

inline void distances(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor q = in.tensor(), goal = in.tensor();
  Networks networks(in);

  if (q.dimensions() != 3) throw std::invalid_argument("expected answers of shape [N, C, K]");
  const int64_t* sizes = q.sizes();
  uint32_t threads;
  stable::require(stable::torch.torch_get_num_threads(&threads));
  const Batch batch{sizes[0], sizes[2], dtype_of(q.dtype()), static_cast<int>(threads)};
  q = std::move(q).contiguous();
  goal = for_each_row(q, std::move(goal), stable::torch.float32, 2);
  networks.check();
  Tensor out = Tensor::empty(2, q.sizes(), stable::torch.float32);
  kernels().distances({batch, q.data(), networks.network(), goal.data<const float>(), q.sizes()[1],
                       goal.sizes()[1], out.data<float>()});
  stable::give(stack, out);
}

inline void pull(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor q = in.tensor(), goal = in.tensor();
  Networks networks(in);
  const bool smooth = in.truth();

  const Batch batch = batch_of(q);
  q = std::move(q).contiguous();
  goal = for_each_row(q, std::move(goal), stable::torch.float32, 2);
  networks.check();
  Tensor out = Tensor::empty(2, q.sizes(), stable::torch.float32), status = new_status();
  Tensor distance = Tensor::empty(1, q.sizes(), stable::torch.float32);
  *status.data<int64_t>() =
      kernels().pull({batch, q.data(), networks.network(), goal.data<const float>(),
                      goal.sizes()[1], smooth, out.data<float>(), distance.data<float>()});
  stable::give(stack, out, distance, status);
}

struct Perturb {
  explicit Perturb(Arguments& in)
      : rows(in.tensor()),
        goal(in.tensor()),
        networks(in),
        center(in.maybe_tensor()),
        near(in.maybe_tensor()),
        steps(in.integer()),
        alpha(in.number()),
        limits(in),
        smooth(in.truth()) {}

  bool recorded_with(const Tensor& out) const {
    return stable::recorded(rows, goal, center ? center : rows, out);
  }

  void check() {
    goal = for_each_row(rows, std::move(goal), stable::torch.float32, 2);
    near = for_each_row(rows, std::move(near), stable::torch.float32, 1);
    center = beside(rows, std::move(center));
    networks.check();
    if (steps < 1) throw std::invalid_argument("expected a step or more");
  }

  int64_t write(const Batch& batch, void* out) const {
    return kernels().perturb({batch, rows.data(), center.data(), networks.network(),
                              goal.data<const float>(), near.data<const float>(), goal.sizes()[1],
                              steps, smooth, alpha, limits.region(), out});
  }

  Tensor rows, goal;
  Networks networks;
  Tensor center, near;
  int64_t steps;
  double alpha;
  Limits limits;
  bool smooth;
};

}  // namespace operators
}  // namespace mipoison
