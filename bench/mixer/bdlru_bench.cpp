// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the block-diagonal recurrence: D numbers of state in blocks of M.

#include "support/gated.hpp"
#include "support/gated_plan.hpp"

#include <maslin/gradient/bdlru.hpp>
#include <maslin/reference/bdlru.hpp>

namespace bench {
namespace {

template <int M>
struct bdlru_family {
  static constexpr const char* name = "bdlru";
  static constexpr int order = M;
  static constexpr index_t group = maslin::default_group;

  template <normalise N, gates O>
  using mixer = maslin::bdlru<float, M, N, O>;
  template <normalise N, gates O>
  static mixer<N, O> make(index_t D) {
    return {.blocks = D / M};
  }

  static index_t state_size(index_t D) { return D; }
  static index_t groups(index_t D) { return (D / M + group - 1) / group; }
  static index_t grouped_size(index_t B, index_t T, index_t D) {
    return B * T * groups(D) * M * (M + 1) * group;
  }
  static auto natural(const buffer& b, index_t B, index_t T, index_t D) {
    return maslin::row_major(b.data(), B, T, D / M, M, M + 1);
  }
  static auto lane_grouped(const buffer& b, index_t B, index_t T, index_t D) {
    return maslin::row_major(b.data(), B, T, groups(D), M, M + 1, group);
  }
  static auto values(const buffer& b, index_t B, index_t T, index_t D) {
    return maslin::row_major(b.data(), B, T, D / M, M);
  }

  static void reference(normalise N, index_t T, index_t D, const double* gate, const double* x,
                        double* h, double* y) {
    const index_t G = D / M;
    maslin::reference::bdlru(N, maslin::row_major(gate, 1, T, G, M, M + 1),
                             maslin::row_major(x, 1, T, G, M), maslin::row_major(h, 1, G, M),
                             maslin::row_major(y, 1, T, G, M));
  }
  template <normalise N>
  static void bound(index_t T, index_t D, const float* gate, const float* x, float* out) {
    bound_bdlru<M, N>(T, D / M, gate, x, out);
  }
  template <normalise N, naive::order Order>
  static void naive(index_t T, index_t D, const float* gate, const float* x, float* h, float* y) {
    naive::bdlru<M, N, Order>(T, D / M, gate, x, h, y);
  }
  /// Where a gate of natural order lies in grouped order.
  static index_t place_of(index_t D, index_t i) {
    constexpr index_t rows = M * (M + 1);
    const index_t G = D / M, k = i % rows, g = i / rows % G, t = i / rows / G;
    return ((t * groups(D) + g / group) * rows + k) * group + g % group;
  }
  static void backward_reference(normalise N, last_tokens& u) {
    const index_t G = u.D / M;
    const auto numbers = [&](auto& v) { return maslin::row_major(v.data(), 1, u.T, G, M); };
    const auto rows = [&](auto& v) { return maslin::row_major(v.data(), 1, u.T, G, M, M + 1); };
    const auto states = [&](auto& v) { return maslin::row_major(v.data(), 1, G, M); };
    maslin::reference::bdlru_backward<double>(N, rows(u.gate), numbers(u.input), states(u.initial),
                                              numbers(u.dy), numbers(u.y), rows(u.dgate),
                                              numbers(u.dinput), states(u.dstate));
  }
  template <normalise N>
  static void naive_backward(index_t T, index_t D, const float* gate, const float* x,
                             const float* y, const float* dy, float* dgate, float* dx) {
    naive::bdlru_backward<M, N>(T, D / M, gate, x, y, dy, dgate, dx);
  }
  static void eigen(index_t T, index_t D, const float* gate, const float* x, float* h, float* y) {
    eigen::bdlru<M>(T, D / M, gate, x, h, y);
  }
};

}  // namespace

std::vector<workload> bdlru_workloads(const settings& s) { return gated_plan<bdlru_family>(s); }

}  // namespace bench
