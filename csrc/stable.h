// The functions of torch's stable C interface that the operators use, looked up at run time: the
// build needs no torch, and one binary serves every version that pyproject.toml allows. Names,
// types and ownership: torch/csrc/inductor/aoti_torch/c/shim.h and torch/csrc/stable/ of
// torch 2.11.
#pragma once

#include <dlfcn.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace mipoison {
namespace stable {

// An argument or a result in the dispatcher's hands (StableIValue).
using Value = uint64_t;
using Kernel = void (*)(Value* stack, uint64_t inputs, uint64_t outputs);
// These point to what torch owns.
using TensorHandle = struct OpaqueTensor*;
using StringHandle = struct OpaqueString*;
using LibraryHandle = struct OpaqueLibrary*;
// Zero for success.
using Error = int32_t;

constexpr uint64_t kTorch211 = uint64_t{2} << 56 | uint64_t{11} << 48;

struct Functions {
  Error (*aoti_torch_library_init_impl)(const char* name, const char* key, const char* file,
                                        uint32_t line, LibraryHandle* library);
  Error (*torch_library_impl)(LibraryHandle library, const char* name, Kernel kernel,
                              uint64_t version);
  Error (*aoti_torch_get_data_ptr)(TensorHandle tensor, void** data);
  Error (*aoti_torch_get_dim)(TensorHandle tensor, int64_t* dimensions);
  Error (*aoti_torch_get_sizes)(TensorHandle tensor, int64_t** sizes);
  Error (*aoti_torch_get_strides)(TensorHandle tensor, int64_t** strides);
  Error (*aoti_torch_get_dtype)(TensorHandle tensor, int32_t* dtype);
  Error (*aoti_torch_is_contiguous)(TensorHandle tensor, bool* is_contiguous);
  Error (*aoti_torch_empty_strided)(int64_t dimensions, const int64_t* sizes,
                                    const int64_t* strides, int32_t dtype, int32_t device,
                                    int32_t device_index, TensorHandle* tensor);
  Error (*aoti_torch_copy_)(TensorHandle to, TensorHandle from, int32_t non_blocking);
  Error (*aoti_torch_new_tensor_handle)(TensorHandle tensor, TensorHandle* same);
  Error (*aoti_torch_delete_tensor_object)(TensorHandle tensor);
  Error (*torch_string_c_str)(StringHandle string, const char** characters);
  Error (*torch_delete_string)(StringHandle string);
  Error (*torch_get_num_threads)(uint32_t* threads);
  bool (*aoti_torch_grad_mode_is_enabled)();
  Error (*torch_call_dispatcher)(const char* name, const char* overload, Value* stack,
                                 uint64_t version);
  int32_t float32, float64, float16, bfloat16, int64, boolean, cpu;
};

// Set by `look_up`, before any operator is registered.
inline Functions torch;

inline void require(Error error) {
  if (error != 0) throw std::runtime_error("mipoison: a call into torch failed");
}

// `module` is the file of torch._C, which is loaded already.
inline void look_up(const char* module) {
  void* const library = dlopen(module, RTLD_NOLOAD | RTLD_LAZY);
  if (library == nullptr) throw std::runtime_error(std::string("mipoison: ") + dlerror());
  const auto find = [&](auto& function, const char* name) {
    void* const address = dlsym(library, name);
    if (address == nullptr) {
      throw std::runtime_error(std::string("mipoison expects torch >= 2.11, got one without ") +
                               name);
    }
    std::memcpy(&function, &address, sizeof(address));
  };
#define MIPOISON_FIND(name) find(torch.name, #name)
  MIPOISON_FIND(aoti_torch_library_init_impl);
  MIPOISON_FIND(torch_library_impl);
  MIPOISON_FIND(aoti_torch_get_data_ptr);
  MIPOISON_FIND(aoti_torch_get_dim);
  MIPOISON_FIND(aoti_torch_get_sizes);
  MIPOISON_FIND(aoti_torch_get_strides);
  MIPOISON_FIND(aoti_torch_get_dtype);
  MIPOISON_FIND(aoti_torch_is_contiguous);
  MIPOISON_FIND(aoti_torch_empty_strided);
  MIPOISON_FIND(aoti_torch_copy_);
  MIPOISON_FIND(aoti_torch_new_tensor_handle);
  MIPOISON_FIND(aoti_torch_delete_tensor_object);
  MIPOISON_FIND(torch_string_c_str);
  MIPOISON_FIND(torch_delete_string);
  MIPOISON_FIND(torch_get_num_threads);
  MIPOISON_FIND(aoti_torch_grad_mode_is_enabled);
  MIPOISON_FIND(torch_call_dispatcher);
#undef MIPOISON_FIND
  // Torch's dtype numbers are private; a function returns each.
  const auto code = [&](int32_t& number, const char* name) {
    int32_t (*function)();
    find(function, name);
    number = function();
  };
  code(torch.float32, "aoti_torch_dtype_float32");
  code(torch.float64, "aoti_torch_dtype_float64");
  code(torch.float16, "aoti_torch_dtype_float16");
  code(torch.bfloat16, "aoti_torch_dtype_bfloat16");
  code(torch.int64, "aoti_torch_dtype_int64");
  code(torch.boolean, "aoti_torch_dtype_bool");
  code(torch.cpu, "aoti_torch_device_type_cpu");
}

// A tensor of ours, or none.
class Tensor {
 public:
  explicit Tensor(TensorHandle handle) : handle_(handle) {}
  Tensor(Tensor&& other) noexcept : handle_(other.release()) {}
  Tensor& operator=(Tensor&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Tensor() {
    if (handle_ != nullptr) torch.aoti_torch_delete_tensor_object(handle_);
  }

  // New memory of at most three dimensions, row by row without gaps.
  static Tensor empty(int64_t dimensions, const int64_t* sizes, int32_t dtype) {
    int64_t strides[3] = {};
    for (int64_t d = dimensions, stride = 1; d-- > 0; stride *= sizes[d]) strides[d] = stride;
    TensorHandle handle;
    require(
        torch.aoti_torch_empty_strided(dimensions, sizes, strides, dtype, torch.cpu, -1, &handle));
    return Tensor(handle);
  }

  explicit operator bool() const { return handle_ != nullptr; }

  // Another handle of the same tensor.
  Tensor again() const {
    TensorHandle same;
    require(torch.aoti_torch_new_tensor_handle(handle_, &same));
    return Tensor(same);
  }

  // Gives the tensor away.
  TensorHandle release() { return std::exchange(handle_, nullptr); }

  // Null for none.
  template <class T = void>
  T* data() const {
    void* address = nullptr;
    if (handle_ != nullptr) require(torch.aoti_torch_get_data_ptr(handle_, &address));
    return static_cast<T*>(address);
  }

  int32_t dtype() const {
    int32_t dtype;
    require(torch.aoti_torch_get_dtype(handle_, &dtype));
    return dtype;
  }

  int64_t dimensions() const {
    int64_t dimensions;
    require(torch.aoti_torch_get_dim(handle_, &dimensions));
    return dimensions;
  }

  const int64_t* sizes() const {
    int64_t* sizes;
    require(torch.aoti_torch_get_sizes(handle_, &sizes));
    return sizes;
  }

  const int64_t* strides() const {
    int64_t* strides;
    require(torch.aoti_torch_get_strides(handle_, &strides));
    return strides;
  }

  // Row by row without gaps.
  bool is_contiguous() const {
    bool is_contiguous;
    require(torch.aoti_torch_is_contiguous(handle_, &is_contiguous));
    return is_contiguous;
  }

  // Itself where it is contiguous, else a copy that is.
  Tensor contiguous() && {
    if (is_contiguous()) return std::move(*this);
    Tensor copy = empty(dimensions(), sizes(), dtype());
    require(copy.copy_from(*this));
    return copy;
  }

  // Tensor.copy_, for which autograd counts a new version even where a tensor is copied to itself.
  Error copy_from(const Tensor& other) const {
    return torch.aoti_torch_copy_(handle_, other.handle_, 0);
  }

 private:
  TensorHandle handle_;
};

// The arguments of a call from first to last; what is read is ours. Nothing here throws, so that a
// kernel which reads all before it judges any leaks none.
class Arguments {
 public:
  explicit Arguments(const Value* stack) : next_(stack) {}

  Tensor tensor() { return Tensor(reinterpret_cast<TensorHandle>(*next_++)); }

  Tensor maybe_tensor() {
    const auto* held = reinterpret_cast<Value*>(*next_++);
    Tensor tensor(held ? reinterpret_cast<TensorHandle>(*held) : nullptr);
    delete held;
    return tensor;
  }

  double number() { return number_of(*next_++); }

  // `missing` for none.
  double maybe_number(double missing) {
    const auto* held = reinterpret_cast<Value*>(*next_++);
    const double number = held ? number_of(*held) : missing;
    delete held;
    return number;
  }

  int64_t integer() { return static_cast<int64_t>(*next_++); }

  bool truth() { return (*next_++ & 1) != 0; }

  std::string word() {
    const auto handle = reinterpret_cast<StringHandle>(*next_++);
    const char* characters = "";
    torch.torch_string_c_str(handle, &characters);
    std::string word(characters);
    torch.torch_delete_string(handle);
    return word;
  }

 private:
  static double number_of(Value value) {
    double number;
    std::memcpy(&number, &value, sizeof(number));
    return number;
  }

  const Value* next_;
};

// Whether an operation on these would be recorded. The interface cannot ask a tensor whether it
// requires grad, but whether a result has a history: a result of an operator without derivative has
// one from torch's fallback for such operators.
inline bool recorded(const Tensor& a, const Tensor& b, const Tensor& c, const Tensor& d) {
  if (!torch.aoti_torch_grad_mode_is_enabled()) return false;
  const auto handle = [](const Tensor& tensor) {
    return reinterpret_cast<Value>(tensor.again().release());
  };
  Value stack[] = {handle(a), handle(b), handle(c), handle(d)};
  require(torch.torch_call_dispatcher("mipoison::_joined", "", stack, kTorch211));
  require(torch.torch_call_dispatcher("aten::is_leaf", "", stack, kTorch211));
  return (stack[0] & 1) == 0;
}

// Leaves the results where the dispatcher looks for them.
template <class... Results>
void give(Value* stack, Results&... results) {
  ((*stack++ = reinterpret_cast<Value>(results.release())), ...);
}

}  // namespace stable
}  // namespace mipoison
