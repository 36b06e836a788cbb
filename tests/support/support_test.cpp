// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/npy.hpp"
#include "support/poison.hpp"
#include "support/random.hpp"

#include <maslin/core/types.hpp>

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace maslin::test;

/// The bytes of a .npy file with this header and as many doubles.
std::string npy(const std::string& header, const std::vector<double>& values) {
  std::string bytes = std::string("\x93NUMPY\x01", 7) + '\0';
  bytes += static_cast<char>(header.size() % 256);
  bytes += static_cast<char>(header.size() / 256);
  bytes += header;
  for (const double x : values) {
    std::uint64_t word;
    std::memcpy(&word, &x, sizeof word);
    for (int k = 0; k < 8; ++k) bytes += static_cast<char>(word >> (8 * k) & 0xff);
  }
  return bytes;
}

/// What the reader has against these bytes; empty if nothing.
std::string complaint(const std::string& bytes) {
  try {
    static_cast<void>(parse_npy(bytes));
  } catch (const std::runtime_error& e) {
    return e.what();
  }
  return {};
}

const std::string good = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }     \n";

}  // namespace

TEST_CASE("random numbers are the same everywhere", "[support][random]") {
  maslin::test::random numbers(5489);
  // The first output of the engine of the standard for its default seed.
  CHECK(numbers.bits() == 14514284786278117030ull);
  maslin::test::random a(7), b(7);
  double sum = 0, squares = 0, largest = 0;
  bool equal = true;
  for (int i = 0; i < 20000; ++i) {
    const double x = a.normal();
    equal = equal && x == b.normal();
    largest = std::fmax(largest, std::abs(x));
    sum += x;
    squares += x * x;
  }
  CHECK(equal);
  CHECK(largest <= 6);
  // Five deviations of a mean of 20,000 and of their variance.
  CHECK(std::abs(sum / 20000) < 5 / std::sqrt(20000.0));
  CHECK(std::abs(squares / 20000 - 1) < 5 * std::sqrt(2 / 20000.0));
}

TEST_CASE("poison is seen where it is read and where it is overwritten", "[support][poison]") {
  poisoned<float, 3> array({2, 3, 4}, {5, 1, 0});
  CHECK(array.untouched());
  CHECK(std::isnan(array.get()(1, 2, 3)));
  CHECK(array.get().stride(1) == 5);
  CHECK(array.get().stride(0) == 20);
  std::vector<double> values(24);
  for (std::size_t i = 0; i < 24; ++i) values[i] = static_cast<double>(i);
  array.assign<double>(values);
  CHECK(array.intact());
  CHECK_FALSE(array.untouched());
  CHECK(array.get()(1, 2, 3) == 23);
  CHECK(array.values() == std::vector<float>(values.begin(), values.end()));
  array.get().data_handle()[4] = 0;  // the gap behind the first row
  CHECK_FALSE(array.intact());
  array.reset();
  CHECK(array.untouched());
  array.get().data_handle()[-1] = 0;  // the guard band
  CHECK_FALSE(array.intact());
}

TEST_CASE("a .npy file of the one accepted kind is read", "[support][npy]") {
  const std::vector<double> values{1, -2.5, 3, 1e300, 0, -0.0};
  const npy_array read = parse_npy(npy(good, values));
  CHECK(read.shape == std::vector<maslin::index_t>{2, 3});
  CHECK(read.values == values);
  CHECK(parse_npy(npy("{'shape': (), 'fortran_order': False, 'descr': '<f8'}\n", {7})).values ==
        std::vector<double>{7});
  CHECK(parse_npy(npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 9)}\n", {}))
            .values.empty());
  CHECK(parse_npy(npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}\n", {7})).shape ==
        std::vector<maslin::index_t>{1});
}

TEST_CASE("every other .npy file is refused, with the reason", "[support][npy][errors]") {
  const std::vector<double> six(6, 1.0);
  const auto refuses = [](const std::string& bytes, const std::string& reason) {
    const std::string text = complaint(bytes);
    CAPTURE(text, reason);
    CHECK(text.find(reason) != text.npos);
  };
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string header = good;
    header.replace(header.find(from), from.size(), to);
    return npy(header, six);
  };
  const std::string whole = npy(good, six);
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    CAPTURE(cut);
    CHECK_FALSE(complaint(whole.substr(0, cut)).empty());
  }
  refuses(whole + "x", "as many bytes");
  std::string version = whole;
  version[6] = 2;
  refuses(version, "version 1.0");
  refuses(with("<f8", "<f4"), "'<f8'");
  refuses(with("<f8", ">f8"), "'<f8'");
  refuses(with("False", "True"), "C order");
  refuses(with("(2, 3)", "(2, 4)"), "as many bytes");
  refuses(with("(2, 3)", "(2, -3)"), "size in the shape");
  refuses(with("(2, 3)", "(99999999999999999999, 3)"), "size that fits");
  refuses(with("(2, 3)", "(4611686018427387904, 4)"), "as many bytes");
  refuses(with("'shape'", "'form'"), "got 'form'");
  refuses(with("'descr': '<f8', ", ""), "the keys");
  refuses(with("'descr': '<f8'", "'shape': (2, 3)"), "once");
  refuses(with("}", ""), "quoted string");
  refuses(with("\n", "?"), "newline");
}
