// SPDX-License-Identifier: Apache-2.0

/// \file
/// Hashes of what the default policy computes, one line a configuration: the same on every target
/// of a family, for every compiler and optimisation level.
///
///   hashes, hashes --write   prints the family's name and the hashes
///   hashes PATH              compares with the pinned file PATH, or with hashes_fma.txt or
///                            hashes_non_fma.txt in the directory PATH; fails on any difference
///
/// Inputs come from integers and exact conversions only, so that no library function decides a bit.

#include <maslin/maslin.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using maslin::decay;
using maslin::gate_side;
using maslin::gates;
using maslin::index_t;
using maslin::normalise;

/// A linear congruential generator modulo 2^64 (constants of Knuth's MMIX).
class integers {
 public:
  explicit integers(std::uint64_t seed) : state_(seed) {}
  /// In first .. last.
  std::int64_t between(std::int64_t first, std::int64_t last) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    const auto span = static_cast<std::uint64_t>(last - first + 1);
    return first + static_cast<std::int64_t>((state_ >> 33) % span);
  }

 private:
  std::uint64_t state_;
};

/// n / 2^shift, exact for |n| < 2^24 in float.
template <class S>
S fraction(std::int64_t n, int shift) {
  return static_cast<S>(n) / static_cast<S>(std::int64_t{1} << shift);
}

/// FNV-1a, 64 bits, over numbers as little-endian bytes.
class hash {
 public:
  template <class S>
  void add(const std::vector<S>& numbers) {
    using word = std::conditional_t<sizeof(S) == 4, std::uint32_t, std::uint64_t>;
    for (const S x : numbers) {
      const auto bits = std::bit_cast<word>(x);
      for (std::size_t i = 0; i < sizeof(S); ++i) {
        value_ ^= static_cast<std::uint64_t>(bits >> (8 * i)) & 0xffu;
        value_ *= 1099511628211u;
      }
    }
  }
  [[nodiscard]] std::string text() const {
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value_));
    return digits;
  }

 private:
  std::uint64_t value_ = 14695981039346656037u;
};

struct line {
  std::string name, hash;
};

struct sizes {
  index_t batch, length, channels;
};

/// A row of gates whose coefficient `keep` is within 1e-6 of 1.
template <class S>
void fill_sticky(normalise kind, S* row, int size, int keep, integers& r) {
  for (int k = 0; k < size; ++k) {
    const bool kept = k == keep;
    switch (kind) {
      case normalise::none:
        row[k] = kept ? 1 - fraction<S>(r.between(1, 16), 24) : fraction<S>(r.between(-9, 9), 28);
        break;
      case normalise::softmax:
      case normalise::sigmoid_l1:
        row[k] = fraction<S>(r.between(kept ? 0 : -4864, kept ? 511 : -4352), 8);
        break;
      case normalise::relu_l1:
        row[k] = kept ? static_cast<S>(r.between(1024, 2047)) * static_cast<S>(size)
                      : fraction<S>(r.between(-7, 7), 12);
        break;
      case normalise::tanh_l1:
      case normalise::lin_l1:
        row[k] = kept ? fraction<S>(r.between(192, 511), 8) : fraction<S>(r.between(-31, 31), 28);
        break;
    }
  }
}

/// A row of gates of all sizes; given ones with an L1 norm of at most 1.
template <class S>
void fill_spread(normalise kind, S* row, int size, integers& r) {
  for (int k = 0; k < size; ++k)
    row[k] = kind == normalise::none ? fraction<S>(r.between(-2047, 2047), 15)
                                     : fraction<S>(r.between(-4095, 4095), 10);
}

template <class S>
std::vector<S> numbers(index_t count, integers& r) {
  std::vector<S> x(static_cast<std::size_t>(count));
  for (S& v : x) v = fraction<S>(r.between(-1048575, 1048575), 18);
  return x;
}

/// Two channels of three have gates close to 1.
bool is_sticky(index_t channel) { return channel % 3 != 2; }

std::string shape_text(const char* channels, const sizes& n) {
  return "/B:" + std::to_string(n.batch) + "/T:" + std::to_string(n.length) + "/" + channels + ":" +
         std::to_string(n.channels);
}

template <class S>
constexpr const char* scalar_name = std::is_same_v<S, float> ? "float" : "double";

constexpr const char* name_of(normalise kind) {
  switch (kind) {
    case normalise::none: return "none";
    case normalise::softmax: return "softmax";
    case normalise::sigmoid_l1: return "sigmoid_l1";
    case normalise::relu_l1: return "relu_l1";
    case normalise::tanh_l1: return "tanh_l1";
    case normalise::lin_l1: return "lin_l1";
  }
  return "";
}

/// Scans and hashes y and the final state.
template <class Mixer, class Tokens, class Output, class State>
std::string hash_of(const Mixer& mixer, const Tokens& tokens,
                    std::vector<typename Mixer::scalar_type>& out, const Output& y,
                    std::vector<typename Mixer::scalar_type>& h, const State& initial) {
  auto state = mixer.make_state(initial.extent(0));
  state.copy_from(initial);
  mixer.scan(maslin::exec::sequential{}, tokens, y, state);
  state.copy_to(initial);
  hash all;
  all.add(out);
  all.add(h);
  return all.text();
}

template <class S, decay Form>
line diagonal(const char* form, const sizes& n) {
  const auto [B, T, D] = n;
  integers r(101);
  std::vector<S> gate(static_cast<std::size_t>(B * T * D));
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const bool sticky = is_sticky(static_cast<index_t>(i) % D);
    const S closeness = fraction<S>(r.between(0, sticky ? 16 : 1 << 24), 24);
    gate[i] = Form == decay::value ? 1 - closeness : Form == decay::log ? -closeness : closeness;
  }
  const auto input = numbers<S>(B * T * D, r);
  auto h = numbers<S>(B * D, r);
  std::vector<S> out(input.size());
  using mixer_t = maslin::diagonal<S, Form>;
  const typename mixer_t::tokens tokens{
      .gate = maslin::row_major(std::as_const(gate).data(), B, T, D),
      .input = maslin::row_major(input.data(), B, T, D)};
  return {std::string("diagonal/") + scalar_name<S> + "/" + form + shape_text("D", n),
          hash_of(mixer_t{.channels = D, .decay = {}}, tokens, out,
                  maslin::row_major(out.data(), B, T, D), h, maslin::row_major(h.data(), B, D))};
}

template <class S, int M, normalise N, gate_side Side = gate_side::read>
line hlru(const sizes& n) {
  const auto [B, T, D] = n;
  integers r(202);
  std::vector<S> gate(static_cast<std::size_t>(B * T * D * (M + 1)));
  for (index_t i = 0; i < B * T * D; ++i) {
    S* row = gate.data() + i * (M + 1);
    if (is_sticky(i % D))
      fill_sticky(N, row, M + 1, 0, r);
    else
      fill_spread(N, row, M + 1, r);
  }
  const auto input = numbers<S>(B * T * D, r);
  auto h = numbers<S>(B * D * M, r);
  std::vector<S> out(input.size());
  using mixer_t = maslin::hlru<S, M, N, gates::natural, Side>;
  const typename mixer_t::tokens tokens{
      .gate = maslin::row_major(std::as_const(gate).data(), B, T, D, M + 1),
      .input = maslin::row_major(input.data(), B, T, D)};
  return {std::string(Side == gate_side::read ? "hlru/" : "hlru_write/") + scalar_name<S> + "/" +
              name_of(N) + "/M:" + std::to_string(M) + shape_text("D", n),
          hash_of(mixer_t{.channels = D}, tokens, out, maslin::row_major(out.data(), B, T, D), h,
                  maslin::row_major(h.data(), B, D, M))};
}

template <class S, int M, normalise N>
line bdlru(const sizes& n) {
  const auto [B, T, G] = n;
  integers r(303);
  std::vector<S> gate(static_cast<std::size_t>(B * T * G * M * (M + 1)));
  for (index_t i = 0; i < B * T * G * M; ++i) {
    S* row = gate.data() + i * (M + 1);
    if (is_sticky(i / M % G))
      fill_sticky(N, row, M + 1, static_cast<int>(i % M), r);
    else
      fill_spread(N, row, M + 1, r);
  }
  const auto input = numbers<S>(B * T * G * M, r);
  auto h = numbers<S>(B * G * M, r);
  std::vector<S> out(input.size());
  using mixer_t = maslin::bdlru<S, M, N>;
  const typename mixer_t::tokens tokens{
      .gate = maslin::row_major(std::as_const(gate).data(), B, T, G, M, M + 1),
      .input = maslin::row_major(input.data(), B, T, G, M)};
  return {std::string("bdlru/") + scalar_name<S> + "/" + name_of(N) + "/M:" + std::to_string(M) +
              shape_text("G", n),
          hash_of(mixer_t{.blocks = G}, tokens, out, maslin::row_major(out.data(), B, T, G, M), h,
                  maslin::row_major(h.data(), B, G, M))};
}

/// Odd sizes: a tail beside whole registers, and rows that fit in one register.
constexpr sizes wide{2, 65, 21}, narrow{3, 129, 5}, lengthy{1, 4097, 3};

void add_diagonal(std::vector<line>& all) {
  all.push_back(diagonal<float, decay::value>("value", wide));
  all.push_back(diagonal<float, decay::value>("value", lengthy));
  all.push_back(diagonal<float, decay::log>("log", wide));
  all.push_back(diagonal<float, decay::complement>("complement", wide));
  all.push_back(diagonal<double, decay::value>("value", narrow));
  all.push_back(diagonal<double, decay::log>("log", wide));
  all.push_back(diagonal<double, decay::complement>("complement", narrow));
}

void add_hlru(std::vector<line>& all) {
  all.push_back(hlru<float, 1, normalise::softmax>(wide));
  all.push_back(hlru<float, 2, normalise::sigmoid_l1>(narrow));
  all.push_back(hlru<float, 3, normalise::tanh_l1>(wide));
  all.push_back(hlru<float, 4, normalise::softmax>(wide));
  all.push_back(hlru<float, 4, normalise::softmax>(lengthy));
  all.push_back(hlru<float, 4, normalise::none>(narrow));
  all.push_back(hlru<float, 5, normalise::relu_l1>(wide));
  all.push_back(hlru<float, 6, normalise::none>(wide));
  all.push_back(hlru<float, 7, normalise::lin_l1>(narrow));
  all.push_back(hlru<float, 8, normalise::softmax>(wide));
  all.push_back(hlru<float, 16, normalise::softmax>(wide));
  all.push_back(hlru<double, 1, normalise::none>(narrow));
  all.push_back(hlru<double, 2, normalise::softmax>(wide));
  all.push_back(hlru<double, 3, normalise::sigmoid_l1>(wide));
  all.push_back(hlru<double, 4, normalise::tanh_l1>(narrow));
  all.push_back(hlru<double, 8, normalise::softmax>(wide));
  all.push_back(hlru<float, 4, normalise::softmax, gate_side::write>(wide));
}

void add_bdlru(std::vector<line>& all) {
  all.push_back(bdlru<float, 1, normalise::softmax>(wide));
  all.push_back(bdlru<float, 2, normalise::softmax>(narrow));
  all.push_back(bdlru<float, 3, normalise::relu_l1>(wide));
  all.push_back(bdlru<float, 4, normalise::softmax>(wide));
  all.push_back(bdlru<float, 4, normalise::none>(wide));
  all.push_back(bdlru<float, 4, normalise::none>(lengthy));
  all.push_back(bdlru<float, 5, normalise::lin_l1>(narrow));
  all.push_back(bdlru<float, 6, normalise::sigmoid_l1>(wide));
  all.push_back(bdlru<float, 7, normalise::tanh_l1>(narrow));
  all.push_back(bdlru<float, 8, normalise::softmax>(wide));
  all.push_back(bdlru<float, 16, normalise::softmax>(narrow));
  all.push_back(bdlru<double, 1, normalise::sigmoid_l1>(wide));
  all.push_back(bdlru<double, 2, normalise::tanh_l1>(wide));
  all.push_back(bdlru<double, 3, normalise::softmax>(narrow));
  all.push_back(bdlru<double, 4, normalise::softmax>(wide));
  all.push_back(bdlru<double, 8, normalise::none>(narrow));
}

/// Compares with the lines of `file`; prints what differs and returns how much does.
int differences(const std::vector<line>& all, const std::filesystem::path& file) {
  std::ifstream stream(file);
  if (!stream) {
    std::fprintf(stderr, "hashes: cannot open %s\n", file.string().c_str());
    return 1;
  }
  std::map<std::string, std::string> pinned;
  for (std::string name, value; stream >> name >> value;) pinned[name] = value;
  int wrong = 0;
  for (const line& l : all) {
    const std::string want = pinned.contains(l.name) ? pinned.at(l.name) : "no line";
    pinned.erase(l.name);
    if (want == l.hash) continue;
    std::printf("%s: computed %s, pinned %s\n", l.name.c_str(), l.hash.c_str(), want.c_str());
    ++wrong;
  }
  for (const auto& [name, value] : pinned) {
    std::printf("%s: not computed, pinned %s\n", name.c_str(), value.c_str());
    ++wrong;
  }
  std::printf("%zu lines, %d differ from %s\n", all.size(), wrong,
              file.filename().string().c_str());
  return wrong;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string argument = argc > 1 ? argv[1] : "--write";
  const std::string family = maslin::fused_family ? "fma" : "non_fma";
  std::vector<line> all{{"family", family}};
  add_diagonal(all);
  add_hlru(all);
  add_bdlru(all);
  if (argument == "--write") {
    for (const line& l : all) std::printf("%s %s\n", l.name.c_str(), l.hash.c_str());
    return 0;
  }
  std::filesystem::path file = argument;
  if (std::filesystem::is_directory(file)) file /= "hashes_" + family + ".txt";
  return differences(all, file) == 0 ? 0 : 1;
}
