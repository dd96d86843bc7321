"""Discretisers: numbers into tokens and back, one column at a time (Janner et al. 2021, section 2).

Uniform bins are equally wide, quantile bins hold equally many of the numbers they were fitted on.
A number that occurs often fills several quantiles and so repeats as a threshold. It then gets the
bin of width zero between its repetitions to itself and is decoded exactly, as rewards of a sparse
task must be; decoding to the middle of a wider bin would pay them where nothing was paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from helpers.files import BadFile, read_arrays, write_arrays

KINDS = ("uniform", "quantile")


@dataclass(frozen=True)
class Discretiser:
    """C columns with N bins each. Bin i of a column reaches from edge i up to, without, edge i + 1.

    Numbers outside the edges fall into the first or the last bin.
    """

    edges: Float[np.ndarray, "C edges"]
    """Never decreasing along a row."""
    kind: str

    @property
    def bins(self) -> int:
        """N, tokens of a column."""
        return self.edges.shape[1] - 1

    @property
    def centres(self) -> Float[np.ndarray, "C N"]:
        """What each token is decoded to: the middle of its bin."""
        return (self.edges[:, :-1] + self.edges[:, 1:]) / 2

    def encode(self, values: Float[np.ndarray, "*batch C"]) -> Int[np.ndarray, "*batch C"]:
        """Token of each number, 0 to N - 1.

        Raises:
            ValueError: another number of columns than was fitted, or NaN.
        """
        values = np.asarray(values)
        self._check_columns(values.shape)
        if np.isnan(values).any():
            raise ValueError(f"cannot encode NaN, which is in columns {_bad_columns(values)}")
        tokens = np.empty(values.shape, np.int64)
        for column, edges in enumerate(self.edges):
            number = values[..., column]
            first = np.searchsorted(edges, number, side="left")
            last = np.searchsorted(edges, number, side="right") - 1
            # The two differ upwards where the number is a threshold that occurs several times.
            tokens[..., column] = np.where(first < last, first, last)
        return tokens.clip(0, self.bins - 1)

    def decode(self, tokens: Int[np.ndarray, "*batch C"]) -> Float[np.ndarray, "*batch C"]:
        """Middle of each token's bin.

        Raises:
            ValueError: another number of columns than was fitted, or a token that is no bin.
        """
        tokens = np.asarray(tokens)
        self._check_columns(tokens.shape)
        if tokens.size and not (0 <= tokens.min() and tokens.max() < self.bins):
            raise ValueError(
                f"tokens reach from {tokens.min()} to {tokens.max()}; there are 0 to "
                f"{self.bins - 1} (the stop token has no value)"
            )
        return self.centres[np.arange(len(self.edges)), tokens]

    def _check_columns(self, shape: tuple[int, ...]) -> None:
        if not shape or shape[-1] != len(self.edges):
            raise ValueError(
                f"the discretiser was fitted on {len(self.edges)} columns, but the numbers have "
                f"shape {shape}; fit one on this task's data"
            )


def fit_discretiser(
    values: Float[np.ndarray, "rows C"], bins: int = 100, kind: str = "quantile"
) -> Discretiser:
    """Fit edges to data.

    Args:
        values: the data, a row per time step.
        bins: N, tokens of a column; 100 in the paper.
        kind: uniform or quantile.

    Raises:
        ValueError: an unknown kind, fewer than one bin, no rows, or NaN or infinite values.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; choose one of {', '.join(KINDS)}")
    if bins < 1:
        raise ValueError(f"bins is {bins}; at least 1 is needed")
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"the data have shape {values.shape}; rows of numbers are needed")
    if not np.isfinite(values).all():
        raise ValueError(f"the data have NaN or infinite values in columns {_bad_columns(values)}")
    if kind == "uniform":
        return uniform_discretiser(values.min(axis=0), values.max(axis=0), bins)
    # Thresholds are numbers of the data; the last one is the maximum, as in the paper's code.
    edges = np.quantile(values, np.linspace(0, 1, bins + 1), axis=0, method="inverted_cdf").T
    return Discretiser(np.ascontiguousarray(edges), "quantile")


def uniform_discretiser(
    low: Float[np.ndarray, " C"], high: Float[np.ndarray, " C"], bins: int = 100
) -> Discretiser:
    """Equally wide bins between the given ends of each column."""
    return Discretiser(np.linspace(low, high, bins + 1, axis=-1), "uniform")


def save_discretiser(path: str | Path, discretiser: Discretiser) -> None:
    """Write a discretiser as safetensors."""
    write_arrays(path, {"edges": discretiser.edges}, {"kind": discretiser.kind})


def load_discretiser(path: str | Path) -> Discretiser:
    """Read a discretiser.

    Raises:
        BadFile: not whole, not a discretiser, or edges that decrease or are not finite.
    """
    arrays, metadata = read_arrays(path)
    edges = arrays.get("edges")
    if edges is None or edges.ndim != 2 or metadata.get("kind") not in KINDS:
        raise BadFile(
            f"{path}: holds no discretiser (array 'edges' and metadata 'kind'); fit it again"
        )
    if not np.isfinite(edges).all() or (np.diff(edges, axis=1) < 0).any():
        raise BadFile(f"{path}: 'edges' decrease or are not finite; fit the discretiser again")
    return Discretiser(edges, metadata["kind"])


def _bad_columns(values: np.ndarray) -> list[int]:
    rows = values.reshape(-1, values.shape[-1])
    return np.flatnonzero(~np.isfinite(rows).all(axis=0)).tolist()
