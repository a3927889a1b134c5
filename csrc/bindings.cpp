// mipoison._C: which kernels there are, and the operators' way into torch's dispatcher.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "dispatch.h"
#include "environment.h"
#include "operators.h"

PYBIND11_MODULE(_C, module) {
  using namespace mipoison;
  module.def("instruction_set", [] { return kernels().instruction_set; });
  module.def("instruction_sets", &instruction_sets);
  module.def("use_instruction_set", &use_instruction_set);
  module.def("set_standard_floats", &baseline::FloatState::set_standard);
  module.def("give_back_floats", &baseline::FloatState::give_back);
  module.def("register_operators", &operators::register_all);
}
