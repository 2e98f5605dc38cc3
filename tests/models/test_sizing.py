"""Sizes: the paper's counts, the dial, FLOPs with their terms."""

import pytest

from memscape.errors import PlanError
from memscape.models import ModelConfig, flops, parameters, scaled
from memscape.models.openelm import paper_config


@pytest.mark.parametrize(("model", "count"), [(1, 39_946_912), (2, 61_461_504), (3, 79_097_344)])
def test_the_papers_openelm_counts(model, count):
    """At feed-forward multiplier 1.25: 39.947 M, 61.462 M, 79.097 M (reported: 39.95, 60.26, 80.20 M)."""
    assert parameters(paper_config(model)).n_params == count


def test_only_the_papers_three_models():
    """A fourth is an error that names the three."""
    with pytest.raises(PlanError, match="1, 2 and 3"):
        paper_config(4)


@pytest.mark.parametrize(("layers", "weights"), [(6, 9_437_184), (10, 15_728_640)])
def test_the_papers_vanilla_counts(layers, weights):
    """Question-Formation models have 6 d² weights a layer: 9.437 M and 15.729 M, biases and norms beside them."""
    config = ModelConfig(family="vanilla", vocab_size=72, d_model=512, n_layers=layers, n_heads=4)
    d = 512
    assert parameters(config).n_params == weights + layers * (3 * d + d + d + d + 4 * d)


def test_gpt2_is_gpt2():
    """GPT-2 small has 124,439,808 parameters, 85,054,464 of them inside its blocks."""
    config = ModelConfig(vocab_size=50_257, seq_len=1024, d_model=768, n_layers=12, n_heads=12)
    assert parameters(config).total == 124_439_808
    assert parameters(config).n_params == 85_054_464


def test_flops_are_six_n_and_the_square_of_attention():
    """Training FLOPs per token are 6 (weights of matrices) + 12 L H K T: 0.857 GFLOP for GPT-2 at T = 1024."""
    config = ModelConfig(vocab_size=50_304, seq_len=1024, d_model=768, n_layers=12, n_heads=12)
    matrices = 12 * 12 * 768**2 + 50_304 * 768
    assert flops(config).train == 6 * matrices + 12 * 12 * 768 * 1024
    assert flops(config).train / 1e9 == pytest.approx(0.855, abs=0.003)
    assert sum(flops(config)) == flops(config).forward


def test_the_dial_grows_and_fits_its_heads():
    """Width alone decides the shape; N grows with it and heads divide it."""
    configs = [scaled(width, 264) for width in range(8, 513, 8)]
    counts = [parameters(c).n_params for c in configs]
    assert counts == sorted(counts)
    assert all(c.layers[0].n_heads * c.layers[0].d_head == c.d_model for c in configs)
