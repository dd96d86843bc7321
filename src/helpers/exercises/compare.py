"""How an exercise's answer is compared, and what is said of a wrong one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

Numbers = ArrayLike | float
"""A float is ArrayLike to type checkers, but not to those that run."""


def compare(
    result: Numbers | tuple | None,
    expected: Numbers,
    slips: Mapping[str, Numbers],
    *,
    what: str,
    tolerance: float = 1e-6,
) -> None:
    """Accept `result` if it equals `expected`; otherwise explain.

    Args:
        result: what the reader's function gave.
        expected: what the reference gives.
        slips: hint to the wrong result that the slip would give.
        what: name of the quantity, for the message.
        tolerance: largest absolute difference.

    Raises:
        AssertionError: with the hint of the slip that fits, or both values when none does.
    """
    if result is None:
        raise AssertionError(f"{what}: your function returned None; did you forget `return`?")
    try:
        got = np.asarray(result, dtype=float)
    except (TypeError, ValueError):
        raise AssertionError(
            f"{what}: your function returned a {type(result).__name__}; return numbers"
        ) from None
    wanted = np.asarray(expected, dtype=float)
    if got.shape != wanted.shape:
        raise AssertionError(f"{what}: the shape is {got.shape}, it should be {wanted.shape}")
    if np.allclose(got, wanted, rtol=0.0, atol=tolerance):
        return
    for hint, wrong in slips.items():
        if np.allclose(
            got, np.asarray(wrong, dtype=float), rtol=0.0, atol=tolerance, equal_nan=True
        ):
            raise AssertionError(f"{what}: {hint}")
    raise AssertionError(
        f"{what}: no usual slip fits.\n  yours:    {np.array2string(got, precision=4)}"
        f"\n  expected: {np.array2string(wanted, precision=4)}"
    )


def passed(what: str) -> None:
    """Say so."""
    print(f"{what}: correct")
