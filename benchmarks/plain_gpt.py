"""GPT-2 as one writes it without packing: the baseline beside which memscape's training is timed.

The usual modules, `torch.compile`, bf16 autocast, fused AdamW, clipping; optionally the whole step in one CUDA graph.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memscape.models.config import ModelConfig
from memscape.models.huggingface import to_gpt2_name


class Block(nn.Module):
    def __init__(self, d: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.c_attn, self.c_proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.c_fc, self.mlp_proj = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        B, T, d = x.shape
        q, k, v = (y.view(B, T, self.n_heads, -1).transpose(1, 2) for y in self.c_attn(self.ln_1(x)).split(d, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(B, T, d))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class PlainGPT(nn.Module):
    """One GPT-2, tied head."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        d = config.d_model
        self.wte, self.wpe = nn.Embedding(config.vocab_size, d), nn.Embedding(config.seq_len, d)
        self.blocks = nn.ModuleList(Block(d, config.layers[0].n_heads) for _ in range(config.n_layers))
        self.ln_f = nn.LayerNorm(d)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        x = self.wte(inputs) + self.wpe.weight[: inputs.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def take(self, weights: dict[str, Tensor]) -> "PlainGPT":
        """Copy one member's weights, given by memscape's names without the pack axis."""
        names = {"attn.c_attn": "c_attn", "attn.c_proj": "c_proj", "mlp.c_fc": "c_fc", "mlp.c_proj": "mlp_proj"}
        own = dict(self.named_parameters())
        for name, tensor in weights.items():
            theirs = to_gpt2_name(name).removeprefix("transformer.").replace("h.", "blocks.", 1)
            for long, short in names.items():
                theirs = theirs.replace(long, short)
            linear = any(f".{short}.weight" in theirs for short in names.values())
            own[theirs].copy_(tensor.T if linear else tensor)
        return self


class PlainTraining:
    """A plain training step on one model."""

    def __init__(self, model: PlainGPT, lr: float, *, compiled: bool, graph: bool, bf16: bool, clip: float = 1.0):
        self.model, self.clip, self.graphed = model, clip, graph
        self.device = next(model.parameters()).device
        self.forward = torch.compile(model) if compiled else model
        cuda = self.device.type == "cuda"
        self.autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16)
        rate = torch.tensor(lr, device=self.device) if graph else lr
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=cuda, capturable=graph
        )
        self.loss = torch.zeros((), device=self.device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def advance(self, inputs: Tensor, targets: Tensor) -> None:
        with self.autocast:
            loss = self.forward(inputs, targets)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimiser.step()
        self.loss.copy_(loss.detach())

    def __call__(self, inputs: Tensor, targets: Tensor) -> None:
        if not self.graphed:
            self.advance(inputs, targets)
            return
        if self.graph is None:
            self.capture(inputs, targets)
        self.inputs.copy_(inputs)
        self.targets.copy_(targets)
        self.graph.replay()  # type: ignore

    def capture(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs.clone(), targets.clone()
        kept = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.advance(self.inputs, self.targets)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.advance(self.inputs, self.targets)
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                p.copy_(kept[name])
            for state in self.optimiser.state.values():
                for tensor in state.values():
                    tensor.zero_()


def seconds_a_call(work, n: int, windows: int = 5) -> float:
    """Return the median over `windows` windows of the mean seconds of `n` calls (GPU events, or the clock on a CPU)."""
    import statistics
    import time

    times = []
    for _ in range(windows):
        if torch.cuda.is_available():
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(n):
                work()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end) / 1e3 / n)
        else:
            begin = time.perf_counter()
            for _ in range(n):
                work()
            times.append((time.perf_counter() - begin) / n)
    return statistics.median(times)
