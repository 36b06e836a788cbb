// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of the delta rule.

#include <maslin/gradient/delta_chunks.hpp>
#include <maslin/gradient/head_groups.hpp>
#include <maslin/mixer/delta_rule.hpp>

namespace maslin::inline MASLIN_ABI::gradient {

/// Gradients of delta_rule, time walked from the last token to the first, micro-steps likewise. D
/// is the gradient of what a step leaves, dstate after the last:
///   D <- D + scale q dy^T,   dq = scale S dy                           (a token, before its steps)
///   du = D^T k,   dbeta = <du, v - S~^T k>,   dv = beta du,   dk = D u - S~ dv
///   D <- D - k dv^T;   after the first step   dg = <D, S~>,   D <- exp g D
/// A query, key or value that several heads share has the sum of their gradients, heads ascending.
///
/// shapes    those of `tokens`, dy [B, T, H, E]   dstate as `state`
/// layout    last axes unit stride; B, T, R and head strides free
/// aliasing  a gradient must not overlap anything else of the call
/// numerics  S and u are made again from the states in `saved`, with the bits that exec::sequential
///           has; sums are one chain of fma over K or E, dbeta and a decay's 16 of them. D is
///           rounded once more where it decays, so that two segments of time whose dstate is handed
///           over give the bytes of one. The same bytes for every thread count, of exec::scalar as of
///           exec::sequential. exec::chunked (and exec::automatic from a chunk on) takes chunks of
///           tokens, by default 16 micro-steps for heads of up to 64 x 64 and 32 for larger ones, and
///           never more than lie between two states, each a forward and a back substitution: bytes
///           that depend on the chunk, three times the bound; a decay is a product of the tokens' own,
///           its gradient a sum of what crosses it, never a difference. NaN in dy stays in its head
///           (and heads that have a gradient in common with it), earlier in time; one in a query or
///           key spoils, in chunks, gradients of keys of up to 15 later micro-steps too
/// cost      B*T*H*K*E multiply-adds 11 times, 18 with decays, for each micro-step; in chunks 8 times
///           and a chunk's length times 3 K + 2.5 E a micro-step; exp as the scan. Heads that share
///           something are one task: with one key for all heads threads are for the batch alone.
///           Memory: for each task D of its heads (8 at most, or those that share), 12 rows of each
///           micro-step of a segment and with decays a state for every 4 of them, every one where a
///           token has several (chunks: 4 rows, 13 of a micro-step of a chunk, a state for every
///           chunk but the first), in dstate, which the first call allocates
/// effects   dstate enters as the gradient of the final state and leaves as that of the initial one
/// throws    shape_error before any write; std::bad_alloc, also before
template <class S, decay_axis Axis, updates Steps>
struct delta_rule<maslin::delta_rule<S, Axis, Steps>> {
  using mixer_t = maslin::delta_rule<S, Axis, Steps>;
  using tokens = typename mixer_t::tokens;
  using saved = typename mixer_t::saved;
  using gradients = typename mixer_t::gradients;
  using state = typename mixer_t::state;
  using kernel = delta_chunks<S, Axis>;

  template <class Policy>
  static void run(const mixer_t& mixer, const Policy& policy, const tokens& u, const saved& keep,
                  const view<const S, 4>& dy, const gradients& d, state& dstate) {
    const check::caller who{"delta_rule", "backward"};
    scan::check_policy(who, policy);
    auto source = checked(mixer, who, u, keep, dy, d, dstate);
    const index_t moved = bytes_of(u.query, u.key, u.value, u.beta, u.log_decay, dy, d.query, d.key,
                                   d.value, d.beta, d.log_decay);
    source.first.stream(!d.accumulate && streams(policy, moved + keep.bytes()));
    run_groups(policy, source, dstate);
  }

 private:
  static constexpr int more = mixer_t::more;

  static scan::head_source<kernel> checked(const mixer_t& mixer, const check::caller& who,
                                           const tokens& u, const saved& keep,
                                           const view<const S, 4>& dy, const gradients& d,
                                           const state& dstate) {
    heads::check_sizes(who, mixer.heads, mixer.key_dim, mixer.value_dim, mixer.scale);
    const index_t B = dy.extent(0), T = dy.extent(1), H = mixer.heads;
    const index_t K = mixer.key_dim, E = mixer.value_dim, R = mixer.steps_of(who, u);
    memory_of_call memory(who);
    memory.reads("query", heads::check_shared(who, "query", "[B, T, H', K]", u.query, B, T, H, K));
    if constexpr (more == 0) {
      memory.reads("key", heads::check_shared(who, "key", "[B, T, H', K]", u.key, B, T, H, K));
      memory.reads("value",
                   heads::check_shared(who, "value", "[B, T, H', E]", u.value, B, T, H, E));
      memory.reads("beta", "[B, T, H]", u.beta, {B, T, H});
    } else {
      memory.reads("key",
                   heads::check_shared(who, "key", "[B, T, R, H', K]", u.key, B, T, R, H, K));
      memory.reads("value",
                   heads::check_shared(who, "value", "[B, T, R, H', E]", u.value, B, T, R, H, E));
      memory.reads("beta", "[B, T, R, H]", u.beta, {B, T, R, H});
    }
    memory.reads("log_decay", mixer.check_decay(who, u.log_decay, B, T));
    memory.reads("dy", "[B, T, H, E]", dy, {B, T, H, E});
    memory.reads("saved", keep.memory());
    if (!u.offsets.empty()) check::packed(who, u.offsets, B, T);
    scan::head_source<kernel> source{kernel_of(mixer, u, keep, dy, d, R), B, T, u.offsets};
    scan::check_matrices(who, dstate, source.sequences(), mixer.extents(), "dstate");
    keep.expect(who, source, mixer.extents());
    memory.writes("dstate", dstate.memory());
    check_gradients(who, memory, u, d, B, T, H);
    return source;
  }

  static void check_gradients(const check::caller& who, memory_of_call& memory, const tokens& u,
                              const gradients& d, index_t B, index_t T, index_t H) {
    memory.writes("gradients.query", "[B, T, H', K]", d.query, u.query.extents());
    constexpr const char* key = more == 0 ? "[B, T, H', K]" : "[B, T, R, H', K]";
    constexpr const char* value = more == 0 ? "[B, T, H', E]" : "[B, T, R, H', E]";
    memory.writes("gradients.key", key, d.key, u.key.extents());
    memory.writes("gradients.value", value, d.value, u.value.extents());
    memory.writes("gradients.beta", more == 0 ? "[B, T, H]" : "[B, T, R, H]", d.beta,
                  u.beta.extents());
    if constexpr (Axis == decay_axis::head) {
      memory.writes("gradients.log_decay", "[B, T, H]", d.log_decay, {B, T, H});
    } else if (d.log_decay.data_handle() != nullptr) {
      who.refuse("gradients.log_decay must be empty with decay_axis::none, got " +
                 check::list(d.log_decay.extents()));
    }
  }

  [[nodiscard]] static kernel kernel_of(const mixer_t& mixer, const tokens& u, const saved& keep,
                                        const view<const S, 4>& dy, const gradients& d,
                                        index_t R) noexcept {
    const auto step = [](const auto& v) { return more == 0 ? index_t{0} : v.stride(2); };
    const index_t H = mixer.heads;
    kernel k;
    k.query = heads::shared_rows(u.query, H);
    k.key = heads::shared_rows(u.key, H);
    k.value = heads::shared_rows(u.value, H);
    k.beta = heads::rows_of(u.beta, 2 + more);
    k.decay = heads::rows_of(u.log_decay, 2);
    k.dy = heads::rows_of(dy, 2);
    k.key_step = step(u.key);
    k.value_step = step(u.value);
    k.beta_step = step(u.beta);
    k.steps = R;
    k.dquery = {heads::shared_rows(d.query, H)};
    k.dkey = {heads::shared_rows(d.key, H), step(d.key), R};
    k.dvalue = {heads::shared_rows(d.value, H), step(d.value), R};
    k.dbeta = {heads::rows_of(d.beta, 2 + more), step(d.beta), R};
    k.ddecay = {heads::rows_of(d.log_decay, 2)};
    k.heads = H;
    k.group = heads_together(k.query, k.key, k.value);
    k.K = mixer.key_dim;
    k.E = mixer.value_dim;
    k.scale = heads::scale_of(mixer.scale, mixer.key_dim);
    k.accumulate = d.accumulate;
    k.keep = &keep;
    return k;
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
