"""Offline reinforcement learning as sequence modelling: the package behind the book.

What a script needs most is here by name (`from helpers import obtain, own_run`). A name is imported
when it is first used: torch takes seconds to import, which `import helpers` alone must not.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

PLACES = {
    "METHODS": "methods",
    "Method": "methods",
    "Run": "experiments",
    "Task": "tasks",
    "get_task": "tasks",
    "load_dataset": "data.catalogue",
    "load_experiments": "experiments",
    "mean_interval": "analysis.statistics",
    "obtain": "runs",
    "own_run": "library",
    "rollout": "evaluate",
}
"""Public names and their modules. A name of a module, such as train, cannot be among them: once it
is imported, the module itself stands under that name."""

__all__ = sorted(PLACES)


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module 'helpers' has no attribute {name!r}")
    return getattr(import_module(f"helpers.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES})
