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
#include <complex>
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
using maslin::gate_form;
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

template <class S>
line complex_diagonal(const sizes& n) {
  const auto [B, T, D] = n;
  integers r(404);
  std::vector<S> gate(static_cast<std::size_t>(2 * B * T * D));
  for (std::size_t i = 0; i < gate.size(); i += 2) {
    const bool sticky = is_sticky(static_cast<index_t>(i / 2) % D);
    // Of modulus below one: (1 - d, d / 2), or both parts up to 0.7.
    const S d = fraction<S>(r.between(1, 16), 24);
    gate[i] = sticky ? 1 - d : fraction<S>(r.between(-11468, 11468), 14);
    gate[i + 1] = sticky ? d / 2 : fraction<S>(r.between(-11468, 11468), 14);
  }
  const auto input = numbers<S>(2 * B * T * D, r);
  auto h = numbers<S>(2 * B * D, r);
  std::vector<S> out(input.size());
  using number = std::complex<S>;
  using mixer_t = maslin::diagonal<number>;
  const auto rows = [&, B = B, T = T, D = D](const std::vector<S>& v) {
    return maslin::row_major(reinterpret_cast<const number*>(v.data()), B, T, D);
  };
  return {std::string("complex_diagonal/") + scalar_name<S> + shape_text("D", n),
          hash_of(mixer_t{.channels = D, .decay = {}},
                  typename mixer_t::tokens{.gate = rows(gate), .input = rows(input)}, out,
                  maslin::row_major(reinterpret_cast<number*>(out.data()), B, T, D), h,
                  maslin::row_major(h.data(), B, D, 2))};
}

template <class S, gate_form Form>
line rglru(const char* form, const sizes& n) {
  const auto [B, T, D] = n;
  integers r(505);
  std::vector<S> gates, decay;
  for (index_t i = 0; i < 2 * B * T * D; ++i)
    gates.push_back(Form == gate_form::logit ? fraction<S>(r.between(-4095, 4095), 10)
                                             : fraction<S>(r.between(0, 1 << 20), 20));
  // From decays that keep all but 1e-5 of the state to ones that underflow.
  for (index_t i = 0; i < D; ++i) decay.push_back(fraction<S>(r.between(-12288, 16384), 10));
  const auto input = numbers<S>(B * T * D, r);
  auto h = numbers<S>(B * D, r);
  std::vector<S> out(input.size());
  using mixer_t = maslin::rglru<S, Form>;
  const auto rows = [&, B = B, T = T, D = D](const S* v) { return maslin::row_major(v, B, T, D); };
  const typename mixer_t::tokens tokens{.recurrence_gate = rows(std::as_const(gates).data()),
                                        .input_gate = rows(std::as_const(gates).data() + B * T * D),
                                        .input = rows(input.data())};
  return {
      std::string("rglru/") + scalar_name<S> + "/" + form + shape_text("D", n),
      hash_of(mixer_t{.channels = D, .decay = maslin::row_major(std::as_const(decay).data(), D)},
              tokens, out, maslin::row_major(out.data(), B, T, D), h,
              maslin::row_major(h.data(), B, D))};
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

template <class S, maslin::discretisation Rule>
line selective_ssm(const char* rule, index_t N, const sizes& n) {
  const auto [B, T, D] = n;
  integers r(404);
  const auto between = [&](index_t count, std::int64_t low, std::int64_t high, int shift) {
    std::vector<S> x(static_cast<std::size_t>(count));
    for (S& v : x) v = fraction<S>(r.between(low, high), shift);
    return x;
  };
  // Decays from 2^-20 to 16, steps of softplus(-8) to softplus(2).
  const auto decay = between(D * N, -16 << 20, -1, 20), skip = between(D, -4096, 4096, 12);
  const auto dt = between(B * T * D, -8192, 2048, 10), gate = between(B * T * D, -4096, 4096, 10);
  const auto write = between(B * T * N, -4096, 4096, 11),
             read = between(B * T * N, -4096, 4096, 11);
  const auto input = numbers<S>(B * T * D, r);
  auto h = numbers<S>(B * D * N, r);
  std::vector<S> out(input.size());
  using mixer_t = maslin::selective_ssm<S, Rule>;
  using maslin::row_major;
  const mixer_t mixer{.channels = D,
                      .state_dim = N,
                      .decay = row_major(decay.data(), D, N),
                      .skip = row_major(skip.data(), D),
                      .dt_bias = row_major(skip.data(), D)};
  const typename mixer_t::tokens tokens{.dt = row_major(dt.data(), B, T, D),
                                        .input = row_major(input.data(), B, T, D),
                                        .write = row_major(write.data(), B, T, 1, N),
                                        .read = row_major(read.data(), B, T, 1, N),
                                        .output_gate = row_major(gate.data(), B, T, D)};
  return {
      std::string("selective_ssm/") + scalar_name<S> + "/" + rule + "/N:" + std::to_string(N) +
          shape_text("D", n),
      hash_of(mixer, tokens, out, row_major(out.data(), B, T, D), h, row_major(h.data(), B, D, N))};
}

template <class S, int Width>
line causal_conv(const sizes& n) {
  const auto [B, T, D] = n;
  integers r(505);
  const auto weight = numbers<S>(D * Width, r), bias = numbers<S>(D, r),
             input = numbers<S>(B * T * D, r);
  auto h = numbers<S>(B * D * (Width - 1), r);
  std::vector<S> out(input.size());
  using mixer_t = maslin::causal_conv<S, Width>;
  using maslin::row_major;
  const mixer_t mixer{.channels = D,
                      .weight = row_major(weight.data(), D, Width),
                      .bias = row_major(bias.data(), D),
                      .silu = true};
  const typename mixer_t::tokens tokens{.input = row_major(input.data(), B, T, D)};
  return {std::string("causal_conv/") + scalar_name<S> + "/W:" + std::to_string(Width) +
              shape_text("D", n),
          hash_of(mixer, tokens, out, row_major(out.data(), B, T, D), h,
                  row_major(h.data(), B, D, Width - 1))};
}

/// y and the state after a call of a mixer with a matrix state, from another state.
template <class Mixer, class S>
std::string hash_of_matrices(const Mixer& mixer, const typename Mixer::tokens& tokens,
                             const sizes& n, index_t K, index_t E, std::vector<S> h) {
  const auto [B, T, H] = n;
  std::vector<S> out(static_cast<std::size_t>(B * T * H * E));
  auto state = mixer.make_state(B);
  state.copy_from(maslin::row_major(std::as_const(h).data(), B, H, K, E));
  mixer.scan(maslin::exec::sequential{}, tokens, maslin::row_major(out.data(), B, T, H, E), state);
  state.copy_to(maslin::row_major(h.data(), B, H, K, E));
  hash all;
  all.add(out);
  all.add(h);
  return all.text();
}

template <class S>
std::vector<S> fractions(index_t count, std::int64_t low, std::int64_t high, int shift,
                         integers& r) {
  std::vector<S> x(static_cast<std::size_t>(count));
  for (S& v : x) v = fraction<S>(r.between(low, high), shift);
  return x;
}

/// Keys of 5 numbers, values of 21; `channels` heads.
constexpr index_t key_numbers = 5, value_numbers = 21;

template <class S, maslin::decay_axis Axis, maslin::feature Map>
line linear_attention(const char* form, const sizes& n) {
  const auto [B, T, H] = n;
  constexpr index_t K = key_numbers, E = value_numbers;
  integers r(606);
  using mixer_t = maslin::linear_attention<S, Axis, Map>;
  using maslin::row_major;
  const auto query = numbers<S>(B * T * H * K, r), key = numbers<S>(B * T * H * K, r),
             value = numbers<S>(B * T * H * E, r);
  // Decays from exp(-2^-20) to exp(-2).
  const auto decay = fractions<S>(B * T * H * K, -2 << 20, -1, 20, r);
  typename mixer_t::tokens tokens{.query = row_major(query.data(), B, T, H, K),
                                  .key = row_major(key.data(), B, T, H, K),
                                  .value = row_major(value.data(), B, T, H, E)};
  if constexpr (Axis == maslin::decay_axis::head)
    tokens.log_decay = row_major(decay.data(), B, T, H);
  if constexpr (Axis == maslin::decay_axis::key)
    tokens.log_decay = row_major(decay.data(), B, T, H, K);
  return {std::string("linear_attention/") + scalar_name<S> + "/" + form + shape_text("H", n),
          hash_of_matrices(mixer_t{.heads = H, .key_dim = K, .value_dim = E}, tokens, n, K, E,
                           numbers<S>(B * H * K * E, r))};
}

template <class S, maslin::decay_axis Axis>
line delta_rule(const char* form, const sizes& n) {
  const auto [B, T, H] = n;
  constexpr index_t K = key_numbers, E = value_numbers;
  integers r(707);
  using mixer_t = maslin::delta_rule<S, Axis>;
  using maslin::row_major;
  // Keys of length below 1.
  const auto query = numbers<S>(B * T * H * K, r),
             key = fractions<S>(B * T * H * K, -1800, 1800, 12, r),
             value = numbers<S>(B * T * H * E, r), beta = fractions<S>(B * T * H, 0, 4096, 12, r),
             decay = fractions<S>(B * T * H, -2 << 20, -1, 20, r);
  typename mixer_t::tokens tokens{.query = row_major(query.data(), B, T, H, K),
                                  .key = row_major(key.data(), B, T, H, K),
                                  .value = row_major(value.data(), B, T, H, E),
                                  .beta = row_major(beta.data(), B, T, H)};
  if constexpr (Axis == maslin::decay_axis::head)
    tokens.log_decay = row_major(decay.data(), B, T, H);
  return {std::string("delta_rule/") + scalar_name<S> + "/" + form + shape_text("H", n),
          hash_of_matrices(mixer_t{.heads = H, .key_dim = K, .value_dim = E}, tokens, n, K, E,
                           numbers<S>(B * H * K * E, r))};
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

void add_complex_and_rglru(std::vector<line>& all) {
  all.push_back(complex_diagonal<float>(wide));
  all.push_back(complex_diagonal<float>(lengthy));
  all.push_back(complex_diagonal<double>(wide));
  all.push_back(rglru<float, gate_form::probability>("probability", wide));
  all.push_back(rglru<float, gate_form::probability>("probability", lengthy));
  all.push_back(rglru<float, gate_form::logit>("logit", wide));
  all.push_back(rglru<double, gate_form::probability>("probability", wide));
  all.push_back(rglru<double, gate_form::logit>("logit", narrow));
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

/// Two heads of E channels; rows with an L1 norm below 1.
template <class S, class P, maslin::weights W = maslin::weights::given>
line generalized(const char* pattern, const P& p, const sizes& n) {
  const auto [B, T, E] = n;
  constexpr index_t H = 2;
  const index_t slots = maslin::pattern::max_levels(p, T);
  integers r(404);
  std::vector<S> self(static_cast<std::size_t>(B * T * H));
  std::vector<S> past(self.size() * static_cast<std::size_t>(slots));
  for (S& v : self) v = fraction<S>(r.between(-2047, 2047), 12);
  for (S& v : past) v = fraction<S>(r.between(-2047, 2047), 12) / static_cast<S>(slots);
  const auto input = numbers<S>(B * T * H * E, r);
  std::vector<S> out(input.size());
  using mixer_t = maslin::generalized<S, P, W>;
  const mixer_t mixer{.heads = H, .value_dim = E, .pattern = p};
  auto state = mixer.make_state(B, T);
  mixer.scan(maslin::exec::sequential{},
             {.self = maslin::row_major(std::as_const(self).data(), B, T, H),
              .past = maslin::row_major(std::as_const(past).data(), B, T, H, slots),
              .input = maslin::row_major(input.data(), B, T, H, E),
              .offsets = {}},
             maslin::row_major(out.data(), B, T, H, E), state);
  hash all;
  all.add(out);
  return {std::string("generalized/") + scalar_name<S> + "/" + pattern + shape_text("E", n),
          all.text()};
}

/// Queries and keys of 11 numbers.
template <class S, class M>
line scores(const char* name, const M& of, const sizes& n) {
  const auto [B, T, E] = n;
  constexpr index_t H = 2, K = 11;
  integers r(505);
  const auto query = numbers<S>(B * T * H * K, r), key = numbers<S>(B * T * H * K, r),
             input = numbers<S>(B * T * H * E, r);
  std::vector<S> out(input.size());
  M mixer = of;
  mixer.heads = H;
  mixer.key_dim = K;
  mixer.value_dim = E;
  mixer.scale = S(0.125);
  auto state = mixer.make_state(B, T);
  mixer.scan(maslin::exec::sequential{},
             {.query = maslin::row_major(query.data(), B, T, H, K),
              .key = maslin::row_major(key.data(), B, T, H, K),
              .input = maslin::row_major(input.data(), B, T, H, E),
              .offsets = {}},
             maslin::row_major(out.data(), B, T, H, E), state);
  hash all;
  all.add(out);
  return {std::string("generalized_scores/") + scalar_name<S> + "/" + name + shape_text("E", n),
          all.text()};
}

void add_generalized(std::vector<line>& all) {
  using namespace maslin::pattern;
  using maslin::weights;
  all.push_back(generalized<float, order>("order3", {3}, wide));
  all.push_back(generalized<float, dense>("dense", {}, sizes{1, 300, 21}));
  all.push_back(generalized<double, power2>("power2", {}, narrow));
  all.push_back(generalized<float, cached<square1>>("cached-square1", {}, wide));
  all.push_back(
      generalized<float, cached<power2>, weights::softmax>("softmax-cached-power2", {}, wide));
  all.push_back(scores<float>("softmax-cached-square1",
                              maslin::generalized_scores<float, cached<square1>>{}, wide));
  maslin::chacal<float> chained;
  chained.feedback = 0.75f;
  all.push_back(scores<float>("chacal", chained, narrow));
}

void add_selective(std::vector<line>& all) {
  using enum maslin::discretisation;
  all.push_back(selective_ssm<float, euler>("euler", 16, wide));
  all.push_back(selective_ssm<double, euler>("euler", 5, narrow));
  all.push_back(selective_ssm<float, zero_order_hold>("zero_order_hold", 3, wide));
  all.push_back(causal_conv<float, 4>(wide));
  all.push_back(causal_conv<double, 3>(narrow));
}

/// Two key-value heads of four; the options are a window, slopes, a soft cap and sinks.
template <class S, class C>
line attention(const char* name, bool options, const sizes& n) {
  const auto [B, T, E] = n;
  constexpr index_t H = 4, G = 2, K = 11;
  integers r(606);
  const auto query = numbers<S>(B * T * H * K, r), key = numbers<S>(B * T * G * K, r),
             value = numbers<S>(B * T * G * E, r), sinks = numbers<S>(H, r);
  const std::vector<S> slopes{S(0.25), S(0.0625), S(0.015625), S(0.00390625)};
  std::vector<S> out(static_cast<std::size_t>(B * T * H * E)),
      sums(static_cast<std::size_t>(B * T * H));
  maslin::attention<S, C> mixer{
      .heads = H, .key_heads = G, .key_dim = K, .value_dim = E, .scale = S(0.125)};
  if (options) {
    mixer.window = 70;
    mixer.cap = S(3);
    mixer.slopes = maslin::row_major(slopes.data(), H);
    mixer.sinks = maslin::row_major(sinks.data(), H);
  }
  auto state = options ? mixer.make_state(B) : mixer.make_state(B, T);
  mixer.scan(maslin::exec::sequential{},
             {.query = maslin::row_major(query.data(), B, T, H, K),
              .key = maslin::row_major(key.data(), B, T, G, K),
              .value = maslin::row_major(value.data(), B, T, G, E)},
             maslin::row_major(out.data(), B, T, H, E), state,
             maslin::row_major(sums.data(), B, T, H));
  hash all;
  all.add(out);
  all.add(sums);
  return {std::string("attention/") + scalar_name<S> + "/" + name + shape_text("E", n), all.text()};
}

void add_attention(std::vector<line>& all) {
  all.push_back(attention<float, float>("plain", false, wide));
  all.push_back(attention<float, float>("plain", false, sizes{1, 1100, 7}));
  all.push_back(attention<float, float>("options", true, narrow));
  all.push_back(attention<double, double>("plain", false, wide));
  all.push_back(attention<double, double>("options", true, narrow));
  all.push_back(attention<float, maslin::bf16>("bf16", false, wide));
  all.push_back(attention<float, maslin::fp16>("fp16-options", true, narrow));
}

void add_matrices(std::vector<line>& all) {
  using enum maslin::decay_axis;
  using enum maslin::feature;
  constexpr sizes few{2, 65, 3};
  all.push_back(linear_attention<float, none, given>("plain", few));
  all.push_back(linear_attention<float, head, elu_plus_one>("head-elu", few));
  all.push_back(linear_attention<double, key, given>("key", few));
  all.push_back(delta_rule<float, head>("gated", few));
  all.push_back(delta_rule<double, none>("plain", few));
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
  add_generalized(all);
  add_selective(all);
  add_complex_and_rglru(all);
  add_attention(all);
  add_matrices(all);
  if (argument == "--write") {
    for (const line& l : all) std::printf("%s %s\n", l.name.c_str(), l.hash.c_str());
    return 0;
  }
  std::filesystem::path file = argument;
  if (std::filesystem::is_directory(file)) file /= "hashes_" + family + ".txt";
  return differences(all, file) == 0 ? 0 : 1;
}
