// SPDX-License-Identifier: Apache-2.0
#include "laws/mixer_laws.hpp"
#include "support/answer.hpp"

#include <functional>
#include <iostream>

using namespace maslin;
using namespace maslin::test;

namespace {

constexpr index_t huge = index_t{1} << 62;

template <class V>
V with_extent(const V& v, int axis, index_t extent) {
  auto extents = v.extents();
  extents[static_cast<std::size_t>(axis)] = extent;
  return V(v.data_handle(), extents, v.strides());
}
template <class V>
V with_stride(const V& v, int axis, index_t stride) {
  auto strides = v.strides();
  strides[static_cast<std::size_t>(axis)] = stride;
  return V(v.data_handle(), v.extents(), strides);
}
template <class V>
V with_data(const V& v, typename V::element_type* data) {
  return V(data, v.extents(), v.strides());
}
/// A pointer one byte past where the numbers are.
template <class V>
V misaligned(const V& v) {
  return with_data(v, reinterpret_cast<typename V::element_type*>(
                          reinterpret_cast<std::uintptr_t>(v.data_handle()) + 1));
}

/// A valid call, to be spoiled: every buffer is poison, the state holds numbers.
template <class M>
struct scene {
  using mixer_t = M;
  using S = typename M::scalar_type;
  using A = anatomy<M>;
  static constexpr index_t B = 2, T = 3, C = 5, L = default_group;
  static constexpr int gate_rank = static_cast<int>(std::tuple_size_v<typename A::gate_shape>);
  static constexpr int value_rank = static_cast<int>(std::tuple_size_v<typename A::value_shape>);

  scene() {
    std::vector<S> h(static_cast<std::size_t>(B * C * A::each.state));
    maslin::test::random(1).fill_normal<S>(h);
    state.copy_from(A::template state<const S>(h.data(), B, C));
    tokens.gate = gate.get();
    tokens.input = input.get();
  }

  poisoned<S, gate_rank> gate{A::gate(B, T, C, L)};
  poisoned<S, value_rank> input{A::values(B, T, C)}, output{A::values(B, T, C)};
  M mixer = A::make(C);
  typename M::state state = mixer.make_state(B);
  typename M::tokens tokens{};
  typename M::output y = output.get();
  std::vector<index_t> offsets;
  way how = exec::sequential{};

  void call() {
    tokens.offsets = offsets;
    std::visit(
        [&]<class Policy>(const Policy& policy) {
          if constexpr (std::is_same_v<Policy, decode>)
            mixer.step(tokens[0], time_at(y, 0), state);
          else
            mixer.scan(policy, tokens, y, state);
        },
        how);
  }
  [[nodiscard]] bool untouched() const {
    return gate.untouched() && input.untouched() && output.untouched();
  }
  [[nodiscard]] std::vector<S> state_memory() const {
    return {state.row(0), state.row(0) + state.batch() * state.sequence_size()};
  }
  /// One packed sequence of T tokens in place of a batch.
  void pack(std::vector<index_t> positions) {
    tokens.gate = with_extent(tokens.gate, 0, 1);
    tokens.input = with_extent(tokens.input, 0, 1);
    y = with_extent(y, 0, 1);
    offsets = std::move(positions);
  }
  /// The same number of tokens, or sequences, in every view.
  void stretch(int axis, index_t extent) {
    tokens.gate = with_extent(tokens.gate, axis, extent);
    tokens.input = with_extent(tokens.input, axis, extent);
    y = with_extent(y, axis, extent);
  }
};

/// A wrong call and what its answer has to say: the argument, what was wanted and what came.
template <class M>
struct wrong_call {
  std::string title;
  std::vector<std::string> says;
  std::function<void(scene<M>&)> spoil;
};
template <class M>
using table = std::vector<wrong_call<M>>;

template <class M>
constexpr const char* name_of = nullptr;
template <class S, decay F>
constexpr const char* name_of<diagonal<S, F>> = "diagonal";
template <class S, int M, normalise N, gates O, gate_side D>
constexpr const char* name_of<hlru<S, M, N, O, D>> = "hlru";
template <class S, int M, normalise N, gates O>
constexpr const char* name_of<bdlru<S, M, N, O>> = "bdlru";

/// Calls f(name, member) for each view of a call; `member(scene)` is the view.
template <class M, class F>
void for_each_view(const F& f) {
  f(
      std::string("gate"), [](scene<M> & s) -> auto& { return s.tokens.gate; });
  f(
      std::string("input"), [](scene<M> & s) -> auto& { return s.tokens.input; });
  f(
      std::string("y"), [](scene<M> & s) -> auto& { return s.y; });
}

/// Every axis of every view one too long.
template <class M>
void add_extents(table<M>& all) {
  using A = anatomy<M>;
  using scene_t = scene<M>;
  const auto gate = A::gate(scene_t::B, scene_t::T, scene_t::C, scene_t::L);
  const auto values = A::values(scene_t::B, scene_t::T, scene_t::C);
  for_each_view<M>([&](const std::string& name, auto member) {
    const auto check_axes = [&](const auto& wanted, const std::string& argument) {
      // B and T are taken from input: there the gates are found not to fit.
      for (std::size_t axis = argument == "input" ? 2 : 0; axis < wanted.size(); ++axis) {
        auto got = wanted;
        ++got[axis];
        const int r = static_cast<int>(axis);
        std::vector<std::string> says = {argument + " must be", check::list(wanted),
                                         "got " + check::list(got)};
        if (argument == "gate" && wanted.size() > 3 && wanted[axis] == scene_t::L)
          says = {"gate's last extent L must be a power of two, got 9"};
        all.push_back(
            {argument + " axis " + std::to_string(r) + " too long", says, [member, r](scene_t& s) {
               auto& v = member(s);
               v = with_extent(v, r, v.extent(r) + 1);
             }});
      }
    };
    if (name == "gate")
      check_axes(gate, name);
    else
      check_axes(values, name);
  });
  for (const int axis : {0, 1})
    all.push_back({"input axis " + std::to_string(axis) + " too long",
                   {"gate must be", "got"},
                   [axis](scene_t& s) { s.tokens.input = with_extent(s.tokens.input, axis, 4); }});
  all.push_back({"negative T", {"must be", "-1", "got a negative extent"}, [](scene_t& s) {
                   s.stretch(1, -1);
                 }});
  all.push_back({"2^62 tokens",
                 {"gate", std::to_string(huge), "must have a size that fits in memory"},
                 [](scene_t& s) { s.stretch(1, huge); }});
  all.push_back({"2^62 sequences",
                 {"gate", std::to_string(huge), "a size that fits in memory"},
                 [](scene_t& s) { s.stretch(0, huge); }});
}

/// Null, misaligned and badly strided views.
template <class M>
void add_memory(table<M>& all) {
  using scene_t = scene<M>;
  for_each_view<M>([&](const std::string& name, auto member) {
    const auto add = [&](const std::string& what, std::vector<std::string> says, auto change) {
      says.insert(says.begin(), name);
      all.push_back({name + ": " + what, says, [member, change](scene_t& s) {
                       auto& v = member(s);
                       v = change(v);
                     }});
    };
    add("null", {"must be [", "got a null pointer"}, [](auto v) { return with_data(v, nullptr); });
    add("misaligned",
        {"must be aligned to " + std::to_string(alignof(typename M::scalar_type)) + " bytes",
         "got an address 1 past it"},
        [](auto v) { return misaligned(v); });
    add("channels not side by side", {"must have unit stride on its last axis", "got strides"},
        [](auto v) { return with_stride(v, v.rank() - 1, 2); });
    const std::vector<std::string> rows = {"must have strides of at least a row of",
                                           "on its first 2 axes", "got strides"};
    for (const int axis : {0, 1}) {
      const std::string which = axis == 0 ? "batch" : "time";
      add(which + " stride 0", rows, [axis](auto v) { return with_stride(v, axis, 0); });
      add(which + " stride negative", rows,
          [axis](auto v) { return with_stride(v, axis, -v.stride(axis)); });
      add(which + " stride below a row", rows,
          [axis](auto v) { return with_stride(v, axis, v.stride(1) - 1); });
      add(which + " stride of 2^62", {"must have a size that fits in memory", "got strides"},
          [axis](auto v) { return with_stride(v, axis, huge); });
    }
  });
}

/// Outputs over other arguments or over themselves.
template <class M>
void add_overlap(table<M>& all) {
  using scene_t = scene<M>;
  all.push_back({"y a row behind input",
                 {"y must not overlap input", "got memory that does"},
                 [](scene_t& s) {
                   const auto in = s.input.get();
                   s.y = with_data(s.y, in.data_handle() + in.stride(1));
                 }});
  all.push_back({"y a number ahead of input",
                 {"y must not overlap input", "got memory that does"},
                 [](scene_t& s) { s.y = with_data(s.y, s.input.get().data_handle() - 1); }});
  all.push_back({"y over input with other strides", {"y must not overlap input"}, [](scene_t& s) {
                   const auto in = s.input.get();
                   s.y = with_stride(in, 0, in.stride(0) + in.stride(1));
                 }});
  all.push_back({"y over the gates",
                 {"y must not overlap gate", "got memory that does"},
                 [](scene_t& s) { s.y = with_data(s.y, s.gate.get().data_handle() + 1); }});
  all.push_back({"y over the state",
                 {"y must not overlap state", "got memory that does"},
                 [](scene_t& s) { s.y = with_data(s.y, s.state.row(0)); }});
  all.push_back({"rows of y on each other",
                 {"y must have batch and time strides that keep its rows apart", "got rows"},
                 [](scene_t& s) { s.y = with_stride(s.y, 0, s.y.stride(1)); }});
}

/// States, offsets, policies and sizes that do not belong to the call.
template <class M>
void add_state_and_offsets(table<M>& all) {
  using scene_t = scene<M>;
  all.push_back({"state of 3 sequences",
                 {"state must be", "= [2, 5]", "got [3, 5]"},
                 [](scene_t& s) { s.state = s.mixer.make_state(3); }});
  all.push_back({"state of 6 channels",
                 {"state must be", "= [2, 5]", "got [2, 6]"},
                 [](scene_t& s) { s.state = anatomy<M>::make(6).make_state(2); }});
  all.push_back({"state of another order",
                 {"state must be of order M = ", "got 7"},
                 [](scene_t& s) { s.state = typename M::state("other", 2, 5, 7); }});
  all.push_back(
      {"offsets in a batch", {"tokens with offsets", "B must be 1, got 2"}, [](scene_t& s) {
         s.offsets = {0, 1, 3};
       }});
  const auto add_offsets = [&](const std::string& title, std::vector<index_t> offsets,
                               const std::string& got) {
    all.push_back({"offsets " + title,
                   {"offsets must not decrease, from 0 to T = 3", "got " + got},
                   [offsets](scene_t& s) { s.pack(offsets); }});
  };
  add_offsets("that begin late", {1, 2, 3}, "a first offset of 1");
  add_offsets("that begin early", {-1, 2, 3}, "a first offset of -1");
  add_offsets("that decrease", {0, 4, 3}, "4 followed by 3");
  add_offsets("that end early", {0, 1, 2}, "a last offset of 2");
  add_offsets("that end late", {0, 1, 4}, "a last offset of 4");
  add_offsets("of no sequence", {0}, "a last offset of 0");
  all.push_back(
      {"offsets of 3 sequences", {"state must be", "= [3, 5]", "got [2, 5]"}, [](scene_t& s) {
         s.pack({0, 1, 2, 3});
       }});

  all.push_back({"negative threads",
                 {"threads of exec::sequential must be 0 or more, got -1"},
                 [](scene_t& s) { s.how = exec::sequential{.threads = -1}; }});
  all.push_back({"negative threads of chunks",
                 {"threads of exec::chunked must be 0 or more", "-2"},
                 [](scene_t& s) { s.how = exec::chunked{.chunk = 1, .threads = -2}; }});
  all.push_back({"negative chunk",
                 {"chunk of exec::chunked must be 0 or more, got -3"},
                 [](scene_t& s) { s.how = exec::chunked{.chunk = -3, .threads = 1}; }});
  all.push_back({"negative channels", {"must be 0 or more, got -1"}, [](scene_t& s) {
                   s.mixer = anatomy<M>::make(-1);
                 }});
  all.push_back(
      {"other policies check too: chunked", {"y must be", "got a null pointer"}, [](scene_t& s) {
         s.how = exec::chunked{};
         s.y = with_data(s.y, nullptr);
       }});
  all.push_back(
      {"other policies check too: scalar", {"y must be", "got a null pointer"}, [](scene_t& s) {
         s.how = exec::scalar{};
         s.y = with_data(s.y, nullptr);
       }});
}

/// What `step` refuses: the same checks, in its own name.
template <class M>
void add_steps(table<M>& all) {
  using scene_t = scene<M>;
  const auto add = [&](const std::string& title, std::vector<std::string> says, auto spoil) {
    all.push_back({"step: " + title, std::move(says), [spoil](scene_t& s) {
                     s.how = decode{};
                     spoil(s);
                   }});
  };
  add("y of 3 sequences", {"y must be", "[2, 1, 5", "got [3, 1, 5"},
      [](scene_t& s) { s.y = with_extent(s.y, 0, 3); });
  add("gate of 3 sequences", {"gate must be", "[2, 1, ", "got [3, 1, "},
      [](scene_t& s) { s.tokens.gate = with_extent(s.tokens.gate, 0, 3); });
  add("input of 6 channels", {"input must be", "[2, 1, 5", "got [2, 1, 6"},
      [](scene_t& s) { s.tokens.input = with_extent(s.tokens.input, 2, 6); });
  add("null y", {"y must be", "got a null pointer"},
      [](scene_t& s) { s.y = with_data(s.y, nullptr); });
  add("null gate", {"gate must be", "got a null pointer"},
      [](scene_t& s) { s.tokens.gate = with_data(s.tokens.gate, nullptr); });
  add("y over the gates", {"y must not overlap gate"},
      [](scene_t& s) { s.y = with_data(s.y, s.gate.get().data_handle() + 1); });
  add("batch stride 0", {"y", "must have strides of at least a row of", "got strides"},
      [](scene_t& s) { s.y = with_stride(s.y, 0, 0); });
  add("state of 3 sequences", {"state must be", "= [2, 5]", "got [3, 5]"},
      [](scene_t& s) { s.state = s.mixer.make_state(3); });
}

template <class M>
table<M> wrong_calls() {
  table<M> all;
  add_extents(all);
  add_memory(all);
  add_overlap(all);
  add_state_and_offsets(all);
  add_steps(all);
  return all;
}

/// Checks that `call` answers with `Error`, in words that hold all of `says`.
template <class Error, class Call>
void check_answer(const std::vector<std::string>& says, const Call& call) {
  const std::string text = answer<Error>(call);
  INFO("the answer: " << text);
  CHECK(text != "");
  for (const auto& part : says) {
    INFO("should say: " << part);
    CHECK(text.find(part) != std::string::npos);
  }
}

template <class M>
int check_calls(const table<M>& all) {
  for (const auto& wrong : all) {
    scene<M> s;
    INFO(name_of<M> << ": " << wrong.title);
    wrong.spoil(s);
    const auto before = s.state_memory();
    auto says = wrong.says;
    const bool one = std::holds_alternative<decode>(s.how);
    says.push_back(std::string(name_of<M>) + (one ? "::step: " : "::scan: "));
    check_answer<shape_error>(says, [&] { s.call(); });
    CHECK(s.untouched());
    CHECK(difference(before, s.state_memory()) == "");
  }
  return static_cast<int>(all.size());
}

using plain_t = diagonal<float>;
using lags_t = hlru<float, 2, normalise::none>;
using block_t = bdlru<double, 3, normalise::none>;
using grouped_lags_t = hlru<double, 2, normalise::none, gates::grouped>;
using grouped_block_t = bdlru<float, 2, normalise::none, gates::grouped>;

/// What only a diagonal recurrence with a fixed decay can get wrong.
table<plain_t> wrong_decays() {
  static const std::vector<float> decay(12, 0.5f);
  using scene_t = scene<plain_t>;
  const auto fixed = [](scene_t& s, view<const float, 1> v) {
    s.mixer.decay = v;
    s.tokens.gate = {};
  };
  return {
      {"decay of 6 channels",
       {"decay must be [D] = [5]", "got [6]"},
       [=](scene_t& s) { fixed(s, row_major(decay.data(), 6)); }},
      {"decay with a gap",
       {"decay", "unit stride on its last axis", "got strides [2]"},
       [=](scene_t& s) { fixed(s, with_stride(row_major(decay.data(), 5), 0, 2)); }},
      {"decay misaligned",
       {"decay must be aligned to 4 bytes", "got an address 1 past it"},
       [=](scene_t& s) { fixed(s, misaligned(row_major(decay.data(), 5))); }},
      {"decay and gates",
       {"gate must be empty where decay is fixed", "got [2, 3, 5]"},
       [=](scene_t& s) { s.mixer.decay = row_major(decay.data(), 5); }},
      {"neither decay nor gates",
       {"gate must be [B, T, D] = [2, 3, 5]", "got [0, 0, 0]"},
       [=](scene_t& s) { s.tokens.gate = {}; }},
      {"y over the decay",
       {"y must not overlap decay"},
       [=](scene_t& s) { fixed(s, row_major(static_cast<const float*>(s.y.data_handle()), 5)); }},
  };
}

/// What only natural gates of blocks can get wrong.
table<block_t> wrong_blocks() {
  return {{"rows of a block apart",
           {"gate must have rows of a block M+1 = 4 apart", "got strides"},
           [](scene<block_t>& s) {
             s.tokens.gate = strided(s.tokens.gate.data_handle(), s.tokens.gate.extents(),
                                     std::array<index_t, 5>{225, 75, 15, 5, 1});
           }},
          {"rows of a block on each other",
           {"gate", "strides that do not fold", "got strides"},
           [](scene<block_t>& s) { s.tokens.gate = with_stride(s.tokens.gate, 3, 3); }},
          {"blocks on each other",
           {"input", "strides that do not fold", "got strides"},
           [](scene<block_t>& s) { s.tokens.input = with_stride(s.tokens.input, 2, 2); }}};
}

/// What only grouped gates can get wrong.
template <class M>
table<M> wrong_groups() {
  constexpr int last = scene<M>::gate_rank - 1;
  const auto of = [](index_t L, std::vector<std::string> says) {
    return wrong_call<M>{"groups of " + std::to_string(L), std::move(says),
                         [L](scene<M>& s) { s.tokens.gate = with_extent(s.tokens.gate, last, L); }};
  };
  return {of(3, {"gate's last extent L must be a power of two, got 3"}),
          of(-8, {"gate's last extent L must be a power of two, got -8"}),
          of(4, {"gate must be", "got [2, 3, 1"}),
          of(0, {"gate must be", "got [2, 3, 1"}),
          of(huge, {"gate", "inner strides that do not fold", "got strides"}),
          {"gaps inside a group",
           {"gate must be dense inside a group", "got strides"},
           [](scene<M>& s) {
             auto strides = s.tokens.gate.strides();
             for (std::size_t r = 0; r + 1 < strides.size(); ++r) strides[r] *= 2;
             s.tokens.gate = strided(s.tokens.gate.data_handle(), s.tokens.gate.extents(), strides);
           }}};
}

/// A call of another function of maslin.
struct other_call {
  std::string title;
  std::vector<std::string> says;
  std::function<void()> call;
};

/// Checks calls that must leave every number of `buffers` as it is.
template <class S>
int check_others(const std::vector<other_call>& all, const std::vector<S>& buffer) {
  const auto before = buffer;
  for (const auto& wrong : all) {
    INFO(wrong.title);
    check_answer<shape_error>(wrong.says, wrong.call);
    CHECK(difference(before, buffer) == "");
  }
  return static_cast<int>(all.size());
}

/// Lags, states and the helpers of layout, over one buffer.
int check_other_functions() {
  std::vector<float> buffer(4096, 7.0f);
  float* const p = buffer.data();
  float* const q = p + 2048;
  const lags_t mixer{.channels = 5};
  auto state = mixer.make_state(2);
  const auto y = row_major(static_cast<const float*>(p), 2, 3, 5);
  const auto lags = row_major(q, 2, 3, 5, 2);
  const auto natural = row_major(static_cast<const float*>(p), 2, 3, 5, 3);
  const auto weight = row_major(static_cast<const float*>(p), 15, 4);
  const auto bias = row_major(static_cast<const float*>(p + 512), 15);
  const auto grouped_weight = row_major(q, 24, 4);
  const auto grouped_bias = row_major(q + 512, 24);
  const auto rows = [](auto... arguments) { regroup_rows<8>(5, 3, arguments...); };
  const std::vector<other_call> all = {
      {"lags of 3 numbers",
       {"hlru::lags: out must be [B, T, D, M] = [2, 3, 5, 2]", "[2, 3, 5, 3]"},
       [&] { mixer.lags(y, state, row_major(q, 2, 3, 5, 3)); }},
      {"lags over y",
       {"hlru::lags: out must not overlap y"},
       [&] { mixer.lags(y, state, row_major(p, 2, 3, 5, 2)); }},
      {"lags on each other",
       {"hlru::lags: out", "keep its rows apart"},
       [&] { mixer.lags(y, state, with_stride(lags, 0, lags.stride(1))); }},
      {"lags from another batch",
       {"hlru::lags: initial must be [B, D] = [2, 5], got [3, 5]"},
       [&] { mixer.lags(y, mixer.make_state(3), lags); }},
      {"lags from another order",
       {"hlru::lags: initial must be of order M = 2, got 1"},
       [&] { mixer.lags(y, lags_t::state("hlru", 2, 5, 1), lags); }},
      {"lags of a null y",
       {"hlru::lags: y must be", "got a null pointer"},
       [&] { mixer.lags(with_data(y, nullptr), state, lags); }},
      {"a negative batch",
       {"hlru::make_state: batch must be 0 or more, got -1"},
       [&] { static_cast<void>(mixer.make_state(-1)); }},
      {"a batch past memory",
       {"hlru::make_state: batch must be", "got " + std::to_string(huge)},
       [&] { static_cast<void>(mixer.make_state(huge)); }},
      {"negative channels of a state",
       {"hlru::make_state: channels must be 0 or more, got -4"},
       [&] { static_cast<void>(lags_t{.channels = -4}.make_state()); }},
      {"reset of no sequence",
       {"hlru::state::reset: sequence must be in [0, 2), got 2"},
       [&] { state.reset(2); }},
      {"copy to another shape",
       {"hlru::state::copy_to: out must be", "= [2, 5, 2], got [2, 5, 3]"},
       [&] { state.copy_to(row_major(q, 2, 5, 3)); }},
      {"copy from null",
       {"hlru::state::copy_from: in must be", "got a null pointer"},
       [&] {
         state.copy_from(view<const float, 3>(nullptr, {2, 5, 2}, {10, 2, 1}));
       }},
      {"regrouping to other groups",
       {"regroup_gate: grouped must be", "= [2, 3, 1, 3, 8]", "got"},
       [&] { regroup_gate(natural, row_major(q, 2, 3, 2, 3, 8)); }},
      {"regrouping to 3 lanes",
       {"regroup_gate: gate's last extent L must be a power of two, got 3"},
       [&] { regroup_gate(natural, row_major(q, 2, 3, 2, 3, 3)); }},
      {"regrouping in place",
       {"regroup_gate: grouped must not overlap natural"},
       [&] { regroup_gate(natural, row_major(p, 2, 3, 1, 3, 8)); }},
      {"regrouping from null",
       {"regroup_gate: natural must be", "got a null pointer"},
       [&] { regroup_gate(with_data(natural, nullptr), row_major(q, 2, 3, 1, 3, 8)); }},
      {"regrouping blocks of other rows",
       {"regroup_gate: grouped must be", "= [1, 2, 1, 2, 3, 8]"},
       [&] {
         regroup_gate(row_major(static_cast<const float*>(p), 1, 2, 5, 2, 3),
                      row_major(q, 1, 2, 1, 3, 3, 8));
       }},
      {"rows of another projection",
       {"regroup_rows: weight must be", "= [15, 4], got [14, 4]"},
       [&] { rows(with_extent(weight, 0, 14), bias, grouped_weight, grouped_bias); }},
      {"rows without room",
       {"regroup_rows: grouped_weight must be", "= [24, 4], got [15, 4]"},
       [&] { rows(weight, bias, with_extent(grouped_weight, 0, 15), grouped_bias); }},
      {"a bias without a place",
       {"regroup_rows: grouped_bias must be", "= [24], got [0]"},
       [&] { rows(weight, bias, grouped_weight, view<float, 1>{}); }},
      {"rows in place",
       {"regroup_rows: grouped_weight must not overlap weight"},
       [&] { rows(weight, bias, row_major(p, 24, 4), grouped_bias); }},
      {"negative channels of a projection",
       {"regroup_rows: channels must be 0 or more, got -5"},
       [&] { regroup_rows<8>(-5, 3, weight, bias, grouped_weight, grouped_bias); }},
  };
  return check_others(all, buffer);
}

/// A state of the mixer with numbers in it, and its record.
template <class M>
typename M::state numbered(index_t batch, std::uint64_t seed) {
  using A = anatomy<M>;
  constexpr index_t C = 2;
  auto state = A::make(C).make_state(batch);
  std::vector<typename M::scalar_type> h(static_cast<std::size_t>(batch * C * A::each.state));
  maslin::test::random(seed).fill_normal<typename M::scalar_type>(h);
  state.copy_from(A::template state<const typename M::scalar_type>(h.data(), batch, C));
  return state;
}
template <class State>
std::string record_of(const State& state) {
  std::ostringstream out;
  state.save(out);
  return out.str();
}

/// Loading `bytes` is refused and changes nothing; a good record loads afterwards.
template <class State>
void check_refused(const State& before, const std::string& bytes,
                   const std::vector<std::string>& says) {
  State state = before;
  std::istringstream in(bytes);
  check_answer<state_error>(says, [&] { state.load(in); });
  CHECK(state == before);
}

}  // namespace

TEST_CASE("a wrong call is refused in words, and changes nothing", "[mixer][errors]") {
  int count = 0;
  count += check_calls(wrong_calls<plain_t>());
  count += check_calls(wrong_calls<lags_t>());
  count += check_calls(wrong_calls<block_t>());
  count += check_calls(wrong_calls<grouped_lags_t>());
  count += check_calls(wrong_calls<grouped_block_t>());
  count += check_calls(wrong_decays());
  count += check_calls(wrong_blocks());
  count += check_calls(wrong_groups<grouped_lags_t>());
  count += check_calls(wrong_groups<grouped_block_t>());
  count += check_other_functions();
  std::cout << count << " wrong calls refused\n";
  CHECK(count >= 60);
}

TEMPLATE_TEST_CASE("a call that was made right leaves nothing to refuse", "[mixer][errors]",
                   plain_t, lags_t, block_t, grouped_lags_t, grouped_block_t) {
  // The scenes that the table spoils are valid themselves, packed or not, by every policy.
  for (const way& how : all_ways()) {
    scene<TestType> s;
    s.how = how;
    CHECK_NOTHROW(s.call());
    if (std::holds_alternative<decode>(how)) continue;
    scene<TestType> packed;
    packed.how = how;
    packed.pack({0, 1, 3});
    CHECK_NOTHROW(packed.call());
  }
}

TEMPLATE_TEST_CASE("a stored state that is damaged is refused, this one unchanged",
                   "[mixer][errors][state]", plain_t, lags_t, block_t) {
  const auto stored = numbered<TestType>(1, 1), before = numbered<TestType>(1, 2);
  const std::string good = record_of(stored);
  const std::string load = std::string(name_of<TestType>) + "::state::load: ";
  for (std::size_t size = 0; size < good.size(); ++size) {
    INFO("cut after " << size << " bytes");
    check_refused(before, good.substr(0, size), {load, "must be", "bytes, got"});
  }
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    INFO("bit " << bit << " flipped");
    auto bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    check_refused(before, bad, {load, "must", "got"});
  }
  SECTION("a load after one that failed works") {
    auto state = before;
    std::istringstream nothing(""), all(good);
    CHECK_THROWS_AS(state.load(nothing), state_error);
    state.load(all);
    CHECK(state == stored);
  }
}

TEST_CASE("a stored state of something else is refused", "[mixer][errors][state]") {
  const auto before = numbered<lags_t>(1, 2);
  const std::string wanted = "must hold hlru of 4-byte numbers [1, 2, 2], got ";
  const auto refused = [&](const auto& other, const std::string& got) {
    INFO(got);
    check_refused(before, record_of(other), {"hlru::state::load: ", wanted + got});
  };
  refused(numbered<lags_t>(2, 1), "hlru of 4-byte numbers [2, 2, 2]");
  refused(lags_t{.channels = 3}.make_state(), "hlru of 4-byte numbers [1, 3, 2]");
  refused(numbered<hlru<float, 3>>(1, 1), "hlru of 4-byte numbers [1, 2, 3]");
  refused(numbered<hlru<double, 2>>(1, 1), "hlru of 8-byte numbers [1, 2, 2]");
  refused(numbered<bdlru<float, 2>>(1, 1), "bdlru of 4-byte numbers [1, 2, 2]");
  refused(numbered<plain_t>(1, 1), "diagonal of 4-byte numbers [1, 2, 1]");
  using write_side = hlru<float, 2, normalise::softmax, gates::natural, gate_side::write>;
  refused(numbered<write_side>(1, 1), "hlru_write of 4-byte numbers [1, 2, 2]");
}
