"""What did each size make of each amount of text? The figures of a grid of runs.

Train and held-out loss against data size, a line a model size, with the floor H(p)/T under them; memorised bits against
bits of data, with the plateau of a full model. Of runs that differ only in learning rate or seed the best is drawn.
"""

from memscape.pages.citation import Sentence, join, say
from memscape.pages.figure import Figure, columns, shade
from memscape.pages.gather import RUNS, Story

SEEN = {"converged", "finished", "budget", None}
"""Statuses of runs that are drawn; a diverged run stays in the table."""


def held_out(story: Story) -> str:
    """Return the field of held-out loss that is drawn: the lowest along a run where runs say it, else the last."""
    return "fresh_loss" if None in story.run_values("best_fresh_loss") else "best_fresh_loss"


def best_cells(story: Story, by: str = "fresh_loss", largest: bool = False) -> dict[tuple[float, float], int]:
    """Return (n_params, n_tokens) -> index of the run with the lowest (or largest) `by`, diverged runs left out.

    Nothing where runs have different texts or tokens: one line would mix them.
    """
    if len(set(zip(story.run_values("corpus"), story.run_values("tokenizer"), strict=True))) > 1:
        return {}
    sizes, tokens = story.run_values("n_params"), story.run_values("n_tokens")
    judged, status = story.run_values(by), story.run_values("status")
    best: dict[tuple[float, float], int] = {}
    for i, (size, data, value) in enumerate(zip(sizes, tokens, judged, strict=True)):
        if None in (size, data, value) or status[i] not in SEEN:
            continue
        if (size, data) not in best or (value > judged[best[size, data]]) == largest:
            best[size, data] = i
    return dict(sorted(best.items()))


def losses(story: Story) -> Figure | None:
    """Train and held-out loss against the number of unique training tokens."""
    held = held_out(story)
    cells = best_cells(story, held)
    if len(cells) < 2:
        return None
    data = columns(
        story.records,
        n_tokens=(f"{RUNS}#/n_tokens", "tokens"),
        **{held: (f"{RUNS}#/{held}", "nats/token")},
        fresh_sem=(f"{RUNS}#/fresh_loss_sem", "nats/token"),
        train_loss=(f"{RUNS}#/train_loss", "nats/token"),
        train_sem=(f"{RUNS}#/train_loss_sem", "nats/token"),
        floor=(f"{RUNS}#/floor", "nats/token"),
        n_params=(f"{RUNS}#/n_params", "parameters"),
        run_id=(f"{RUNS}#/run_id", ""),
    )
    sizes = sorted({size for size, _ in cells})
    traces: list[dict] = []
    if "floor" in data:
        lowest = {tokens: i for (_, tokens), i in cells.items() if data["floor"].values[i] is not None}
        traces.append(
            {
                "kind": "line",
                "x": "n_tokens",
                "y": "floor",
                "rows": [lowest[t] for t in sorted(lowest)],
                "look": "second",
                "dash": "dot",
                "label": "floor",
                "tag": True,
            }
        )
    for place, size in enumerate(sizes):
        rows = [i for (n, _), i in cells.items() if n == size]
        common = {
            "kind": "line",
            "x": "n_tokens",
            "rows": rows,
            "look": shade(place, len(sizes)),
            "marks": True,
            "hover": {"run": "run_id"},
        }
        traces.append({**common, "y": "train_loss", "error": "train_sem", "dash": "dash", "hollow": True})
        name = say("{size}", size=story.records.number(f"{story.runs[rows[0]]}#/n_params", "count"))
        traces.append({**common, "y": held, "error": "fresh_sem", "label": name, "tag": True})
    axes = {
        "x": {"title": "unique training tokens", "scale": "log"},
        "y": {"title": "loss (nats per token)"},
    }
    return Figure(
        "losses",
        "Loss against the amount of text",
        _loss_caption(story, cells, held),
        data,
        traces,
        axes,
        520,
        "parameters",
    )


def _loss_caption(story: Story, cells: dict[tuple[float, float], int], held: str) -> Sentence:
    largest = max(size for size, _ in cells)
    rows = [i for (size, _), i in cells.items() if size == largest]
    few, many = story.runs[rows[0]], story.runs[rows[-1]]
    number = story.records.number
    return join(
        " ",
        [
            say(
                "Solid: text the model never saw{when}. Dashed: its training text in the end. Dotted: the floor "
                "that full "
                "memorisation would reach.",
                when=", at its lowest along the run" if held == "best_fresh_loss" else "",
            ),
            say(
                "At {size} parameters the gap between held-out and training loss goes from {first} nats per token on "
                "{few} tokens to {last} on {many}.",
                size=number(f"{few}#/n_params", "count"),
                first=number(f"{few}#/{held} | {few}#/train_loss", "sig3", "difference"),
                few=number(f"{few}#/n_tokens", "count"),
                last=number(f"{many}#/{held} | {many}#/train_loss", "sig3", "difference"),
                many=number(f"{many}#/n_tokens", "count"),
            )
            if few != many
            else None,
            say(
                "{n} runs; of those that differ only in learning rate or seed the one that does best on unseen text is "
                "drawn; bars are one standard error.",
                n=number(f"{RUNS}#/run_id", "count", "count"),
            ),
        ],
    ) or Sentence("")


def capacity(story: Story) -> Figure | None:
    """Bits memorised against bits of training data, the diagonal, and the plateau a full model reaches."""
    cells = best_cells(story, "memorised_bits", largest=True)
    data = columns(
        story.records,
        data_bits=(f"{RUNS}#/data_bits", "bits"),
        memorised_bits=(f"{RUNS}#/memorised_bits", "bits"),
        n_params=(f"{RUNS}#/n_params", "parameters"),
        run_id=(f"{RUNS}#/run_id", ""),
    )
    if len(cells) < 2 or not {"data_bits", "memorised_bits"} <= set(data):
        return None
    stored = data["memorised_bits"].values
    # On a logarithmic axis a run that memorised nothing has no place; it stays in the table.
    cells = {cell: i for cell, i in cells.items() if stored[i] and data["data_bits"].values[i]}
    if len(cells) < 2:
        return None
    by_bits = sorted(cells.values(), key=lambda i: data["data_bits"].values[i])
    traces: list[dict] = [
        {
            "kind": "line",
            "x": "data_bits",
            "y": "data_bits",
            "rows": [by_bits[0], by_bits[-1]],
            "look": "second",
            "dash": "dot",
            "label": "all of it",
            "tag": True,
        }
    ]
    sizes = sorted({size for size, _ in cells})
    per_param = story.capacity()
    if per_param:
        data |= columns(story.records, plateau=(f"{RUNS}#/n_params_total | {per_param}/value", "bits", "product"))
    for place, size in enumerate(sizes):
        rows = sorted((i for (n, _), i in cells.items() if n == size), key=lambda i: data["data_bits"].values[i])
        look = shade(place, len(sizes))
        name = say("{size}", size=story.records.number(f"{story.runs[rows[0]]}#/n_params", "count"))
        traces.append(
            {
                "kind": "line",
                "x": "data_bits",
                "y": "memorised_bits",
                "rows": rows,
                "look": look,
                "marks": True,
                "label": name,
                "tag": True,
                "hover": {"run": "run_id"},
            }
        )
        if "plateau" in data:
            traces.append(
                {
                    "kind": "line",
                    "x": "data_bits",
                    "y": "plateau",
                    "rows": [rows[0], rows[-1]],
                    "look": look,
                    "dash": "dot",
                    "thin": True,
                }
            )
    bits = story.records.measured(per_param) if per_param else None
    plateaus = data["plateau"].values if "plateau" in data else []
    reached = any(stored[i] > 0.8 * plateaus[i] for i in cells.values() if plateaus and plateaus[i])
    firm = per_param and story.records.first(f"{per_param.split('/params/')[0]}/outcome/name") == "converged"
    full = "; where a line bends to its dotted plateau the model is full" if firm and reached else ""
    full = full or ("; dotted: the plateaus of the fit" if plateaus else "")
    caption = join(
        " ",
        [
            say("Each line is a model size. On the diagonal a model holds all of its training text{full}.", full=full),
            say(
                "The fitted plateau is {bits} bits per parameter, embeddings counted ({note}).",
                bits=bits and bits.bare,
                note=bits and bits.note,
            ),
            say(
                "The most any run here holds is {most} bits.",
                most=story.records.number(f"{RUNS}#/memorised_bits", "count", "max"),
            ),
        ],
    )
    axes = {"x": {"title": "bits of training data", "scale": "log"}, "y": {"title": "bits memorised", "scale": "log"}}
    return Figure(
        "capacity", "What the models hold of it", caption or Sentence(""), data, traces, axes, 480, "parameters"
    )
