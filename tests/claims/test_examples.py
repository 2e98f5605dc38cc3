"""The examples in the docstrings of the two rooms of mathematics are what a reader gets."""

import doctest
import importlib
import pkgutil

import pytest

import memscape.claims
import memscape.theory

MODULES = [
    f"{room.__name__}.{module.name}"
    for room in (memscape.theory, memscape.claims)
    for module in pkgutil.iter_modules(room.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_right(name):
    """Each file opens with one example; it runs and gives the answer that is printed."""
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert failed == 0
    assert tried > 0
