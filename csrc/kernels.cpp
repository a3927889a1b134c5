// Every operation for one instruction set: dtypes resolved, rows shared out over threads.
#include "kernels.h"

#include <stdexcept>

#include "flip.h"
#include "group.h"
#include "line.h"
#include "move.h"
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

// Invalid rows of one(worker, i), a worker per thread made by make(T{}).
template <class Make, class One>
int64_t count_invalid(const Batch& batch, const Make& make, const One& one) {
  return with_dtype(batch.dtype, [&](auto zero) {
    return parallel_rows(batch.rows, batch.classes, batch.threads, [&](int64_t begin, int64_t end) {
      auto worker = make(zero);
      int64_t invalid = 0;
      for (int64_t i = begin; i < end; ++i) invalid += !one(worker, zero, i);
      return invalid;
    });
  });
}

// In float32 what can be decided there; in float64 the other rows, and every row of that dtype.
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
      int64_t invalid = 0;
      if constexpr (sizeof(T) <= sizeof(float)) {
        const Call<T> call{static_cast<const T*>(from),
                           static_cast<const T*>(along),
                           static_cast<const T*>(center),
                           label,
                           alpha,
                           batch.rows,
                           static_cast<T*>(out)};
        if (moderate(region, call)) {
          if (k <= kWidestColumns) {
            GroupProjector<T> project(k, region, call);
            project(begin, end, [&](int64_t i) { invalid += !one(i); });
          } else {
            LineProjector<T> project(k, region, call);
            for (int64_t i = begin; i < end; ++i) invalid += !(project(i) || one(i));
          }
          return invalid;
        }
      }
      for (int64_t i = begin; i < end; ++i) invalid += !one(i);
      return invalid;
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

int64_t move(const Batch& batch, const void* p, const void* target, double epsilon, Norm norm,
             Travel style, void* out) {
  const int64_t k = batch.classes;
  return count_invalid(
      batch, [&](auto zero) { return Mover<decltype(zero)>(k, epsilon, norm, style); },
      [&](auto& mover, auto zero, int64_t i) {
        using T = decltype(zero);
        return mover(row_of<T>(p, i, k), row_of<T>(target, i, k), row_of<T>(out, i, k));
      });
}

int64_t flip(const Batch& batch, const void* p, const int64_t* targets, uint64_t threshold,
             const Key& key, Exchange style, void* out, int64_t* labels) {
  const int64_t k = batch.classes;
  return count_invalid(
      batch, [&](auto zero) { return Flipper<decltype(zero)>(k, threshold, key, style); },
      [&](auto& flipper, auto zero, int64_t i) {
        using T = decltype(zero);
        return flipper(row_of<T>(p, i, k), entry_of(targets, i), row_of<T>(out, i, k), labels + i);
      });
}

void row_bits(const Batch& batch, const void* p, const Key& key, int64_t draw, double grid,
              int64_t words, int64_t* out) {
  const int64_t k = batch.classes;
  const auto write = [&](int64_t i, uint64_t hash) {
    for (int64_t w = 0; w < words; w += 4) {
      const Words r = words_of(hash, key, static_cast<uint32_t>(draw + w / 4));
      for (int64_t j = w; j < std::min(w + 4, words); ++j) out[i * words + j] = r.word[j - w];
    }
  };
  with_dtype(batch.dtype, [&](auto zero) {
    using T = decltype(zero);
    return parallel_rows(batch.rows, k, batch.threads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) write(i, hash_row(row_of<T>(p, i, k), k, key, grid));
      return int64_t{0};
    });
  });
}

}  // namespace

const Kernels kKernels = {MIPOISON_STRING(MIPOISON_ISA), project, step, move, flip, row_bits};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
