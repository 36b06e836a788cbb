#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch on the CPU at the sizes of side_by_side.cpp, at 1 thread and at all.

usage: pytorch.py

Needs an installed torch, and transformers for its chunked gated delta rule. The selective scan is the
sequence of tensor operations that transformers' Mamba falls back to without its CUDA kernels.
"""

import os
import statistics
import time

import torch
import torch.nn.functional as F

H = 16


def median_ms(call, rounds):
    call()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def prefill(T, threads):
    q, k, v = (torch.randn(1, H, T, 64) for _ in range(3))
    ms = median_ms(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True),
                   5 if threads == 1 else 15)
    print(f"attention, T = {T}, threads {threads}: {ms:.3f} ms", flush=True)


def decode(dtype, threads):
    caches = [tuple(torch.randn(1, H, 4096, 64).to(dtype) for _ in range(2)) for _ in range(8)]
    q = torch.randn(1, H, 1, 64).to(dtype)
    turn = iter(range(10**6))
    ms = median_ms(lambda: F.scaled_dot_product_attention(q, *caches[next(turn) % 8]), 64)
    print(f"attention, one token over 4096 keys, {dtype}, threads {threads}: {ms * 1e3:.1f} us",
          flush=True)


def gated_delta(T, threads):
    try:
        from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule
    except ImportError as missing:
        print(f"gated delta rule: {missing}")
        return
    q, k, v = (torch.randn(1, T, H, 128) for _ in range(3))
    k, beta, decay = F.normalize(k, dim=-1), torch.rand(1, T, H), -0.1 * torch.rand(1, T, H)
    ms = median_ms(lambda: torch_chunk_gated_delta_rule(
        q, k, v, decay, beta, chunk_size=64, initial_state=None, output_final_state=True), 3)
    print(f"gated delta rule, T = {T}, threads {threads}: {ms:.3f} ms", flush=True)


def selective_scan(T, threads, D=1024, N=16):
    u, z, delta = torch.randn(1, D, T), torch.randn(1, D, T), F.softplus(torch.randn(1, D, T) - 3.5)
    write, read, skip = torch.randn(1, T, N), torch.randn(1, T, N), torch.randn(D)
    A = -torch.arange(1, N + 1).float().repeat(D, 1)

    def scan():
        decay = torch.exp(A[None, :, None, :] * delta[:, :, :, None])
        drive = delta[:, :, :, None] * write[:, None, :, :] * u[:, :, :, None]
        h, out = torch.zeros(1, D, N), []
        for t in range(T):
            h = decay[:, :, t] * h + drive[:, :, t]
            out.append(torch.matmul(h, read[:, t].unsqueeze(-1))[:, :, 0])
        return (torch.stack(out, dim=-1) + u * skip[None, :, None]) * F.silu(z)

    print(f"selective scan, T = {T}, threads {threads}: {median_ms(scan, 3):.1f} ms", flush=True)


def main():
    print("torch", torch.__version__)
    with torch.no_grad():
        for threads in (1, os.cpu_count()):
            torch.set_num_threads(threads)
            for T in (1024, 4096):
                prefill(T, threads)
            decode(torch.float32, threads)
            decode(torch.bfloat16, threads)
            gated_delta(4096, threads)
            selective_scan(4096, threads)


if __name__ == "__main__":
    main()
