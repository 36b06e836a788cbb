// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of linear attention.

#include <maslin/gradient/head_groups.hpp>
#include <maslin/gradient/linear_chunks.hpp>
#include <maslin/mixer/linear_attention.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::gradient {

/// Gradients of linear_attention, time walked from the last token to the first.
///   D[t] = exp g[t+1] D[t+1] + scale phi(q[t]) dy[t]^T          (D after the last token: dstate)
///   dv = D^T phi(k),   dk = phi'(k) D v,   dq = scale phi'(q) S dy,   dg = exp g sum_e D S[t-1]
/// and with `normalised`, n = scale <phi(q), z> + 1e-10, as if ones were one more column of values:
///   dy <- dy / n,  and of that column -<dy, y> / n
/// A query, key or value that several heads share has the sum of their gradients, heads ascending.
///
/// shapes    those of `tokens`, dy [B, T, H, E]   dstate as `state`
/// layout    last axes unit stride; B, T and head strides free
/// aliasing  a gradient must not overlap anything else of the call
/// numerics  S is made again from the states in `saved`, with the bits that exec::sequential has;
///           sums are one chain of fma over K or E, a decay of a head's 16 more. D is rounded once
///           more where it decays, so that two segments of time whose dstate is handed over give
///           the bytes of one. The same bytes for every thread count, of exec::scalar as of
///           exec::sequential. exec::chunked (and exec::automatic from a chunk on) takes chunks of
///           tokens where there are decays, 32 by default and never more than lie between two states;
///           with decays of keys 16 and never more: bytes that depend on the chunk, three times the
///           bound; a decay is a product of the tokens' own, its gradient a sum of what crosses it,
///           never a difference. Without decays it goes token by token too. NaN in dy stays in its
///           head (and heads that have a gradient in common with it), earlier in time
/// cost      B*T*H*K*E multiply-adds 6 times, 12 with decays; in chunks 5 times and a chunk's length
///           times 1.5 K + E a token (decays of keys 3 K + E); exp as the scan twice. Heads that
///           share something are one task: with one key for all heads threads are for the batch
///           alone. Memory: for each task D of its heads (8 at most, or those that share), 10 rows
///           of each token of a segment and with decays a state for every 4 of them (chunks: 4 rows,
///           5 with decays of keys, 10 to 13 of a token of a chunk, a state for every chunk), in
///           dstate, which the first call allocates
/// effects   dstate enters as the gradient of the final state and leaves as that of the initial one
/// throws    shape_error before any write; std::bad_alloc, also before
template <class S, decay_axis Axis, feature Map>
struct linear_attention<maslin::linear_attention<S, Axis, Map>> {
  using mixer_t = maslin::linear_attention<S, Axis, Map>;
  using kernel = linear_chunks<S, Axis, Map>;

  template <class Policy>
  static void run(const mixer_t& mixer, const Policy& policy, const typename mixer_t::tokens& u,
                  const typename mixer_t::saved& keep, const view<const S, 4>& dy,
                  const typename mixer_t::gradients& d, typename mixer_t::state& dstate) {
    const check::caller who{"linear_attention", "backward"};
    scan::check_policy(who, policy);
    auto source = checked(mixer, who, u, keep, dy, d, dstate);
    const index_t moved =
        bytes_of(u.query, u.key, u.value, u.log_decay, dy, d.query, d.key, d.value, d.log_decay);
    source.first.stream(!d.accumulate && streams(policy, moved + keep.bytes()));
    run_groups(policy, source, dstate);
  }

 private:
  static scan::head_source<kernel> checked(const mixer_t& mixer, const check::caller& who,
                                           const typename mixer_t::tokens& u,
                                           const typename mixer_t::saved& keep,
                                           const view<const S, 4>& dy,
                                           const typename mixer_t::gradients& d,
                                           const typename mixer_t::state& dstate) {
    heads::check_sizes(who, mixer.heads, mixer.key_dim, mixer.value_dim, mixer.scale);
    const index_t B = dy.extent(0), T = dy.extent(1), H = mixer.heads;
    const index_t K = mixer.key_dim, E = mixer.value_dim;
    memory_of_call memory(who);
    memory.reads("query", heads::check_shared(who, "query", "[B, T, H', K]", u.query, B, T, H, K));
    memory.reads("key", heads::check_shared(who, "key", "[B, T, H', K]", u.key, B, T, H, K));
    memory.reads("value", heads::check_shared(who, "value", "[B, T, H', E]", u.value, B, T, H, E));
    memory.reads("log_decay", mixer.check_decay(who, u.log_decay, B, T));
    memory.reads("dy", "[B, T, H, E]", dy, {B, T, H, E});
    memory.reads("saved", keep.memory());
    if (!u.offsets.empty()) check::packed(who, u.offsets, B, T);
    scan::head_source<kernel> source{kernel_of(mixer, u, keep, dy, d), B, T, u.offsets};
    scan::check_matrices(who, dstate, source.sequences(), mixer.extents(), "dstate");
    keep.expect(who, source, mixer.extents());
    memory.writes("dstate", dstate.memory());
    memory.writes("gradients.query", "[B, T, H', K]", d.query, {B, T, u.query.extent(2), K});
    memory.writes("gradients.key", "[B, T, H', K]", d.key, {B, T, u.key.extent(2), K});
    memory.writes("gradients.value", "[B, T, H', E]", d.value, {B, T, u.value.extent(2), E});
    if constexpr (Axis == decay_axis::none) {
      if (d.log_decay.data_handle() != nullptr)
        who.refuse("gradients.log_decay must be empty with decay_axis::none, got " +
                   check::list(d.log_decay.extents()));
    } else if constexpr (Axis == decay_axis::head) {
      memory.writes("gradients.log_decay", "[B, T, H]", d.log_decay, {B, T, H});
    } else {
      memory.writes("gradients.log_decay", "[B, T, H, K]", d.log_decay, {B, T, H, K});
    }
    return source;
  }

  [[nodiscard]] static kernel kernel_of(const mixer_t& mixer, const typename mixer_t::tokens& u,
                                        const typename mixer_t::saved& keep,
                                        const view<const S, 4>& dy,
                                        const typename mixer_t::gradients& d) noexcept {
    const index_t H = mixer.heads;
    kernel k;
    k.query = heads::shared_rows(u.query, H);
    k.key = heads::shared_rows(u.key, H);
    k.value = heads::shared_rows(u.value, H);
    k.decay = heads::rows_of(u.log_decay, 2);
    k.dy = heads::rows_of(dy, 2);
    k.dquery.rows = heads::shared_rows(d.query, H);
    k.dkey.rows = heads::shared_rows(d.key, H);
    k.dvalue.rows = heads::shared_rows(d.value, H);
    k.ddecay.rows = heads::rows_of(d.log_decay, 2);
    k.heads = H;
    k.group = heads_together(k.query, k.key, k.value);
    k.K = mixer.key_dim;
    k.E = mixer.value_dim;
    k.scale = heads::scale_of(mixer.scale, mixer.key_dim);
    k.normalised = mixer.normalised;
    k.accumulate = d.accumulate;
    k.keep = &keep;
    return k;
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
