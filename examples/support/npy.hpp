// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Matrices from and to .npy files of version 1.0: little-endian float32 in C order, at most two
/// axes. What numpy.save writes of a float32 array.

#include <Eigen/Core>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <stdexcept>
#include <string>

namespace npy {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr std::size_t preamble = 10;  // "\x93NUMPY", two bytes of version, two of the header's size

/// A vector of n numbers is read as [n, 1].
inline matrix load(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  const auto refuse = [&](const char* wanted) {
    throw std::runtime_error(file.string() + ": want " + wanted);
  };
  if (bytes.size() < preamble || bytes.compare(0, 6, "\x93NUMPY") != 0) refuse("a .npy file");
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const std::size_t begin = preamble + byte(8) + 256u * byte(9);
  if (bytes.size() < begin) refuse("a whole header");
  const std::string header = bytes.substr(preamble, begin - preamble);
  std::smatch shape;
  if (header.find("'<f4'") == header.npos || header.find("False") == header.npos)
    refuse("float32 in C order");
  if (!std::regex_search(header, shape, std::regex(R"(\((\d{1,9}),\s*(\d{1,9})?\s*\))")))
    refuse("one axis or two");
  const Eigen::Index rows = std::stol(shape[1]),
                     columns = shape[2].matched ? std::stol(shape[2]) : 1;
  matrix m(rows, columns);
  if (bytes.size() - begin != static_cast<std::size_t>(m.size()) * sizeof(float))
    refuse("as many numbers as the shape has");
  bytes.copy(reinterpret_cast<char*>(m.data()), bytes.size() - begin, begin);
  return m;
}

inline void save(const std::filesystem::path& file, const matrix& m) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" +
                       std::to_string(m.rows()) + ", " + std::to_string(m.cols()) + "), }";
  while ((preamble + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::ofstream out(file, std::ios::binary);
  const auto size = static_cast<std::uint16_t>(header.size());
  out << "\x93NUMPY" << '\1' << '\0' << static_cast<char>(size & 255)
      << static_cast<char>(size >> 8) << header;
  out.write(reinterpret_cast<const char*>(m.data()), m.size() * static_cast<long>(sizeof(float)));
  if (!out) throw std::runtime_error(file.string() + ": cannot be written");
}

}  // namespace npy
