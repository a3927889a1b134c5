// The operators that torch's dispatcher calls for CPU tensors, without going through Python, which
// would take longer than a row of few classes.
#pragma once

#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "dispatch.h"
#include "stable.h"

namespace mipoison {
namespace operators {

using stable::Arguments;
using stable::Tensor;
using stable::Value;

inline DType dtype_of(int32_t code) {
  if (code == stable::torch.float32) return DType::kFloat32;
  if (code == stable::torch.float64) return DType::kFloat64;
  if (code == stable::torch.float16) return DType::kFloat16;
  if (code == stable::torch.bfloat16) return DType::kBFloat16;
  throw std::invalid_argument(
      "expected rows of float32, float64, float16 or bfloat16, got another dtype");
}

inline Norm norm_of(const std::string& word) {
  if (word == "l1") return Norm::kL1;
  if (word == "l2") return Norm::kL2;
  if (word == "linf") return Norm::kLinf;
  throw std::invalid_argument("expected norm to be l1, l2 or linf, got " + word);
}

inline Travel travel_of(const std::string& word) {
  if (word == "straight") return Travel::kStraight;
  if (word == "waterfill") return Travel::kWaterfill;
  throw std::invalid_argument("expected style to be straight or waterfill, got " + word);
}

inline Exchange exchange_of(const std::string& word) {
  if (word == "swap") return Exchange::kSwap;
  if (word == "project") return Exchange::kProject;
  throw std::invalid_argument("expected style to be swap or project, got " + word);
}

inline Batch batch_of(const Tensor& rows) {
  if (rows.dimensions() != 2) throw std::invalid_argument("expected rows of shape [N, K]");
  const int64_t* sizes = rows.sizes();
  uint32_t threads;
  stable::require(stable::torch.torch_get_num_threads(&threads));
  return {sizes[0], sizes[1], dtype_of(rows.dtype()), static_cast<int>(threads)};
}

// The kernels read or write as much of these as of the rows.
inline void require_beside(const Tensor& rows, const Tensor& other) {
  if (other.dtype() != rows.dtype() || other.dimensions() != 2 ||
      other.sizes()[0] != rows.sizes()[0] || other.sizes()[1] != rows.sizes()[1]) {
    throw std::invalid_argument("expected tensors of one shape [N, K] and dtype, got several");
  }
}

inline Tensor beside(const Tensor& rows, Tensor other) {
  if (!other) return other;
  require_beside(rows, other);
  return std::move(other).contiguous();
}

inline Tensor labels_for(const Tensor& rows, Tensor labels) {
  if (!labels) return labels;
  if (labels.dtype() != stable::torch.int64 || labels.dimensions() != 1 ||
      labels.sizes()[0] != rows.sizes()[0]) {
    throw std::invalid_argument("expected labels of int64 and shape [N]");
  }
  return std::move(labels).contiguous();
}

inline Key key_of(Tensor words) {
  if (words.dtype() != stable::torch.int64 || words.dimensions() != 1 || words.sizes()[0] != 4) {
    throw std::invalid_argument("expected a key of int64 and shape [4]");
  }
  words = std::move(words).contiguous();
  Key key;
  for (int i = 0; i < 4; ++i) key.word[i] = static_cast<uint32_t>(words.data<int64_t>()[i]);
  return key;
}

inline Tensor new_rows(const Tensor& like) { return Tensor::empty(2, like.sizes(), like.dtype()); }

inline Tensor new_labels(const Tensor& rows) {
  return Tensor::empty(1, rows.sizes(), stable::torch.int64);
}

inline Tensor new_status() { return Tensor::empty(0, nullptr, stable::torch.int64); }

// None means no ball, which is infinite for the kernels.
inline double radius_of(Arguments& in) {
  return in.maybe_number(std::numeric_limits<double>::infinity());
}

// epsilon, norm, margin, shrink as they come.
struct Limits {
  explicit Limits(Arguments& in)
      : epsilon(radius_of(in)), norm(in.word()), margin(in.number()), shrink(in.truth()) {}

  Region region() const { return {epsilon, norm_of(norm), margin, shrink}; }

  double epsilon;
  std::string norm;
  double margin;
  bool shrink;
};

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

// The networks, what is asked of them and what they are to come near.
struct Networks {
  explicit Networks(Arguments& in)
      : numbers(in.tensor()), members(in.integer()), width(in.integer()) {}

  void check() {
    if (numbers.dtype() != stable::torch.float32 || numbers.dimensions() != 1)
      throw std::invalid_argument("expected packed networks of float32 and shape [L]");
    numbers = std::move(numbers).contiguous();
  }

  Network network() const {
    return {numbers.data<const float>(), numbers.sizes()[0], members, width};
  }

  Tensor numbers;
  int64_t members, width;
};

// float32 with a number, or `columns` numbers, for each row.
inline Tensor numbers_for(const Tensor& rows, Tensor numbers, int64_t dimensions) {
  if (!numbers) return numbers;
  if (numbers.dtype() != stable::torch.float32 || numbers.dimensions() != dimensions ||
      numbers.sizes()[0] != rows.sizes()[0])
    throw std::invalid_argument("expected float32 numbers for each row");
  return std::move(numbers).contiguous();
}

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

inline void pull(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor q = in.tensor(), goal = in.tensor();
  Networks networks(in);
  const bool smooth = in.truth();

  const Batch batch = batch_of(q);
  q = std::move(q).contiguous();
  goal = numbers_for(q, std::move(goal), 2);
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
    goal = numbers_for(rows, std::move(goal), 2);
    near = numbers_for(rows, std::move(near), 1);
    center = beside(rows, std::move(center));
    networks.check();
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
  add("pull", pull);
  add("perturb", into_new<Perturb>);
  add("perturb_out", into_given<Perturb>);
  add("_joined", joined);
  add("move", move);
  add("flip", flip);
  add("row_bits", row_bits);
}

}  // namespace operators
}  // namespace mipoison
