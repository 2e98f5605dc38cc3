"""What holds for every family and option: it is causal, its members do not meet, and it counts as it says."""

import pytest
import torch

from memscape.models import parameters
from memscape.models.dropout import Noise
from tests.models.families import CASES, NAMES, drawn, small


@pytest.mark.parametrize(("family", "option"), CASES, ids=NAMES)
def test_no_position_sees_a_later_token(family, option):
    """The gradient of the logits at position t is exactly zero for later inputs, and not for earlier ones."""
    model = drawn(small(family, option))
    tokens = torch.randint(0, 24, (1, 1, 8), generator=torch.Generator().manual_seed(1))
    vectors = model.embedded(tokens, None).detach().requires_grad_()
    *_, (_, last) = model.states(vectors, None)
    at = 4
    model.unembed(last)[0, 0, at].square().sum().backward()
    reach = vectors.grad[0, 0].abs().amax(-1)
    assert (reach[at + 1 :] == 0).all()
    assert reach[at] > 0
    assert reach[at - 1] > 0


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("family", ["gpt2", "vanilla", "openelm"])
def test_a_window_ends_where_it_says(family, window):
    """With one layer and a window of w, position t sees t - w + 1 .. t and nothing before."""
    model = drawn(small(family, {"window": window}, n_layers=1))
    tokens = torch.randint(0, 24, (1, 1, 8), generator=torch.Generator().manual_seed(1))
    vectors = model.embedded(tokens, None).detach().requires_grad_()
    *_, (_, last) = model.states(vectors, None)
    model.unembed(last)[0, 0, 6].square().sum().backward()
    seen = (vectors.grad[0, 0].abs().amax(-1) > 0).nonzero().flatten().tolist()
    assert seen == list(range(6 - window + 1, 7))


@pytest.mark.parametrize(("family", "option"), CASES, ids=NAMES)
def test_a_member_computes_the_same_packed_or_alone(family, option):
    """A pack of three equals three packs of one, with dropout on; so no member's output depends on another."""
    config = small(family, option)
    seeds = (3, 4, 5)
    tokens = torch.randint(0, 24, (3, 2, 8), generator=torch.Generator().manual_seed(2))
    step, rates = torch.tensor(7, dtype=torch.int32), torch.tensor([0.0, 0.1, 0.4])
    keys = torch.tensor(seeds, dtype=torch.int32)
    packed = drawn(config, seeds)(tokens, Noise.draw(keys, step, rates))
    for p, seed in enumerate(seeds):
        noise = Noise.draw(keys[p : p + 1], step, rates[p : p + 1])
        alone = drawn(config, (seed,))(tokens[p : p + 1], noise)
        torch.testing.assert_close(packed[p], alone[0], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(("family", "option"), CASES, ids=NAMES)
def test_counted_parameters_are_the_parameters(family, option):
    """The count from the configuration is the count of the built model, in total and inside the blocks."""
    config = small(family, option)
    model, counts = drawn(config), parameters(config)
    assert counts.total == sum(p.numel() for p in model.parameters())
    inside = sum(p.numel() for name, p in model.named_parameters() if name.startswith(("blocks", "gates")))
    assert counts.n_params == inside
    assert counts.n_params + counts.embedding == counts.total
