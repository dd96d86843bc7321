"""Look a name up, or say which names come nearest."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")


class UnknownName(ValueError):
    """A task, dataset, method or experiment that does not exist."""


def look_up(table: Mapping[str, Value], name: str, kind: str) -> Value:
    """`table[name]`.

    Raises:
        UnknownName: with the nearest names, or all of them when none is near.
    """
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(table))}"
    raise UnknownName(f"unknown {kind} {name!r}; {hint}")
