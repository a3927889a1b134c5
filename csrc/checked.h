// Arguments of the operators, checked and in the form that the kernels take.
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
  if (word == "sparse") return Travel::kSparse;
  throw std::invalid_argument("expected style to be straight, waterfill or sparse, got " + word);
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

// A tensor of a dtype and shape that every row may read of.
inline Tensor shared(Tensor tensor, int32_t dtype, int64_t dimensions, int64_t columns) {
  if (tensor.dtype() != dtype || tensor.dimensions() != dimensions ||
      (columns > 0 && tensor.sizes()[dimensions - 1] != columns))
    throw std::invalid_argument("expected another dtype or shape of what all rows share");
  return std::move(tensor).contiguous();
}

// A tensor of a dtype with something for each row.
inline Tensor for_each_row(const Tensor& rows, Tensor tensor, int32_t dtype, int64_t dimensions) {
  if (!tensor) return tensor;
  if (tensor.dtype() != dtype || tensor.dimensions() != dimensions ||
      tensor.sizes()[0] != rows.sizes()[0])
    throw std::invalid_argument("expected another dtype or shape of what each row has");
  return std::move(tensor).contiguous();
}

}  // namespace operators
}  // namespace mipoison
