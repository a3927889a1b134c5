// The operators that defenses call on clean rows and banks, float32 but where rows come as they
// are.
#pragma once

#include <utility>

#include "checked.h"

namespace mipoison {
namespace operators {

inline Tensor new_float32(int64_t dimensions, const int64_t* sizes) {
  return Tensor::empty(dimensions, sizes, stable::torch.float32);
}

inline void clean(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor p = in.tensor();

  const Batch batch = batch_of(p);
  p = std::move(p).contiguous();
  Tensor out = new_float32(2, p.sizes()), status = new_status();
  *status.data<int64_t>() = kernels().clean({batch, p.data(), out.data<float>()});
  stable::give(stack, out, status);
}

inline void label_of_rows(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor p = in.tensor();

  const Batch batch = batch_of(p);
  p = std::move(p).contiguous();
  Tensor out = new_labels(p);
  kernels().label({batch, p.data(), out.data<int64_t>()});
  stable::give(stack, out);
}

inline void lead(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor q = in.tensor(), p = in.tensor();

  const Batch batch = batch_of(q);
  p = beside(q, std::move(p));
  q = std::move(q).contiguous();
  Tensor out = Tensor::empty(1, q.sizes(), stable::torch.float64);
  kernels().lead({batch, q.data(), p.data(), out.data<double>()});
  stable::give(stack, out);
}

inline void distance(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor q = in.tensor(), p = in.tensor();
  const std::string norm = in.word();

  const Batch batch = batch_of(q);
  p = beside(q, std::move(p));
  q = std::move(q).contiguous();
  Tensor out = Tensor::empty(1, q.sizes(), stable::torch.float64);
  kernels().measure({batch, q.data(), p.data(), norm_of(norm), out.data<double>()});
  stable::give(stack, out);
}

inline void lose_label(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor q = in.tensor(), given = in.tensor(), labels = in.tensor();
  const int64_t first = in.integer(), last = in.integer();

  const Batch batch = batch_of(q);
  given = beside(q, std::move(given));
  q = std::move(q).contiguous();
  labels = labels_for(q, std::move(labels));
  Tensor out = Tensor::empty(1, q.sizes(), stable::torch.boolean);
  kernels().lose(
      {batch, q.data(), given.data(), labels.data<const int64_t>(), first, last, out.data<bool>()});
  stable::give(stack, out);
}

inline void soften(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor p = in.tensor();
  const double temperature = in.number(), floor = in.number();

  const Batch batch = batch_of(p);
  p = std::move(p).contiguous();
  Tensor out = new_float32(2, p.sizes());
  kernels().soften({batch, p.data(), temperature, floor, out.data<float>()});
  stable::give(stack, out);
}

inline void stray(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor q = in.tensor(), p = in.tensor();
  const std::string norm = in.word();
  const double least = in.number(), most = in.number(), ahead = in.number();

  const Batch batch = batch_of(q);
  p = beside(q, std::move(p));
  q = std::move(q).contiguous();
  Tensor out = Tensor::empty(1, q.sizes(), stable::torch.boolean), count = new_status();
  *count.data<int64_t>() = kernels().stray(
      {batch, q.data(), p.data(), norm_of(norm), least, most, ahead, out.data<bool>()});
  stable::give(stack, out, count);
}

inline void keyed_step(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor p = in.tensor(), seen = in.maybe_tensor(), words_of_key = in.tensor();
  const double grid = in.number(), alpha = in.number(), epsilon = in.number();
  const std::string norm = in.word();

  const Batch batch = batch_of(p);
  if (!(grid > 0)) throw std::invalid_argument("expected a grid above 0");
  seen = for_each_row(p, std::move(seen), stable::torch.float32, 2);
  const Key key = key_of(std::move(words_of_key));
  p = std::move(p).contiguous();
  Tensor out = new_rows(p);
  kernels().keyed_step({batch, p.data(), seen.data<const float>(), seen ? seen.sizes()[1] : 0, key,
                        grid, alpha, epsilon, norm_of(norm), out.data()});
  stable::give(stack, out);
}

inline void approach(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Tensor p = in.tensor(), vectors = in.tensor(), places = in.tensor(), shares = in.tensor();

  const Batch batch = batch_of(p);
  vectors = shared(std::move(vectors), stable::torch.float32, 2, batch.classes);
  places = labels_for(p, std::move(places));
  shares = for_each_row(p, std::move(shares), stable::torch.float32, 1);
  for (int64_t i = 0; i < batch.rows; ++i)
    if (places.data<const int64_t>()[i] >= vectors.sizes()[0])
      throw std::invalid_argument("expected places among the vectors");
  p = std::move(p).contiguous();
  Tensor out = new_rows(p), nowhere = new_status();
  *nowhere.data<int64_t>() =
      kernels().approach({batch, p.data(), vectors.data<const float>(),
                          places.data<const int64_t>(), shares.data<const float>(), out.data()});
  stable::give(stack, out, nowhere);
}

// Rows of float32, and the bank that they are looked for in.
struct Banked {
  explicit Banked(Arguments& in)
      : rows(in.tensor()),
        vectors(in.tensor()),
        start(in.tensor()),
        count(in.tensor()),
        same(in.number()),
        noise(in.number()) {}

  Batch check() {
    const Batch batch = batch_of(rows);
    if (batch.classes < 1) throw std::invalid_argument("expected rows of a class or more");
    if (batch.dtype != DType::kFloat32) throw std::invalid_argument("expected rows of float32");
    rows = std::move(rows).contiguous();
    vectors = shared(std::move(vectors), stable::torch.float32, 2, batch.classes);
    start = shared(std::move(start), stable::torch.int64, 1, batch.classes);
    count = shared(std::move(count), stable::torch.int64, 1, batch.classes);
    for (int64_t t = 0; t < batch.classes; ++t) {
      const int64_t first = start.data<const int64_t>()[t], many = count.data<const int64_t>()[t];
      if (first < 0 || many < 0 || first > vectors.sizes()[0] - many)
        throw std::invalid_argument("expected the places of each label among the vectors");
    }
    return batch;
  }

  Bank bank() const {
    return {vectors.data<const float>(),
            vectors.sizes()[0],
            start.data<const int64_t>(),
            count.data<const int64_t>(),
            same,
            noise};
  }

  Tensor rows, vectors, start, count;
  double same, noise;
};

inline void solitary(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Banked banked(in);
  Tensor spread = in.tensor();

  const Batch batch = banked.check();
  spread = shared(std::move(spread), stable::torch.float32, 1, batch.classes);
  Tensor out = Tensor::empty(1, banked.rows.sizes(), stable::torch.boolean);
  kernels().solitary({batch, banked.rows.data<const float>(), banked.bank(),
                      spread.data<const float>(), out.data<bool>()});
  stable::give(stack, out);
}

inline void pick_each(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Banked banked(in);
  Tensor words = in.tensor();

  const Batch batch = banked.check();
  words = for_each_row(banked.rows, std::move(words), stable::torch.int64, 2);
  const int64_t each = words.sizes()[1], sizes[] = {batch.rows, each, batch.classes};
  Tensor out = new_float32(3, sizes), places = Tensor::empty(2, sizes, stable::torch.int64);
  kernels().pick({batch, banked.rows.data<const float>(), banked.bank(),
                  words.data<const int64_t>(), each, out.data<float>(), places.data<int64_t>()});
  stable::give(stack, out, places);
}

inline void nearest(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Banked banked(in);
  Tensor word = in.tensor();
  const int64_t slots = in.integer(), subsets = in.integer();

  const Batch batch = banked.check();
  if (slots < 1 || subsets < 1) throw std::invalid_argument("expected slots and subsets");
  word = for_each_row(banked.rows, std::move(word), stable::torch.int64, 1);
  const int64_t sizes[] = {batch.rows, subsets, batch.classes};
  Tensor out = new_float32(3, sizes);
  kernels().nearest({batch, banked.rows.data<const float>(), banked.bank(),
                     word.data<const int64_t>(), slots, subsets, out.data<float>()});
  stable::give(stack, out);
}

inline void choose_move(Value* stack, uint64_t, uint64_t) {
  Arguments in(stack);
  Banked banked(in);
  Tensor predicted = in.tensor(), recovered = in.tensor(), words = in.tensor();
  const int64_t slots = in.integer();
  const double epsilon = in.number();
  const std::string norm = in.word();
  const double weight = in.number();
  const bool root = in.truth();

  const Batch batch = banked.check();
  if (slots < 1) throw std::invalid_argument("expected slots");
  predicted = for_each_row(banked.rows, std::move(predicted), stable::torch.float32, 2);
  recovered = shared(std::move(recovered), stable::torch.float32, 2, 0);
  words = for_each_row(banked.rows, std::move(words), stable::torch.int64, 2);
  const int64_t components = recovered.sizes()[1] - 2;
  if (recovered.sizes()[0] != banked.vectors.sizes()[0] || components < 1 ||
      predicted.sizes()[1] < 2 * components + 1 || 32 * words.sizes()[1] < slots)
    throw std::invalid_argument("expected predictions and words that fit the bank");
  Tensor places = new_labels(banked.rows), shares = new_float32(1, banked.rows.sizes());
  kernels().choose({batch, banked.rows.data<const float>(), banked.bank(),
                    predicted.data<const float>(), recovered.data<const float>(),
                    predicted.sizes()[1], components, words.data<const int64_t>(), words.sizes()[1],
                    slots, epsilon, norm_of(norm), weight, root, places.data<int64_t>(),
                    shares.data<float>()});
  stable::give(stack, places, shares);
}

}  // namespace operators
}  // namespace mipoison
