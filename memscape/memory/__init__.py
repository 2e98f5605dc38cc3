"""The mathematics on tensors: energies, retrieval, nearest neighbours, the Memory object."""

from memscape.memory.attention import HopfieldAttention as HopfieldAttention
from memscape.memory.memory import Memory as Memory
from memscape.memory.neighbours import beta_for as beta_for
from memscape.memory.neighbours import search as search
from memscape.memory.retrieval import Retrieval as Retrieval
from memscape.memory.retrieval import retrieve as retrieve
from memscape.memory.shards import Shards as Shards


def __getattr__(name: str):
    if name == "recall":  # the experiments need pydantic and scipy; a GPU worker that only searches does not
        from memscape.memory.capacity import recall

        return recall
    raise AttributeError(f"module 'memscape.memory' has no attribute {name!r}")
