// The codewords of each label, and which of them is nearest to a row: the least of
// |u - v_m|_1 + o_m, in whole units. Sums of integers do not depend on the order of addition, so
// that all layouts and backends find the same codeword, of equally near ones the first.
//
// |u - v_m|_1 = sum u + sum v_m - 2 sum min(u, v_m), whose first sum is the same for all m.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels.h"
#include "rows.h"
#include "scratch.h"

namespace mipoison {
namespace MIPOISON_ISA {

// A unit is 1 / kUnits.
constexpr int32_t kUnits = 1 << 29;
// How far a codeword's units may add up from kUnits, beside one unit lost by each entry.
constexpr int64_t kSumUnits = static_cast<int64_t>(1e-4 * kUnits);
// Entries of a codeword are less, so that their units are finite and two of them can be added.
constexpr float kMost = 2;
// Tables of more entries than this are not made; codewords are then read as they come.
constexpr int64_t kLargestTable = int64_t{1} << 22;

struct Units {
  Bits part[kParts];

  static Units all(int32_t value) {
    Units units;
    for (auto& part : units.part) part = all_of(static_cast<uint32_t>(value));
    return units;
  }
  static Units load(const int32_t* from) {
    Units units;
    for (int i = 0; i < kParts; ++i)
      std::memcpy(&units.part[i], from + i * kShorts, sizeof units.part[i]);
    return units;
  }
  static Units of(Block<float> entries) {
    const Block<float> scaled = entries * Block<float>::all(static_cast<float>(kUnits));
    Units units;
    for (int i = 0; i < kParts; ++i)
      units.part[i] = (Bits) __builtin_convertvector(scaled.part[i], Integers);
    return units;
  }
  void store(int32_t* to) const {
    for (int i = 0; i < kParts; ++i) std::memcpy(to + i * kShorts, &part[i], sizeof part[i]);
  }
};

inline Units operator+(Units a, Units b) {
  for (int i = 0; i < kParts; ++i) a.part[i] += b.part[i];
  return a;
}

inline Units operator-(Units a, Units b) {
  for (int i = 0; i < kParts; ++i) a.part[i] -= b.part[i];
  return a;
}

inline Units min(Units a, Units b) {
  for (int i = 0; i < kParts; ++i) {
    const Integers x = (Integers)a.part[i], y = (Integers)b.part[i];
#if defined(__AVX512F__)
    a.part[i] = (Bits)_mm512_min_epi32((__m512i)x, (__m512i)y);
#elif defined(__AVX2__)
    a.part[i] = (Bits)_mm256_min_epi32((__m256i)x, (__m256i)y);
#else
    a.part[i] = (Bits)(x < y ? x : y);
#endif
  }
  return a;
}

// Whole blocks of entries in [0, 2) in units.
inline void to_units(const float* from, int64_t n, int32_t* to) {
  for (int64_t i = 0; i < n; i += kGroup) Units::of(Block<float>::load(from + i)).store(to + i);
}
inline void to_units(const double* from, int64_t n, int32_t* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<int32_t>(from[i] * kUnits);
}

inline int64_t total(Units units) {
  int32_t lane[kGroup];
  units.store(lane);
  int64_t sum = 0;
  for (int i = 0; i < kGroup; ++i) sum += lane[i];
  return sum;
}

// The least lane, and the lowest of those that hold it.
struct Least {
  int32_t value;
  int lane;
};

inline Least least(Units units) {
#if defined(__AVX512F__)
  const __m512i all = (__m512i)units.part[0];
  const int32_t value = _mm512_reduce_min_epi32(all);
  return {value, __builtin_ctz(_mm512_cmpeq_epi32_mask(all, _mm512_set1_epi32(value)))};
#else
  int32_t lane[kGroup];
  units.store(lane);
  const int32_t* first = std::min_element(lane, lane + kGroup);
  return {*first, static_cast<int>(first - lane)};
#endif
}

template <class T>
class Codewords {
 public:
  explicit Codewords(const Quantization<T>& call)
      : call_(call),
        k_(call.batch.classes),
        blocks_((call.words + kGroup - 1) / kGroup),
        tabled_(k_ <= kWidestColumns && k_ * blocks_ * kGroup <= kLargestTable / k_),
        row_(1, k_),
        units_(1, k_) {}

  // The number of the codeword of a label that is nearest to a row, whose entries in units lie
  // `stride` apart; -1 if a codeword of the label is none.
  int64_t nearest(const int32_t* row, int64_t stride, int64_t label) {
    if (!tabled_) return search(row, stride, label);
    if (tables_.empty()) tables_.resize(k_);
    Table& table = tables_[label];
    if (table.state == Table::kNew) fill(&table, label);
    return table.state == Table::kUsable ? look_up(table, row, stride) : -1;
  }

  // Writes a codeword, renormalised and rounded to the dtype.
  void write(int64_t label, int64_t number, T* out) {
    if (!tabled_) return answer(label, number, out);
    const T* const from = tables_[label].answers.get() + number * k_;
    if constexpr (std::is_same_v<T, float>) {
      // (There is room for a block after the last of them.)
      for (int64_t j = 0; j < k_; j += kGroup) {
        const int n = static_cast<int>(std::min<int64_t>(kGroup, k_ - j));
        store_first(Block<float>::load(from + j), out + j, n);
      }
    } else {
      std::copy(from, from + k_, out);
    }
  }

 private:
  // A label's codewords in units, sixteen side by side, what each adds to a distance, and the
  // answers.
  struct Table {
    enum { kNew, kUsable, kUnusable } state = kNew;
    std::unique_ptr<int32_t[]> units, starts;
    std::unique_ptr<T[]> answers;
  };

  // A codeword in units, beside a row: their sum, and the sum of the smaller of both.
  struct Compared {
    int64_t sum, common;
    bool usable;
  };

  const float* codeword(int64_t label, int64_t number) const {
    return call_.codewords + (label * call_.words + number) * k_;
  }

  // The offset in units; -1 if it is none.
  int64_t offset(int64_t label, int64_t number) const {
    if (!call_.offsets) return 0;
    const float offset = call_.offsets[label * call_.words + number];
    return offset >= 0 && offset <= 1 ? static_cast<int64_t>(offset * kUnits) : -1;
  }

  // `units`: those of the row, padded with zeros, or where those of the codeword go.
  template <bool kBesideRow>
  Compared compare(const float* words, int64_t label,
                   std::conditional_t<kBesideRow, const int32_t*, int32_t*> units) const {
    const Block<float> zero = Block<float>::all(0), top = Block<float>::all(words[label]);
    Mask<float> inside = zero == zero;
    Units sum = Units::all(0), common = sum;
    const auto take = [&](int64_t j, Block<float> x) {
      inside = inside & (x >= zero) & (x <= top);
      const Units here = Units::of(x);
      // Lanes stop at twice what a codeword may have in all, where the next entry cannot overflow.
      sum = min(sum + here, Units::all(2 * kUnits));
      if constexpr (kBesideRow)
        common = common + min(here, Units::load(units + j));
      else
        here.store(units + j);
    };
    const int64_t whole = k_ / kGroup * kGroup;
    for (int64_t j = 0; j < whole; j += kGroup) take(j, Block<float>::load(words + j));
    if (whole < k_) take(whole, load_first(words + whole, static_cast<int>(k_ - whole), false));
    const int64_t added = total(sum), off = added - kUnits;
    return {added, total(common),
            !any(!inside) && words[label] < kMost && std::abs(off) <= kSumUnits + k_};
  }

  int64_t search(const int32_t* row, int64_t stride, int64_t label) {
    if (stride != 1) {
      for (int64_t j = 0; j < k_; ++j) units_.row(0)[j] = row[j * stride];
      row = units_.row(0);
    }
    int64_t shortest = std::numeric_limits<int64_t>::max(), number = -1;
    for (int64_t m = 0; m < call_.words; ++m) {
      const Compared with = compare<true>(codeword(label, m), label, row);
      const int64_t offset = this->offset(label, m);
      if (!with.usable || offset < 0) return -1;
      const int64_t distance = with.sum + offset - 2 * with.common;
      if (distance < shortest) shortest = distance, number = m;
    }
    return number;
  }

  void fill(Table* table, int64_t label) {
    const int64_t lanes = blocks_ * kGroup;
    table->state = Table::kUnusable;
    table->units.reset(new int32_t[lanes * k_]());
    // No lane without a codeword is ever the least.
    table->starts.reset(new int32_t[lanes]);
    std::fill_n(table->starts.get(), lanes, std::numeric_limits<int32_t>::max());
    table->answers.reset(new T[call_.words * k_ + kGroup]());
    for (int64_t m = 0; m < call_.words; ++m) {
      const Compared with = compare<false>(codeword(label, m), label, units_.row(0));
      const int64_t offset = this->offset(label, m);
      if (!with.usable || offset < 0) return;
      int32_t* to = table->units.get() + m / kGroup * kGroup * k_ + m % kGroup;
      for (int64_t j = 0; j < k_; ++j) to[j * kGroup] = units_.row(0)[j];
      table->starts[m] = static_cast<int32_t>(with.sum + offset);
      answer(label, m, table->answers.get() + m * k_);
    }
    table->state = Table::kUsable;
  }

  int64_t look_up(const Table& table, const int32_t* row, int64_t stride) const {
    Least found{std::numeric_limits<int32_t>::max(), 0};
    int64_t number = 0;
    const int32_t* from = table.units.get();
    for (int64_t b = 0; b < blocks_; ++b) {
      Units common = Units::all(0);
      for (int64_t j = 0; j < k_; ++j, from += kGroup)
        common = common + min(Units::load(from), Units::all(row[j * stride]));
      const Least here = least(Units::load(table.starts.get() + b * kGroup) - common - common);
      if (here.value < found.value) found = here, number = b * kGroup + here.lane;
    }
    return number;
  }

  // Writes a codeword of a label whose codewords are usable.
  void answer(int64_t label, int64_t number, T* out) {
    using E = std::conditional_t<std::is_same_v<T, float>, float, double>;
    using S = OneRow<E>;
    E* const q = row_.row(0);
    load_rows(codeword(label, number), 1, k_, Tile<S>{0}, q);
    const double sum = S::gather(exact_sum(q, S::blocks(k_)));
    renormalise<S>(q, S::blocks(k_), sum);
    if constexpr (!S::kExact) {
      const double top = q[label];
      S::put(q, label, leading_entry<S>(top, rival_of<S>(q, S::blocks(k_), label), 0.0));
    }
    store_rows(q, k_, Tile<S>{0}, 1, label, out);
  }

  Quantization<T> call_;
  int64_t k_, blocks_;
  bool tabled_;
  Scratch<std::conditional_t<std::is_same_v<T, float>, float, double>> row_;
  Scratch<int32_t> units_;
  std::vector<Table> tables_;
};

}  // namespace MIPOISON_ISA
}  // namespace mipoison
