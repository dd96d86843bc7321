"""Behaviour policies: small multilayer perceptrons stored as safetensors, run with NumPy.

The file format is the one of `shared/data-real/policies`: `layers.N.weight` (out, in) and
`layers.N.bias`, optional `obs.mean` and `obs.std`, `log_std` (a vector) or `log_std.weight` and
`log_std.bias` (a head beside the mean); `activation` and `output` in the metadata. NumPy rather
than torch because a data-collecting process calls the policy once a simulator step, for a single
observation, where torch's overhead is larger than the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from helpers.files import BadFile, read_arrays, write_arrays

ACTIVATIONS = {"relu": lambda x: np.maximum(x, 0.0), "tanh": np.tanh, "none": lambda x: x}
OUTPUTS = {"tanh": np.tanh, "clip": lambda x: np.clip(x, -1.0, 1.0), "none": lambda x: x}
LOG_STD_RANGE = (-20.0, 2.0)  # bounds of SAC's standard deviation, as in SB3 and SBX


@dataclass(frozen=True)
class Policy:
    """A Gaussian (or deterministic) policy over continuous actions."""

    arrays: dict[str, np.ndarray]
    """Weights by name, as in the file."""
    activation: str = "relu"
    """Non-linearity between layers: relu, tanh or none."""
    output: str = "tanh"
    """What is applied to the (sampled) pre-action: tanh, clip or none."""
    obs_clip: float = np.inf
    """Bound on the normalised observation."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Provenance: algorithm, seed, steps, returns, source."""

    @property
    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(weight, bias) of each layer, first to last."""
        count = sum(key.startswith("layers.") and key.endswith(".weight") for key in self.arrays)
        layers = []
        for i in range(count):
            weight = self.arrays[f"layers.{i}.weight"]
            bias = self.arrays.get(f"layers.{i}.bias", np.zeros(len(weight), weight.dtype))
            layers.append((weight, bias))
        return layers

    @property
    def observation_size(self) -> int:
        """Length of the observation vector S."""
        return self.arrays["layers.0.weight"].shape[1]

    def actor(self, *, sample: bool) -> Actor:
        """A fast callable for one observation; `sample=False` gives the mean action."""
        return Actor(self, sample=sample)


class Actor:
    """Callable form of a `Policy`: weights unpacked and transposed once, then one call a step."""

    def __init__(self, policy: Policy, *, sample: bool) -> None:
        arrays = policy.arrays
        self.layers = [(w.T.copy(), b) for w, b in policy.weights]
        self.activation = ACTIVATIONS[policy.activation]
        self.output = OUTPUTS[policy.output]
        self.normaliser = None
        if "obs.mean" in arrays:
            self.normaliser = (arrays["obs.mean"], 1.0 / arrays["obs.std"], policy.obs_clip)
        self.sample = sample
        self.std_head = None
        self.std = None
        if "log_std.weight" in arrays:
            self.std_head = (arrays["log_std.weight"].T.copy(), arrays["log_std.bias"])
        elif "log_std" in arrays:
            self.std = np.exp(arrays["log_std"])
        elif sample:
            raise BadFile("this policy has no log_std: it can only act by its mean (sample=False)")

    def __call__(self, observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Action for `observation` of shape (S,) or (n, S); float32 of shape (A,) or (n, A)."""
        x = observation.astype(np.float32)
        if self.normaliser is not None:
            mean, scale, bound = self.normaliser
            x = np.clip((x - mean) * scale, -bound, bound).astype(np.float32)
        for weight, bias in self.layers[:-1]:
            x = self.activation(x @ weight + bias)
        weight, bias = self.layers[-1]
        action = x @ weight + bias
        if self.sample:
            std = self.std
            if self.std_head is not None:
                std = np.exp(np.clip(x @ self.std_head[0] + self.std_head[1], *LOG_STD_RANGE))
            noise = rng.standard_normal(action.shape, dtype=np.float32)
            action = action + std * noise
        return self.output(action).astype(np.float32)


def save_policy(path: str | Path, policy: Policy) -> None:
    """Write a policy and its provenance to one safetensors file."""
    shape = {"activation": policy.activation, "output": policy.output}
    write_arrays(path, policy.arrays, {**policy.metadata, **shape})


def load_policy(path: str | Path) -> Policy:
    """Read a policy.

    Raises:
        BadFile: not a whole safetensors file, no layers, or an unknown activation or output.
    """
    arrays, metadata = read_arrays(path)
    if "layers.0.weight" not in arrays:
        raise BadFile(f"{path}: no array 'layers.0.weight'; this is not a policy file")
    activation, output = metadata.get("activation", "relu"), metadata.get("output", "tanh")
    for name, value, known in (
        ("activation", activation, ACTIVATIONS),
        ("output", output, OUTPUTS),
    ):
        if value not in known:
            raise BadFile(f"{path}: {name} is {value!r}, expected one of {sorted(known)}")
    clip = metadata.get("obs_clip", "none")
    bound = np.inf if clip == "none" else float(clip)
    return Policy(arrays, activation, output, bound, metadata)
