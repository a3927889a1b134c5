// Every operation for one instruction set: chooses by dtype and splits the rows over threads.
#include "kernels.h"

#include <stdexcept>

#include "flip.h"
#include "flip32.h"
#include "group.h"
#include "line.h"
#include "move.h"
#include "move32.h"
#include "pair.h"
#include "parallel.h"
#include "philox.h"
#include "project.h"

namespace mipoison {
namespace MIPOISON_ISA {
namespace {

// Calls work with a value of the storage type that `dtype` names.
template <class Work>
int64_t with_dtype(DType dtype, const Work& work) {
  switch (dtype) {
    case DType::kFloat32:
      return work(float{});
    case DType::kFloat64:
      return work(double{});
    case DType::kFloat16:
      return work(Half{});
    case DType::kBFloat16:
      return work(BFloat16{});
  }
  throw std::invalid_argument("mipoison: no such dtype");
}

template <class T>
const T* row_of(const void* matrix, int64_t row, int64_t classes) {
  return matrix ? static_cast<const T*>(matrix) + row * classes : nullptr;
}

template <class T>
T* row_of(void* matrix, int64_t row, int64_t classes) {
  return static_cast<T*>(matrix) + row * classes;
}

const int64_t* entry_of(const int64_t* column, int64_t row) {
  return column ? column + row : nullptr;
}

// Writes the rows [begin, end) by one(i); returns how many are invalid.
template <class One>
int64_t count_invalid(int64_t begin, int64_t end, const One& one) {
  int64_t invalid = 0;
  for (int64_t i = begin; i < end; ++i) invalid += !one(i);
  return invalid;
}

// Tries float32 and falls back to float64 for the rows that it declines. float64 input is always
// computed in float64.
int64_t project_origin(const Batch& batch, const void* from, const void* along, double alpha,
                       const void* center, const int64_t* label, const Region& region, void* out) {
  const int64_t k = batch.classes;
  return with_dtype(batch.dtype, [&](auto zero) {
    using T = decltype(zero);
    return parallel_rows(batch.rows, k, batch.threads, [&](int64_t begin, int64_t end) {
      Projector<T> projector(k, region);
      const auto one = [&](int64_t i) {
        return projector({row_of<T>(from, i, k), row_of<T>(along, i, k), alpha},
                         row_of<T>(center, i, k), entry_of(label, i), row_of<T>(out, i, k));
      };
      if constexpr (sizeof(T) <= sizeof(float)) {
        const Call<T> call{static_cast<const T*>(from),
                           static_cast<const T*>(along),
                           static_cast<const T*>(center),
                           label,
                           alpha,
                           batch.rows,
                           static_cast<T*>(out)};
        if (moderate(region, call)) {
          int64_t invalid = 0;
          const auto decline = [&](int64_t i) { invalid += !one(i); };
          if constexpr (std::is_same_v<T, float>) {
            if (k == 2 && region.margin == 0) {
              PairProjector{region, call}(begin, end, decline);
              return invalid;
            }
          }
          if (k <= kWidestColumns) {
            GroupProjector<T>{k, region, call}(begin, end, decline);
          } else {
            LineProjector<T> project(k, region, call);
            for (int64_t i = begin; i < end; ++i) invalid += !(project(i) || one(i));
          }
          return invalid;
        }
      }
      return count_invalid(begin, end, one);
    });
  });
}

int64_t project(const Batch& batch, const void* z, const void* center, const int64_t* label,
                const Region& region, void* out) {
  return project_origin(batch, z, nullptr, 0, center, label, region, out);
}

int64_t step(const Batch& batch, const void* q, const void* g, const void* center,
             const int64_t* label, double alpha, const Region& region, void* out) {
  return project_origin(batch, q, g, alpha, center, label, region, out);
}

// The same, by Worker32 in float32 where it can and by one(i) for the rows that it declines.
template <template <class> class Worker32, class Call32, class One>
int64_t count_invalid32(const Call32& call, int64_t begin, int64_t end, const One& one) {
  int64_t invalid = 0;
  const auto decline = [&](int64_t i) { invalid += !one(i); };
  if (call.classes <= kWidestColumns)
    Worker32<Columns>{call}(begin, end, decline);
  else
    Worker32<Line>{call}(begin, end, decline);
  return invalid;
}

int64_t move(const Batch& batch, const void* p, const void* target, double epsilon, Norm norm,
             Travel style, void* out) {
  const int64_t k = batch.classes;
  return with_dtype(batch.dtype, [&](auto zero) {
    using T = decltype(zero);
    return parallel_rows(batch.rows, k, batch.threads, [&](int64_t begin, int64_t end) {
      Mover<T> mover(k, epsilon, norm, style);
      const auto one = [&](int64_t i) {
        return mover(row_of<T>(p, i, k), row_of<T>(target, i, k), row_of<T>(out, i, k));
      };
      if constexpr (std::is_same_v<T, float>) {
        const MoveCall call{static_cast<const T*>(p),
                            static_cast<const T*>(target),
                            batch.rows,
                            k,
                            epsilon,
                            norm,
                            style,
                            static_cast<T*>(out)};
        if (moderate(call)) return count_invalid32<Mover32>(call, begin, end, one);
      }
      return count_invalid(begin, end, one);
    });
  });
}

int64_t flip(const Batch& batch, const void* p, const int64_t* targets, uint64_t threshold,
             const Key& key, Exchange style, void* out, int64_t* labels) {
  const int64_t k = batch.classes;
  return with_dtype(batch.dtype, [&](auto zero) {
    using T = decltype(zero);
    return parallel_rows(batch.rows, k, batch.threads, [&](int64_t begin, int64_t end) {
      Flipper<T> flipper(k, threshold, key, style);
      const auto one = [&](int64_t i) {
        return flipper(row_of<T>(p, i, k), entry_of(targets, i), row_of<T>(out, i, k), labels + i);
      };
      if constexpr (std::is_same_v<T, float>) {
        const FlipCall call{static_cast<const T*>(p), targets, batch.rows, k, threshold, key, style,
                            static_cast<T*>(out),     labels};
        return count_invalid32<Flipper32>(call, begin, end, one);
      }
      return count_invalid(begin, end, one);
    });
  });
}

void row_bits(const Batch& batch, const void* p, const Key& key, int64_t draw, double grid,
              int64_t words, int64_t* out) {
  const int64_t k = batch.classes;
  const auto write = [&](int64_t i, uint64_t hash) {
    for (int64_t w = 0; w < words; w += 4) {
      const Words r =
          words_of(hash, key, static_cast<uint32_t>(draw) + static_cast<uint32_t>(w / 4));
      for (int64_t j = w; j < std::min(w + 4, words); ++j) out[i * words + j] = r.word[j - w];
    }
  };
  with_dtype(batch.dtype, [&](auto zero) {
    using T = decltype(zero);
    return parallel_rows(batch.rows, k, batch.threads, [&](int64_t begin, int64_t end) {
      if (grid > 0) {
        const float cells_per_unit = static_cast<float>(1 / grid);
        for (int64_t i = begin; i < end; ++i)
          write(i, hash_coarse(row_of<T>(p, i, k), k, key, cells_per_unit));
      } else {
        const Canonical canonical(k, key);
        for (int64_t i = begin; i < end; ++i) write(i, canonical(row_of<T>(p, i, k)));
      }
      return int64_t{0};
    });
  });
}

}  // namespace

const Kernels kKernels = {kInstructionSet, project, step, move, flip, row_bits};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
