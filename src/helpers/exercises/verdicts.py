"""Exercises of the chapter of claims: verdicts, chance, and thresholds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helpers.analysis.statistics import mean_interval
from helpers.exercises.compare import Numbers, compare, passed

_CASES = (
    ((2.1, 4.0, 2.0), "supported", "the whole interval lies above the threshold"),
    ((0.5, 1.9, 2.0), "refuted", "the whole interval lies below the threshold"),
    ((1.0, 3.0, 2.0), "inconclusive", "the threshold lies within the interval"),
    ((-4.0, -2.0, -5.0), "supported", "compare with the threshold, not with zero"),
    ((-9.0, -7.0, -5.0), "refuted", "compare with the threshold, not with zero"),
    ((2.0, 3.0, 2.0), "inconclusive", "an interval that touches the threshold is not above it"),
    ((1.0, 2.0, 2.0), "inconclusive", "an interval that touches the threshold is not below it"),
)


def check_verdict(verdict: Callable[..., str]) -> None:
    """Chapter 12: the verdict on a claim, from (low, high, threshold)."""
    for (low, high, threshold), expected, hint in _CASES:
        given = verdict(low, high, threshold)
        if given != expected:
            raise AssertionError(
                f"verdict: {low} to {high} with the threshold {threshold} is {expected}, your "
                f"function says {given!r}: {hint}"
            )
    passed("verdict")


def check_supported_by_chance(supported_by_chance: Callable[..., Numbers]) -> None:
    """Chapter 12: claims whose true value is at the threshold that come out as supported."""
    claims = 1000
    for seeds in (5, 2):
        values = np.random.default_rng(1).normal(size=(2 * claims, seeds, 1))
        intervals = [mean_interval(rows) for rows in values]
        share = float(np.mean([interval.low > 0 for interval in intervals]))
        either = float(np.mean([interval.low > 0 or interval.high < 0 for interval in intervals]))
        found = supported_by_chance(claims, seeds, np.random.default_rng(0))
        if found is not None and float(found) != round(float(found)):
            raise AssertionError("claims supported by chance: return how many, not which share")
        compare(
            None if found is None else float(found),
            claims * share,
            {
                "this counts refuted claims as well": claims * either,
                "this is what 95 % promise; simulate, and count": 0.025 * claims,
                "these are those whose mean lies above; ask for the whole interval": 0.5 * claims,
            },
            what=f"claims supported by chance with {seeds} seeds",
            tolerance=0.055 * claims,  # more than three standard errors
        )
    passed("claims supported by chance")


def check_moved(moved: Callable[..., Numbers]) -> None:
    """Chapter 12: which verdicts change, from (lows, highs, before, after)."""
    lows = np.array([1.0, 1.0, -3.0, 2.0, 0.5, -1.0, -1.0])
    highs = np.array([2.0, 2.0, -1.0, 4.0, 3.5, 1.0, 1.0])
    before = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0])
    after = np.array([0.5, 1.5, -4.0, 3.0, 2.0, -2.0, 0.0])

    def verdicts(thresholds: np.ndarray) -> np.ndarray:
        return (lows > thresholds).astype(int) - (highs < thresholds)

    compare(
        moved(lows.copy(), highs.copy(), before.copy(), after.copy()),
        verdicts(before) != verdicts(after),
        {
            "these are all whose threshold changed": before != after,
            "a claim that is no longer supported has moved, even if it is not refuted":
                verdicts(before) * verdicts(after) < 0,
            "a verdict can move from or to refuted as well": (lows > before) != (lows > after),
            "a verdict can move from or to supported as well": (highs < before) != (highs < after),
            "these are the ones that stay": verdicts(before) == verdicts(after),
        },
        what="verdicts that move",
    )  # fmt: skip
    passed("verdicts that move")
