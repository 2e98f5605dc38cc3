"""Checkpoints: whole or refused."""

import pytest
import torch

from memscape.errors import FolderError
from memscape.training import checkpoint


@pytest.fixture
def saved(tmp_path):
    tensors = {"weights": torch.randn(3, 5), "step": torch.tensor(7, dtype=torch.int32), "active": torch.ones(3) > 0}
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, tensors, ["a", "b", "c"])
    return path, tensors


def test_what_is_saved_comes_back(saved):
    """Bit for bit, types included."""
    path, tensors = saved
    found = checkpoint.load(path, ["a", "b", "c"])
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[k], tensors[k]) and found[k].dtype == tensors[k].dtype for k in tensors)


def test_another_packs_checkpoint_is_refused(saved):
    """Order counts: member p of the file is member p of the pack."""
    with pytest.raises(FolderError, match="of other runs"):
        checkpoint.load(saved[0], ["a", "c", "b"])


@pytest.mark.parametrize("where", ["cut", "header", "weights"])
def test_a_damaged_checkpoint_is_refused(saved, where):
    """Cut short, header overwritten, or one bit of the weights flipped."""
    path = saved[0]
    content = bytearray(path.read_bytes())
    if where == "cut":
        content = content[:-10]
    else:
        content[4 if where == "header" else -3] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(FolderError, match="damaged"):
        checkpoint.load(path, ["a", "b", "c"])
