"""Exercises of chapter 13: three numbers of the post, recomputed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import entr

from helpers.exercises.compare import Numbers, compare, passed


def check_mean_decay(mean_decay: Callable[[int, int], Numbers]) -> None:
    """Chapter 13: fall of the mean of a whole map between two windows, from (first, last)."""
    first, last = np.array([4, 3]), np.array([40, 96])
    answers = [mean_decay(*map(int, pair)) for pair in zip(first, last, strict=True)]
    compare(
        None if any(answer is None for answer in answers) else answers,
        1 - first / last,
        {
            "this is what is left of the mean; its fall is 1 minus that": first / last,
            "a map of n tokens has n x n entries, the zeros above the diagonal included; you took "
            "the mean of the others": 1 - (first + 1) / (last + 1),
            "rows sum to 1, so the mean is 1 / n; 1 / n^2 would be that of a map that sums to 1": 1
            - (first / last) ** 2,
            "divide the fall by the mean of the first window": last / first - 1,
            "this is the difference of the means; divide by the first": 1 / first - 1 / last,
            "this is in percent; return a share": 100 * (1 - first / last),
        },
        what="decay of the mean",
    )
    passed("decay of the mean")


def check_flattened_entropy(flattened_entropy: Callable[[np.ndarray], Numbers]) -> None:
    """Chapter 13: entropy of a map (n, n) as if it were one distribution, in nats."""
    weights = np.array([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.2, 0.5, 0.3]])
    rows, size = entr(weights).sum(axis=1), len(weights)
    got = flattened_entropy(weights.copy())
    if got is not None and np.isnan(np.asarray(got, float)).any():
        raise AssertionError(
            "flattened entropy: 0 ln 0 is 0 here, but NumPy gives nan; leave out weights of 0"
        )
    if np.shape(got) == (size,):
        raise AssertionError("flattened entropy: one number for the whole map, not one a row")
    whole = rows.mean() + np.log(size)
    compare(
        got,
        whole,
        {
            "this is the mean entropy of a row; the post's is of the whole map": rows.mean(),
            "the map sums to n; divide by n to make it one distribution": rows.sum(),
            "this is the sum over rows; each row has a share of 1 / n only": rows.sum()
            + size * np.log(size),
            "this is in bits; use the natural logarithm": whole / np.log(2),
            "the sign is the wrong way": -whole,
            "the map sums to n, not to n^2": entr(weights / size**2).sum(),
        },
        what="flattened entropy",
    )
    passed("flattened entropy")


def check_growth_rates(growth_rates: Callable[[np.ndarray, np.ndarray], Numbers]) -> None:
    """Chapter 13: growth of the logarithm of a sum a step, from (times, sums)."""
    times, sums = np.array([2.0, 4.0, 9.0, 10.0]), np.array([1.0, 3.0, 6.0, 8.0])
    logs, steps = np.diff(np.log(sums)), np.diff(times)
    got = growth_rates(times.copy(), sums.copy())
    if np.shape(got) == sums.shape:
        raise AssertionError(
            "growth rates: there is one interval less than readings; the logarithm of the sum "
            "before the first step, 0, does not exist"
        )
    compare(
        got,
        logs / steps,
        {
            "several steps lie between two readings; divide by their number": logs,
            "this is the error a step; take the logarithm first": np.diff(sums) / steps,
            "this is the logarithm of base 10; take the natural one": logs / steps / np.log(10),
            "this is the slope on two logarithmic axes, the exponent of a power; divide by steps": (
                logs / np.diff(np.log(times))
            ),
            "these are factors; take their logarithm": sums[1:] / sums[:-1],
            "this is the factor minus 1; steps multiply, so divide logarithms": (
                (sums[1:] / sums[:-1] - 1) / steps
            ),
        },
        what="growth rates",
    )
    passed("growth rates")
