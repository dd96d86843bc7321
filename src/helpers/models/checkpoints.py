"""Trained models as files: weights and configuration in one safetensors file, no pickle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from helpers.files import BadFile, read_arrays, write_arrays

TARGET = "target."
"""First part of the names of target networks' arrays. They are not stored: playing needs none, and
a training resumes from its own state."""

Kinds = Mapping[str, tuple[Callable[[Any], nn.Module], type]]
"""Class and configuration of methods, by name."""


def save_model(path: str | Path, model: Any, metadata: dict[str, Any]) -> None:
    """Write weights, buffers and configuration; `model` has a `method` (name) and a `config`."""
    arrays = {
        name: value.detach().cpu().numpy()
        for name, value in model.state_dict().items()
        if not name.startswith(TARGET)
    }
    write_arrays(path, arrays, {**metadata, "method": model.method, "model": asdict(model.config)})


def load_model(path: str | Path, kinds: Kinds) -> tuple[Any, dict[str, Any]]:
    """Read a checkpoint of `save_model`; returns the model in evaluation mode and its metadata.

    Fields that a configuration did not have when the file was written get their defaults.

    Args:
        path: of the checkpoint.
        kinds: what may be found there.

    Raises:
        BadFile: not whole, of another method, or weights of other shapes than its configuration
            says.
    """
    arrays, metadata = read_arrays(path)
    method, stored = metadata.get("method"), metadata.get("model")
    if method not in kinds:
        raise BadFile(f"{path}: holds method {method!r}; expected one of {sorted(kinds)}")
    make, config = kinds[method]
    known = {field.name for field in fields(config)}
    if not isinstance(stored, dict) or set(stored) - known:
        raise BadFile(f"{path}: metadata 'model' is not a configuration of {method!r}; known "
                      f"fields: {sorted(known)}; train it again")  # fmt: skip
    model = make(config(**stored))
    targets = {
        name: value.numpy() for name, value in model.state_dict().items() if name.startswith(TARGET)
    }
    load_arrays(model, {**arrays, **targets}, path)
    return model.eval(), metadata


def load_arrays(model: nn.Module, arrays: dict[str, Any], path: str | Path) -> None:
    """Copy arrays into a model's parameters and buffers.

    Raises:
        BadFile: names or shapes differ; the first difference is named.
    """
    expected = model.state_dict()
    for name in sorted(set(expected) | set(arrays)):
        found = tuple(arrays[name].shape) if name in arrays else "nothing"
        wanted = tuple(expected[name].shape) if name in expected else "nothing"
        if found != wanted:
            raise BadFile(
                f"{path}: array {name!r} has shape {found}, the model expects {wanted}; "
                "this checkpoint is for another task or configuration"
            )
    model.load_state_dict({name: torch.as_tensor(array) for name, array in arrays.items()})
