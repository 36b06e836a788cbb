// SPDX-License-Identifier: Apache-2.0
// A Mamba block (arXiv 2312.00752, figure 3): projection, short convolution, selective scan and
// gate, projection. Reads weights from the .npy files of a folder, or first writes small ones;
// prefills a prompt, decodes the rest, and compares with one scan and with the plain reference.
//
//   04_mamba_block [FOLDER]
#include "support/mamba.hpp"

#include <maslin/maslin.hpp>

#include <cstdio>
#include <exception>

using maslin::index_t, maslin::row_major, npy::matrix;
using conv = maslin::causal_conv<float, 4>;
using ssm = maslin::selective_ssm<float>;
constexpr maslin::exec::sequential in_order{};

/// A view of `count` columns of a matrix from `first` on, one row a token.
auto columns(const matrix& m, index_t first, index_t count) {
  return maslin::strided<const float, 3>(m.data() + first, {1, m.rows(), count},
                                         {m.size(), m.cols(), 1});
}

struct mamba_block {
  explicit mamba_block(const mamba::weights& weights) : w(weights) {}

  const mamba::weights& w;
  index_t D = w.decay.rows(), N = w.decay.cols(), R = w.dt_proj.cols();
  conv short_conv{.channels = D,
                  .weight = row_major(w.conv.data(), D, 4),
                  .bias = row_major(w.conv_bias.data(), D),
                  .silu = true};
  ssm selective{.channels = D,
                .state_dim = N,
                .decay = row_major(w.decay.data(), D, N),
                .skip = row_major(w.skip.data(), D),
                .dt_bias = row_major(w.dt_bias.data(), D)};

  /// tokens [T, model] to outputs [T, model]; one token is a decode.
  matrix forward(const matrix& tokens, conv::state& past, ssm::state& h) const {
    const index_t T = tokens.rows(), P = R + 2 * N;
    const matrix xz = tokens * w.in_proj.transpose();  // [T, 2 D]: what is convolved, and the gate
    matrix u(T, D), y(T, D);
    short_conv.scan(in_order, {.input = columns(xz, 0, D)}, row_major(u.data(), 1, T, D), past);
    const matrix p = u * w.x_proj.transpose();  // [T, R + 2 N]: what dt is made of, write, read
    const matrix dt = p.leftCols(R) * w.dt_proj.transpose();
    const auto shared = [&](index_t first) {
      return maslin::strided<const float, 4>(p.data() + first, {1, T, 1, N}, {P * T, P, N, 1});
    };
    selective.scan(in_order,
                   {.dt = columns(dt, 0, D),
                    .input = columns(u, 0, D),
                    .write = shared(R),
                    .read = shared(R + N),
                    .output_gate = columns(xz, D, D)},
                   row_major(y.data(), 1, T, D), h);
    return y * w.out_proj.transpose();
  }
};

int main(int argc, char** argv) try {
  auto folder = std::filesystem::temp_directory_path() / "maslin_mamba_block";
  if (argc > 1) folder = argv[1];
  if (argc == 1) std::filesystem::create_directories(folder), mamba::write_small(folder);
  const mamba::weights weights(folder);
  const mamba_block block(weights);

  constexpr index_t T = 48, prompt = 40;
  matrix tokens(T, weights.in_proj.cols());
  for (index_t i = 0; i < tokens.size(); ++i)
    tokens.data()[i] = static_cast<float>((i * i * 7 + i * 13) % 31 - 15) / 8;
  auto past = block.short_conv.make_state();
  auto h = block.selective.make_state();
  const matrix whole = block.forward(tokens, past, h);
  past.reset(), h.reset();
  matrix parts(T, tokens.cols());
  parts.topRows(prompt) = block.forward(tokens.topRows(prompt), past, h);
  for (index_t t = prompt; t < T; ++t) parts.row(t) = block.forward(tokens.row(t), past, h);

  // Products of one row and of many round differently, so that these are not the same bytes.
  const auto close = [&](const auto& other) {
    return (whole.cast<double>() - other).cwiseAbs().maxCoeff() <=
           1e-5 * whole.cwiseAbs().maxCoeff();
  };
  std::printf("%td channels with %td numbers of state; a sequence carries %td bytes\n", block.D,
              block.N, h.bytes() + past.bytes());
  std::printf("%-44s %s\n", "a prompt of 40, then 8 tokens, as one scan:",
              close(parts.cast<double>()) ? "yes" : "no");
  std::printf("%-44s %s\n", "as the reference in double:",
              close(mamba::reference(weights, tokens)) ? "yes" : "no");
  std::printf("last output: %.2f %.2f %.2f ...\n", whole(T - 1, 0), whole(T - 1, 1),
              whole(T - 1, 2));
} catch (const std::exception& error) {
  return std::fprintf(stderr, "%s\n", error.what()), 1;
}
