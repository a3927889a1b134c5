// Every operation for one instruction set: chooses by dtype and splits the rows over threads.
#include "kernels.h"

#include <stdexcept>

#include "bank.h"
#include "clean.h"
#include "flip.h"
#include "group.h"
#include "keyed_step.h"
#include "line.h"
#include "move.h"
#include "pair.h"
#include "parallel.h"
#include "perturb.h"
#include "philox.h"
#include "project.h"
#include "quantize.h"

namespace mipoison {
namespace MIPOISON_ISA {
namespace {

// Writes the rows [begin, end) by Worker: in float32 what it can, in float64 the rest, which is all
// but float32 rows. Returns how many are invalid, of which refused(row, label) is told.
template <template <class, class> class Worker, class T, class Call, class Refused>
int64_t write_tiles(const Call& call, bool tries_float32, int64_t begin, int64_t end,
                    const Refused& refused) {
  const int64_t k = call.batch.classes;
  int64_t invalid = 0;
  const auto refuse_row = [&](int64_t i) {
    refused(i, refuse(call.p + i * k, k, call.out + i * k));
    ++invalid;
  };
  Worker<Exact, T> exact(call);
  if constexpr (std::is_same_v<T, float>) {
    if (tries_float32) {
      const auto decline = [&](int64_t i) { exact(i, i + 1, refuse_row); };
      if (k <= kWidestColumns)
        Worker<Columns, T>{call}(begin, end, decline);
      else
        Worker<Line, T>{call}(begin, end, decline);
      return invalid;
    }
  }
  exact(begin, end, refuse_row);
  return invalid;
}

// Tries float32 and falls back to float64 for the rows that it declines. float64 input is always
// computed in float64.
template <class T>
int64_t write_rows(const Projection<T>& call, int64_t begin, int64_t end) {
  Projector<T> one(call);
  if constexpr (sizeof(T) <= sizeof(float)) {
    if (moderate(call)) {
      int64_t invalid = 0;
      const auto decline = [&](int64_t i) { invalid += !one(i); };
      if constexpr (std::is_same_v<T, float>) {
        if (call.batch.classes == 2 && call.region.margin == 0) {
          PairProjector{call}(begin, end, decline);
          return invalid;
        }
      }
      if (call.batch.classes <= kWidestColumns) {
        GroupProjector<T>{call}(begin, end, decline);
      } else {
        LineProjector<T> project(call);
        for (int64_t i = begin; i < end; ++i) invalid += !(project(i, i + 1 < end) || one(i));
      }
      return invalid;
    }
  }
  int64_t invalid = 0;
  for (int64_t i = begin; i < end; ++i) invalid += !one(i);
  return invalid;
}

template <class T>
int64_t write_rows(const Motion<T>& call, int64_t begin, int64_t end) {
  return write_tiles<Mover, T>(call, call.epsilon >= kSmallestBall, begin, end,
                               [](int64_t, int64_t) {});
}

template <class T>
int64_t write_rows(const Flips<T>& call, int64_t begin, int64_t end) {
  return write_tiles<Flipper, T>(call, true, begin, end, [&](int64_t i, int64_t label) {
    call.labels[i] = std::max<int64_t>(label, 0);
  });
}

template <class T>
int64_t write_rows(const Quantization<T>& call, int64_t begin, int64_t end) {
  return write_tiles<Quantizer, T>(call, true, begin, end,
                                   [&](int64_t i, int64_t) { call.numbers[i] = -1; });
}

template <class T>
int64_t write_rows(const Draws<T>& call, int64_t begin, int64_t end) {
  const int64_t k = call.batch.classes;
  const auto write = [&](int64_t i, uint64_t hash) {
    for (int64_t w = 0; w < call.words; w += 4) {
      const Words r =
          words_of(hash, call.key, static_cast<uint32_t>(call.draw) + static_cast<uint32_t>(w / 4));
      for (int64_t j = w; j < std::min(w + 4, call.words); ++j)
        call.out[i * call.words + j] = r.word[j - w];
    }
  };
  if (call.grid > 0) {
    const float cells_per_unit = static_cast<float>(1 / call.grid);
    for (int64_t i = begin; i < end; ++i)
      write(i, hash_coarse(call.p + i * k, k, call.key, cells_per_unit));
  } else {
    const Canonical canonical(k, call.key);
    for (int64_t i = begin; i < end; ++i) write(i, canonical(call.p + i * k));
  }
  return 0;
}

template <class T>
int64_t write_rows(const Recovery<T>& call, int64_t begin, int64_t end) {
  return recover_rows(call, begin, end);
}

template <class T>
int64_t write_rows(const Distances<T>& call, int64_t begin, int64_t end) {
  return distance_rows(call, begin, end);
}

template <class T>
int64_t write_rows(const Attraction<T>& call, int64_t begin, int64_t end) {
  return pull_rows(call, begin, end);
}

template <class T>
int64_t write_rows(const Perturbation<T>& call, int64_t begin, int64_t end) {
  const auto step = [](const Projection<T>& one) { return write_rows(one, 0, one.batch.rows); };
  return Perturber<T, decltype(step)>(call, end - begin, step)(begin, end);
}

template <class T>
int64_t write_rows(const KeyedStep<T>& call, int64_t begin, int64_t end) {
  const auto step = [](const Projection<T>& one) { write_rows(one, 0, one.batch.rows); };
  KeyedStepper<T, decltype(step)>(call, end - begin, step)(begin, end);
  return 0;
}

template <class T>
int64_t write_rows(const Cleaning<T>& call, int64_t begin, int64_t end) {
  return clean_rows(call, begin, end);
}
template <class T>
int64_t write_rows(const Labelling<T>& call, int64_t begin, int64_t end) {
  return label_rows(call, begin, end);
}
template <class T>
int64_t write_rows(const Leading<T>& call, int64_t begin, int64_t end) {
  return lead_rows(call, begin, end);
}
template <class T>
int64_t write_rows(const Measuring<T>& call, int64_t begin, int64_t end) {
  return measure_rows(call, begin, end);
}
template <class T>
int64_t write_rows(const Losing<T>& call, int64_t begin, int64_t end) {
  return lose_rows(call, begin, end);
}
template <class T>
int64_t write_rows(const Softening<T>& call, int64_t begin, int64_t end) {
  return soften_rows(call, begin, end);
}
template <class T>
int64_t write_rows(const Straying<T>& call, int64_t begin, int64_t end) {
  return stray_rows(call, begin, end);
}
template <class T>
int64_t write_rows(const Approach<T>& call, int64_t begin, int64_t end) {
  return approach_rows(call, begin, end);
}
int64_t write_rows(const Solitude<float>& call, int64_t begin, int64_t end) {
  return solitary_rows(call, begin, end);
}
int64_t write_rows(const Picking<float>& call, int64_t begin, int64_t end) {
  return pick_rows(call, begin, end);
}
int64_t write_rows(const Nearing<float>& call, int64_t begin, int64_t end) {
  return nearest_rows(call, begin, end);
}
int64_t write_rows(const Choosing<float>& call, int64_t begin, int64_t end) {
  return choose_rows(call, begin, end);
}

// How much work a row is, in entries of a row operation.
template <class Call>
int64_t work_of(const Call& call) {
  return call.batch.classes;
}
template <class Call>
int64_t work_of_networks(const Call& call, int64_t passes) {
  constexpr int64_t kMultiplyAdds = 16;
  const int64_t layers = 2 * call.batch.classes + call.network.width + call.outputs;
  return call.batch.classes +
         passes * call.network.members * call.network.width * layers / kMultiplyAdds;
}
template <class T>
int64_t work_of(const Recovery<T>& call) {
  return work_of_networks(call, 1);
}
template <class T>
int64_t work_of(const Distances<T>& call) {
  return call.answers * work_of_networks(call, 1);
}
template <class T>
int64_t work_of(const Attraction<T>& call) {
  return work_of_networks(call, 2);
}
template <class T>
int64_t work_of(const Perturbation<T>& call) {
  return work_of_networks(call, 2 * call.steps);
}

int64_t work_of(const Picking<float>& call) { return call.words * call.batch.classes; }
int64_t work_of(const Nearing<float>& call) { return call.slots * call.batch.classes; }
int64_t work_of(const Choosing<float>& call) { return call.slots * call.batch.classes; }

// Writes all rows of a call, by threads.
template <class Call>
int64_t write_typed(const Call& call) {
  const Batch& batch = call.batch;
  return parallel_rows(batch.rows, work_of(call), batch.threads,
                       [&](int64_t begin, int64_t end) { return write_rows(call, begin, end); });
}

// The same, the call being of the storage type that its dtype names.
template <template <class> class Call>
int64_t write_all(const Call<void>& untyped) {
  const auto write = [&](const auto& call) { return write_typed(call); };
  switch (untyped.batch.dtype) {
    case DType::kFloat32:
      return write(untyped.template of<float>());
    case DType::kFloat64:
      return write(untyped.template of<double>());
    case DType::kFloat16:
      return write(untyped.template of<Half>());
    case DType::kBFloat16:
      return write(untyped.template of<BFloat16>());
  }
  throw std::invalid_argument("mipoison: no such dtype");
}

}  // namespace

const Kernels kKernels = {kInstructionSet,
                          write_all<Projection>,
                          write_all<Motion>,
                          write_all<Flips>,
                          write_all<Draws>,
                          write_all<Quantization>,
                          write_all<Recovery>,
                          write_all<Distances>,
                          write_all<Attraction>,
                          write_all<Perturbation>,
                          write_all<Cleaning>,
                          write_all<Labelling>,
                          write_all<Leading>,
                          write_all<Measuring>,
                          write_all<Losing>,
                          write_all<Softening>,
                          write_all<Straying>,
                          write_all<KeyedStep>,
                          write_all<Approach>,
                          write_typed<Solitude<float>>,
                          write_typed<Picking<float>>,
                          write_typed<Nearing<float>>,
                          write_typed<Choosing<float>>};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
