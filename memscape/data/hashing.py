"""Hashing by arithmetic: 64-bit numbers spread evenly, the same on every machine.

The published first outputs of splitmix64 from state 0:

>>> [f"{x:016x}" for x in mix(GOLDEN * np.arange(1, 4, dtype=np.uint64))]
['e220a8397b1dcdaf', '6e789e6aa1b965f4', '06c45d188009454f']
"""

import numpy as np
from jaxtyping import UInt64

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio: multiples of it are spread over all numbers, and odd."""


def mix(x: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """Return a hash of each number, one to one (the finaliser of splitmix64, Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
