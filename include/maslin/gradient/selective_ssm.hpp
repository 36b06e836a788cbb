// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of S6, the selective scan: defines `selective_ssm::backward`.

#include <maslin/gradient/call.hpp>
#include <maslin/gradient/selective_kernel.hpp>
#include <maslin/gradient/team.hpp>
#include <maslin/mixer/selective_ssm.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::gradient {

namespace detail {

/// The numbers of a backward call that say how it is cut.
struct selective_sizes {
  index_t channels, N, every;
  index_t sequences, tokens_of_longest;
  index_t write_groups, read_groups;  // 0: the gradient is not wanted
  index_t threads;

  [[nodiscard]] index_t block() const noexcept { return block_channels; }
  [[nodiscard]] index_t blocks() const noexcept { return (channels + block() - 1) / block(); }
  /// Sequences at work together: enough to give each thread a few blocks.
  [[nodiscard]] index_t together() const noexcept {
    if (threads == 1) return 1;
    const index_t wanted = (2 * threads + blocks() - 1) / blocks();
    return std::max(index_t{1}, std::min(wanted, sequences));
  }
  /// Two tasks a thread even out unequal speeds; more would only grow the scratch.
  [[nodiscard]] index_t tasks() const noexcept {
    return threads == 1 ? 1 : std::min(2 * threads, together() * blocks());
  }
  /// The most groups, of `groups` in all, that meet in a block.
  [[nodiscard]] index_t slots(index_t groups) const noexcept {
    if (groups == 0) return 0;
    return std::min(groups, (block() - 1) / (channels / groups) + 2);
  }
  /// Pieces of `every` tokens that blocks take one after another, before the tokens that come before
  /// them: rows, of which a block reads a few lines, are then still in the cache for the next block
  /// (measured: a quarter of the time), and sums over channels are held of few tokens. Threads, which
  /// take blocks side by side, share the rows, and meet less often.
  [[nodiscard]] index_t pieces() const noexcept {
    constexpr index_t row_numbers = 1 << 17, sum_numbers = 1 << 18;
    const index_t sums = blocks() * (slots(write_groups) + slots(read_groups)) * N;
    const index_t tokens =
        std::min(row_numbers / channels, sum_numbers / std::max(sums, index_t{1}));
    const index_t longest = (tokens_of_longest + every - 1) / every;
    return std::max(index_t{1}, std::min(tokens / every, longest));
  }
};

/// All scratch of a call.
template <class S>
struct selective_scratch {
  parts_of<S> all;
  index_t task, sums, totals;  // numbers from one to the next
  S *first_task, *write, *read, *first_total, *total;

  explicit selective_scratch(const selective_sizes& z, S* memory = nullptr) : all(memory) {
    parts_of<S> one;
    static_cast<void>(selective_block<S>::of(one, z.N, z.every));
    task = one.used();
    // A little apart from a power of two: sums of many blocks are read side by side.
    sums = z.pieces() * z.every * z.N + scan::state_lanes;
    totals = rounded_up(z.channels) * (z.N + 2);
    first_task = all.take(z.tasks() * task);
    // Two of each: one is filled while the other is added up.
    write = all.take(2 * z.together() * z.blocks() * z.slots(z.write_groups) * sums);
    read = all.take(2 * z.together() * z.blocks() * z.slots(z.read_groups) * sums);
    first_total = all.take(z.together() * totals);
    total = all.take(totals);
  }
};

/// One backward call: its rounds of sequences, and in each, from the last tokens to the first, blocks
/// of channels that leave sums over channels, and what adds these over blocks.
template <class S, discretisation Rule>
class selective_backward {
 public:
  using kernel = selective_adjoint_kernel<S, Rule>;
  using scratch = selective_scratch<S>;

  kernel first;
  selective_sizes size;
  std::span<const index_t> offsets;
  index_t length;  // of a sequence that is not packed
  scan::token_rows<S> d_write, d_read;
  index_t write_group, read_group;  // strides
  scratch memory;

  template <class V, class Executor, class State>
  void run(Executor& where, State& dstate) const {
    std::fill_n(memory.total, memory.totals, S(0));
    for (index_t b = 0; b < size.sequences; b += size.together())
      round<V>(where, dstate, b, std::min(size.together(), size.sequences - b));
  }

  /// Of the sum over sequences: the gradient of A at (c, n), of skip and bias at c.
  [[nodiscard]] S decay(index_t c, index_t n) const noexcept {
    return scan::state_of(memory.total, c, static_cast<int>(size.N))[n * scan::state_lanes];
  }
  [[nodiscard]] S skip(index_t c) const noexcept { return skips(memory.total)[c]; }
  [[nodiscard]] S bias(index_t c) const noexcept { return biases(memory.total)[c]; }

 private:
  [[nodiscard]] S* skips(S* total) const noexcept {
    return total + rounded_up(size.channels) * size.N;
  }
  [[nodiscard]] S* biases(S* total) const noexcept {
    return skips(total) + rounded_up(size.channels);
  }
  [[nodiscard]] index_t start_of(index_t b) const noexcept {
    return offsets.empty() ? 0 : offsets[static_cast<std::size_t>(b)];
  }
  [[nodiscard]] index_t tokens_of(index_t b) const noexcept {
    return offsets.empty() ? length : start_of(b + 1) - start_of(b);
  }

  /// Pieces [first, last) of sequence b that come `done` pieces before its end.
  struct stretch {
    index_t first, last, from, until;  // in pieces, in tokens
  };
  [[nodiscard]] stretch stretch_of(index_t b, index_t done) const noexcept {
    const index_t tokens = tokens_of(b), all = (tokens + size.every - 1) / size.every;
    const index_t last = std::max(all - done, index_t{0});
    const index_t begin = std::max(last - size.pieces(), index_t{0});
    return {begin, last, begin * size.every, std::min(last * size.every, tokens)};
  }

  /// Sequences [b, b + count).
  template <class V, class Executor, class State>
  void round(Executor& where, State& dstate, index_t b, index_t count) const {
    index_t longest = 0;
    for (index_t i = b; i < b + count; ++i) longest = std::max(longest, tokens_of(i));
    std::fill_n(memory.first_total, count * memory.totals, S(0));
    const index_t items = count * size.blocks(), tasks = std::min(size.tasks(), items);
    const bool sums = size.write_groups + size.read_groups > 0;
    const auto add = [&](index_t done, index_t task) {
      for (index_t i = 0; sums && i < count; ++i) add_blocks<V>(b, i, done, task, tasks);
    };
    // Tasks meet once a stretch: what blocks have left of one is added up beside the next.
    index_t done = 0;
    for (; done * size.every < longest; done += size.pieces())
      where.run(tasks, [&](index_t task) {
        if (done > 0) add(done - size.pieces(), task);
        for (index_t i = task; i < items; i += tasks)
          block<V>(dstate, b, i / size.blocks(), i % size.blocks(), done, task);
      });
    if (sums && done > 0) where.run(tasks, [&](index_t task) { add(done - size.pieces(), task); });
    for (index_t i = 0; i < count; ++i)
      for (index_t k = 0; k < memory.totals; ++k)
        memory.total[k] += memory.first_total[i * memory.totals + k];
  }

  [[nodiscard]] kernel entered(index_t b) const noexcept {
    kernel k = first;
    k.enter(b, offsets.empty() ? b : 0, start_of(b));
    return k;
  }
  /// Sums over channels of block k of the i-th sequence at work, for the stretch after `done`; null
  /// where they are not wanted.
  [[nodiscard]] S* sums_of(S* all, index_t groups, index_t i, index_t k,
                           index_t done) const noexcept {
    if (groups == 0) return nullptr;
    const index_t half = done / size.pieces() % 2;
    return all +
           ((half * size.together() + i) * size.blocks() + k) * size.slots(groups) * memory.sums;
  }

  template <class V, class State>
  void block(State& dstate, index_t b, index_t i, index_t k, index_t done,
             index_t task) const noexcept {
    const stretch s = stretch_of(b + i, done);
    if (s.first == s.last) return;
    parts_of<S> own(memory.first_task + task * memory.task);
    const auto w = selective_block<S>::of(own, size.N, size.every);
    const index_t begin = k * size.block(), end = std::min(begin + size.block(), size.channels);
    S* const total = memory.first_total + i * memory.totals;
    const selective_sums<S> to{sums_of(memory.write, size.write_groups, i, k, done),
                               sums_of(memory.read, size.read_groups, i, k, done),
                               s.from,
                               memory.sums,
                               total + begin * size.N,
                               skips(total) + begin,
                               biases(total) + begin};
    entered(b + i).template walk<V>(w, to, dstate.row(b + i), begin, end, s.first, s.last,
                                    tokens_of(b + i));
  }

  /// The part of task `task` in the sums over blocks of the i-th sequence at work.
  template <class V>
  void add_blocks(index_t b, index_t i, index_t done, index_t task, index_t tasks) const noexcept {
    const stretch s = stretch_of(b + i, done);
    const index_t tokens = s.until - s.from;
    const index_t row = offsets.empty() ? b + i : 0, start = start_of(b + i);
    const auto add = [&](const scan::token_rows<S>& rows, index_t apart, S* all, index_t groups) {
      if (groups == 0) return;
      scan::token_rows<S> to = rows;
      to.shift(row, start);
      for (index_t g = 0; g < groups; ++g)
        add_group<V>(sums_of(all, groups, i, 0, done), groups, g, tokens * task / tasks,
                     tokens * (task + 1) / tasks,
                     [&](index_t t) { return to.at(s.from + t) + g * apart; });
    };
    add(d_write, write_group, memory.write, size.write_groups);
    add(d_read, read_group, memory.read, size.read_groups);
  }
  /// Group g at tokens [from, until), over the blocks that it meets: it is the first group of each of
  /// them but its first block.
  template <class V, class Row>
  void add_group(const S* sums, index_t groups, index_t g, index_t from, index_t until,
                 const Row& row) const noexcept {
    const index_t width = size.channels / groups, block = size.block();
    const index_t first_block = g * width / block, last_block = ((g + 1) * width - 1) / block;
    const index_t apart = size.slots(groups) * memory.sums;
    const S* const slot =
        sums + first_block * apart + (g - first_block * block / width) * memory.sums;
    for (index_t t = from; t < until; ++t) {
      S* const to = row(t);
      maslin::detail::registers_of<V>(0, size.N, [&](index_t n, auto count) {
        const index_t place = t * size.N + n;
        V sum = lane<V>::load(slot + place, count);
        for (index_t k = first_block + 1; k <= last_block; ++k)
          sum = sum + lane<V>::load(sums + k * apart + place, count);
        store(to + n, sum, count, first.accumulate);
      });
    }
  }
};

}  // namespace detail

template <class S, discretisation Rule>
struct selective_ssm<maslin::selective_ssm<S, Rule>> {
  using mixer = maslin::selective_ssm<S, Rule>;

  template <scan::policy Policy>
  static void run(const mixer& m, const Policy& policy, const typename mixer::tokens& u,
                  const typename mixer::saved& keep, const view<const S, 3>& dy,
                  const typename mixer::gradients& d, typename mixer::state& dstate) {
    const check::caller who{"selective_ssm", "backward"};
    scan::check_policy(who, policy);
    check_call(who, m, u, keep, dy, d, dstate);
    if (m.channels == 0) return nothing_to_sum(d);
    with_team<S>(policy, [&]<class V>(auto& where, index_t threads, std::type_identity<V>) {
      const auto size = sizes(m, u, keep, d, dstate, threads);
      const auto call = backward_of(m, u, keep, dy, d, dstate, size);
      call.template run<V>(where, dstate);
      const auto put = [&](S& to, S x) { to = d.accumulate ? to + x : x; };
      for (index_t c = 0; c < m.channels; ++c) {
        if (d.decay.data_handle() != nullptr)
          for (index_t n = 0; n < m.state_dim; ++n) put(d.decay(c, n), call.decay(c, n));
        if (d.skip.data_handle() != nullptr) put(d.skip(c), call.skip(c));
        if (d.dt_bias.data_handle() != nullptr) put(d.dt_bias(c), call.bias(c));
      }
    });
  }

 private:
  static detail::selective_sizes sizes(const mixer& m, const typename mixer::tokens& u,
                                       const typename mixer::saved& keep,
                                       const typename mixer::gradients& d,
                                       const typename mixer::state& dstate, index_t threads) {
    index_t longest = u.offsets.empty() ? u.input.extent(1) : 0;
    for (std::size_t b = 1; b < u.offsets.size(); ++b)
      longest = std::max(longest, u.offsets[b] - u.offsets[b - 1]);
    return {m.channels,
            m.state_dim,
            keep.every,
            dstate.batch(),
            longest,
            d.write.data_handle() == nullptr ? 0 : u.write.extent(2),
            d.read.data_handle() == nullptr ? 0 : u.read.extent(2),
            threads};
  }

  static detail::selective_backward<S, Rule> backward_of(
      const mixer& m, const typename mixer::tokens& u, const typename mixer::saved& keep,
      const view<const S, 3>& dy, const typename mixer::gradients& d, typename mixer::state& dstate,
      const detail::selective_sizes& size) {
    const index_t numbers = detail::selective_scratch<S>(size).all.used();
    const index_t bytes = numbers * static_cast<index_t>(sizeof(S));
    constexpr auto unit = static_cast<index_t>(sizeof(double));
    S* const memory = reinterpret_cast<S*>(
        dstate.workspace().reserve(static_cast<std::size_t>((bytes + unit - 1) / unit)));
    auto forward = m.kernel_of(u, {});
    forward.every = keep.every;
    forward.length = u.input.extent(1);
    return {{forward, keep.states.data(), scan::token_rows<const S>::of(dy),
             scan::token_rows<S>::of(d.dt), scan::token_rows<S>::of(d.input),
             scan::token_rows<S>::of(d.output_gate), d.accumulate},
            size,
            u.offsets,
            u.input.extent(1),
            scan::token_rows<S>::of(d.write),
            scan::token_rows<S>::of(d.read),
            d.write.stride(2),
            d.read.stride(2),
            detail::selective_scratch<S>(size, memory)};
  }

  static void check_call(const check::caller& who, const mixer& m, const typename mixer::tokens& u,
                         const typename mixer::saved& keep, const view<const S, 3>& dy,
                         const typename mixer::gradients& d, const typename mixer::state& dstate) {
    m.check_sizes(who);
    const index_t B = u.input.extent(0), T = u.input.extent(1), D = m.channels, N = m.state_dim;
    memory_of_call memory(who);
    memory.reads("dt", "[B, T, D]", u.dt, {B, T, D});
    memory.reads("input", "[B, T, D]", u.input, {B, T, D});
    memory.reads("write", m.check_grouped(who, "write", u.write, B, T));
    memory.reads("read", m.check_grouped(who, "read", u.read, B, T));
    memory.reads("decay", "[D, N]", m.decay, {D, N}, 1);
    const bool gated = u.output_gate.data_handle() != nullptr;
    const bool skips = m.skip.data_handle() != nullptr, biased = m.dt_bias.data_handle() != nullptr;
    if (gated) memory.reads("output_gate", "[B, T, D]", u.output_gate, {B, T, D});
    if (skips) memory.reads("skip", "[D]", m.skip, {D}, 0);
    if (biased) memory.reads("dt_bias", "[D]", m.dt_bias, {D}, 0);
    memory.reads("dy", "[B, T, D]", dy, {B, T, D});
    if (!u.offsets.empty()) check::packed(who, u.offsets, B, T);
    const index_t sequences = u.offsets.empty() ? B : static_cast<index_t>(u.offsets.size()) - 1;
    check_state(who, m, dstate, sequences);
    check_saved(who, keep, dstate, sequences, B * T);
    memory.reads("saved", check::footprint_of(keep.states));
    memory.writes("dstate", dstate.memory());
    memory.writes("gradients.dt", "[B, T, D]", d.dt, {B, T, D});
    memory.writes("gradients.input", "[B, T, D]", d.input, {B, T, D});
    constexpr const char* grouped = "[B, T, groups, N]";
    memory.writes("gradients.write", grouped, d.write, {B, T, u.write.extent(2), N});
    memory.writes("gradients.read", grouped, d.read, {B, T, u.read.extent(2), N});
    memory.writes("gradients.decay", "[D, N]", d.decay, {D, N}, 1);
    if (memory.writes("gradients.output_gate", "[B, T, D]", d.output_gate, {B, T, D}) && !gated)
      absent(who, "output_gate");
    if (memory.writes("gradients.skip", "[D]", d.skip, {D}, 0) && !skips) absent(who, "skip");
    if (memory.writes("gradients.dt_bias", "[D]", d.dt_bias, {D}, 0) && !biased)
      absent(who, "dt_bias");
  }

  /// Sums over no channels.
  static void nothing_to_sum(const typename mixer::gradients& d) {
    for (const auto& sums : {d.write, d.read})
      for (index_t i = 0; !d.accumulate && sums.data_handle() != nullptr && i < sums.size(); ++i) {
        const index_t n = i % sums.extent(3), g = i / sums.extent(3) % sums.extent(2);
        const index_t token = i / sums.extent(3) / sums.extent(2);
        sums(token / sums.extent(1), token % sums.extent(1), g, n) = 0;
      }
  }
  [[noreturn]] static void absent(const check::caller& who, const std::string& name) {
    who.refuse("gradients." + name + " must be empty without " + name + ", got a pointer");
  }
  static void check_state(const check::caller& who, const mixer& m,
                          const typename mixer::state& dstate, index_t sequences) {
    scan::check_order(who, "dstate", dstate, m.state_dim);
    if (dstate.batch() != sequences || dstate.channels() != m.channels)
      who.refuse("dstate must be [B, D] = " + check::list(std::array{sequences, m.channels}) +
                 ", got " + check::list(std::array{dstate.batch(), dstate.channels()}));
  }
  static void check_saved(const check::caller& who, const typename mixer::saved& keep,
                          const typename mixer::state& dstate, index_t sequences, index_t tokens) {
    mixer::expect_room(who, keep, dstate.sequence_size(), sequences, tokens);
    if (keep.sequences != sequences || keep.tokens != tokens)
      who.refuse("saved must be filled by a scan of " + std::to_string(sequences) +
                 " sequences of " + std::to_string(tokens) + " tokens in all, got one of " +
                 std::to_string(keep.sequences) + " and " + std::to_string(keep.tokens));
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
