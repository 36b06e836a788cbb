// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the higher-order recurrence: D channels, each with M lags.

#include "support/gated.hpp"
#include "support/gated_plan.hpp"

#include <maslin/gradient/hlru.hpp>
#include <maslin/reference/hlru.hpp>

namespace bench {
namespace {

template <int M>
struct hlru_family {
  static constexpr const char* name = "hlru";
  static constexpr int order = M;
  static constexpr index_t group = maslin::default_group;

  template <normalise N, gates O>
  using mixer = maslin::hlru<float, M, N, O>;
  template <normalise N, gates O>
  static mixer<N, O> make(index_t D) {
    return {.channels = D};
  }

  static index_t state_size(index_t D) { return D * M; }
  static index_t groups(index_t D) { return (D + group - 1) / group; }
  static index_t grouped_size(index_t B, index_t T, index_t D) {
    return B * T * groups(D) * (M + 1) * group;
  }
  static auto natural(const buffer& b, index_t B, index_t T, index_t D) {
    return maslin::row_major(b.data(), B, T, D, M + 1);
  }
  static auto lane_grouped(const buffer& b, index_t B, index_t T, index_t D) {
    return maslin::row_major(b.data(), B, T, groups(D), M + 1, group);
  }
  static auto values(const buffer& b, index_t B, index_t T, index_t D) {
    return maslin::row_major(b.data(), B, T, D);
  }

  static void reference(normalise N, index_t T, index_t D, const double* gate, const double* x,
                        double* h, double* y) {
    maslin::reference::hlru(N, maslin::row_major(gate, 1, T, D, M + 1),
                            maslin::row_major(x, 1, T, D), maslin::row_major(h, 1, D, M),
                            maslin::row_major(y, 1, T, D));
  }
  template <normalise N>
  static void bound(index_t T, index_t D, const float* gate, const float* x, float* out) {
    bound_hlru<M, N>(T, D, gate, x, out);
  }
  template <normalise N, naive::order Order>
  static void naive(index_t T, index_t D, const float* gate, const float* x, float* h, float* y) {
    naive::hlru<M, N, Order>(T, D, gate, x, h, y);
  }
  /// Where a gate of natural order lies in grouped order.
  static index_t place_of(index_t D, index_t i) {
    const index_t k = i % (M + 1), c = i / (M + 1) % D, t = i / (M + 1) / D;
    return ((t * groups(D) + c / group) * (M + 1) + k) * group + c % group;
  }
  static void backward_reference(normalise N, last_tokens& u) {
    const auto numbers = [&](auto& v) { return maslin::row_major(v.data(), 1, u.T, u.D); };
    const auto rows = [&](auto& v) { return maslin::row_major(v.data(), 1, u.T, u.D, M + 1); };
    const auto states = [&](auto& v) { return maslin::row_major(v.data(), 1, u.D, M); };
    maslin::reference::hlru_backward<double>(
        maslin::gate_side::read, N, rows(u.gate), numbers(u.input), states(u.initial),
        numbers(u.dy), numbers(u.y), rows(u.dgate), numbers(u.dinput), states(u.dstate));
  }
  template <normalise N>
  static void naive_backward(index_t T, index_t D, const float* gate, const float* x,
                             const float* y, const float* dy, float* dgate, float* dx) {
    naive::hlru_backward<M, N>(T, D, gate, x, y, dy, dgate, dx);
  }
  static void eigen(index_t T, index_t D, const float* gate, const float* x, float* h, float* y) {
    eigen::hlru<M>(T, D, gate, x, h, y);
  }
};

}  // namespace

std::vector<workload> hlru_workloads(const settings& s) { return gated_plan<hlru_family>(s); }

}  // namespace bench
