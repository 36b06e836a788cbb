// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace maslin::inline MASLIN_ABI::reference {

namespace detail {

/// h -> A h + b of M numbers.
struct affine {
  std::vector<double> A, b;  // [M, M], [M]
};

/// later after earlier: (A_l A_e, A_l b_e + b_l).
inline affine composed(const affine& later, const affine& earlier) {
  const std::size_t M = later.b.size();
  affine m{std::vector<double>(M * M), later.b};
  for (std::size_t i = 0; i < M; ++i)
    for (std::size_t k = 0; k < M; ++k) {
      const double a = later.A[i * M + k];
      m.b[i] += a * earlier.b[k];
      for (std::size_t j = 0; j < M; ++j) m.A[i * M + j] += a * earlier.A[k * M + j];
    }
  return m;
}

}  // namespace detail

/// The scan of depth 2 log2 T by which papers make recurrences parallel in time (Blelloch 1990;
/// arXiv 1709.04057, 2602.12021): up a binary tree of composed maps, down it with what comes before
/// each node. Kept to compare with: no kernel works so, as it composes 2 T maps of M^3 operations
/// where a loop makes T steps of M^2.
///   h[t] = A[t] h[t-1] + b[t]
///   y[t] = h[t]
/// shapes    A [T, M, M]   b, y [T, M]   state [M]
/// layout    any strides
/// numerics  double; each product and sum in the order of the tree
/// cost      2 T composes of M^3 + M^2 multiply-adds; allocates T maps
/// effects   state holds h[-1] on entry and h[T-1] on return
/// throws    shape_error before any write, std::bad_alloc
inline void blelloch(view<const double, 3> A, view<const double, 2> b, view<double, 1> state,
                     view<double, 2> y) {
  const index_t T = y.extent(0), M = y.extent(1);
  MASLIN_EXPECT(A.extent(0) == T && A.extent(1) == M && A.extent(2) == M &&
                    b.extents() == y.extents() && state.extent(0) == M,
                shape_error, "reference::blelloch: A must be [T, M, M], b and y [T, M], state [M]");
  if (T == 0) return;
  const auto order = static_cast<std::size_t>(M);
  detail::affine identity{std::vector<double>(order * order), std::vector<double>(order)};
  for (std::size_t i = 0; i < order; ++i) identity.A[i * order + i] = 1;
  std::size_t leaves = 1;
  while (leaves < static_cast<std::size_t>(T)) leaves *= 2;
  std::vector<detail::affine> tokens(static_cast<std::size_t>(T), identity);
  for (index_t t = 0; t < T; ++t)
    for (index_t i = 0; i < M; ++i) {
      auto& token = tokens[static_cast<std::size_t>(t)];
      token.b[static_cast<std::size_t>(i)] = b(t, i);
      for (index_t j = 0; j < M; ++j) token.A[static_cast<std::size_t>(i * M + j)] = A(t, i, j);
    }
  std::vector<detail::affine> tree = tokens;
  tree.resize(leaves, identity);
  // Up: node n of a level holds its right subtree after its left one.
  for (std::size_t half = 1; half < leaves; half *= 2)
    for (std::size_t n = 2 * half - 1; n < leaves; n += 2 * half)
      tree[n] = detail::composed(tree[n], tree[n - half]);
  // Down: each node gets what comes before it, and tells its right subtree of its left one.
  tree[leaves - 1] = identity;
  for (std::size_t half = leaves / 2; half > 0; half /= 2)
    for (std::size_t n = 2 * half - 1; n < leaves; n += 2 * half) {
      detail::affine left = tree[n - half];
      tree[n - half] = tree[n];
      tree[n] = detail::composed(left, tree[n]);
    }
  std::vector<double> before(order);
  for (index_t i = 0; i < M; ++i) before[static_cast<std::size_t>(i)] = state(i);
  for (index_t t = 0; t < T; ++t) {
    const auto at = static_cast<std::size_t>(t);
    const detail::affine all = detail::composed(tokens[at], tree[at]);
    for (index_t i = 0; i < M; ++i) {
      const auto row = static_cast<std::size_t>(i);
      double h = all.b[row];
      for (std::size_t j = 0; j < order; ++j) h += all.A[row * order + j] * before[j];
      y(t, i) = h;
    }
  }
  for (index_t i = 0; i < M; ++i) state(i) = y(T - 1, i);
}

}  // namespace maslin::inline MASLIN_ABI::reference
