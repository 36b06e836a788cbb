// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/types.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace maslin::test {

/// An array read from a file: shape and values, last axis fastest.
struct npy_array {
  std::vector<index_t> shape;
  std::vector<double> values;
};

/// The header of a .npy file: a Python dictionary of three entries, in any order.
class npy_header {
 public:
  /// throws    std::runtime_error saying what was expected
  explicit npy_header(std::string_view text) : rest_(text) {
    bool has_type = false, has_order = false, has_shape = false;
    take('{');
    while (!next_is('}')) {
      const std::string key = quoted();
      take(':');
      bool& seen = key == "descr"           ? has_type
                   : key == "fortran_order" ? has_order
                   : key == "shape"         ? has_shape
                                            : unknown(key);
      if (seen) fail("the key '" + key + "' once");
      seen = true;
      if (key == "descr" && quoted() != "<f8") fail("the element type '<f8'");
      if (key == "fortran_order" && word() != "False") fail("C order (fortran_order False)");
      if (key == "shape") read_shape();
      if (!next_is('}')) take(',');
    }
    take('}');
    skip_spaces();
    if (rest_ != "\n") fail("a newline at the end of the header");
    if (!(has_type && has_order && has_shape)) fail("the keys descr, fortran_order and shape");
  }

  std::vector<index_t> shape;

 private:
  [[noreturn]] static void fail(const std::string& wanted) {
    throw std::runtime_error("want " + wanted);
  }
  [[noreturn]] static bool& unknown(const std::string& key) {
    fail("the keys descr, fortran_order and shape, got '" + key + "'");
  }
  void skip_spaces() {
    while (rest_.starts_with(' ')) rest_.remove_prefix(1);
  }
  bool next_is(char c) {
    skip_spaces();
    return rest_.starts_with(c);
  }
  void take(char c) {
    if (!next_is(c)) fail(std::string("'") + c + "' in the header");
    rest_.remove_prefix(1);
  }
  std::string quoted() {
    skip_spaces();
    const char quote = rest_.empty() ? '\0' : rest_.front();
    const std::size_t end = quote == '\'' || quote == '"' ? rest_.find(quote, 1) : rest_.npos;
    if (end == rest_.npos) fail("a quoted string in the header");
    std::string text(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return text;
  }
  std::string word() {
    skip_spaces();
    std::string text;
    while (!rest_.empty() && (rest_.front() | 0x20) >= 'a' && (rest_.front() | 0x20) <= 'z') {
      text += rest_.front();
      rest_.remove_prefix(1);
    }
    return text;
  }
  index_t number() {
    constexpr index_t limit = std::numeric_limits<index_t>::max() / 10 - 1;
    skip_spaces();
    if (rest_.empty() || rest_.front() < '0' || rest_.front() > '9') fail("a size in the shape");
    index_t n = 0;
    while (!rest_.empty() && rest_.front() >= '0' && rest_.front() <= '9') {
      if (n > limit) fail("a size that fits");
      n = 10 * n + (rest_.front() - '0');
      rest_.remove_prefix(1);
    }
    return n;
  }
  void read_shape() {
    take('(');
    while (!next_is(')')) {
      shape.push_back(number());
      if (!next_is(')')) take(',');
    }
    take(')');
  }

  std::string_view rest_;
};

/// Parses a .npy file of version 1.0 that holds little-endian float64 in C order, and nothing else.
/// throws    std::runtime_error naming what was expected
[[nodiscard]] inline npy_array parse_npy(std::string_view bytes) {
  using namespace std::literals;
  constexpr std::string_view magic = "\x93NUMPY\x01\x00"sv;
  constexpr std::size_t header_begin = magic.size() + 2;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  if (bytes.size() < header_begin || !bytes.starts_with(magic)) {
    throw std::runtime_error("want the magic and version 1.0 of a .npy file");
  }
  const std::size_t header_size = byte(magic.size()) + 256u * byte(magic.size() + 1);
  if (bytes.size() - header_begin < header_size) throw std::runtime_error("want a whole header");
  npy_array array{.shape = npy_header(bytes.substr(header_begin, header_size)).shape, .values = {}};

  const std::size_t data_size = bytes.size() - header_begin - header_size;
  std::size_t count = 1;
  for (const index_t n : array.shape) {
    // Larger than the file: stops before the product overflows.
    if (n != 0 && count > data_size / static_cast<std::size_t>(n))
      count = data_size + 1;
    else
      count *= static_cast<std::size_t>(n);
  }
  if (count > data_size || count * sizeof(double) != data_size) {
    throw std::runtime_error("want as many bytes as the shape has, got " +
                             std::to_string(data_size));
  }
  array.values.reserve(count);
  for (std::size_t i = bytes.size() - data_size; i < bytes.size(); i += sizeof(double)) {
    std::uint64_t word = 0;
    for (std::size_t k = sizeof(double); k-- > 0;) word = word << 8 | byte(i + k);
    array.values.push_back(std::bit_cast<double>(word));
  }
  return array;
}

/// Reads a .npy file.
/// throws    std::runtime_error naming the file and what was expected
[[nodiscard]] inline npy_array read_npy(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw std::runtime_error(file.filename().string() + ": cannot be opened");
  const std::string bytes{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  try {
    return parse_npy(bytes);
  } catch (const std::runtime_error& e) {
    throw std::runtime_error(file.filename().string() + ": " + e.what());
  }
}

}  // namespace maslin::test
