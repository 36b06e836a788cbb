// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the block-diagonal recurrence: D numbers of state in blocks of M.

#include "support/gated.hpp"
#include "support/gated_plan.hpp"

#include <maslin/mixer/bdlru.hpp>
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
  static void eigen(index_t T, index_t D, const float* gate, const float* x, float* h, float* y) {
    eigen::bdlru<M>(T, D / M, gate, x, h, y);
  }
};

}  // namespace

std::vector<workload> bdlru_workloads(const settings& s) { return gated_plan<bdlru_family>(s); }

}  // namespace bench
