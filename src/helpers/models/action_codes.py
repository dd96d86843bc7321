"""Pushes with numbers: each vector of actions stands for the nearest of K codes.

A method that chooses among numbered actions can then act where actions are vectors. Codes are the
centres that k-means finds in the data (vector quantisation), so they lie dense where actions do,
and inside every box that holds the data.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

FITTED = 65_536
"""Steps at most on which codes are fitted."""
ROUNDS = 20
"""Of k-means; what codes keep of the variance changes in the fourth digit afterwards."""


def fit_codes(actions: Float[np.ndarray, "N A"], count: int) -> Float[np.ndarray, "K A"]:
    """The centres of `count` clusters, from the same draws every time.

    Args:
        actions: of a dataset.
        count: K.

    Raises:
        ValueError: the data hold fewer different actions than that.
    """
    # Imported late, here and below: it takes a quarter of a second, and few runs have codes.
    from scipy.cluster.vq import kmeans2

    rng = np.random.default_rng(0)
    rows = rng.permutation(len(actions))[:FITTED]
    points = np.asarray(actions[np.sort(rows)], np.float64)
    if (different := len(np.unique(points, axis=0))) < count:
        raise ValueError(
            f"action_codes is {count}, but the data hold {different} different actions; set it to "
            f"{different} or less"
        )
    codes, _ = kmeans2(points, count, iter=ROUNDS, minit="++", rng=rng)
    return codes.astype(np.float32)


def nearest(
    actions: Float[np.ndarray, "N A"], codes: Float[np.ndarray, "K A"]
) -> Int[np.ndarray, " N"]:
    """The number of each action's nearest code."""
    from scipy.cluster.vq import vq

    return vq(np.asarray(actions, np.float64), codes.astype(np.float64))[0].astype(np.int64)


def variance_kept(actions: Float[np.ndarray, "N A"], codes: Float[np.ndarray, "K A"]) -> float:
    """Share of the actions' variance, summed over entries, that rounding to codes keeps."""
    lost = np.square(actions - codes[nearest(actions, codes)], dtype=np.float64).sum()
    return 1.0 - float(lost / np.square(actions - actions.mean(axis=0), dtype=np.float64).sum())
