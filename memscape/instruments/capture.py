"""What passes through a model: its residual stream at every layer, and the loss of every token, in bounded memory.

One forward pass a batch with hooks on the model's own modules: its logits are what they are without us. On the device
each site is reduced to the moments of all its states; the states themselves are kept for a sample of contexts only.
Both go to safetensors shards as the pass goes on, so that any corpus fits and a killed capture continues.

    contexts = read_contexts(corpus, tokenizer, limit=8192, context=256)
    states = capture(pretrained.model, contexts, folder)
    states.site("layer 5").shape                # (contexts kept, context, d_model)
    states.moments("layer 5").mean.shape        # over all states
"""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from memscape.errors import ModelError
from memscape.folder import write_whole
from memscape.instruments.anatomy import Anatomy, CausalLM, dissect, listening, logits, logits_of, longest_context
from memscape.instruments.contexts import Contexts
from memscape.instruments.replay import Pass, has_kernels, replayed
from memscape.progress import Budget, bar

TOKENS_A_BATCH = {"cpu": 1024, "cuda": 16_384}
"""Tokens of one forward pass: a GPU needs many to be busy, two cores gain nothing beyond a thousand."""

MOST_SHARDS = 256
"""Files of a capture; a long one puts several batches into each."""

KEPT_STATES = 32_768
"""States kept a site: more patterns than this move a nearest-neighbour distance by less than its interval."""

LOSS_ROWS = 4096
"""Tokens whose logits are widened to float32 at once."""


@runtime_checkable
class Watch(Protocol):
    """What an instrument does during the passes of a capture: it reduces what it sees to some numbers a context."""

    def on(self, model: CausalLM, anatomy: Anatomy) -> AbstractContextManager[None]:
        """Return a context in which every pass is seen."""
        ...

    def take(self) -> dict[str, Tensor]:
        """Return what the last pass gave, a row a context, and forget it."""
        ...


def forward(
    model: CausalLM, anatomy: Anatomy, tokens_BT: Int[Tensor, "B T"]
) -> tuple[Float[Tensor, "B T V"], dict[str, Float[Tensor, "B T D"]]]:
    """Return the logits of one batch and the residual stream at every site, in one forward pass."""
    states: dict[str, Tensor] = {}
    shape = (*tokens_BT.shape, anatomy.width)
    with ExitStack() as hooks, torch.no_grad():
        see = {site: lambda x, site=site: states.update({site: x.reshape(shape)}) for site in anatomy.sites}
        listening(hooks, anatomy, see)
        answer = logits_of(logits(model, tokens_BT))
    return answer, states


@dataclass(frozen=True)
class Moments:
    """Count, mean and variance of every coordinate over all states of a site."""

    n: int
    mean: Float[Tensor, " D"]
    variance: Float[Tensor, " D"]


@dataclass(frozen=True)
class Activations:
    """What a capture left on disk: read one site at a time."""

    contexts: Contexts
    """The text that was read."""
    folder: Path
    sites: tuple[str, ...]
    shards: int
    kept: Int[np.ndarray, " K"]
    """The contexts whose states are kept."""

    def site(self, name: str) -> Float[Tensor, "K T D"]:
        """Return the kept states of one site, float32."""
        return torch.cat(self._read(name)).float()

    def moments(self, name: str) -> Moments:
        """Return the moments of all states of one site, kept or not: those of the batches, put together in float64."""
        n = torch.cat(self._read("tokens")).double()[:, None]
        mean, variance = (torch.cat(self._read(f"{name}/{of}")).double() for of in ("mean", "variance"))
        middle = (n * mean).sum(0) / n.sum()
        return Moments(int(n.sum()), middle, (n * (variance + (mean - middle).square())).sum(0) / n.sum())

    @property
    def loss_CT(self) -> Float[np.ndarray, "C T"]:
        """Cross-entropy of every next token, in nats."""
        return torch.cat(self._read("loss")).numpy()

    @property
    def hits_CT(self) -> Bool[np.ndarray, "C T"]:
        """Whether the most likely token was the next one, if the capture was asked for it."""
        return torch.cat(self._read("hits")).numpy()

    def watched(self, name: str) -> tuple[Tensor, Contexts] | None:
        """Return what a watch noted, a row a context it saw, and these contexts; None if it noted nothing."""
        found = self._read(name)
        return (torch.cat(found), self.contexts.at(torch.cat(self._read("watched")).numpy())) if found else None

    def _read(self, name: str) -> list[Tensor]:
        parts = []
        for i in range(self.shards):
            with safe_open(_shard(self.folder, i), framework="pt") as file:
                if name in file.keys():  # noqa: SIM118 (it is no dict)
                    parts.append(file.get_tensor(name))
        return parts


def capture(
    model: CausalLM,
    contexts: Contexts,
    folder: Path,
    *,
    title: str = "reading",
    sites: tuple[str, ...] | None = None,
    keep: Int[np.ndarray, " K"] | None = None,
    watches: tuple[Watch, ...] = (),
    watch_contexts: int = 256,
    hits: bool = False,
    budget: Budget | None = None,
) -> Activations:
    """Run the model over all contexts and write what was seen to `folder`, shard by shard; finished shards stay.

    Args:
        model: a `transformers` causal language model, or a module from token ids (B, T) to logits (B, T, V).
        contexts: the text, C contexts of T tokens.
        folder: where the shards go.
        title: what the progress bar says.
        sites: which places of `Anatomy.sites` to keep; all by default, `()` for losses only.
        keep: the contexts whose states are kept; by default enough for `KEPT_STATES`, spread over the documents.
        watches: instruments that look on.
        watch_contexts: how many contexts they look at, at least one batch.
        hits: note also whether the most likely token was the right one.
        budget: checked before every shard.

    Raises:
        ModelError: no layers can be found, a token id is outside the vocabulary, or states are not finite.
    """
    anatomy = dissect(model)
    _require_fit(model, anatomy, contexts)
    n, length = contexts.shape
    keep = contexts.spread(KEPT_STATES) if keep is None else keep
    sites = tuple(anatomy.sites) if sites is None else sites
    device = next(model.parameters()).device
    size = max(1, TOKENS_A_BATCH.get(device.type, TOKENS_A_BATCH["cuda"]) // length)
    batches = [np.arange(i, min(i + size, n)) for i in range(0, n, size)]
    group = -(-len(batches) // MOST_SHARDS)
    shards = [range(i, min(i + group, len(batches))) for i in range(0, len(batches), group)]
    looks = np.linspace(0, len(batches) - 1, min(len(batches), -(-watch_contexts // size))).round()
    looked = set(looks.astype(int).tolist()) if watches else set()
    own = [rows[np.isin(rows, keep)] for rows in batches]
    slots = max(map(len, own))
    alike = sum(len(rows) == size and i not in looked for i, rows in enumerate(batches))
    run = _run(model, anatomy, sites, hits)
    fast: Pass | None = None

    def seen(i: int, tokens: Tensor, kept: Tensor) -> dict[str, Tensor]:
        nonlocal fast
        if i in looked:
            with ExitStack() as hooks:
                for watch in watches:
                    hooks.enter_context(watch.on(model, anatomy))
                found = run(tokens, kept)
            return found | {k: v for watch in watches for k, v in watch.take().items()}
        if fast is not None and len(tokens) == size:
            return fast(tokens, kept)
        found = run(tokens, kept)
        if len(tokens) == size:
            fast = replayed(run, model, tokens, kept, found, times=alike)
        return found

    def read(i: int) -> dict[str, Tensor]:
        rows, mine = batches[i], torch.from_numpy(own[i])
        kept = torch.zeros(slots, dtype=torch.int64)
        kept[: len(mine)] = mine - int(rows[0])
        found = seen(i, _sent(torch.from_numpy(contexts.tokens_CT1[rows]).long(), device), _sent(kept, device))
        noted = {"tokens": torch.tensor([len(rows) * length])}
        for name, values in found.items():
            if name not in sites:
                noted[name] = values.to("cpu", non_blocking=True)
            elif len(mine):
                noted[name] = values[: len(mine)].to("cpu", non_blocking=True)
        if i in looked:
            noted["watched"] = torch.from_numpy(rows)
        if len(mine):
            noted |= {"context": mine, "document": torch.from_numpy(contexts.documents_C[own[i]])}
            noted["ids"] = torch.from_numpy(contexts.tokens_CT1[own[i]])
        return noted

    # Nothing waits for the GPU but the thread that writes a shard while the next one is read.
    here = torch.cuda.device_of(next(model.parameters()))  # where kernels are launched and graphs recorded
    with here, bar(title, n * length, "tokens") as progress, ThreadPoolExecutor(1) as disk:
        written: Future | None = None
        for i, shard in enumerate(shards):
            path = _shard(folder, i)
            if not path.exists():
                if budget is not None:
                    budget.check(f"{len(shards) - i} of {len(shards)} shards of {title}")
                notes = [read(batch) for batch in shard]
                arrived = torch.cuda.Event() if device.type == "cuda" else None
                if arrived is not None:
                    arrived.record()
                if written is not None:
                    written.result()
                written = disk.submit(_write, path, notes, sites, arrived)
            progress.advance(sum(len(batches[batch]) for batch in shard) * length)
        if written is not None:
            written.result()
    return Activations(contexts, folder, sites, len(shards), keep)


def _run(model: CausalLM, anatomy: Anatomy, sites: tuple[str, ...], hits: bool) -> Pass:
    """Return the pass over a batch (B, T + 1): its losses, the moments of every site, the states of some rows."""

    def run(tokens_BT1: Tensor, kept: Tensor) -> dict[str, Tensor]:
        shape = (len(tokens_BT1), tokens_BT1.shape[1] - 1, anatomy.width)
        found: dict[str, Tensor] = {}
        moments: dict[str, tuple[Tensor, Tensor]] = {}

        def reduce(site: str):
            def see(state: Tensor) -> None:
                moments[site] = _moments(state.reshape(-1, anatomy.width))
                if len(kept):
                    found[site] = state.reshape(shape)[kept]

            return see

        with ExitStack() as hooks, torch.no_grad():
            listening(hooks, anatomy, {site: reduce(site) for site in sites})
            answer = logits_of(logits(model, tokens_BT1[:, :-1])).reshape(*shape[:2], -1)
            found |= _losses(answer, tokens_BT1[:, 1:], hits)
        return found | (_joined([moments[site] for site in sites], shape[0] * shape[1]) if sites else {})

    return run


def _sent(values: Tensor, device: torch.device) -> Tensor:
    """Return the values on the device; a GPU takes them when it comes to them."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def _write(
    path: Path, notes: list[dict[str, Tensor]], sites: tuple[str, ...], arrived: torch.cuda.Event | None
) -> None:
    """Write what was noted of some batches, moments by the names of their sites; say so if anything is not finite."""
    if arrived is not None:
        arrived.synchronize()
    names = sorted({name for note in notes for name in note})
    out = {name: torch.cat([note[name] for note in notes if name in note]) for name in names}
    for of in ("mean", "variance") if sites else ():
        for site, values in zip(sites, out.pop(of).view(len(notes), len(sites), -1).unbind(1), strict=True):
            if not torch.isfinite(values).all():
                raise ModelError(f"the states at {site!r} are not finite; run the model in --dtype float32.")
            out[f"{site}/{of}"] = values.contiguous()
    if not torch.isfinite(out["loss"]).all():
        raise ModelError("the losses are not finite; run the model in --dtype float32.")
    write_whole(path, lambda part: save_file(out, part))


def _moments(states_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (1, D) of every column, float32; on a GPU mean and squares of some spans, to be joined."""
    if has_kernels(states_ND):
        from memscape.models.kernels import moments

        return moments(states_ND)
    variance, mean = torch.var_mean(states_ND.float(), 0, correction=0, keepdim=True)
    return mean, variance


def _joined(moments: list[tuple[Tensor, Tensor]], n: int) -> dict[str, Tensor]:
    """Mean and variance of every site (sites, D) over the n states of a batch."""
    mean, variance = (torch.stack(each) for each in zip(*moments, strict=True))
    if has_kernels(mean):
        from memscape.models.kernels import joined

        mean, variance = joined(mean, variance, n)
    return {"mean": mean.flatten(0, -2), "variance": variance.flatten(0, -2)}


def _losses(logits_BTV: Tensor, targets_BT: Tensor, hits: bool) -> dict[str, Tensor]:
    """Cross-entropies in float32, and hits on demand, on a CPU a block of tokens at a time."""
    flat, wanted = logits_BTV.flatten(0, 1), targets_BT.flatten()
    if has_kernels(flat):
        from memscape.models.kernels import losses

        found = {"loss": losses(flat, wanted).view(targets_BT.shape)}
        return found | {"hits": logits_BTV.argmax(-1) == targets_BT} if hits else found
    loss, right = torch.empty(len(wanted), device=flat.device), torch.empty_like(wanted, dtype=torch.bool)
    for start in range(0, len(wanted), LOSS_ROWS):
        rows = slice(start, start + LOSS_ROWS)
        wide, target = flat[rows].float(), wanted[rows, None]
        loss[rows] = wide.logsumexp(1) - wide.gather(1, target)[:, 0]
        if hits:
            right[rows] = wide.argmax(1) == target[:, 0]
    found = {"loss": loss.view(targets_BT.shape)}
    return found | {"hits": right.view(targets_BT.shape)} if hits else found


def _require_fit(model: CausalLM, anatomy: Anatomy, contexts: Contexts) -> None:
    """Raise ModelError if the model cannot read these token ids, or contexts of this length."""
    low, high = int(contexts.tokens_CT1.min()), int(contexts.tokens_CT1.max())
    if low < 0 or high >= anatomy.vocabulary:
        raise ModelError(
            f"token id {low if low < 0 else high:,} is outside the model's vocabulary of {anatomy.vocabulary:,}; "
            "give the tokenizer that the model was trained with."
        )
    longest, length = longest_context(model), contexts.shape[1]
    if longest is not None and length > longest:
        raise ModelError(
            f"a context of {length:,} tokens is longer than the model's {longest:,}; give a smaller --context."
        )


def _shard(folder: Path, i: int) -> Path:
    return folder / f"{i:05d}.safetensors"
