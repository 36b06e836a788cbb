// SPDX-License-Identifier: Apache-2.0
#include "laws/recurrence_laws.hpp"
#include "support/catch.hpp"

#include <maslin/recurrence/adjoint.hpp>
#include <maslin/recurrence/block.hpp>
#include <maslin/recurrence/companion.hpp>
#include <maslin/recurrence/complex_diagonal.hpp>
#include <maslin/recurrence/diagonal.hpp>

#include <cstdint>
#include <vector>

namespace {

using namespace maslin::test;
namespace recurrence = maslin::recurrence;
using ring = std::uint64_t;

struct of_diagonal {
  template <class V>
  using at = recurrence::adjoint_diagonal<V>;
};
struct of_complement {
  template <class V>
  using at = recurrence::adjoint_diagonal<V, true>;
};
struct of_complex {
  template <class V>
  using at = recurrence::adjoint_complex_diagonal<V>;
};
template <int M>
struct of_companion {
  template <class V>
  using at = recurrence::adjoint_companion<V, M>;
};
template <int M>
struct of_write_side {
  template <class V>
  using at = recurrence::adjoint_write_side<V, M>;
};
template <int M>
struct of_block {
  template <class V>
  using at = recurrence::adjoint_block<V, M>;
};

/// Over the ring, for random tokens of `Forward` without input:
///   <dy, outputs of the state> + <carry, final state> = <adjoint carry, initial state>
/// where `state_dy` says which numbers of the state dy reaches.
template <class Forward, class Adjoint, class MakeAdjoint>
void expect_transposed(const MakeAdjoint& make_adjoint) {
  constexpr int M = Forward::order, T = 2 * M + 5;
  laws::draws<ring> draw(11);
  typename Forward::state h;
  typename Adjoint::state carry;
  for (ring& x : h.h) x = draw.list(1)[0];
  for (ring& x : carry.h) x = draw.list(1)[0];
  std::vector<ring> initial(h.h, h.h + M);
  std::vector<typename Adjoint::token> adjoint;
  ring left = 0;
  for (int t = 0; t < T; ++t) {
    auto u = laws::drawn<typename Forward::token>(draw);
    ring dy[static_cast<std::size_t>(M)];
    for (ring& x : dy) x = draw.list(1)[0];
    adjoint.push_back(make_adjoint(u, dy));
    Forward::step(u, h);
    for (int k = 0; k < M; ++k) left += dy[k] * h.h[k];
  }
  for (int k = 0; k < M; ++k) left += carry.h[k] * h.h[k];
  for (int t = T - 1; t >= 0; --t) Adjoint::step(adjoint[static_cast<std::size_t>(t)], carry);
  ring right = 0;
  for (int k = 0; k < M; ++k) right += carry.h[k] * initial[static_cast<std::size_t>(k)];
  CHECK(left == right);
}

/// A token's gate rows without what they add.
template <int M, int Rows, class U>
recurrence::adjoint_token<ring, M, Rows> rows_of(U& u,
                                                 const ring (&dy)[static_cast<std::size_t>(M)]) {
  recurrence::adjoint_token<ring, M, Rows> a;
  for (int i = 0; i < Rows; ++i) a.rows[i] = u.row(i);
  for (int k = 0; k < M; ++k) a.dy[k] = dy[k];
  return a;
}

}  // namespace

TEST_CASE("the adjoints keep the laws of recurrences", "[recurrence][adjoint][laws]") {
  laws::check<of_diagonal>(1);
  laws::check_wide<of_diagonal>(1);
  laws::check<of_complement>(1);
  laws::check<of_complex>(1);
  laws::check_wide<of_complex>(1);
  for_orders<MASLIN_TEST_ORDERS>([](auto order) {
    laws::check<of_companion<order>>(order);
    laws::check<of_write_side<order>>(order);
    laws::check<of_block<order>>(order);
  });
}

TEST_CASE("the adjoints of the first order carry back what the recurrences carry forward",
          "[recurrence][adjoint][formula]") {
  expect_transposed<recurrence::diagonal<ring>, recurrence::adjoint_diagonal<ring>>(
      [](auto& u, const auto& dy) {
        u.b = 0;
        return recurrence::adjoint_diagonal<ring>::token{u.a, dy[0]};
      });
  expect_transposed<recurrence::diagonal_complement<ring>,
                    recurrence::adjoint_diagonal<ring, true>>([](auto& u, const auto& dy) {
    u.b = 0;
    return recurrence::adjoint_diagonal<ring, true>::token{u.d, dy[0]};
  });
  expect_transposed<recurrence::complex_diagonal<ring>, recurrence::adjoint_complex_diagonal<ring>>(
      [](auto& u, const auto& dy) {
        u.b_re = u.b_im = 0;
        return recurrence::adjoint_complex_diagonal<ring>::token{u.a_re, u.a_im, dy[0], dy[1]};
      });
}

TEST_CASE("the adjoints of every order carry back what the recurrences carry forward",
          "[recurrence][adjoint][formula]") {
  for_orders<MASLIN_TEST_ORDERS>([](auto order) {
    constexpr int M = order;
    CAPTURE(M);
    expect_transposed<recurrence::companion<ring, M>, recurrence::adjoint_companion<ring, M>>(
        [](auto& u, const auto& dy) {
          u.gates.input = 0;
          return rows_of<M, 1>(u, dy);
        });
    expect_transposed<recurrence::write_side_companion<ring, M>,
                      recurrence::adjoint_write_side<ring, M>>([](auto& u, const auto& dy) {
      u.gates.input = 0;
      return rows_of<M, 1>(u, dy);
    });
    expect_transposed<recurrence::block<ring, M>, recurrence::adjoint_block<ring, M>>(
        [](auto& u, const auto& dy) {
          for (int i = 0; i < M; ++i) u.rows[i].input = 0;
          return rows_of<M, M>(u, dy);
        });
  });
}
