// SPDX-License-Identifier: Apache-2.0
#include "pattern/patterns.hpp"
#include "support/catch.hpp"

#include <maslin/pattern/cached.hpp>
#include <maslin/pattern/history.hpp>
#include <maslin/pattern/reads.hpp>
#include <maslin/pattern/table.hpp>

#include <algorithm>
#include <concepts>
#include <type_traits>
#include <vector>

namespace {

using namespace maslin;
using test::reads;

constexpr index_t longest = 65536;

/// A decoder without values: keeps in each entry the position whose output would lie there.
template <class History>
class decoder {
 public:
  template <class P>
  decoder(const P& p, index_t T)
      : history_(p, T), entry_(static_cast<std::size_t>(history_.entries()), -1) {}

  [[nodiscard]] const History& history() const { return history_; }

  /// What the next token reads; then its output is written and time goes on.
  reads step() {
    reads r;
    history_.for_each_read([&](index_t entry, index_t k) {
      r.push_back({entry_.at(static_cast<std::size_t>(entry)), k});
    });
    entry_.at(static_cast<std::size_t>(history_.newest())) = history_.time();
    history_.advance();
    return r;
  }

  /// Moves to token t as a loaded state does: outputs are written where the history asks for them.
  void restart(index_t t) {
    std::fill(entry_.begin(), entry_.end(), -1);
    history_.restart(t);
    history_.for_each_kept(
        [&](index_t entry, index_t p) { entry_.at(static_cast<std::size_t>(entry)) = p; });
  }

 private:
  History history_;
  std::vector<index_t> entry_;
};

template <class P>
reads reads_of(const P& p, index_t t) {
  reads r;
  pattern::for_each_read(p, t, [&r](index_t position, index_t k) { r.push_back({position, k}); });
  return r;
}

/// True if all positions of `now` are among those of `before` or are `newest`.
bool contained(const reads& now, const reads& before, index_t newest) {
  return std::ranges::all_of(now, [&](const auto& read) {
    return read.first == newest ||
           std::ranges::binary_search(before, read.first, {}, [](auto& r) { return r.first; });
  });
}

/// Everything SPEC says of a cached pattern, for every token up to T.
template <class History = pattern::slots, class P>
void expect_cached(const P& plain, index_t T) {
  const pattern::cached p{plain};
  const test::definition d([&](index_t k) { return plain.distance(k); }, T);
  const pattern::table known(p, T);
  decoder<History> streaming(p, T);
  index_t off_definition = 0, off_stream = 0, not_contained = 0, off_model = 0, most = 0;
  reads before;
  for (index_t t = 0; t < T; ++t) {
    const reads wanted = d.cached(t);
    off_definition += reads_of(known, t) != wanted;
    not_contained += !contained(wanted, before, t - 1);
    const auto size = static_cast<index_t>(wanted.size());
    off_model += size > plain.levels(t);
    if constexpr (std::same_as<History, pattern::slots>)
      off_model += streaming.history().taken() != size + 1;
    off_stream += streaming.step() != wanted;
    most = std::max(most, size);
    // The model looks at a last few tokens only; here the maximum is over all.
    if (t % 1009 == 0 || t + 1 == T || (t & (t + 1)) == 0)
      off_model += pattern::cache_entries(p, t + 1) != most + 1;
    before = wanted;
  }
  CHECK(streaming.history().entries() == std::max<index_t>(1, pattern::cache_entries(p, T)));
  CHECK(off_definition == 0);
  CHECK(not_contained == 0);
  CHECK(off_stream == 0);
  CHECK(off_model == 0);
  for (std::size_t k = 0; k < d.spacing.size(); ++k)
    CHECK(p.spacing(static_cast<index_t>(k)) == d.spacing[k]);
}

}  // namespace

TEST_CASE("cached 2^k reads, keeps and drops what its definition says",
          "[pattern][cached][definition]") {
  expect_cached(pattern::power2{}, longest);
}
TEST_CASE("entries of cached 2^k that follow from the time hold what its definition reads",
          "[pattern][cached][definition]") {
  static_assert(
      std::same_as<pattern::history<pattern::cached<pattern::power2>>, pattern::binary_slots>);
  expect_cached<pattern::binary_slots>(pattern::power2{}, longest);
  for (index_t T = 0; T < 70; ++T) expect_cached<pattern::binary_slots>(pattern::power2{}, T);
}
TEST_CASE("cached k^2 + 1 reads, keeps and drops what its definition says",
          "[pattern][cached][definition]") {
  expect_cached(pattern::square1{}, longest);
}
TEST_CASE("cached 3^k reads, keeps and drops what its definition says",
          "[pattern][cached][definition]") {
  expect_cached(test::power3, longest);
}
TEST_CASE("cached k (k + 1) / 2 + 1 reads, keeps and drops what its definition says",
          "[pattern][cached][definition]") {
  expect_cached(test::triangle, longest);
}
TEST_CASE("other cached patterns read, keep and drop what their definitions say",
          "[pattern][cached][definition]") {
  expect_cached(pattern::linear{1}, 300);
  expect_cached(pattern::linear{12}, 2000);
  expect_cached(pattern::order{5}, 300);
  expect_cached(pattern::dense{}, 300);
  expect_cached(test::uneven, 2000);
  expect_cached(test::crowd, 2000);
  for (const index_t T : {0, 1, 2, 3, 4}) expect_cached(test::triangle, T);
}

TEST_CASE("a cached pattern and its table read alike", "[pattern][cached][table]") {
  const auto alike = [](const auto& p, index_t T) {
    const pattern::table known(p, T);
    index_t wrong = 0;
    for (index_t t = 0; t < T; ++t) wrong += reads_of(p, t) != reads_of(known, t);
    CHECK(wrong == 0);
  };
  alike(pattern::cached{pattern::power2{}}, 3000);
  alike(pattern::cached{pattern::square1{}}, 3000);
  alike(pattern::cached{pattern::linear{7}}, 500);
  alike(pattern::cached{test::triangle}, 500);
}

TEST_CASE("the paper's spacings need the seed 1, and sizes are those of SPEC",
          "[pattern][cached][paper]") {
  const auto spacings = [](const auto& p, index_t n) {
    std::vector<index_t> a;
    for (index_t k = 0; k < n; ++k) a.push_back(p.spacing(k));
    return a;
  };
  const pattern::cached powers{pattern::power2{}};
  const pattern::cached squares{pattern::square1{}};
  CHECK(spacings(powers, 5) == std::vector<index_t>{1, 1, 2, 4, 8});
  CHECK(spacings(squares, 8) == std::vector<index_t>{1, 1, 3, 6, 12, 12, 12, 24});
  CHECK(pattern::read_count(powers, 1023) == 10);
  CHECK(pattern::read_count(powers, 4095) == 12);
  CHECK(pattern::read_count(squares, 1023) == 24);
  CHECK(pattern::read_count(squares, 4095) == 47);
  CHECK(pattern::read_count(squares.plain, 1023) == 32);
  CHECK(pattern::read_count(squares.plain, 4095) == 64);
}

TEST_CASE("S_{t+1} lies within S_t and {t}, not within S_t and {t + 1} as published",
          "[pattern][cached][paper]") {
  const pattern::cached p{pattern::square1{}};
  index_t breaks_published = 0;
  for (index_t t = 1; t < 4096; ++t) {
    const reads before = reads_of(p, t), now = reads_of(p, t + 1);
    CHECK(contained(now, before, t));
    breaks_published += !contained(now, before, t + 1);
    // Token t + 1 never reads itself, and always its predecessor.
    CHECK(now.back().first == t);
  }
  CHECK(breaks_published == 4095);
}

TEST_CASE("order and dense are their own cached forms", "[pattern][cached][paper]") {
  for (index_t t = 0; t < 100; ++t) {
    CHECK(reads_of(pattern::cached{pattern::order{6}}, t) == reads_of(pattern::order{6}, t));
    CHECK(reads_of(pattern::cached{pattern::dense{}}, t) == reads_of(pattern::dense{}, t));
  }
}

TEST_CASE("a ring gives every output that a plain pattern reads", "[pattern][plain][history]") {
  const auto follow = [](const auto& p, index_t T) {
    decoder<pattern::ring> streaming(p, T);
    CHECK(streaming.history().entries() == std::max<index_t>(1, pattern::cache_entries(p, T)));
    index_t wrong = 0;
    for (index_t t = 0; t < T; ++t) wrong += streaming.step() != reads_of(p, t);
    CHECK(wrong == 0);
  };
  for (const index_t T : {0, 1, 2, 3, 50, 1000}) {
    follow(pattern::order{1}, T);
    follow(pattern::order{4}, T);
    follow(pattern::dense{}, T);
    follow(pattern::power2{}, T);
    follow(pattern::square1{}, T);
    follow(pattern::linear{9}, T);
    follow(test::uneven, T);
  }
}

TEST_CASE("a cached pattern of few levels goes on beyond the tokens it was made for",
          "[pattern][cached][history]") {
  // At 41 tokens level 3 has begun, and has not been at every phase of its spacing.
  const pattern::cached p{pattern::user{[](index_t k) {
    constexpr index_t distances[] = {1, 2, 7, 40};
    return k < 4 ? distances[k] : pattern::beyond;
  }}};
  decoder<pattern::slots> streaming(p, 41);
  CHECK(streaming.history().limit() == pattern::beyond);
  index_t wrong = 0;
  for (index_t t = 0; t < 500; ++t) wrong += streaming.step() != reads_of(p, t);
  CHECK(wrong == 0);
  CHECK(streaming.history().entries() == pattern::cache_entries(p, 500));
}

TEST_CASE("a history of very many tokens is made without counting all its reads",
          "[pattern][cached][history]") {
  const auto reach = []<class History>(std::type_identity<History>) {
    const pattern::cached p{pattern::power2{}};
    const index_t T = index_t{1} << 60;
    decoder<History> streaming(p, T);
    CHECK(streaming.history().entries() == pattern::max_levels(p, T) + 1);
    streaming.restart(T - 1);
    CHECK(streaming.step() == reads_of(p, T - 1));

    decoder<History> last(p, pattern::beyond);
    last.restart(pattern::beyond - 2);
    CHECK(last.step() == reads_of(p, pattern::beyond - 2));
    CHECK(last.step() == reads_of(p, pattern::beyond - 1));
  };
  reach(std::type_identity<pattern::slots>{});
  reach(std::type_identity<pattern::binary_slots>{});
}

TEST_CASE("a history that starts at any token goes on as one that came there",
          "[pattern][history][restart]") {
  const auto follow = [](const auto& p, index_t T) {
    using history = pattern::history<std::remove_cvref_t<decltype(p)>>;
    for (index_t start = 0; start < T;
         start = std::max(start + 1, std::min(start * 10 / 9, T - 2))) {
      decoder<history> restarted(p, T);
      restarted.restart(start);
      index_t wrong = 0;
      for (index_t t = start; t < std::min(T, start + 40); ++t)
        wrong += restarted.step() != reads_of(p, t);
      CHECK(wrong == 0);
    }
    // Past the last token nothing is written, and all is kept that a longer history would need.
    decoder<history> full(p, T);
    full.restart(T);
    index_t last = -1, kept = 0;
    full.history().for_each_kept([&](index_t, index_t position) {
      kept += position > last;
      last = position;
    });
    CHECK(last == T - 1);
    CHECK(kept <= full.history().entries());
  };
  follow(pattern::order{4}, 300);
  follow(pattern::square1{}, 300);
  follow(pattern::dense{}, 60);
  follow(pattern::cached{pattern::power2{}}, 3000);
  follow(pattern::cached{pattern::square1{}}, 3000);
  follow(pattern::cached{test::uneven}, 3000);
}

TEST_CASE("a copy of a history goes its own way", "[pattern][history][value]") {
  decoder<pattern::slots> one(pattern::cached{pattern::square1{}}, 500);
  for (index_t t = 0; t < 200; ++t) one.step();
  decoder<pattern::slots> other = one;
  for (index_t t = 200; t < 300; ++t) one.step();
  index_t wrong = 0;
  for (index_t t = 200; t < 300; ++t)
    wrong += other.step() != reads_of(pattern::cached{pattern::square1{}}, t);
  CHECK(wrong == 0);
  CHECK(other.history().time() == one.history().time());
}
