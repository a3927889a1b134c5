// The operators that torch's dispatcher calls for CPU tensors, without going through Python, which
// would take longer than a row of few classes.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "operators_bank.h"
#include "operators_networks.h"

namespace mipoison {
namespace operators {

struct Project {
  explicit Project(Arguments& in)
      : rows(in.tensor()), p(in.maybe_tensor()), t(in.maybe_tensor()), limits(in) {}

  bool recorded_with(const Tensor& out) const {
    return stable::recorded(rows, p ? p : rows, rows, out);
  }

  void check() {
    p = beside(rows, std::move(p));
    t = labels_for(rows, std::move(t));
  }

  int64_t write(const Batch& batch, void* out) const {
    return kernels().project(
        {batch, rows.data(), nullptr, p.data(), t.data<int64_t>(), 0, limits.region(), out});
  }

  Tensor rows, p, t;
  Limits limits;
};

struct Step {
  explicit Step(Arguments& in)
      : rows(in.tensor()),
        g(in.tensor()),
        p(in.maybe_tensor()),
        t(in.maybe_tensor()),
        alpha(in.number()),
        limits(in) {}

  bool recorded_with(const Tensor& out) const {
    return stable::recorded(rows, g, p ? p : rows, out);
  }

  void check() {
    g = beside(rows, std::move(g));
    p = beside(rows, std::move(p));
    t = labels_for(rows, std::move(t));
  }

  int64_t write(const Batch& batch, void* out) const {
    return kernels().project(
        {batch, rows.data(), g.data(), p.data(), t.data<int64_t>(), alpha, limits.region(), out});
  }

  Tensor rows, g, p, t;
  double alpha;
  Limits limits;
};

// float32 [K, M, K] and, where there are any, [K, M].
inline void require_codewords(const Tensor& rows, const Tensor& codewords, const Tensor& offsets) {
  const int64_t k = rows.sizes()[1];
  const auto fits = [&](const Tensor& tensor, int64_t dimensions) {
    return tensor.dtype() == stable::torch.float32 && tensor.dimensions() == dimensions &&
           tensor.sizes()[0] == k && tensor.sizes()[1] == codewords.sizes()[1];
  };
  if (k < 1 || codewords.dimensions() != 3 || !fits(codewords, 3) || codewords.sizes()[1] < 1 ||
      codewords.sizes()[2] != k) {
    throw std::invalid_argument("expected codewords of float32 and shape [K, M, K], M >= 1");
  }
  if (offsets && !fits(offsets, 2)) {
    throw std::invalid_argument("expected offsets of float32 and shape [K, M]");
  }
}

struct Quantize {
  explicit Quantize(Arguments& in)
      : rows(in.tensor()), codewords(in.tensor()), offsets(in.maybe_tensor()) {}

  bool recorded_with(const Tensor& out) const {
    return stable::recorded(rows, codewords, offsets ? offsets : rows, out);
  }

  void check() {
    require_codewords(rows, codewords, offsets);
    codewords = std::move(codewords).contiguous();
    if (offsets) offsets = std::move(offsets).contiguous();
    numbers = new_labels(rows);
  }

  int64_t write(const Batch& batch, void* out) const {
    return kernels().quantize({batch, rows.data(), codewords.data<const float>(),
                               offsets.data<const float>(), codewords.sizes()[1], out,
                               numbers.data<int64_t>()});
  }

  Tensor rows, codewords, offsets;
  Tensor numbers{nullptr};
};

// An operation, its rows written into new memory.
template <class Operation>
void into_new(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Operation operation(in);

  const Batch batch = batch_of(operation.rows);
  operation.rows = std::move(operation.rows).contiguous();
  operation.check();
  Tensor out = new_rows(operation.rows), status = new_status();
  *status.data<int64_t>() = operation.write(batch, out.data());
  if constexpr (std::is_same_v<Operation, Quantize>)
    stable::give(stack, out, operation.numbers, status);
  else
    stable::give(stack, out, status);
}

// What is said of an argument that requires grad: mipoison/ops/library.py has the words.
inline std::string gradient_refusal;

inline void overwrite(const Tensor& out, const Tensor& rows) {
  if (out.copy_from(rows) == 0) return;
  throw std::runtime_error(
      "expected out that torch lets be overwritten, got one that it does not, such as an inference "
      "tensor outside of torch.inference_mode(); pass a new tensor");
}

// An operation, its rows written into the last argument.
template <class Operation>
void into_given(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Operation operation(in);
  const Tensor out = in.tensor();

  if (operation.recorded_with(out)) throw std::runtime_error(gradient_refusal);
  const Batch batch = batch_of(operation.rows);
  require_beside(operation.rows, out);
  for (int d = 0; d < 2; ++d) {
    if (out.strides()[d] == 0 && out.sizes()[d] > 1) {
      throw std::runtime_error(
          "expected out whose entries have memory of their own, got several that refer to a "
          "single memory location; pass out.clone()");
    }
  }
  operation.rows = std::move(operation.rows).contiguous();
  operation.check();
  Tensor status = new_status();
  if (out.is_contiguous()) {
    // The kernel writes by address: tell autograd that what it may have saved has changed.
    overwrite(out, out);
    *status.data<int64_t>() = operation.write(batch, out.data());
  } else {
    const Tensor rows = new_rows(operation.rows);
    *status.data<int64_t>() = operation.write(batch, rows.data());
    overwrite(out, rows);
  }
  if constexpr (std::is_same_v<Operation, Quantize>)
    stable::give(stack, operation.numbers, status);
  else
    stable::give(stack, status);
}

// See stable::recorded.
inline void joined(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  for (int i = 0; i < 4; ++i) in.tensor();
  Tensor nothing = Tensor::empty(0, nullptr, stable::torch.float32);
  stable::give(stack, nothing);
}

inline void move(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor p = in.tensor(), target = in.tensor();
  const double epsilon = radius_of(in);
  const std::string norm = in.word(), style = in.word();

  const Batch batch = batch_of(p);
  p = std::move(p).contiguous();
  target = beside(p, std::move(target));
  Tensor out = new_rows(p), status = new_status();
  *status.data<int64_t>() = kernels().move(
      {batch, p.data(), target.data(), epsilon, norm_of(norm), travel_of(style), out.data()});
  stable::give(stack, out, status);
}

inline void flip(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor p = in.tensor(), targets = in.maybe_tensor();
  const double rate = in.number();
  Tensor words = in.tensor();
  const std::string style = in.word();

  const Batch batch = batch_of(p);
  p = std::move(p).contiguous();
  targets = labels_for(p, std::move(targets));
  const Key key = key_of(std::move(words));
  Tensor out = new_rows(p), labels = new_labels(p), status = new_status();
  *status.data<int64_t>() =
      kernels().flip({batch, p.data(), targets.data<int64_t>(), threshold_of(rate), key,
                      exchange_of(style), out.data(), labels.data<int64_t>()});
  stable::give(stack, out, labels, status);
}

inline void row_bits(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor p = in.tensor(), words_of_key = in.tensor();
  const int64_t draw = in.integer();
  const double grid = in.number();
  const int64_t words = in.integer();

  const Batch batch = batch_of(p);
  p = std::move(p).contiguous();
  const Key key = key_of(std::move(words_of_key));
  const int64_t sizes[] = {batch.rows, words};
  Tensor out = Tensor::empty(2, sizes, stable::torch.int64);
  kernels().row_bits({batch, p.data(), key, draw, grid, words, out.data<int64_t>()});
  stable::give(stack, out);
}

// Makes these the implementations for CPU tensors, for as long as the process lives.
inline void register_all(const char* torch_module, const std::string& refusal) {
  gradient_refusal = refusal;
  stable::look_up(torch_module);
  stable::LibraryHandle library;
  stable::require(
      stable::torch.aoti_torch_library_init_impl("mipoison", "CPU", __FILE__, __LINE__, &library));
  const auto add = [&](const char* name, stable::Kernel kernel) {
    stable::require(stable::torch.torch_library_impl(library, name, kernel, stable::kTorch211));
  };
  add("project", into_new<Project>);
  add("step", into_new<Step>);
  add("project_out", into_given<Project>);
  add("step_out", into_given<Step>);
  add("quantize", into_new<Quantize>);
  add("quantize_out", into_given<Quantize>);
  add("recover", recover);
  add("distances", distances);
  add("pull", pull);
  add("perturb", into_new<Perturb>);
  add("perturb_out", into_given<Perturb>);
  add("clean", clean);
  add("label_of", label_of_rows);
  add("lead", lead);
  add("distance", distance);
  add("lose_label", lose_label);
  add("soften", soften);
  add("stray", stray);
  add("keyed_step", keyed_step);
  add("approach", approach);
  add("solitary", solitary);
  add("pick_each", pick_each);
  add("nearest", nearest);
  add("choose_move", choose_move);
  add("_joined", joined);
  add("move", move);
  add("flip", flip);
  add("row_bits", row_bits);
}

}  // namespace operators
}  // namespace mipoison
