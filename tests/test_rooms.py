"""Imports between rooms point one way; this test draws the arrows and names the one that points back."""

import ast
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "memscape"

MAY_IMPORT = {
    "theory": set(),
    "memory": {"theory"},
    "data": {"theory"},
    "models": {"theory"},
    "training": {"theory", "data", "models"},
    "instruments": {"theory", "memory", "data", "models"},
    "laws": {"theory"},
    "claims": {"theory", "memory", "data", "models", "training", "laws"},
    "pages": {"theory"},
    "experiments": {"theory", "memory", "data", "models", "training", "instruments", "laws", "claims", "pages"},
}
"""What each room may import besides itself and the three files everyone uses."""

EVERYONE = {"errors", "folder", "progress", "__version__"}


def arrows() -> dict[tuple[str, str], list[str]]:
    """Return (room, imported room) -> the places that do it, over every file of the package."""
    found: dict[tuple[str, str], list[str]] = {}
    for file in sorted(HOUSE.rglob("*.py")):
        room = file.relative_to(HOUSE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: write imports in full"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "memscape" and len(parts) > 1 and parts[1] != room:
                    found.setdefault((room, parts[1]), []).append(f"{file.relative_to(HOUSE)}:{node.lineno}")
    return found


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_point_one_way(room):
    """A room imports only rooms below it, so each can be read and tested without those above."""
    wrong = {b: where for (a, b), where in arrows().items() if a == room and b not in MAY_IMPORT[room] | EVERYONE}
    assert not wrong, f"{room} may not import {wrong}"


def test_every_folder_is_a_room_of_the_plan():
    """No room appears without a place in the order, and none is called utils, common or helpers."""
    rooms = {p.name for p in HOUSE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert rooms == set(MAY_IMPORT)


def test_the_order_has_no_circle():
    """The allowed arrows themselves form no circle."""
    rest = {room: set(below) for room, below in MAY_IMPORT.items()}
    while rest:
        ready = [room for room, below in rest.items() if not below & set(rest)]
        assert ready, f"circle among {sorted(rest)}"
        for room in ready:
            rest.pop(room)
