// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The weights of a Mamba block, small ones made up, and the block in double by the references.

#include "npy.hpp"

#include <maslin/core/view.hpp>
#include <maslin/reference/causal_conv.hpp>
#include <maslin/reference/selective_ssm.hpp>

#include <filesystem>
#include <random>
#include <string>
#include <utility>

namespace mamba {

using maslin::index_t;
using wide = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The arrays of a folder, under the names of the published code.
struct weights {
  explicit weights(const std::filesystem::path& folder) {
    const auto load = [&](const char* name) { return npy::load(folder / name); };
    in_proj = load("in_proj.npy");             // [2 D, model]
    conv = load("conv.npy");                   // [D, 4]
    conv_bias = load("conv_bias.npy");         // [D]
    x_proj = load("x_proj.npy");               // [R + 2 N, D]
    dt_proj = load("dt_proj.npy");             // [D, R]
    dt_bias = load("dt_bias.npy");             // [D]
    decay = -load("A_log.npy").array().exp();  // [D, N]
    skip = load("D.npy");                      // [D]
    out_proj = load("out_proj.npy");           // [model, D]
  }
  npy::matrix in_proj, conv, conv_bias, x_proj, dt_proj, dt_bias, decay, skip, out_proj;
};

/// Writes seeded weights of a model of 16 numbers a token: D = 32, N = 8, R = 2.
inline void write_small(const std::filesystem::path& folder) {
  constexpr index_t model = 16, D = 32, N = 8, R = 2;
  std::mt19937 engine(2026);
  const auto draw = [&](const char* name, index_t rows, index_t columns, float low, float high) {
    npy::matrix m(rows, columns);
    for (index_t i = 0; i < m.size(); ++i)
      m.data()[i] = low + (high - low) * static_cast<float>(engine() >> 8) * 0x1p-24f;
    npy::save(folder / name, m);
  };
  draw("in_proj.npy", 2 * D, model, -0.4f, 0.4f);
  draw("conv.npy", D, 4, -0.5f, 0.5f);
  draw("conv_bias.npy", D, 1, -0.1f, 0.1f);
  draw("x_proj.npy", R + 2 * N, D, -0.3f, 0.3f);
  draw("dt_proj.npy", D, R, -0.5f, 0.5f);
  draw("dt_bias.npy", D, 1, -4, -1);
  draw("A_log.npy", D, N, 0, 2);
  draw("D.npy", D, 1, 0.5f, 1.5f);
  draw("out_proj.npy", model, D, -0.3f, 0.3f);
}

/// tokens [T, model] to outputs [T, model], from empty states.
inline wide reference(const weights& w, const npy::matrix& tokens) {
  const index_t T = tokens.rows(), D = w.decay.rows(), N = w.decay.cols(), R = w.dt_proj.cols();
  const auto rows = [](auto& m) { return maslin::row_major(m.data(), 1, m.rows(), m.cols()); };
  const auto table = [](auto& m) { return maslin::row_major(m.data(), m.rows(), m.cols()); };
  const auto column = [](auto& m) { return maslin::row_major(m.data(), m.size()); };
  const auto shared = [&](auto& m) { return maslin::row_major(m.data(), 1, T, 1, N); };
  const wide xz = tokens.cast<double>() * w.in_proj.cast<double>().transpose();
  const wide x = xz.leftCols(D), z = xz.rightCols(D), taps = w.conv.cast<double>(),
             taps_bias = w.conv_bias.cast<double>();
  wide u(T, D), y(T, D), past = wide::Zero(D, w.conv.cols() - 1), h = wide::Zero(D, N);
  maslin::reference::causal_conv(table(taps), column(taps_bias), true, rows(x), rows(past),
                                 rows(u));
  const wide p = u * w.x_proj.cast<double>().transpose();
  const wide steps = p.leftCols(R) * w.dt_proj.cast<double>().transpose();
  const wide write = p.middleCols(R, N), read = p.rightCols(N), decay = w.decay.cast<double>(),
             skip = w.skip.cast<double>(), dt_bias = w.dt_bias.cast<double>();
  maslin::reference::selective_ssm(maslin::discretisation::euler,
                                   {.dt = rows(steps),
                                    .input = rows(std::as_const(u)),
                                    .write = shared(write),
                                    .read = shared(read),
                                    .output_gate = rows(z),
                                    .decay = table(decay),
                                    .skip = column(skip),
                                    .dt_bias = column(dt_bias)},
                                   rows(h), rows(y));
  return y * w.out_proj.cast<double>().transpose();
}

}  // namespace mamba
