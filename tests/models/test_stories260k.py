"""The shipped 260,032-parameter model: the original's weights, tokens and logits, and a story that reads like one."""

import math
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import memscape
from memscape.data import open_corpus

FOLDER = Path(memscape.__file__).parent / "models" / "stories260K"

STORY = (
    "Once upon a time, there was a little dog named Tom. Tom liked to play in the garden. One day, he saw a bird in "
    'a tree. The bird was sad. Tom asked, "Why are you sad?" The bird said, "I can\'t find my friend." They looked.'
)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, local_files_only=True).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


def test_it_knows_stories_and_tells_one(model, tokenizer):
    """1 to 2 nats/token on a story it has not seen, against 6.24 for knowing nothing and far more when shuffled."""
    ids = tokenizer(STORY, return_tensors="pt").input_ids
    shuffled = torch.cat(
        [ids[:, :1], ids[:, 1:][:, torch.randperm(ids.shape[1] - 1, generator=torch.Generator().manual_seed(0))]], 1
    )
    with torch.no_grad():
        loss, null = (float(model(x, labels=x).loss) for x in (ids, shuffled))
        told = model.generate(
            tokenizer("Once upon a time", return_tensors="pt").input_ids, max_new_tokens=40, do_sample=False
        )
    assert sum(p.numel() for p in model.parameters()) == 260_032
    assert loss < 2 < math.log(512) - 0.5 < null
    assert "there was a little girl named" in tokenizer.decode(told[0])


@pytest.fixture
def original(shared_data):
    """The original files: header, float32 blocks and pieces, read by their own layout."""
    folder = shared_data / "models" / "stories260K"
    raw = (folder / "stories260K.bin").read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, _ = struct.unpack("7i", raw[:28])
    d_kv = dim // heads * kv_heads
    shapes = {
        "embedding": (vocab, dim), "attention_norm": (layers, dim), "wq": (layers, dim, dim), "wk": (layers, d_kv, dim),
        "wv": (layers, d_kv, dim), "wo": (layers, dim, dim), "mlp_norm": (layers, dim), "w1": (layers, hidden, dim),
        "w2": (layers, dim, hidden), "w3": (layers, hidden, dim), "norm": (dim,),
    }  # fmt: skip
    numbers, blocks, at = np.frombuffer(raw[28:], np.float32), {}, 0
    for name, shape in shapes.items():
        blocks[name] = torch.from_numpy(numbers[at : at + math.prod(shape)].reshape(shape).copy())
        at += math.prod(shape)
    packed, pieces, at = (folder / "tok512.bin").read_bytes(), [], 4
    while at < len(packed):
        score, length = struct.unpack("fi", packed[at : at + 8])
        pieces.append((packed[at + 8 : at + 8 + length], score))
        at += 8 + length
    return blocks, pieces, heads, kv_heads


def reference_logits(w, ids, heads, kv_heads):
    """The forward pass of the original program: rotary pairs interleaved, RMS norms, gated SiLU."""
    x = w["embedding"][ids]
    n, dim = x.shape
    size = dim // heads
    angle = torch.arange(n)[:, None] * 10_000.0 ** (-torch.arange(0, size, 2) / size)
    turn = torch.polar(torch.ones_like(angle), angle)[:, None]

    def norm(v, gain):
        return v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + 1e-5) * gain

    def rotate(v):
        return torch.view_as_real(torch.view_as_complex(v.reshape(*v.shape[:-1], -1, 2)) * turn).flatten(-2)

    for i in range(len(w["wq"])):
        h = norm(x, w["attention_norm"][i])
        q, k, v = ((h @ w[name][i].T).view(n, -1, size) for name in ("wq", "wk", "wv"))
        k, v = (rotate(k) if t is k else t for t in (k, v))
        k, v = (t.repeat_interleave(heads // kv_heads, dim=1) for t in (k, v))
        scores = torch.einsum("qhd,khd->hqk", rotate(q), k) / math.sqrt(size)
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
        x = x + torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1) @ w["wo"][i].T
        h = norm(x, w["mlp_norm"][i])
        x = x + (torch.nn.functional.silu(h @ w["w1"][i].T) * (h @ w["w3"][i].T)) @ w["w2"][i].T
    return norm(x, w["norm"]) @ w["embedding"].T


def test_logits_are_those_of_the_original(model, tokenizer, original):
    """The rotary permutation and every block are in their place."""
    blocks, _, heads, kv_heads = original
    ids = tokenizer(STORY, return_tensors="pt").input_ids
    with torch.no_grad():
        ours = model(ids).logits[0]
    torch.testing.assert_close(ours, reference_logits(blocks, ids[0], heads, kv_heads), atol=2e-4, rtol=1e-4)


def greedy(text, pieces):
    """The original's encoder: characters or bytes, then the best-scored merge, leftmost first, until none is left."""
    number = {piece: i for i, (piece, _) in enumerate(pieces) if i > 2}
    ids = [number[b" "]]
    for character in text:
        raw = character.encode()
        ids += [number[raw]] if raw in number else [3 + byte for byte in raw]
    while True:
        merges = [
            (pieces[number[joined]][1], -at, number[joined])
            for at, (a, b) in enumerate(pairwise(ids))
            if (joined := pieces[a][0] + pieces[b][0]) in number
        ]
        if not merges:
            return ids
        _, at, merged = max(merges)
        ids[-at : -at + 2] = [merged]


def test_tokens_are_those_of_the_original(tokenizer, original):
    """Books, spaces in a row, line ends, and characters that fall back to bytes."""
    texts = [d.text[1000:1300] for d in open_corpus("sample")] + ["a\nb  c 😀é\t", " x", "  ", STORY]
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert ids == greedy(text, original[1])
        assert tokenizer.decode(ids) == text
    assert tokenizer("x").input_ids[0] == tokenizer.bos_token_id == 1
