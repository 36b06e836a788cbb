// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A stored state: one self-describing record, little-endian, with a version and a checksum.
///
///   bytes  0..3   "MSLN"            bytes 16..31  mixer, zero padded
///   bytes  4..7   format version    bytes 32..55  batch, channels, order (64 bits each)
///   byte   8      1: FMA family     bytes 56..63  payload bytes
///   byte   9      bytes a number    then          payload: numbers [batch, channels, order]
///   bytes 10..15  zero              last 4 bytes  CRC-32 of everything before
///
/// The checksum is CRC-32 (ISO 3309): it finds every burst of up to 32 bits, which is what a
/// damaged file shows, and is a dozen lines here; a library for it would be a run-time dependency
/// of a library that has none.

#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <istream>
#include <iterator>
#include <ostream>
#include <string>
#include <vector>

namespace maslin::inline MASLIN_ABI::record {

inline constexpr std::uint32_t version = 1;
inline constexpr std::size_t header_size = 64;

/// What a record is about; all of it must match before it is loaded.
struct header {
  std::string mixer;
  std::uint8_t fused = fused_family ? 1 : 0;
  std::uint8_t number_size = 0;
  std::array<std::int64_t, 3> shape{};  // batch, channels, order
};

/// CRC-32 of `size` bytes, continuing from `crc` (0 to begin).
[[nodiscard]] inline std::uint32_t crc32(std::uint32_t crc, const unsigned char* bytes,
                                         std::size_t size) noexcept {
  constexpr auto table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? 0xedb88320u ^ (c >> 1) : c >> 1;
      t[i] = c;
    }
    return t;
  }();
  crc = ~crc;
  for (std::size_t i = 0; i < size; ++i) crc = table[(crc ^ bytes[i]) & 0xffu] ^ (crc >> 8);
  return ~crc;
}

template <std::unsigned_integral U>
inline void put(unsigned char* to, U x) noexcept {
  for (std::size_t i = 0; i < sizeof(U); ++i) to[i] = static_cast<unsigned char>(x >> (8 * i));
}
template <std::unsigned_integral U>
[[nodiscard]] inline U get(const unsigned char* from) noexcept {
  U x = 0;
  for (std::size_t i = 0; i < sizeof(U); ++i) x = static_cast<U>(x | (U{from[i]} << (8 * i)));
  return x;
}

[[nodiscard]] inline std::array<unsigned char, header_size> encode(const header& h,
                                                                   std::uint64_t payload) {
  std::array<unsigned char, header_size> bytes{};
  std::memcpy(bytes.data(), "MSLN", 4);
  put(bytes.data() + 4, version);
  bytes[8] = h.fused;
  bytes[9] = h.number_size;
  std::memcpy(bytes.data() + 16, h.mixer.data(), std::min<std::size_t>(h.mixer.size(), 16));
  for (std::size_t i = 0; i < 3; ++i)
    put(bytes.data() + 32 + 8 * i, static_cast<std::uint64_t>(h.shape[i]));
  put(bytes.data() + 56, payload);
  return bytes;
}

/// Integers among the numbers of a payload travel as so many of 16 bits each, which float holds
/// exactly.
inline constexpr index_t digits = 4;
template <class Iterator>
void write_digits(Iterator& to, std::uint64_t x) {
  using number = std::iter_value_t<Iterator>;
  for (index_t i = 0; i < digits; ++i) *to++ = static_cast<number>(x >> (16 * i) & 0xffffu);
}
template <class Iterator>
[[nodiscard]] std::uint64_t read_digits(Iterator& from) {
  std::uint64_t x = 0;
  for (index_t i = 0; i < digits; ++i) x |= static_cast<std::uint64_t>(*from++) << (16 * i);
  return x;
}

/// Writes a record of `numbers`.
/// throws    state_error if the stream fails
template <std::floating_point S>
void write(std::ostream& out, const header& h, const std::vector<S>& numbers) {
  using bits = std::conditional_t<sizeof(S) == 4, std::uint32_t, std::uint64_t>;
  std::vector<unsigned char> payload(numbers.size() * sizeof(S));
  for (std::size_t i = 0; i < numbers.size(); ++i)
    put(payload.data() + i * sizeof(S), std::bit_cast<bits>(numbers[i]));
  const auto head = encode(h, payload.size());
  std::array<unsigned char, 4> tail{};
  put(tail.data(), crc32(crc32(0, head.data(), head.size()), payload.data(), payload.size()));
  const auto send = [&](const unsigned char* p, std::size_t n) {
    out.write(reinterpret_cast<const char*>(p), static_cast<std::streamsize>(n));
  };
  send(head.data(), head.size());
  send(payload.data(), payload.size());
  send(tail.data(), tail.size());
  if (!out)
    raise<state_error>(h.mixer + "::state::save: the stream must take " +
                       std::to_string(head.size() + payload.size() + tail.size()) +
                       " bytes, got a failure");
}

/// Reads a record that must describe exactly `h` (its family may differ) into `numbers`, whose size
/// is what it must hold. What follows the record in the stream is left there.
/// throws    state_error; `numbers` is unchanged then
template <std::floating_point S>
void read(std::istream& in, const header& h, std::vector<S>& numbers) {
  using bits = std::conditional_t<sizeof(S) == 4, std::uint32_t, std::uint64_t>;
  const auto refuse = [&](const std::string& what) {
    raise<state_error>(h.mixer + "::state::load: " + what);
  };
  const auto receive = [&](unsigned char* p, std::size_t n, const char* part) {
    in.read(reinterpret_cast<char*>(p), static_cast<std::streamsize>(n));
    if (static_cast<std::size_t>(in.gcount()) != n)
      refuse(std::string("the record's ") + part + " must be " + std::to_string(n) +
             " bytes, got " + std::to_string(in.gcount()));
  };
  std::array<unsigned char, header_size> head{};
  receive(head.data(), head.size(), "header");
  if (std::memcmp(head.data(), "MSLN", 4) != 0)
    refuse("the stream must begin with a saved state, got other bytes");
  if (const auto v = get<std::uint32_t>(head.data() + 4); v != version)
    refuse("the record's version must be " + std::to_string(version) + ", got " +
           std::to_string(v));

  // The header is compared as a whole with the one that this state would write, family aside.
  const std::uint64_t size = numbers.size() * sizeof(S);
  header same = h;
  same.fused = head[8];
  const auto wanted = encode(same, size);
  if (head != wanted || head[8] > 1) {
    std::string mixer(reinterpret_cast<const char*>(head.data() + 16), 16);
    mixer.resize(std::min(mixer.find('\0'), mixer.size()));
    const auto describe = [](const std::string& name, unsigned bytes, const auto& shape) {
      return name + " of " + std::to_string(bytes) + "-byte numbers [" + std::to_string(shape[0]) +
             ", " + std::to_string(shape[1]) + ", " + std::to_string(shape[2]) + "]";
    };
    std::array<std::int64_t, 3> shape{};
    for (std::size_t i = 0; i < 3; ++i)
      shape[i] = static_cast<std::int64_t>(get<std::uint64_t>(head.data() + 32 + 8 * i));
    refuse("the record must hold " + describe(h.mixer, h.number_size, h.shape) + ", got " +
           describe(mixer, head[9], shape));
  }
  std::vector<unsigned char> payload(static_cast<std::size_t>(size));
  receive(payload.data(), payload.size(), "payload");
  std::array<unsigned char, 4> tail{};
  receive(tail.data(), tail.size(), "checksum");
  const auto crc = crc32(crc32(0, head.data(), head.size()), payload.data(), payload.size());
  if (crc != get<std::uint32_t>(tail.data()))
    refuse("the record's checksum must match its bytes, got a corrupt record");
  for (std::size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = std::bit_cast<S>(get<bits>(payload.data() + i * sizeof(S)));
}

}  // namespace maslin::inline MASLIN_ABI::record
