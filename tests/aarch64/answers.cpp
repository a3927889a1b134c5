// Prints a digest of what every operation answers, a line each: the same on every processor.
//
// The rows are made of integer hashes by arithmetic that IEEE 754 fixes, so that all processors see
// the same ones.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <limits>
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

void answer(DType dtype, const char* dtype_name, int64_t k) {
  const mipoison::Kernels& kernels = mipoison::kernels();
  const Batch batch{kRows, k, dtype, 1};
  const auto p = stored(confidences(k, 1), dtype), other = stored(confidences(k, 2), dtype);
  const auto g = stored(directions(k, 3), dtype);
  std::vector<char> out(p.size());
  std::vector<int64_t> labels(kRows), words(kRows * 8);
  const auto print = [&](const char* operation, const char* norm, const Digest& digest) {
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
      for (const auto style : {mipoison::Travel::kStraight, mipoison::Travel::kWaterfill}) {
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
