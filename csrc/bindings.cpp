// mipoison._C: addresses in, a status out. Shapes, dtypes and contiguity are the caller's business.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>

#include "dispatch.h"
#include "operators.h"

namespace py = pybind11;

namespace {

using namespace mipoison;

// Addresses of contiguous arrays; 0 stands for none.
using Address = uintptr_t;

template <class T = void>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

Key key_of(const std::array<uint32_t, 4>& words) {
  return {{words[0], words[1], words[2], words[3]}};
}

void project(Address z, Address center, Address label, Address out, Address status, int64_t rows,
             int64_t classes, int dtype, double epsilon, int norm, double margin, bool shrink,
             int threads) {
  const py::gil_scoped_release unlocked;
  *at<int64_t>(status) = kernels().project(
      {rows, classes, static_cast<DType>(dtype), threads}, at(z), at(center), at<int64_t>(label),
      {epsilon, static_cast<Norm>(norm), margin, shrink}, at(out));
}

void step(Address q, Address g, Address center, Address label, Address out, Address status,
          int64_t rows, int64_t classes, int dtype, double alpha, double epsilon, int norm,
          double margin, bool shrink, int threads) {
  const py::gil_scoped_release unlocked;
  *at<int64_t>(status) = kernels().step(
      {rows, classes, static_cast<DType>(dtype), threads}, at(q), at(g), at(center),
      at<int64_t>(label), alpha, {epsilon, static_cast<Norm>(norm), margin, shrink}, at(out));
}

void move(Address p, Address target, Address out, Address status, int64_t rows, int64_t classes,
          int dtype, double epsilon, int norm, int style, int threads) {
  const py::gil_scoped_release unlocked;
  *at<int64_t>(status) =
      kernels().move({rows, classes, static_cast<DType>(dtype), threads}, at(p), at(target),
                     epsilon, static_cast<Norm>(norm), static_cast<Travel>(style), at(out));
}

void flip(Address p, Address targets, Address out, Address labels, Address status, int64_t rows,
          int64_t classes, int dtype, double rate, const std::array<uint32_t, 4>& key, int style,
          int threads) {
  const py::gil_scoped_release unlocked;
  *at<int64_t>(status) = kernels().flip({rows, classes, static_cast<DType>(dtype), threads}, at(p),
                                        at<int64_t>(targets), threshold_of(rate), key_of(key),
                                        static_cast<Exchange>(style), at(out), at<int64_t>(labels));
}

void row_bits(Address p, Address out, int64_t rows, int64_t classes, int dtype,
              const std::array<uint32_t, 4>& key, int64_t draw, double grid, int64_t words,
              int threads) {
  const py::gil_scoped_release unlocked;
  kernels().row_bits({rows, classes, static_cast<DType>(dtype), threads}, at(p), key_of(key), draw,
                     grid, words, at<int64_t>(out));
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.def("project", &project);
  module.def("step", &step);
  module.def("move", &move);
  module.def("flip", &flip);
  module.def("row_bits", &row_bits);
  module.def("instruction_set", [] { return kernels().instruction_set; });
  module.def("instruction_sets", &instruction_sets);
  module.def("use_instruction_set", &use_instruction_set);
  module.def("register_operators", &operators::register_all);
}
