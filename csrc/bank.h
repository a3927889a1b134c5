// 13. A row and the bank vectors of its label: keyed ones, the nearest ones, and the move that is
// worth most.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels.h"
#include "lanes.h"
#include "network.h"
#include "row.h"

namespace mipoison {
namespace MIPOISON_ISA {

constexpr int kTries = 4;
constexpr float kFloatInfinity = std::numeric_limits<float>::infinity();

// Sum of the lanes in float32, as a tree.
inline float added(const Block<float>& b) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)b.part[0]);
#else
  float lane[kLanes<float>];
  b.store(lane);
  for (int half = kLanes<float> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
#endif
}

// A row of float32 in whole blocks, zeros behind it, and what of the bank belongs to its label.
class Neighbours {
 public:
  Neighbours(const Bank& bank, int64_t k)
      : bank_(bank),
        end_(bank.vectors + bank.size * k),
        k_(k),
        row_(padded<float>(k)),
        tail_(kLanes<float>) {
    for (int i = 0; i < kLanes<float>; ++i) tail_[i] = i < k % kLanes<float> ? 1.0f : 0.0f;
    inside_ = Block<float>::load(tail_.data()) > Block<float>::all(0);
  }

  void look(const float* row) {
    std::copy(row, row + k_, row_.begin());
    label_ = label_of(row, k_);
    count_ = bank_.count[label_];
    start_ = bank_.start[label_];
    // As (in float32) mipoison/defenses/bank.py says.
    nearness_ =
        static_cast<float>(bank_.same) + static_cast<float>(bank_.noise) * (1.0f - row_[label_]);
  }

  int64_t label() const { return label_; }
  int64_t count() const { return count_; }
  float nearness() const { return nearness_; }

  // The place of slot s of at most `slots`.
  int64_t place(int64_t s, int64_t slots) const {
    return start_ + (count_ > slots ? s * count_ / slots : s);
  }

  const float* vector(int64_t place) const { return bank_.vectors + place * k_; }

  // The l1 distance of a vector.
  float distance(int64_t place) { return measured<1>(vector(place)); }
  float distance(int64_t place, Norm norm) {
    const float* const v = vector(place);
    if (norm == Norm::kL1) return measured<1>(v);
    return norm == Norm::kL2 ? std::sqrt(measured<2>(v)) : measured<0>(v);
  }

  // The place of the vector that a keyed word picks, or past the last one, see `write`.
  int64_t pick(uint32_t word) {
    if (count_ > 0) {
      const auto index = static_cast<int64_t>(uint64_t{word} * static_cast<uint64_t>(count_) >> 32);
      for (int turn = 0; turn < kTries; ++turn) {
        const int64_t here = start_ + (index + turn) % count_;
        if (distance(here) > nearness_) return here;
      }
    }
    // Of the vertex and the middle between that and the uniform row, the one farther away.
    const bool near_vertex = 2 * (1 - row_[label_]) < (1 - 1 / static_cast<double>(k_)) / 2;
    return bank_.size + label_ + (near_vertex ? k_ : 0);
  }

  // The vector at a place that `pick` gave.
  void write(int64_t place, float* to) const {
    if (place < bank_.size) {
      std::copy(vector(place), vector(place) + k_, to);
      return;
    }
    const bool middle = place >= bank_.size + k_;
    const float rest = middle ? static_cast<float>(1 / static_cast<double>(k_)) : 0.0f;
    std::fill(to, to + k_, middle ? rest / 2 : 0.0f);
    to[(place - bank_.size) % k_] = middle ? (1 + rest) / 2 : 1.0f;
  }

 private:
  // Sum of the differences, of their squares, or the largest of them (kPower 0).
  template <int kPower>
  float measured(const float* v) {
    constexpr int n = kLanes<float>;
    const Block<float> zero = Block<float>::all(0);
    Block<float> sum = zero;
    const auto add = [&](const Block<float>& p, const Block<float>& x) {
      const Block<float> d = max(p - x, x - p);
      if constexpr (kPower == 0)
        sum = max(sum, d);
      else
        sum = sum + (kPower == 1 ? d : d * d);
    };
    int64_t j = 0;
    for (; j + n <= k_; j += n) add(Block<float>::load(&row_[j]), Block<float>::load(v + j));
    if (j < k_) {
      // What stands behind the vector is another one, or the end of the bank.
      Block<float> last;
      if (v + j + n <= end_) {
        last = keep(Block<float>::load(v + j), inside_);
      } else {
        load_tail(v + j, k_ - j, 0.0f, tail_.data());
        last = Block<float>::load(tail_.data());
      }
      add(Block<float>::load(&row_[j]), last);
    }
    return kPower == 0 ? largest(sum) : added(sum);
  }

  Bank bank_;
  const float* end_;
  Mask<float> inside_;  // the lanes of the last, partial block of a row
  int64_t k_, label_ = 0, count_ = 0, start_ = 0;
  float nearness_ = 0;
  std::vector<float> row_, tail_;
};

template <class T>
inline int64_t pick_rows(const Picking<T>& call, int64_t begin, int64_t end) {
  const int64_t k = call.batch.classes;
  Neighbours near(call.bank, k);
  for (int64_t i = begin; i < end; ++i) {
    near.look(call.p + i * k);
    for (int64_t w = i * call.words; w < (i + 1) * call.words; ++w) {
      call.places[w] = near.pick(static_cast<uint32_t>(call.word[w]));
      near.write(call.places[w], call.out + w * k);
    }
  }
  return 0;
}

template <class T>
inline int64_t solitary_rows(const Solitude<T>& call, int64_t begin, int64_t end) {
  const int64_t k = call.batch.classes;
  Neighbours near(call.bank, k);
  for (int64_t i = begin; i < end; ++i) {
    near.look(call.p + i * k);
    call.out[i] = near.count() == 0 || (call.spread[near.label()] <= near.nearness() &&
                                        near.distance(near.place(0, 1)) <= near.nearness());
  }
  return 0;
}

// A 32-bit word for each slot, hashed from the row's.
inline uint32_t mixed(uint32_t word, uint32_t slot) {
  uint32_t x = word ^ ((slot + 1) * 0x9E3779B9u);
  x = (x ^ (x >> 16)) * 0x7FEB352Du;
  x = (x ^ (x >> 15)) * 0x846CA68Bu;
  return x ^ (x >> 16);
}

// Writes the nearest vector in each of nested subsets, subset j of which has a vector with
// probability 2^-j; where it has none, the vector that the word picks.
template <class T>
inline int64_t nearest_rows(const Nearing<T>& call, int64_t begin, int64_t end) {
  const int64_t k = call.batch.classes, subsets = call.subsets;
  Neighbours near(call.bank, k);
  std::vector<float> least(subsets);
  std::vector<int64_t> found(subsets);
  for (int64_t i = begin; i < end; ++i) {
    near.look(call.p + i * k);
    const auto word = static_cast<uint32_t>(call.word[i]);
    std::fill(least.begin(), least.end(), kFloatInfinity);
    std::fill(found.begin(), found.end(), -1);
    for (int64_t s = 0; s < std::min(near.count(), call.slots); ++s) {
      const int64_t here = near.place(s, call.slots);
      const float distance = near.distance(here);
      if (!(distance > near.nearness())) continue;
      const uint32_t draw = mixed(word, static_cast<uint32_t>(s));
      // The last of the subsets that have the vector.
      const int64_t last = std::min<int64_t>(draw ? __builtin_clz(draw) : 32, subsets - 1);
      if (distance < least[last]) {
        least[last] = distance;
        found[last] = s;
      }
    }
    // Each subset contains the next: of equally near vectors the lowest slot wins.
    for (int64_t j = subsets - 2; j >= 0; --j) {
      const bool nearer = least[j + 1] < least[j] || (least[j + 1] == least[j] &&
                                                      found[j + 1] >= 0 && found[j + 1] < found[j]);
      if (!nearer) continue;
      least[j] = least[j + 1];
      found[j] = found[j + 1];
    }
    int64_t spare = -1;
    for (int64_t j = 0; j < subsets; ++j) {
      if (found[j] < 0 && spare < 0) spare = near.pick(word);
      near.write(found[j] < 0 ? spare : near.place(found[j], call.slots),
                 call.out + (i * subsets + j) * k);
    }
  }
  return 0;
}

// Writes rows a share of the way toward the vectors at these places, or the row itself where that
// is nowhere or rounding loses its label; returns how many go nowhere.
template <class T>
inline int64_t approach_rows(const Approach<T>& call, int64_t begin, int64_t end) {
  const int64_t k = call.batch.classes;
  int64_t nowhere = 0;
  for (int64_t i = begin; i < end; ++i) {
    const T* const p = call.p + i * k;
    T* const out = call.out + i * k;
    bool goes = call.places[i] >= 0;
    nowhere += !goes;
    if (goes) {
      const float* const vector = call.vectors + call.places[i] * k;
      for (int64_t j = 0; j < k; ++j) out[j] = between(p[j], vector[j], call.shares[i]);
      goes = label_of(out, k) == label_of(p, k);
    }
    if (!goes) std::copy(p, p + k, out);
  }
  return nowhere;
}

// Chooses the move that is worth most: the error that adversaries make on it less its penalty. The
// error on a share s of the way to vector v is |off|^2 + s (slope + s curve), to the power given.
template <class T>
inline int64_t choose_rows(const Choosing<T>& call, int64_t begin, int64_t end) {
  constexpr float kShares[] = {1.0f, 0.5f, 0.25f};
  const int64_t k = call.batch.classes, c = call.components, d = c + 1;
  // After so many words comes the slots' next bit.
  const int64_t round = (call.slots + 31) / 32;
  Neighbours near(call.bank, k);
  std::vector<float> off(padded<float>(d)), theirs(padded<float>(d));
  const auto dot = [&](const std::vector<float>& a, const float* b) {
    Block<float> sum = Block<float>::all(0);
    float tail[kLanes<float>];
    for (int64_t j = 0; j < d; j += kLanes<float>) {
      const float* from = b + j;
      if (j + kLanes<float> > d) {
        load_tail(b + j, d - j, 0.0f, tail);
        from = tail;
      }
      sum = fused(sum, Block<float>::load(&a[j]), Block<float>::load(from));
    }
    return added(sum);
  };
  const auto power = [&](float x) { return call.root ? std::sqrt(x) : x; };
  for (int64_t i = begin; i < end; ++i) {
    near.look(call.p + i * k);
    const float *const clean = call.predicted + i * call.stride, *const of_theirs = clean + c;
    std::copy(of_theirs, of_theirs + d, theirs.begin());
    for (int64_t j = 0; j < d; ++j) off[j] = of_theirs[j] - (j < c ? clean[j] : 0.0f);
    const float bare = dot(off, off.data()), size = dot(theirs, theirs.data());
    const float off_theirs = dot(off, theirs.data());
    float best = power(bare), share = 0;
    int64_t first = 0, chosen = -1;
    bool alone = true;
    for (int64_t s = 0; s < std::min(near.count(), call.slots); ++s) {
      const int64_t here = near.place(s, call.slots);
      bool kept = true;
      for (int64_t w = s / 32; w < call.words; w += round)
        kept &= call.word[i * call.words + w] >> s % 32 & 1;
      // (Of the others only whether they are there matters.)
      if (!kept && !alone) continue;
      const float distance = near.distance(here);
      if (!(distance > near.nearness())) continue;
      alone = false;
      if (!kept) continue;
      const float far = call.norm == Norm::kL1 ? distance : near.distance(here, call.norm);
      const float most = std::min(
          static_cast<float>(call.epsilon) / std::max(far, static_cast<float>(call.bank.same)),
          1.0f);
      const float* const there = call.recovered + here * (c + 2);
      const float slope = 2 * dot(off, there) - 2 * off_theirs;
      const float curve = std::max(there[d] - 2 * dot(theirs, there) + size, 0.0f);
      for (int64_t turn = 0; turn < 3; ++turn) {
        const float part = std::min(kShares[turn], most), spent = part * distance;
        const float error = std::max((part * curve + slope) * part + bare, 0.0f);
        const float value =
            power(error) - static_cast<float>(call.weight) * (spent + spent * spent);
        const int64_t order = 1 + turn * call.slots + s;
        if (value > best || (value == best && chosen >= 0 && order < first) || std::isnan(value)) {
          best = value;
          first = order;
          chosen = here;
          share = kShares[turn];
        }
      }
    }
    // Scores that overflow say nothing of the moves.
    call.places[i] =
        alone || !(std::abs(best) < kFloatInfinity) ? -1 : std::max<int64_t>(chosen, 0);
    call.shares[i] = chosen < 0 ? 0 : share;
  }
  return 0;
}

}  // namespace MIPOISON_ISA
}  // namespace mipoison
