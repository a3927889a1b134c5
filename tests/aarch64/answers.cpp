// Prints a digest of what every operation answers, a line each: the same on every processor.
//
// The rows are made of integer hashes by arithmetic that IEEE 754 fixes, so that all processors see
// the same ones.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "dispatch.h"

namespace {

using mipoison::Batch;
using mipoison::DType;
using mipoison::Norm;
using mipoison::Region;

constexpr int64_t kRows = 64;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// SplitMix64, as a number in (0, 1).
double random(uint64_t seed) {
  uint64_t x = (seed + 1) * 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return (static_cast<double>((x ^ (x >> 31)) >> 12) + 0.5) / 4503599627370496.0;
}

// Plain, peaked, tied and one-hot rows in turn.
std::vector<double> confidences(int64_t k, uint64_t seed) {
  std::vector<double> p(kRows * k);
  for (int64_t i = 0; i < kRows; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < k; ++j) {
      const double u = random(seed + i * k + j);
      double w = u * u * u;
      if (i % 4 == 1) w = j == i % k ? 1 : w * 1e-4;
      if (i % 4 == 2) w = j % 2 ? 0.5 : w;
      if (i % 4 == 3) w = j == i % k;
      sum += p[i * k + j] = w;
    }
    for (int64_t j = 0; j < k; ++j) p[i * k + j] /= sum;
  }
  return p;
}

// The rows with their label's lead cut to less than a hundredth.
std::vector<double> close_labels(std::vector<double> p, int64_t k) {
  for (int64_t i = 0; i < kRows; ++i) {
    double* const row = p.data() + i * k;
    double* const label = std::max_element(row, row + k);
    *label = 0;
    *label = *std::max_element(row, row + k) + 0.01 * random(9 + i) * random(99 + i);
  }
  return p;
}

// So many codewords of each label: rows whose largest entry is swapped to the label.
std::vector<float> codewords(int64_t k, int64_t words) {
  const std::vector<double> rows = confidences(k, 4);
  std::vector<float> made(k * words * k);
  for (int64_t i = 0; i < k * words; ++i) {
    float* const word = made.data() + i * k;
    for (int64_t j = 0; j < k; ++j)
      word[j] = static_cast<float>(rows[i * 7 % kRows * k + (j + i) % k]);
    std::swap(*std::max_element(word, word + k), word[i / words]);
  }
  return made;
}

// Numbers in (-scale, scale).
std::vector<float> numbers(int64_t count, uint64_t seed, double scale = 1) {
  std::vector<float> made(count);
  for (int64_t i = 0; i < count; ++i)
    made[i] = static_cast<float>(scale * (2 * random(seed + i) - 1));
  return made;
}

// Two small networks of 32 units a layer, in the form of `Layers` (mipoison/reference/network.py).
// (Errors go back through other weights than answers go forward, which is all the same here.)
constexpr int64_t kMembers = 2, kWidth = 32;
std::vector<float> networks(int64_t k) {
  const int64_t features = (2 * k + 31) / 32 * 32, wide = kMembers * kWidth * features;
  const int64_t square = kMembers * kWidth * kWidth, bias = kMembers * kWidth;
  const double in = 1 / std::sqrt(static_cast<double>(features)), inside = 1 / std::sqrt(32.0);
  std::vector<float> made;
  const auto append = [&](int64_t count, double scale, double shift = 0) {
    for (const float x : numbers(count, 5 + made.size(), scale))
      made.push_back(static_cast<float>(shift + x));
  };
  append(features, 0.5, -1);
  append(features, 0.5, 1);
  append(wide, in);
  append(bias, in);
  for (int layer = 1; layer < 3; ++layer) {
    append(square, inside);
    append(bias, inside);
  }
  append(square, inside);
  append(square, inside);
  append(wide, in);
  return made;
}

std::vector<double> directions(int64_t k, uint64_t seed) {
  std::vector<double> g(kRows * k);
  for (int64_t i = 0; i < kRows * k; ++i) g[i] = 2 * random(seed + i) - 1;
  return g;
}

// The numbers in the dtype's own bits. (Those of 16 bits are cut off, which makes them exact.)
std::vector<char> stored(const std::vector<double>& numbers, DType dtype) {
  const size_t size = dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2;
  std::vector<char> bytes(numbers.size() * size);
  for (size_t i = 0; i < numbers.size(); ++i) {
    const float narrow = static_cast<float>(numbers[i]);
    uint32_t bits;
    std::memcpy(&bits, &narrow, 4);
    if (dtype == DType::kFloat64) std::memcpy(&bytes[8 * i], &numbers[i], 8);
    if (dtype == DType::kFloat32) std::memcpy(&bytes[4 * i], &narrow, 4);
    if (dtype == DType::kBFloat16)
      std::memcpy(&bytes[2 * i], reinterpret_cast<char*>(&bits) + 2, 2);
  }
  return bytes;
}

class Digest {
 public:
  void add(const void* data, size_t size) {
    for (size_t i = 0; i < size; ++i) {
      hash_ = (hash_ ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001B3;
    }
  }
  void add(int64_t number) { add(&number, sizeof number); }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xCBF29CE484222325;
};

// What is printed of an operation.
using Print = std::function<void(const char* operation, const char* norm, const Digest& digest)>;

template <class T>
void add(Digest& digest, const std::vector<T>& results) {
  digest.add(results.data(), results.size() * sizeof(T));
}

void answer_by_networks(const Batch& batch, const void* p, const void* other, size_t size,
                        const Print& print) {
  const mipoison::Kernels& kernels = mipoison::kernels();
  const int64_t k = batch.classes, n = kRows;
  const std::vector<float> made = networks(k);
  const mipoison::Network network{made.data(), static_cast<int64_t>(made.size()), kMembers, kWidth};
  Digest recovered, pulled, perturbed;
  std::vector<char> out(size);
  std::vector<float> gradient(n * k), distance(n), near(n, 0.5f);
  for (const int64_t outputs : {1, 17}) {
    const std::vector<float> goal = numbers(n * outputs, 6);
    std::vector<float> found(n * outputs);
    recovered.add(kernels.recover({batch, p, network, outputs, found.data()}));
    add(recovered, found);
    for (const bool smooth : {false, true}) {
      pulled.add(kernels.pull(
          {batch, p, network, goal.data(), outputs, smooth, gradient.data(), distance.data()}));
      add(pulled, gradient);
      add(pulled, distance);
      const Region region{smooth ? 0.2 : kInfinity, Norm::kL1, 0.01, true};
      // Once around other rows, once with shortened steps.
      perturbed.add(kernels.perturb({batch, p, smooth ? nullptr : other, network, goal.data(),
                                     smooth ? near.data() : nullptr, outputs, 2, smooth, 0.1,
                                     region, out.data()}));
      add(perturbed, out);
    }
  }
  print("recover", "-", recovered);
  print("pull", "-", pulled);
  print("perturb", "-", perturbed);
}

// (Without soften: its logarithms and exponentials are those of each system's library.)
void answer_for_defenses(const Batch& batch, const void* p, const void* other, const void* close,
                         size_t size, const Print& print) {
  const mipoison::Kernels& kernels = mipoison::kernels();
  const int64_t n = kRows;
  Digest cleaned, labelled, led, lost;
  std::vector<float> clean(n * batch.classes);
  std::vector<int64_t> labels(n);
  std::vector<double> numbers_a_row(n);
  const std::unique_ptr<bool[]> loses(new bool[n]);
  const mipoison::Key key{{1, 2147483648u, 4294967295u, 7}};
  std::vector<char> out(size);
  cleaned.add(kernels.clean({batch, p, clean.data()}));
  add(cleaned, clean);
  kernels.label({batch, p, labels.data()});
  add(labelled, labels);
  kernels.lead({batch, other, p, numbers_a_row.data()});
  add(led, numbers_a_row);
  kernels.lose({batch, close, p, labels.data(), 1, 6, loses.get()});
  lost.add(loses.get(), n);
  for (const auto& [norm, name] :
       {std::pair{Norm::kL1, "l1"}, std::pair{Norm::kL2, "l2"}, std::pair{Norm::kLinf, "linf"}}) {
    Digest measured, strayed, stepped;
    kernels.measure({batch, p, other, norm, numbers_a_row.data()});
    add(measured, numbers_a_row);
    strayed.add(kernels.stray({batch, other, p, norm, 0.05, 0.6, 0.01, loses.get()}));
    strayed.add(loses.get(), n);
    kernels.keyed_step({batch, p, nullptr, 0, key, 0.1, 0.4, 0.2, norm, out.data()});
    add(stepped, out);
    print("distance", name, measured);
    print("stray", name, strayed);
    print("keyed_step", name, stepped);
  }
  print("clean", "-", cleaned);
  print("label_of", "-", labelled);
  print("lead", "-", led);
  print("lose_label", "-", lost);
}

// Of float32 rows, and words of eight for each.
void answer_in_banks(const Batch& batch, const float* p, const std::vector<int64_t>& words,
                     const Print& print) {
  const mipoison::Kernels& kernels = mipoison::kernels();
  const int64_t k = batch.classes, n = kRows, each = 5, components = 9;
  // The last label has no vectors.
  const std::vector<float> vectors = codewords(k, each);
  std::vector<int64_t> start(k), count(k, each);
  for (int64_t t = 0; t < k; ++t) start[t] = t * each;
  count[k - 1] = 0;
  const mipoison::Bank bank{vectors.data(), (k - 1) * each, start.data(), count.data(), 1e-7, 5e-5};
  Digest picked, nearest;
  std::vector<float> chosen(n * 8 * k), shares(n);
  std::vector<int64_t> places(n * 8), moved(n);
  kernels.pick({batch, p, bank, words.data(), 8, chosen.data(), places.data()});
  add(picked, chosen);
  add(picked, places);
  std::vector<float> near(n * 3 * k);
  for (const int64_t slots : {3, 5}) {
    kernels.nearest({batch, p, bank, words.data(), slots, 3, near.data()});
    add(nearest, near);
  }
  const std::vector<float> predicted = numbers(n * (2 * components + 1), 7);
  const std::vector<float> recovered = numbers(bank.size * (components + 2), 8);
  for (const auto& [norm, name] :
       {std::pair{Norm::kL1, "l1"}, std::pair{Norm::kL2, "l2"}, std::pair{Norm::kLinf, "linf"}}) {
    Digest moves;
    for (const bool root : {false, true}) {
      kernels.choose({batch, p, bank, predicted.data(), recovered.data(), 2 * components + 1,
                      components, words.data(), 8, each, 0.3, norm, 0.5, root, moved.data(),
                      shares.data()});
      add(moves, moved);
      add(moves, shares);
    }
    print("choose_move", name, moves);
  }
  // Toward vectors of the rows' labels and others, and where there is none.
  std::vector<int64_t> toward(n);
  for (int64_t i = 0; i < n; ++i) toward[i] = i % (bank.size + 1) - 1;
  Digest approached;
  approached.add(
      kernels.approach({batch, p, vectors.data(), toward.data(), shares.data(), chosen.data()}));
  approached.add(chosen.data(), n * k * sizeof(float));
  print("approach", "-", approached);
  print("pick_each", "-", picked);
  print("nearest", "-", nearest);
}

void answer(DType dtype, const char* dtype_name, int64_t k) {
  const mipoison::Kernels& kernels = mipoison::kernels();
  const Batch batch{kRows, k, dtype, 1};
  const auto p = stored(confidences(k, 1), dtype), other = stored(confidences(k, 2), dtype);
  const auto g = stored(directions(k, 3), dtype);
  std::vector<char> out(p.size());
  std::vector<int64_t> labels(kRows), words(kRows * 8);
  const Print print = [&](const char* operation, const char* norm, const Digest& digest) {
    std::printf("%s %s %lld %s %016llx\n", operation, dtype_name, static_cast<long long>(k), norm,
                static_cast<unsigned long long>(digest.value()));
  };
  for (const auto& [norm, name] :
       {std::pair{Norm::kL1, "l1"}, std::pair{Norm::kL2, "l2"}, std::pair{Norm::kLinf, "linf"}}) {
    Digest projected, stepped, moved;
    for (const double epsilon : {0.0, 0.02, 0.2, kInfinity}) {
      for (const double margin : {0.0, 0.01, 0.3}) {
        const Region region{epsilon, norm, margin, true};
        projected.add(
            kernels.project({batch, g.data(), nullptr, p.data(), nullptr, 0, region, out.data()}));
        projected.add(out.data(), out.size());
        stepped.add(kernels.project(
            {batch, other.data(), g.data(), p.data(), nullptr, 0.1, region, out.data()}));
        stepped.add(out.data(), out.size());
      }
      for (const auto style :
           {mipoison::Travel::kStraight, mipoison::Travel::kWaterfill, mipoison::Travel::kSparse}) {
        moved.add(kernels.move(
            {batch, p.data(), other.data(), std::min(epsilon, 2.0), norm, style, out.data()}));
        moved.add(out.data(), out.size());
      }
    }
    print("project", name, projected);
    print("step", name, stepped);
    print("move", name, moved);
  }
  const mipoison::Key key{{1, 2147483648u, 4294967295u, 7}};
  Digest flipped, drawn;
  for (const auto style : {mipoison::Exchange::kSwap, mipoison::Exchange::kProject}) {
    flipped.add(kernels.flip({batch, p.data(), nullptr, mipoison::threshold_of(0.5), key, style,
                              out.data(), labels.data()}));
    flipped.add(out.data(), out.size());
    flipped.add(labels.data(), labels.size() * sizeof(int64_t));
  }
  for (const double grid : {0.0, 0.05}) {
    kernels.row_bits({batch, p.data(), key, 3, grid, 8, words.data()});
    drawn.add(words.data(), words.size() * sizeof(int64_t));
  }
  Digest nearest;
  for (const int64_t count : {1, 3, 17}) {
    const std::vector<float> made = codewords(k, count);
    nearest.add(kernels.quantize(
        {batch, p.data(), made.data(), nullptr, count, out.data(), labels.data()}));
    nearest.add(out.data(), out.size());
    nearest.add(labels.data(), labels.size() * sizeof(int64_t));
  }
  print("flip", "-", flipped);
  print("quantize", "-", nearest);
  print("row_bits", "-", drawn);
  answer_by_networks(batch, p.data(), other.data(), p.size(), print);
  const auto close = stored(close_labels(confidences(k, 1), k), dtype);
  answer_for_defenses(batch, p.data(), other.data(), close.data(), p.size(), print);
  if (dtype == DType::kFloat32)
    answer_in_banks(batch, reinterpret_cast<const float*>(p.data()), words, print);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) mipoison::use_instruction_set(argv[1]);
  std::fprintf(stderr, "%s\n", mipoison::kernels().instruction_set);
  for (const int64_t k : {2, 3, 8, 9, 10, 16, 17, 64, 100, 320, 321, 1000}) {
    answer(DType::kFloat32, "float32", k);
    answer(DType::kFloat64, "float64", k);
    answer(DType::kBFloat16, "bfloat16", k);
  }
}
