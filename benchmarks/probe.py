"""How much does looking cost? Tokens/s of a bare forward pass, of a capture that reduces every layer, and of a peer.

    python benchmarks/probe.py [--device cuda] [--shape medium] [--tokens 2000000] [--ways reduced] [--growth]

A GPT-2 of random weights reads random tokens: GPT-2 medium in bfloat16 on a GPU, a small one in float32 on a CPU.
*bare*: the eager forward pass of `transformers`, logits thrown away. *reduced*: the same with the moments of all states
of every layer and the loss of every token, in shards on disk; on a GPU the pass is recorded as a CUDA graph. *capture*:
also 32,768 states of every layer themselves. *heads*: also every head as a search. *TransformerLens* (`pip install
transformer-lens`; 4.3.0 goes with transformers 5): `run_with_cache` of every layer's residual stream, reduced to the
same moments, and the same losses; it keeps nothing. All interleaved, three rounds, medians; `--ways` leaves some out.
`--growth` captures a text and then one ten times as long, and prints the peak memory of both. The ratios are printed
last.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

from memscape.instruments import replay
from memscape.instruments.attention import AttentionWatch
from memscape.instruments.capture import TOKENS_A_BATCH, capture
from memscape.instruments.contexts import Contexts
from memscape.progress import be_quiet

SHAPES = {"tiny": (4, 256, 4, 4096), "small": (12, 768, 12, 50_304), "medium": (24, 1024, 16, 50_304)}
"""Layers, width, heads, vocabulary: with 50,257 an unaligned output product takes a third of every way's time."""

USUAL = {"cpu": ("tiny", 16_384, 256, (50_000, 500_000)), "cuda": ("medium", 1_048_576, 1024, (1_000_000, 10_000_000))}
"""Shape, tokens, tokens a context, and the two lengths of `--growth`, unless asked for otherwise."""

ROUNDS = 3


def contexts(n_tokens: int, length: int, vocabulary: int) -> Contexts:
    rng = np.random.default_rng(0)
    n = max(1, n_tokens // length)
    tokens = rng.integers(0, vocabulary, (n, length + 1), dtype=np.int32)
    return Contexts(tokens, np.arange(n) % 64, tuple(map(str, range(64))))


def synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def timed(work: Callable[[], object], device: str) -> float:
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def bare(model: Any, text: Contexts, batch: int) -> None:
    """Run the model as a user would who only wants logits."""
    device = next(model.parameters()).device
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(text.tokens_CT1)), -(-len(text.tokens_CT1) // batch)):
            tokens = torch.from_numpy(text.tokens_CT1[rows, :-1]).long().to(device)
            model(input_ids=tokens, use_cache=False)


def lens(model: GPT2LMHeadModel, device: str) -> Any:
    """Return the model inside TransformerLens, or say in one line why not."""
    try:
        from transformer_lens.model_bridge import TransformerBridge

        folder = tempfile.mkdtemp()  # it reads its configuration and tokenizer again, by this name
        model.config.save_pretrained(folder)
        with torch.device(device):  # drawing 355 M numbers on a CPU takes half a minute
            twin = GPT2LMHeadModel._from_config(deepcopy(model.config), attn_implementation="eager", dtype=model.dtype)
        twin.load_state_dict(model.state_dict())
        return TransformerBridge.boot_transformers(
            folder, hf_model=twin.to(device).eval(), tokenizer=_tokenizer(folder), device=device, dtype=model.dtype
        )
    except Exception as problem:  # any reason at all: the benchmark goes on without the peer
        print(f"TransformerLens: left out ({type(problem).__name__}: {' '.join(str(problem).split())[:200]})")
        return None


def _tokenizer(folder: str) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from memscape.data.tokenizer import byte_tokenizer

    begin = "<|begin|>"
    made = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer().backend, bos_token=begin, eos_token=begin, pad_token=begin
    )
    made.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def run_with_cache(bridge: Any, text: Contexts, batch: int, layers: int, device: str) -> None:
    """Cache every layer's residual stream, reduce it to mean and variance, and take the losses, as `capture` does."""
    names = [f"blocks.{i}.hook_resid_post" for i in range(layers)]
    with torch.no_grad():
        for start in range(0, len(text.tokens_CT1), batch):
            tokens = torch.from_numpy(text.tokens_CT1[start : start + batch]).long().to(device)
            logits, cache = bridge.run_with_cache(tokens[:, :-1], names_filter=names)
            for name in names:
                variance, mean = torch.var_mean(cache[name].flatten(0, 1).float(), 0, correction=0)
                mean.cpu(), variance.cpu()
            cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none").cpu()


def equal(model: Any, text: Contexts) -> bool:
    """Return whether recorded passes leave the very bits of eager ones: losses, moments, kept states."""
    with tempfile.TemporaryDirectory() as folder:
        recorded = capture(model, text, Path(folder) / "recorded", keep=np.arange(2))
        with patch.object(replay, "FEWEST", len(text.tokens_CT1) + 1):
            eager = capture(model, text, Path(folder) / "eager", keep=np.arange(2))
        pairs = [(one._read(name), other._read(name)) for one, other in [(recorded, eager)]
                 for site in one.sites for name in ("loss", site, f"{site}/mean", f"{site}/variance")]  # fmt: skip
        return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


def growth(model: Any, length: int, device: str, sizes: tuple[int, ...]) -> list[dict[str, float]]:
    """Return peak memory and speed of captures of growing texts."""
    found = []
    for n in sizes:
        text = contexts(n, length, model.config.vocab_size)
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        with tempfile.TemporaryDirectory() as folder:
            seconds = timed(lambda text=text, folder=folder: capture(model, text, Path(folder)), device)
            disk = sum(f.stat().st_size for f in Path(folder).iterdir())
        found.append(
            {
                "tokens": text.n_tokens,
                "tokens_per_second": text.n_tokens / seconds,
                "device_gib": 0.0 if device == "cpu" else torch.cuda.max_memory_allocated() / 2**30,
                "host_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "disk_gib": disk / 2**30,
            }
        )
        print("  ".join(f"{k} {v:,.2f}" for k, v in found[-1].items()), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--length", type=int)
    parser.add_argument("--ways", nargs="+", metavar="WAY", help="beside bare: reduced capture heads TransformerLens")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    be_quiet()
    device = options.device
    kind = "cpu" if device == "cpu" else "cuda"
    usual, n_tokens, length, sizes = USUAL[kind]
    shape, n_tokens, length = options.shape or usual, options.tokens or n_tokens, options.length or length
    layers, width, heads, vocabulary = SHAPES[shape]
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary, n_layer=layers, n_embd=width, n_head=heads, n_positions=max(1024, length)
    )
    dtype = torch.float32 if kind == "cpu" else torch.bfloat16
    with torch.device(device):
        model = GPT2LMHeadModel(config).to(dtype).eval()
    text = contexts(n_tokens, length, vocabulary)
    batch = max(1, TOKENS_A_BATCH[kind] // length)
    bridge = lens(model, device) if options.ways is None or "TransformerLens" in options.ways else None

    def captured(**options: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            capture(model, text, Path(folder), watch_contexts=len(text.tokens_CT1), **options)

    ways: dict[str, Callable[[], None]] = {
        "bare": lambda: bare(model, text, batch),
        "reduced": lambda: captured(keep=np.arange(0)),
        "capture": captured,
        "heads": lambda: captured(watches=(AttentionWatch(),)),
    }
    if bridge is not None:
        ways["TransformerLens"] = lambda: run_with_cache(bridge, text, batch, layers, device)
    ways = {name: way for name, way in ways.items() if name == "bare" or options.ways is None or name in options.ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            spent = timed(way, device)
            if turn:  # the first round warms up
                seconds[name].append(spent)
    rate = {name: text.n_tokens / float(np.median(s)) for name, s in seconds.items()}
    found: dict[str, Any] = {"shape": shape, "device": device, "dtype": str(dtype), "tokens": text.n_tokens}
    found |= {"length": length, "tokens_per_second": rate, "seconds": seconds}
    if kind == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
    found["recorded_equals_eager"] = equal(model, text)
    told = [f"{shape} {dtype} on {found.get('gpu', device)}, {text.n_tokens:,} tokens in contexts of {length}"]
    told.append(f"recorded passes leave the bits of eager ones: {found['recorded_equals_eager']}")
    told += [f"{name:16} {value:12,.0f} tokens/s" for name, value in rate.items()]
    told += [f"{name} / bare = {rate[name] / rate['bare']:.3f}" for name in rate if name != "bare"]
    if "TransformerLens" in rate:
        told.append(f"reduced / TransformerLens = {rate['reduced'] / rate['TransformerLens']:.2f}")
    print("\n".join(told), flush=True)
    if options.growth:
        found["growth"] = growth(model, length, device, sizes)
        print("\n".join(told[-3:]))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
