#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times JAX's scans on the CPU on the recurrences of `side_by_side --recurrences`, at 1 thread and at all.

usage: jax_scans.py [--run side_by_side | --ours ours.csv] [--jax jax.csv] [--threads 1,16] [--only REGEX] [--all]

  jax_scans.py --run build/compare/bin/side_by_side
                                               times both, one recurrence and order after the other, since a
                                               shared machine's memory is fast now and slow then, and prints
                                               both tables joined, in Markdown; needs jax and numpy
  jax_scans.py > jax.csv                       times JAX
  jax_scans.py --ours ours.csv                 times JAX and joins
  jax_scans.py --ours ours.csv --jax jax.csv   joins two tables that are there; needs neither

ours.csv is the output of side_by_side --recurrences. Gates are given, numbers are float32, one sequence:
  diagonal   h[t,d] = a[t,d] h[t-1,d] + x[t,d]
  hlru       h[t,d] = sum_k a[t,k,d] h[t-1-k,d] + a[t,M,d] x[t,d]
  bdlru      h[t,i,g] = sum_j a[t,i,j,g] h[t-1,j,g] + a[t,i,M,g] x[t,i,g]
Each is written in several ways, jitted, compared with a loop of numpy in double, and timed warm; the
fastest is JAX's time:
  scan          lax.scan, channels last, so that a step is arithmetic of whole rows
  scan/8        the same with unroll=8
  scan/natural  lax.scan on matrices [t, g, i, j]
  associative   lax.associative_scan of the affine maps, channels last
  matmul        lax.associative_scan of the maps as matrices [t, g, i, j]
A way that took more than `SLOWER` times the best one at a smaller size of the same recurrence is left
out at the larger ones, and so are associative scans whose maps take more than `MOST_BYTES`, or that would
begin after `ASSOCIATIVE_SECONDS`, for they compile long; --all leaves nothing out. XLA sizes its pool by the
cores that a process may use: each number of threads is a process of its own, bound to as many.
"""

import argparse
import csv
import functools
import operator
import os
import re
import statistics
import subprocess
import sys
import time

FIELDS = ["recurrence", "M", "T", "D", "threads", "ms", "form", "all_forms", "error", "jax"]
KEY = ["recurrence", "M", "T", "D", "threads"]
SLOWER = 4
SECONDS = 0.3  # that one way is repeated for
PREFIX = 256  # tokens that are compared
MOST_BYTES = 8 << 30
ASSOCIATIVE_SECONDS = 75


def cases():
    """(recurrence, M, T, numbers of state), small sizes first."""
    yield "diagonal", 1, 4096, 1024
    for M in (2, 4, 8):
        yield "bdlru", M, 4096, 1024
        yield "hlru", M, 4096, 256
        yield "hlru", M, 4096, 1024
    yield "diagonal", 1, 65536, 256
    yield "diagonal", 1, 65536, 1024
    for M in (2, 4, 8):
        yield "bdlru", M, 65536, 1024
        yield "hlru", M, 65536, 256
        yield "hlru", M, 65536, 1024


# Ways to write the recurrences: name -> function of (gates, input), channels last in time-major arrays.
# `gates` is [T, D], [T, M+1, D] or [T, M, M+1, G].


def total(terms):
    """The sum of one term or more, in order, without the 0 that `sum` begins with."""
    return functools.reduce(operator.add, terms)


def diagonal_forms(jax, jnp):
    lax = jax.lax

    def scan(unroll):
        def run(a, x):
            def step(h, token):
                h = token[0] * h + token[1]
                return h, h
            return lax.scan(step, jnp.zeros_like(x[0]), (a, x), unroll=unroll)[1]
        return run

    def associative(a, x):
        def join(first, second):
            return first[0] * second[0], second[0] * first[1] + second[1]
        return lax.associative_scan(join, (a, x))[1]

    return {"scan": scan(1), "scan/8": scan(8), "associative": associative}


def multiply(a, b, M):
    """Products of matrices [..., M, M, G], element by element: no call for each small matrix."""
    return total(a[..., :, k, None, :] * b[..., None, k, :, :] for k in range(M))


def apply(a, h, M):
    return total(a[..., :, k, :] * h[..., None, k, :] for k in range(M))


def associative_of(lax, M):
    """Scan of the maps h -> A h + b, A [T, M, M, G] and b [T, M, G]: b of the composed maps."""

    def join(first, second):
        return (multiply(second[0], first[0], M),
                apply(second[0], first[1], M) + second[1])

    return lambda A, b: lax.associative_scan(join, (A, b))[1]


def bdlru_forms(jax, jnp, M):
    lax = jax.lax

    def scan(unroll):
        def run(a, x):
            def step(h, token):
                a, x = token
                h = apply(a, h, M) + a[:, M] * x
                return h, h
            return lax.scan(step, jnp.zeros_like(x[0]), (a, x), unroll=unroll)[1]
        return run

    def natural(a, x):  # [T, G, M, M+1] and [T, G, M]
        def step(h, token):
            a, x = token
            h = jnp.einsum("gij,gj->gi", a[..., :M], h) + a[..., M] * x
            return h, h
        return lax.scan(step, jnp.zeros_like(x[0]), (a, x))[1]

    def associative(a, x):
        return associative_of(lax, M)(a[:, :, :M], a[:, :, M] * x)

    def matmul(a, x):  # [T, G, M, M+1] and [T, G, M]
        def join(first, second):
            return (jnp.matmul(second[0], first[0]),
                    jnp.matmul(second[0], first[1][..., None])[..., 0] + second[1])
        return lax.associative_scan(join, (a[..., :M], a[..., M] * x))[1]

    return {"scan": scan(1), "scan/8": scan(8), "scan/natural": natural,
            "associative": associative, "matmul": matmul}


def hlru_forms(jax, jnp, M):
    lax = jax.lax

    def scan(unroll):
        def run(a, x):
            def step(lags, token):
                a, x = token
                h = total(a[k] * lags[k] for k in range(M)) + a[M] * x
                return (h,) + lags[:-1], h
            start = (jnp.zeros_like(x[0]),) * M
            return lax.scan(step, start, (a, x), unroll=unroll)[1]
        return run

    def associative(a, x):
        T, _, D = a.shape
        below = jnp.broadcast_to(jnp.eye(M - 1, M, dtype=a.dtype)[None, :, :, None],
                                 (T, M - 1, M, D))
        A = jnp.concatenate([a[:, None, :M], below], axis=1)
        b = jnp.concatenate([(a[:, M] * x)[:, None], jnp.zeros((T, M - 1, D), a.dtype)], axis=1)
        return associative_of(lax, M)(A, b)[:, 0]

    return {"scan": scan(1), "scan/8": scan(8), "associative": associative}


def forms_of(jax, jnp, recurrence, M):
    if recurrence == "diagonal":
        return diagonal_forms(jax, jnp)
    return (bdlru_forms if recurrence == "bdlru" else hlru_forms)(jax, jnp, M)


def data_of(np, recurrence, M, T, D):
    """Gates and input: weights of a token sum to less than 1, as those of a softmax do."""
    rng = np.random.default_rng(1)
    period = min(T, 1024)  # random numbers take longer to make than to scan

    def long(few):
        return np.tile(few, (T // period,) + (1,) * (few.ndim - 1))

    if recurrence == "diagonal":
        shape, values = (D,), (D,)
    elif recurrence == "hlru":
        shape, values = (M + 1, D), (D,)
    else:
        shape, values = (M, M + 1, D // M), (M, D // M)
    gates = rng.random((period,) + shape, dtype=np.float32) * np.float32(0.5) + np.float32(0.5)
    if recurrence == "diagonal":
        gates *= np.float32(0.999)
    else:
        gates /= gates.sum(axis=-2, keepdims=True)
    inputs = rng.random((period,) + values, dtype=np.float32) * np.float32(2) - np.float32(1)
    return long(gates), long(inputs)


def reference(np, recurrence, M, gates, inputs):
    """The first PREFIX tokens in double."""
    a, x = gates[:PREFIX].astype(np.float64), inputs[:PREFIX].astype(np.float64)
    out = np.empty_like(x)
    lags = [np.zeros_like(x[0])] * M  # of bdlru the first alone: the state
    for t in range(len(x)):
        if recurrence == "diagonal":
            h = a[t] * lags[0] + x[t]
        elif recurrence == "hlru":
            h = sum(a[t, k] * lags[k] for k in range(M)) + a[t, M] * x[t]
        else:
            h = (a[t, :, :M] * lags[0][None]).sum(axis=1) + a[t, :, M] * x[t]
        out[t] = h
        lags = [h] + lags[:-1]
    return out


def natural_order(np, array):
    """Channels first, rows last: [T, M, M+1, G] to [T, G, M, M+1]."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 1))


def median_ms(call):
    """After one call more. As many as fill SECONDS, one at least."""
    call()
    times, begin = [], time.perf_counter()
    while not times or (time.perf_counter() - begin < SECONDS and len(times) < 50):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


class Session:
    """JAX with as many cores as this process has."""

    def __init__(self, threads, take_all):
        import jax
        import numpy
        self.jax, self.np, self.threads, self.take_all = jax, numpy, threads, take_all
        self.slow = set()  # (recurrence, M, form)
        self.begin = time.perf_counter()

    def leaves_out(self, recurrence, M, T, D, form):
        if self.take_all:
            return False
        if (recurrence, M, form) in self.slow:
            return True
        maps = 4 * T * D * M * (M if recurrence == "hlru" else 1)
        late = time.perf_counter() - self.begin > ASSOCIATIVE_SECONDS
        return form in ("associative", "matmul") and (late or maps > MOST_BYTES)

    def time(self, recurrence, M, T, D):
        """A row of the table."""
        jax, np = self.jax, self.np
        gates, inputs = data_of(np, recurrence, M, T, D)
        wanted = reference(np, recurrence, M, gates, inputs)
        scale = np.abs(wanted).max()
        times, worst = {}, 0.0
        order, operands = None, None
        for form, function in forms_of(jax, jax.numpy, recurrence, M).items():
            if self.leaves_out(recurrence, M, T, D, form):
                continue
            natural = form in ("scan/natural", "matmul")
            if natural != order:
                operands = None  # one copy at a time
                operands = [jax.block_until_ready(jax.numpy.asarray(
                    natural_order(np, array) if natural else array)) for array in (gates, inputs)]
                order = natural
            call = jax.jit(function)
            out = np.asarray(jax.block_until_ready(call(*operands))[:PREFIX])
            if natural:
                out = np.moveaxis(out, 1, -1)
            error = float(np.abs(out - wanted).max() / scale)
            if not error < 1e-5:
                raise SystemExit(f"{recurrence}, M {M}, T {T}, {form}: off by {error:.3g}")
            worst = max(worst, error)
            del out
            times[form] = median_ms(lambda: jax.block_until_ready(call(*operands)))
        best = min(times, key=times.get)
        self.slow |= {(recurrence, M, f) for f, ms in times.items() if ms > SLOWER * times[best]}
        return {"recurrence": recurrence, "M": M, "T": T, "D": D, "threads": self.threads,
                "ms": f"{times[best]:.4f}", "form": best,
                "all_forms": "; ".join(f"{f} {ms:.3f}" for f, ms in times.items()),
                "error": f"{worst:.1e}", "jax": jax.__version__}


def bind(threads):
    """This process and what it starts run on so many of its cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def work(threads, only, take_all):
    """The table for one number of threads, on stdout."""
    bind(threads)
    session = Session(threads, take_all)
    table = csv.DictWriter(sys.stdout, FIELDS)
    for case in cases():
        if re.search(only, "{} M{} T{} D{}".format(*case)):
            table.writerow(session.time(*case))
            sys.stdout.flush()


def measure(threads, only, take_all, out):
    """Runs a process for each number of threads; writes lines to `out` and returns the rows."""
    rows = []
    out.write(",".join(FIELDS) + "\n")
    for count in threads:
        command = [sys.executable, os.path.abspath(__file__), "--work", str(count), "--only", only]
        environment = dict(os.environ, JAX_PLATFORMS="cpu", OMP_NUM_THREADS=str(count))
        with subprocess.Popen(command + (["--all"] if take_all else []), env=environment,
                              stdout=subprocess.PIPE, text=True) as child:
            for line in child.stdout:
                out.write(line)
                out.flush()
                rows += csv.DictReader([line], FIELDS)
        if child.returncode != 0:
            raise SystemExit(f"jax at {count} threads ended with {child.returncode}")
    return rows


def run(program, only):
    """The rows of side_by_side whose names `only` fits."""
    with subprocess.Popen([program, "--recurrences", only], stdout=subprocess.PIPE, text=True,
                          env=dict(os.environ, OMP_PROC_BIND="true")) as child:
        rows = list(csv.DictReader(child.stdout))
    if child.returncode != 0:
        raise SystemExit(f"{program} ended with {child.returncode}")
    return rows


def in_turn(program, threads, only, take_all):
    """Rows of ours and of JAX, recurrence by recurrence."""
    ours, jax = [], []
    names = ["{} M{} T{} D{}".format(*case) for case in cases()]
    chosen = [name for name in names if re.search(only, name)]
    for family in dict.fromkeys(name[:name.index(" T")] for name in chosen):
        these = "^(" + "|".join(name for name in chosen if name.startswith(family + " ")) + ")$"
        ours += run(program, these)
        jax += measure(threads, these, take_all, sys.stderr)
    return ours, jax


def key_of(row):
    return tuple(row[name] for name in KEY)


def join(ours, jax):
    """Both tables in Markdown: JAX's time over ours, by the same number of threads."""
    peers = {key_of(row): row for row in jax}
    best = {}  # of JAX at any number of threads
    for row in jax:
        key = key_of(row)[:-1]
        best[key] = min(best.get(key, float("inf")), float(row["ms"]))
    lines = ["| recurrence | M | T | D | threads | gates | policy | ours, ms | GB/s | of the limit |"
             " of triad | of NT triad | JAX, ms | its form | ratio | to JAX's best |",
             "|---|---:|---:|---:|---:|---|---|---:|---:|---:|---:|---:|---:|---|---:|---:|"]
    for row in ours:
        peer = peers.get(key_of(row))
        if peer is None:
            continue
        ms = float(row["ms"])
        lines.append("| " + " | ".join(
            [row["recurrence"], row["M"], row["T"], row["D"], row["threads"], row["layout"],
             row["policy"], f"{ms:.3f}", row["gb_per_s"], row["of_limit"], row["of_triad"],
             row["of_streaming_triad"], f"{float(peer['ms']):.3f}", peer["form"],
             f"{float(peer['ms']) / ms:.2f}", f"{best[key_of(row)[:-1]] / ms:.2f}"]) + " |")
    return "\n".join(lines)


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", metavar="PROGRAM", help="side_by_side, to be timed in turn")
    parser.add_argument("--ours", metavar="CSV", help="output of side_by_side --recurrences")
    parser.add_argument("--jax", metavar="CSV", help="output of an earlier run: JAX is not timed")
    parser.add_argument("--threads", help="numbers of threads, with commas; default 1 and all")
    parser.add_argument("--only", default="", metavar="REGEX", help="cases, such as 'bdlru M4 T4096'")
    parser.add_argument("--all", action="store_true", help="leave no slow way out")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        return work(given.work, given.only, given.all)
    everything = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = ([int(n) for n in given.threads.split(",")] if given.threads
               else sorted({1, everything}))
    if given.run:
        print(join(*in_turn(given.run, threads, given.only, given.all)))
        return None
    jax = (read(given.jax) if given.jax
           else measure(threads, given.only, given.all, sys.stderr if given.ours else sys.stdout))
    if given.ours:
        print(join(read(given.ours), jax))
    return None


if __name__ == "__main__":
    main()
