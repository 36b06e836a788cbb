// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/config.hpp>
#include <maslin/core/record.hpp>

#include <cstdint>
#include <cstring>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace record = maslin::record;

template <class S>
record::header header_of(const char* mixer, std::int64_t b, std::int64_t d, std::int64_t m) {
  record::header h;
  h.mixer = mixer;
  h.number_size = sizeof(S);
  h.shape = {b, d, m};
  return h;
}

template <class S>
std::string stored(const record::header& h, const std::vector<S>& numbers) {
  std::ostringstream out;
  record::write(out, h, numbers);
  return out.str();
}

/// What a load answers; empty if it succeeds. A refused load must leave the numbers as they were.
template <class S>
std::string load_answer(const std::string& bytes, const record::header& h,
                        std::vector<S>& numbers) {
  const std::vector<S> before = numbers;
  std::istringstream in(bytes);
  try {
    record::read(in, h, numbers);
  } catch (const maslin::state_error& e) {
    if (std::memcmp(numbers.data(), before.data(), before.size() * sizeof(S)) != 0)
      return "numbers changed";
    return e.what();
  }
  return {};
}

/// The record with its checksum made right again.
std::string resealed(std::string bytes) {
  const std::size_t size = bytes.size() - 4;
  const auto crc = record::crc32(0, reinterpret_cast<const unsigned char*>(bytes.data()), size);
  for (std::size_t i = 0; i < 4; ++i) bytes[size + i] = char(crc >> (8 * i) & 0xff);
  return bytes;
}

const std::vector<float> six{1.5f, -2, 0, -0.0f, std::numeric_limits<float>::infinity(), 7};
const record::header of_six = header_of<float>("hlru", 1, 2, 3);

}  // namespace

TEST_CASE("the checksum is CRC-32 by its check value", "[core][record][checksum]") {
  const auto* text = reinterpret_cast<const unsigned char*>("123456789");
  CHECK(record::crc32(0, text, 9) == 0xCBF43926u);
  CHECK(record::crc32(record::crc32(0, text, 4), text + 4, 5) == 0xCBF43926u);
  CHECK(record::crc32(0, text, 0) == 0);
}

TEST_CASE("numbers are stored little-endian, whatever the machine", "[core][record][layout]") {
  unsigned char bytes[8];
  record::put(bytes, std::uint64_t{0x0123456789abcdef});
  CHECK(bytes[0] == 0xef);
  CHECK(bytes[7] == 0x01);
  CHECK(record::get<std::uint64_t>(bytes) == 0x0123456789abcdef);
  CHECK(record::get<std::uint32_t>(bytes) == 0x89abcdef);
}

TEST_CASE("a record has the bytes that its format says", "[core][record][layout]") {
  const std::string bytes = stored(of_six, six);
  REQUIRE(bytes.size() == 64 + 24 + 4);
  CHECK(bytes.substr(0, 4) == "MSLN");
  CHECK(bytes.substr(4, 4) == std::string("\1\0\0\0", 4));
  CHECK(bytes[8] == (maslin::fused_family ? 1 : 0));
  CHECK(bytes[9] == 4);
  CHECK(bytes.substr(10, 6) == std::string(6, '\0'));
  CHECK(bytes.substr(16, 16) == "hlru" + std::string(12, '\0'));
  CHECK(bytes.substr(32, 8) == std::string("\1\0\0\0\0\0\0\0", 8));
  CHECK(bytes.substr(40, 8) == std::string("\2\0\0\0\0\0\0\0", 8));
  CHECK(bytes.substr(48, 8) == std::string("\3\0\0\0\0\0\0\0", 8));
  CHECK(bytes.substr(56, 8) == std::string("\30\0\0\0\0\0\0\0", 8));
  CHECK(bytes.substr(64, 4) == std::string("\0\0\xc0\x3f", 4));  // 1.5
  CHECK(resealed(bytes) == bytes);
}

TEMPLATE_TEST_CASE("a record that is read back has the same bytes", "[core][record][round_trip]",
                   float, double) {
  maslin::test::random from(1);
  for (const std::int64_t count : {0, 1, 60}) {
    std::vector<TestType> numbers(static_cast<std::size_t>(count)), back(numbers.size());
    // Any bits: a NaN keeps its payload.
    for (TestType& x : numbers) {
      const auto bits = from.bits();
      std::memcpy(&x, &bits, sizeof x);
    }
    const auto h = header_of<TestType>("diagonal", 1, count, 1);
    CHECK(load_answer(stored(h, numbers), h, back) == "");
    CHECK((count == 0 ||
           std::memcmp(numbers.data(), back.data(), numbers.size() * sizeof(TestType)) == 0));
  }
}

TEST_CASE("what follows a record stays in the stream", "[core][record][round_trip]") {
  std::istringstream in(stored(of_six, six) + stored(of_six, std::vector<float>(6, 3.0f)) + "rest");
  std::vector<float> first(6), second(6);
  record::read(in, of_six, first);
  record::read(in, of_six, second);
  CHECK(first == six);
  CHECK(second == std::vector<float>(6, 3.0f));
  std::string rest;
  in >> rest;
  CHECK(rest == "rest");
}

TEST_CASE("a record cut at any byte is refused", "[core][record][errors]") {
  const std::string bytes = stored(of_six, six);
  std::vector<float> numbers(6, 9.0f);
  const std::string load = "hlru::state::load: the record's ";
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    const std::string got = load_answer(bytes.substr(0, cut), of_six, numbers);
    CAPTURE(cut, got);
    if (cut < 64)
      CHECK(got == load + "header must be 64 bytes, got " + std::to_string(cut));
    else if (cut < 88)
      CHECK(got == load + "payload must be 24 bytes, got " + std::to_string(cut - 64));
    else
      CHECK(got == load + "checksum must be 4 bytes, got " + std::to_string(cut - 88));
  }
}

TEST_CASE("a record with any single bit flipped is refused", "[core][record][errors]") {
  const std::string bytes = stored(of_six, six);
  std::vector<float> numbers(6, 9.0f);
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = char(flipped[bit / 8] ^ (1 << bit % 8));
    const std::string got = load_answer(flipped, of_six, numbers);
    CAPTURE(bit, got);
    CHECK(got.rfind("hlru::state::load: ", 0) == 0);
    CHECK(numbers == std::vector<float>(6, 9.0f));
  }
}

TEST_CASE("a record of something else is refused, with what it is", "[core][record][errors]") {
  const std::string bytes = stored(of_six, six);
  const auto refused = [&](const record::header& wanted) {
    std::vector<float> numbers(
        static_cast<std::size_t>(wanted.shape[0] * wanted.shape[1] * wanted.shape[2]));
    return load_answer(bytes, wanted, numbers);
  };
  const std::string got = ", got hlru of 4-byte numbers [1, 2, 3]";
  CHECK(refused(header_of<float>("bdlru", 1, 2, 3)) ==
        "bdlru::state::load: the record must hold bdlru of 4-byte numbers [1, 2, 3]" + got);
  CHECK(refused(header_of<float>("hlru_write", 1, 2, 3)) ==
        "hlru_write::state::load: the record must hold hlru_write of 4-byte numbers [1, 2, 3]" +
            got);
  const std::string hold = "hlru::state::load: the record must hold hlru of 4-byte numbers ";
  CHECK(refused(header_of<float>("hlru", 2, 1, 3)) == hold + "[2, 1, 3]" + got);
  CHECK(refused(header_of<float>("hlru", 1, 3, 2)) == hold + "[1, 3, 2]" + got);
  CHECK(refused(header_of<float>("hlru", 1, 2, 4)) == hold + "[1, 2, 4]" + got);
  std::vector<double> wide(6, 9);
  CHECK(load_answer(bytes, header_of<double>("hlru", 1, 2, 3), wide) ==
        "hlru::state::load: the record must hold hlru of 8-byte numbers [1, 2, 3]" + got);

  std::vector<float> numbers(6, 9.0f);
  CHECK(load_answer("MSLM" + bytes.substr(4), of_six, numbers) ==
        "hlru::state::load: the stream must begin with a saved state, got other bytes");
  std::string later = bytes;
  later[4] = 2;
  CHECK(load_answer(resealed(later), of_six, numbers) ==
        "hlru::state::load: the record's version must be 1, got 2");
  // Sizes are compared before anything is allocated for them.
  std::string huge = bytes;
  huge[63] = '\x7f';
  CHECK(load_answer(resealed(huge), of_six, numbers).rfind(hold, 0) == 0);
  std::string reserved = bytes;
  reserved[10] = 1;
  CHECK(load_answer(resealed(reserved), of_six, numbers).rfind(hold, 0) == 0);
}

TEST_CASE("a record of the other family loads, one of an unknown family does not",
          "[core][record][family]") {
  std::string bytes = stored(of_six, six);
  std::vector<float> numbers(6, 9.0f);
  bytes[8] = char(1 - bytes[8]);
  CHECK(load_answer(resealed(bytes), of_six, numbers) == "");
  CHECK(numbers == six);
  bytes[8] = 2;
  CHECK(load_answer(resealed(bytes), of_six, numbers) != "");
}

TEST_CASE("a stream that fails is reported", "[core][record][errors]") {
  std::ostringstream full;
  full.setstate(std::ios::badbit);
  CHECK_THROWS_AS(record::write(full, of_six, six), maslin::state_error);
  CHECK_THROWS_WITH(record::write(full, of_six, six),
                    "hlru::state::save: the stream must take 92 bytes, got a failure");
  std::vector<float> numbers(6, 9.0f);
  CHECK(load_answer("", of_six, numbers) ==
        "hlru::state::load: the record's header must be 64 bytes, got 0");
}
