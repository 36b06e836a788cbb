// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of S6 in a tile: a few numbers of state of a few channels over the tokens between two
/// kept states, forward and then back.

#include <maslin/gradient/selective_block.hpp>
#include <maslin/recurrence/selective_adjoint.hpp>

#include <algorithm>
#include <cstddef>

namespace maslin::inline MASLIN_ABI::gradient::detail {

/// Channels [begin, end) of a block, whole 16s of channels but for the last one of all. Either all of
/// them belong to group `write` and group `read`, or they are one 16 of more groups, the first of which
/// are these.
struct selective_run {
  index_t begin, end, write, read;
  bool mixed;

  [[nodiscard]] index_t chunks() const noexcept {
    return rounded_up(end - begin) / scan::state_lanes;
  }
};

/// f(run) for the runs of channels [begin, end), groups of `write` and `read` channels wide.
template <class F>
inline void runs_of(index_t begin, index_t end, index_t write, index_t read, const F& f) noexcept {
  constexpr index_t lanes = scan::state_lanes;
  for (index_t c = begin; c < end;) {
    const index_t g = c / write, q = c / read;
    const index_t common = std::min({end, (g + 1) * write, (q + 1) * read});
    const index_t stop = common == end ? end : common / lanes * lanes;
    const bool mixed = stop <= c;
    const selective_run run{c, mixed ? std::min(c + lanes, end) : stop, g, q, mixed};
    f(run);
    c = run.end;
  }
}

/// One tile of one sequence. Times count from the beginning of the piece of tokens.
template <class S, discretisation Rule>
struct selective_tile {
  using forward_kernel = maslin::detail::selective_kernel<S, Rule>;
  static constexpr index_t lanes = scan::state_lanes;

  const forward_kernel& forward;
  const selective_block<S>& w;
  const selective_run& run;
  index_t block;          // the first channel of the block
  index_t from, tokens;   // of the piece
  index_t first, states;  // numbers of state

  /// `carry`, a row of the state's gradient, enters as a[t] s[t] of the next token and leaves so.
  template <class V>
  void walk(const S* state, S* carry, const selective_sums<S>& to) const noexcept {
    enter<V>(state, carry);
    if (run.mixed) {
      own_rows<V>(forward.write, forward.write_group, forward.write_width, w.write);
      own_rows<V>(forward.read, forward.read_group, forward.read_width, w.read);
    }
    for (index_t i = 0; i < tokens; ++i) {
      if (run.mixed)
        replay<V, coefficients_of::own>(i);
      else
        replay<V, coefficients_of::shared>(i);
    }
    for (index_t i = tokens; i-- > 0;) adjoint<V>(i);
    take_sums<V>(to.write, to, w.into_write, run.write, forward.write_width);
    take_sums<V>(to.read, to, w.into_read, run.read, forward.read_width);
    leave<V>(carry, to.decay);
  }

 private:
  using coefficients_of = recurrence::coefficients;

  [[nodiscard]] index_t numbers() const noexcept { return run.chunks() * states * lanes; }
  [[nodiscard]] index_t row(index_t i) const noexcept {
    return i * selective_block<S>::row + run.begin - block;
  }
  [[nodiscard]] index_t lanes_of(index_t i) const noexcept { return i * selective_block<S>::lanes; }
  /// f(numbers of the tile, those of a row of the state, those of the block, channels) for each 16 of
  /// channels and each number of state.
  template <class F>
  void each_row(const F& f) const noexcept {
    for (index_t c = run.begin; c < run.end; c += lanes) {
      const index_t tile = (c - run.begin) * states, all = c * forward.N + first * lanes;
      for (index_t n = 0; n < states * lanes; n += lanes)
        f(tile + n, all + n, all + n - block * forward.N, std::min(lanes, run.end - c));
    }
  }
  /// Channels that pad the last 16 have decay 1 and state 0.
  template <class V>
  void enter(const S* state, const S* carry) const noexcept {
    using L = lane<V>;
    each_row([&](index_t i, index_t in_state, index_t in_block, index_t count) {
      for (index_t l = 0; l < lanes; l += L::width) {
        const V rate = L::load(w.rate + in_block + l);
        L::store(w.h + i + l, L::load(state + in_state + l));
        L::store(w.tile_carry + i + l, L::load(carry + in_state + l));
        L::store(w.tile_rate + i + l, rate);
        L::store(w.tile_decay + i + l, rate * L::broadcast(forward_kernel::scale));
        L::store(w.tile_into_decay + i + l, L::broadcast(S(0)));
      }
      for (S* rows : {w.h, w.tile_carry, w.tile_rate, w.tile_decay})
        for (index_t l = count; l < lanes; ++l) rows[i + l] = 0;
    });
  }
  template <class V>
  void leave(S* carry, S* into_decay) const noexcept {
    using L = lane<V>;
    each_row([&](index_t i, index_t in_state, index_t in_block, index_t count) {
      index_t l = 0;
      for (; l + L::width <= count; l += L::width)
        L::store(carry + in_state + l, L::load(w.tile_carry + i + l));
      for (; l < count; ++l) carry[in_state + l] = w.tile_carry[i + l];
      for (l = 0; l < lanes; l += L::width) {
        S* const to = into_decay + in_block + l;
        L::store(to, L::load(to) + L::load(w.tile_into_decay + i + l));
      }
    });
  }

  /// Rows of B or C of channels that have their own, into lanes.
  template <class V>
  [[gnu::noinline, gnu::flatten]] void own_rows(const scan::token_rows<const S>& rows,
                                                index_t apart, index_t width,
                                                S* to) const noexcept {
    for (index_t i = 0; i < tokens; ++i)
      maslin::detail::own_rows<V>(rows.at(from + i) + first, apart, width, run.begin, run.end,
                                  states, to + lanes_of(i));
  }

  /// B or C of token i, of channels that have it in common.
  [[nodiscard]] const S* shared(const scan::token_rows<const S>& rows, index_t apart, index_t group,
                                index_t i) const noexcept {
    return rows.at(from + i) + group * apart + first;
  }
  [[nodiscard]] const S* shared_write(index_t i) const noexcept {
    return shared(forward.write, forward.write_group, run.write, i);
  }
  [[nodiscard]] const S* shared_read(index_t i) const noexcept {
    return shared(forward.read, forward.read_group, run.read, i);
  }

  // Loops over registers know their pointers: stores may alias what a tile refers to, which would be
  // read again after each.

  /// The forward pass of token i, bit for bit.
  template <class V, coefficients_of Form>
  [[gnu::noinline, gnu::flatten]] void replay(index_t i) const noexcept {
    constexpr bool own = Form == coefficients_of::own;
    const recurrence::selective_rows<S> at{.decay = w.tile_decay,
                                           .write = own ? w.write + lanes_of(i) : shared_write(i),
                                           .read = own ? w.read + lanes_of(i) : shared_read(i),
                                           .state = w.h + i * numbers(),
                                           .next = w.h + (i + 1) * numbers(),
                                           .kept = w.kept + i * numbers(),
                                           .N = states};
    if (w.normal[i] > 0)
      replay_token<V, Form, true>(at, row(i), numbers());
    else
      replay_token<V, Form, false>(at, row(i), numbers());
  }
  template <class V, coefficients_of Form, bool Normal>
  void replay_token(recurrence::selective_rows<S> at, index_t row, index_t count) const noexcept {
    using L = lane<V>;
    const S *delta = w.delta + row, *drive = w.drive + row;
    S* sum = w.sum + row;
    const index_t whole = at.N * lanes;
    for (index_t c = 0; c < count; c += whole)
      for (index_t l = 0; l < lanes; l += L::width) {
        const index_t p = c + l, own = Form == coefficients_of::own ? l : 0;
        const recurrence::selective_rows<S> here{at.decay + p, at.write + own, at.read + own,
                                                 at.state + p, at.next + p,    at.kept + p,
                                                 at.N};
        const V steps[] = {L::load(delta)}, drives[] = {L::load(drive)};
        V y[] = {L::load(sum)};
        using selective = recurrence::selective<Rule, V, 1, Form, true>;
        selective::template token<Normal>(here, steps, drives, all_lanes<V>{}, y);
        L::store(sum, y[0]);
        delta += L::width, drive += L::width, sum += L::width;
      }
  }

  /// Token i, two 16s of channels at once while there are so many.
  template <class V>
  [[gnu::noinline, gnu::flatten]] void adjoint(index_t i) const noexcept {
    recurrence::selective_adjoint_rows<S> at{.rate = w.tile_rate,
                                             .kept = w.kept + i * numbers(),
                                             .before = w.h + i * numbers(),
                                             .after = w.h + (i + 1) * numbers(),
                                             .write = w.write + lanes_of(i),
                                             .read = w.read + lanes_of(i),
                                             .carry = w.tile_carry,
                                             .into_decay = w.tile_into_decay,
                                             .into_write = w.into_write + lanes_of(i),
                                             .into_read = w.into_read + lanes_of(i),
                                             .N = states};
    const index_t pairs = run.mixed ? 0 : run.chunks() / 2, count = pairs * 2 * states * lanes;
    if (!run.mixed) at.write = shared_write(i), at.read = shared_read(i);
    for (index_t p = 0; p < pairs; ++p)
      adjoint_of<V, 2, coefficients_of::shared>(at, p * 2 * states * lanes, row(i) + p * 2 * lanes);
    if (count == numbers()) return;
    if (!run.mixed) {
      spread(at.write, w.write + lanes_of(i));
      spread(at.read, w.read + lanes_of(i));
      at.write = w.write + lanes_of(i), at.read = w.read + lanes_of(i);
    }
    adjoint_of<V, 1, coefficients_of::own>(at, count, row(i) + pairs * 2 * lanes);
  }
  void spread(const S* from_row, S* to) const noexcept {
    for (index_t n = 0; n < states; ++n) std::fill_n(to + n * lanes, lanes, from_row[n]);
  }
  /// 16 R channels, whose numbers begin at `place` of the tile and at `row` of rows of the block.
  template <class V, int R, coefficients_of Form>
  void adjoint_of(const recurrence::selective_adjoint_rows<S>& at, index_t place,
                  index_t row) const noexcept {
    using L = lane<V>;
    using adjoint_type = recurrence::selective_adjoint<Rule, V, R, Form>;
    const S *delta = w.delta + row, *drive = w.drive + row, *g = w.g + row;
    S *into_input = w.into_input + row, *into_delta = w.into_delta + row, *driven = w.driven + row;
    for (index_t l = 0; l < lanes; l += L::width) {
      const index_t p = place + l, own = Form == coefficients_of::own ? l : 0;
      const recurrence::selective_adjoint_rows<S> here{
          at.rate + p,       at.kept + p,      at.before + p, at.after + p,
          at.write + own,    at.read + own,    at.carry + p,  at.into_decay + p,
          at.into_write + l, at.into_read + l, at.N};
      typename adjoint_type::token_values x;
      typename adjoint_type::sums s;
      unrolled<R>([&](auto r) {
        const index_t j = l + static_cast<index_t>(r) * lanes;
        x.delta[r] = L::load(delta + j), x.drive[r] = L::load(drive + j);
        x.g[r] = L::load(g + j);
        s.into_input[r] = L::load(into_input + j), s.into_delta[r] = L::load(into_delta + j);
        if constexpr (adjoint_type::hold) s.driven[r] = L::load(driven + j);
      });
      adjoint_type::token(here, x, s);
      unrolled<R>([&](auto r) {
        const index_t j = l + static_cast<index_t>(r) * lanes;
        L::store(into_input + j, s.into_input[r]);
        L::store(into_delta + j, s.into_delta[r]);
        if constexpr (adjoint_type::hold) L::store(driven + j, s.driven[r]);
      });
    }
  }

  /// Sums over channels of all tokens, `width` channels a group, from their lanes.
  template <class V>
  [[gnu::noinline, gnu::flatten]] void take_sums(S* sums, const selective_sums<S>& to, S* rows,
                                                 index_t group, index_t width) const noexcept {
    if (sums == nullptr) return;
    const bool fresh = run.begin == std::max(block, group * width);
    const lane_range at{run.begin, run.end, group, width};
    S* slot = sums + (group - block / width) * to.apart + (from - to.first) * forward.N + first;
    for (index_t i = 0; i < tokens; ++i, slot += forward.N) {
      if (run.mixed)
        take_group_sums<V>(rows + lanes_of(i), states, at, slot, to.apart, fresh);
      else
        take_lane_sums<V>(rows + lanes_of(i), states, slot, fresh);
    }
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient::detail
