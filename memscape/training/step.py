"""The packed training step: forward, backward, per-member clipping and AdamW, for a whole pack at once.

    step = PackedStep(model, runs, bos)
    step(targets_PBT)                 one step
    step.loss_P                       its losses, nats/token, a member each

On a GPU the blocks are compiled and the whole step is captured in one CUDA graph. On a CPU it runs eagerly.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from memscape.models.dropout import Noise
from memscape.models.stream import Stream
from memscape.training import optimiser
from memscape.training.config import RunConfig


def signed(seed: int) -> int:
    """Return a seed as a signed 32-bit integer."""
    return (seed + 2**31) % 2**32 - 2**31


def begin(targets: Int[Tensor, "*any T"], bos: int) -> Int[Tensor, "*any T"]:
    """Return the inputs that predict `targets`: the begin token, then all but the last; padding (-1) becomes `bos`."""
    shifted = F.pad(targets[..., :-1], (1, 0), value=bos)
    return torch.where(shifted < 0, bos, shifted)


def token_losses(logits_PBTV: Float[Tensor, "P B T V"], targets_PBT: Int[Tensor, "P B T"]) -> Float[Tensor, "P B T"]:
    """Return -ln p(target) in nats, in single precision; 0 where the target is padding (-1)."""
    logits = logits_PBTV.flatten(0, 2).float()
    return F.cross_entropy(logits, targets_PBT.flatten(), reduction="none", ignore_index=-1).view(targets_PBT.shape)


def losses_and_gradient(
    logits_PBTV: Float[Tensor, "P B T V"],
    targets_PBT: Int[Tensor, "P B T"],
    z_loss_P: Float[Tensor, " P"],
    count_P: Int[Tensor, " P"],
) -> tuple[Float[Tensor, " P"], Float[Tensor, "P B T V"]]:
    """Return each member's cross-entropy, and the gradient of the sum of their objectives with respect to logits.

    A member's loss is the mean over its predicted tokens, nats/token; its objective adds λ (ln Σ exp logit)². In closed
    form, dL/dlogit = (softmax (1 + 2 λ ln Σ exp) - onehot) / n_predicted: no graph is kept for the loss.
    `count_P` is n_predicted of the whole batch, of which this may be a part.
    On a GPU the gradient takes the place of the logits.
    """
    real_PBT = targets_PBT >= 0
    weight_PBT = real_PBT / count_P.view(-1, 1, 1)
    z_weight_PBT = weight_PBT * z_loss_P.view(-1, 1, 1)
    V = logits_PBTV.shape[-1]
    if logits_PBTV.is_cuda:
        from memscape.models.kernels import loss_and_gradient

        flat = (targets_PBT.flatten(), weight_PBT.flatten(), z_weight_PBT.flatten())
        nll, gradient = loss_and_gradient(logits_PBTV.reshape(-1, V), *flat)
        return (nll.view_as(weight_PBT) * weight_PBT).sum((1, 2)), gradient.view(logits_PBTV.shape)
    logits = logits_PBTV.float()
    lse = logits.logsumexp(-1, keepdim=True)
    target = targets_PBT.clamp(min=0)[..., None]
    nll = lse - logits.gather(-1, target)
    gradient = (logits - lse).exp_()
    gradient *= (weight_PBT + 2 * z_weight_PBT * lse[..., 0])[..., None]
    gradient.scatter_add_(-1, target, -weight_PBT[..., None])
    return (nll[..., 0] * weight_PBT).sum((1, 2)), gradient.to(logits_PBTV.dtype)


class PackedStep:
    """A pack in training: its weights, moments and counters, and the step that moves them."""

    rank = 0
    """Which of the processes that share a batch this one is: it sees the part of that number."""

    def __init__(self, model: Stream, runs: list[RunConfig], bos: int, *, bf16: bool = False, compiled: bool = False):
        self.prepare(model, runs, bos)
        self.slots, n = optimiser.lay_out(model)
        weights = optimiser.flatten(model, self.slots, n, torch.float32)
        self.live = optimiser.flatten(model, self.slots, n, torch.bfloat16) if bf16 else weights
        self.rows = optimiser.Rows(weights, torch.zeros_like(weights), torch.zeros_like(weights))
        if any(run.weight_decay for run in runs):
            self.rule = self.rule._replace(decayed=optimiser.decayed(self.slots, n).to(self.device))
        self._adamw = optimiser.adamw if compiled or self.device.type != "cpu" else optimiser.adamw_by_row
        self._update = self._clip_and_adamw
        if compiled:
            compile_parts(model)
            self._update = torch.compile(self._clip_and_adamw, dynamic=False)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._targets: Tensor | None = None
        self.captures = compiled and self.device.type == "cuda"

    def prepare(self, model: Stream, runs: list[RunConfig], bos: int) -> None:
        """Set up what does not depend on how parameters are kept: what members differ in, and counters."""
        self.model, self.bos, self.run, P = model, bos, runs[0], len(runs)
        self.device = next(model.parameters()).device

        def column(values: list, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=self.device)

        self.seed_P = column([signed(r.seed) for r in runs], torch.int32)
        self.dropout_P, self.z_loss_P = column([r.dropout for r in runs]), column([r.z_loss for r in runs])
        self.noisy = any(r.dropout for r in runs)
        rates = column([r.learning_rate for r in runs]), column([r.weight_decay for r in runs])
        self.rule = optimiser.Rule(*rates, 0.0, self.run.clip, self.run.beta_1, self.run.beta_2)
        self.step = torch.zeros((), dtype=torch.int32, device=self.device)
        self.active = torch.ones(P, dtype=torch.bool, device=self.device)
        self.taken_P = torch.zeros(P, dtype=torch.int32, device=self.device)
        self.loss_P, self.norm_P, self.loss_sum_P = torch.zeros(3, P, device=self.device)

    @property
    def weights(self) -> Float[Tensor, "P n"]:
        """The master weights, a row a member."""
        return self.rows.weights

    def __call__(self, targets_PBT: Int[Tensor, "P B T"]) -> None:
        """Train one step on `targets`; the inputs are the begin token and the targets before each."""
        if not self.captures:
            self._advance(targets_PBT)
            return
        if self._graph is None:
            self._capture(targets_PBT)
        self._targets.copy_(targets_PBT)  # type: ignore
        self._graph.replay()  # type: ignore

    def _advance(self, targets_PBT: Int[Tensor, "P B T"]) -> None:
        logits, d_logits, loss_P = self.scored(targets_PBT)
        gradients = torch.autograd.grad(logits, list(self.model.parameters()), d_logits)
        with torch.no_grad():
            flat = self.summed(optimiser.in_rows(list(gradients), self.slots, self.weights.shape[1]))
            self._update(flat, loss_P)

    def scored(self, targets_PBT: Int[Tensor, "P B T"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (P, B, T, V), the gradient of the objective by them, and the losses (P,) of the whole batch."""
        logits = self.model(begin(targets_PBT, self.bos), self.noise(self.rank * targets_PBT.shape[1]))
        with torch.no_grad():
            count_P = self.summed((targets_PBT >= 0).sum((1, 2)))
            loss_P, d_logits = losses_and_gradient(logits.detach(), targets_PBT, self.z_loss_P, count_P)
            return logits, d_logits, self.summed(loss_P)

    def summed(self, x: Tensor) -> Tensor:
        """Return the sum of `x` over all processes that share this step: here there is one."""
        return x

    def _clip_and_adamw(self, flat: Float[Tensor, "P n"], loss_P: Float[Tensor, " P"]) -> None:
        """Move the weights, and count."""
        norm_P, active = self._adamw(self.rows, flat, self.scheduled(), self.step, self.active)
        if self.live is not self.rows.weights:
            self.live.copy_(self.rows.weights)
        self.count(norm_P, active, loss_P)

    def noise(self, first: int = 0) -> Noise | None:
        """Return where this step's dropout masks come from, if any member drops; `first` as in `Noise`."""
        return Noise.draw(self.seed_P, self.step, self.dropout_P, first) if self.noisy else None

    def scheduled(self) -> optimiser.Rule:
        """Return the rule of this step: the peak rates times the schedule."""
        run = self.run
        factor = optimiser.schedule(self.step, run.steps, run.warmup, run.final_rate, run.schedule)
        return self.rule._replace(learning_rate_P=self.rule.learning_rate_P * factor)

    def count(self, norm_P: Float[Tensor, " P"], active: Bool[Tensor, " P"], loss_P: Float[Tensor, " P"]) -> None:
        """Note a step taken: its losses, norms, and who is still active."""
        self.active.copy_(active)
        self.taken_P += active
        self.norm_P.copy_(norm_P)
        self.loss_P.copy_(loss_P)
        self.loss_sum_P += loss_P
        self.step += 1

    def _capture(self, targets_PBT: Int[Tensor, "P B T"]) -> None:
        """Warm up (which compiles), put every counter back, and capture the step in a CUDA graph."""
        self._targets = targets_PBT.clone()
        kept = {name: tensor.clone() for name, tensor in self.state.items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._advance(self._targets)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):  # NCCL's own thread may ask for events
            self._advance(self._targets)
        self.restore(kept)

    @property
    def counters(self) -> dict[str, Tensor]:
        """The part of the state that is small."""
        return {"step": self.step, "active": self.active, "taken": self.taken_P, "loss_sum": self.loss_sum_P}

    @property
    def state(self) -> dict[str, Tensor]:
        """What decides the future, as a checkpoint keeps it."""
        return self.rows._asdict() | self.counters

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up a state, and bring the working copy of the weights up to the master's."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])
        if self.live is not self.rows.weights:
            self.live.copy_(self.rows.weights)

    def halt(self, stopped_P: Bool[Tensor, " P"]) -> None:
        """Freeze members: they stay in the pack, but their weights no longer move."""
        self.active &= ~stopped_P


def compile_parts(model: Stream) -> None:
    """Compile what lies before, in and after the blocks, each alone: blocks of one shape share one compilation."""
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    dynamo.recompile_limit = max(64, dynamo.recompile_limit)
    if model.pack == 1:
        # Its fused row and column sums lose the pack axis of 1: "invalid gradient ... got [768] but expected [1, 768]".
        inductor.triton.mix_order_reduction = False
    model.embedded = torch.compile(model.embedded, dynamic=False)
    model.unembed = torch.compile(model.unembed, dynamic=False)
    for block in model.blocks:
        block.compile(dynamic=False)
