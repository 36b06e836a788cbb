// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <utility>

namespace golden {

namespace {

using nlohmann::json;

const json& member(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) throw bad_case(std::string("meta.json has no '") + key + "'");
  return *found;
}

std::string string_of(const json& object, const char* key) {
  const json& value = member(object, key);
  if (!value.is_string()) throw bad_case(std::string("meta.json: '") + key + "' must be a string");
  return value.get<std::string>();
}

shape shape_of(const std::string& name, const json& value) {
  shape extents;
  if (!value.is_array()) throw bad_case("meta.json: the shape of '" + name + "' must be a list");
  for (const json& n : value) {
    if (!n.is_number_unsigned() ||
        n.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int32_t>::max()}) {
      throw bad_case("meta.json: the shape of '" + name + "' must hold sizes, got " + n.dump());
    }
    extents.push_back(n.get<index_t>());
  }
  return extents;
}

int order_of(const json& value) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() < 1 ||
      value.get<std::uint64_t>() > 1000) {
    throw bad_case("meta.json: 'm' must be an order of at least 1, got " + value.dump());
  }
  return value.get<int>();
}

index_t window_of(const json& value) {
  if (!value.is_number_unsigned())
    throw bad_case("meta.json: 'window' must be a number of keys, got " + value.dump());
  return value.get<index_t>();
}

double scale_of(const json& value) {
  if (!value.is_number() || !(value.get<double>() > 0))
    throw bad_case("meta.json: 'scale' must be above 0, got " + value.dump());
  return value.get<double>();
}

}  // namespace

test_case::test_case(const std::filesystem::path& meta_file) : folder_(meta_file.parent_path()) {
  std::ifstream stream(meta_file);
  const json meta = json::parse(stream, nullptr, false);
  if (!meta.is_object()) throw bad_case("meta.json is not a JSON object");
  mixer_ = string_of(meta, "mixer");
  if (meta.contains("m")) order_ = order_of(meta["m"]);
  if (meta.contains("window")) window_ = window_of(meta["window"]);
  if (meta.contains("scale")) scale_ = scale_of(meta["scale"]);
  if (meta.contains("normalisation")) normalisation_ = string_of(meta, "normalisation");
  if (meta.contains("pattern")) pattern_ = string_of(meta, "pattern");
  if (meta.contains("complex_arrays")) {
    is_complex_ = !meta["complex_arrays"].is_array() || !meta["complex_arrays"].empty();
  }
  if (meta.contains("precision")) {
    const std::string precision = string_of(meta, "precision");
    if (precision == "float32") {
      tolerance_ = 1e-6;
    } else if (precision != "float64") {
      throw bad_case("meta.json: unknown precision '" + precision + "'");
    }
  }
  const json& arrays = member(meta, "arrays");
  if (!arrays.is_object()) throw bad_case("meta.json: 'arrays' must map names to shapes");
  for (const auto& [name, extents] : arrays.items()) shapes_[name] = shape_of(name, extents);
}

int test_case::order() const {
  if (!order_) throw bad_case("meta.json has no 'm'");
  return *order_;
}

index_t test_case::window() const {
  if (!window_) throw bad_case("meta.json has no 'window'");
  return *window_;
}

double test_case::scale() const {
  if (!scale_) throw bad_case("meta.json has no 'scale'");
  return *scale_;
}

maslin::normalise test_case::normalisation() const {
  using maslin::normalise;
  static const std::map<std::string, normalise> names{
      {"softmax", normalise::softmax}, {"sigmoid_l1", normalise::sigmoid_l1},
      {"relu_l1", normalise::relu_l1}, {"tanh_l1", normalise::tanh_l1},
      {"lin_l1", normalise::lin_l1},   {"none", normalise::none},
      {"nonorm", normalise::none},     {"given", normalise::none}};
  if (!normalisation_) throw bad_case("meta.json has no 'normalisation'");
  const auto found = names.find(*normalisation_);
  if (found == names.end()) {
    throw bad_case("meta.json: unknown normalisation '" + *normalisation_ + "'");
  }
  return found->second;
}

const std::string& test_case::pattern() const {
  if (!pattern_) throw bad_case("meta.json has no 'pattern'");
  return *pattern_;
}

std::size_t test_case::rank(const std::string& array) const {
  const auto found = shapes_.find(array);
  return found == shapes_.end() ? 0 : found->second.size();
}

shape test_case::extents(const std::string& array, std::size_t rank) const {
  const auto found = shapes_.find(array);
  if (found == shapes_.end()) throw bad_case("meta.json lists no array '" + array + "'");
  if (found->second.size() != rank) {
    throw bad_case("'" + array + "' must have " + std::to_string(rank) + " axes, has the shape " +
                   text(found->second));
  }
  return found->second;
}

std::vector<double> test_case::values(const std::string& array, const shape& want) const {
  const shape stated = extents(array, want.size());
  if (stated != want) {
    throw bad_case("'" + array + "' must be " + text(want) + ", meta.json says " + text(stated));
  }
  try {
    maslin::test::npy_array read = maslin::test::read_npy(folder_ / (array + ".npy"));
    if (read.shape != want) {
      throw bad_case(array + ".npy: must be " + text(want) + ", holds " + text(read.shape));
    }
    return std::move(read.values);
  } catch (const bad_case&) {
    throw;
  } catch (const std::runtime_error& e) {
    throw bad_case(e.what());
  }
}

void test_case::allow_only(const std::vector<std::string>& arrays) const {
  for (const auto& [name, extents] : shapes_) {
    const bool known = std::find(arrays.begin(), arrays.end(), name) != arrays.end();
    if (!known) {
      throw bad_case("no meaning is known for the array '" + name + "' " + text(extents));
    }
  }
}

std::vector<std::filesystem::path> find_cases(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.path().filename() == "meta.json") found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string text(const shape& extents) {
  std::string out = "[";
  for (const index_t n : extents) {
    if (out.size() > 1) out += ", ";
    out += std::to_string(n);
  }
  return out + "]";
}

}  // namespace golden
