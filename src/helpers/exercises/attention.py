"""Exercises of chapter 8: attention measured and taken away."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import entropy

from helpers.exercises.compare import Numbers, compare, passed

ROW = np.array([0.4, 0.1, 0.0, 0.3, 0.2, 0.0])
"""Attention of one query; it may look at the first five keys."""
ALLOWED = np.array([True, True, True, True, True, False])


def check_lift(lift: Callable[..., Numbers]) -> None:
    """Chapter 8: lift of a group of keys for one query, from (weights, allowed, group)."""
    group = np.array([True, False, False, True, False, True])
    share, members, keys = 0.7, 2, 5
    compare(
        lift(ROW.copy(), ALLOWED.copy(), group.copy()),
        share / (members / keys),
        {
            "this is the share; divide it by the share that even attention would give": share,
            "only keys that the query may look at count, among all keys as in the group": (
                share / (group.sum() / len(ROW))
            ),
            "forbidden keys do not count among all keys": share / (members / len(ROW)),
            "forbidden keys do not count in the group": share / (group.sum() / keys),
            "this is the ratio upside down": (members / keys) / share,
            "this is the mean weight of the group; multiply it by the number of keys": (
                share / members
            ),
        },
        what="lift",
    )
    passed("lift")


def check_normalised_entropy(normalised_entropy: Callable[..., Numbers]) -> None:
    """Chapter 8: entropy of one row over its greatest possible value, from (weights, allowed)."""
    nats = entropy(ROW)
    got = normalised_entropy(ROW.copy(), ALLOWED.copy())
    if got is not None and np.isnan(got):
        raise AssertionError(
            "normalised entropy: 0 ln 0 is 0 here, but NumPy gives nan; leave out keys of weight 0"
        )
    compare(
        got,
        nats / np.log(5),
        {
            "this is the entropy in nats; divide by its maximum": nats,
            "this is the entropy in bits; divide by its maximum": nats / np.log(2),
            "the maximum is ln of the keys that the query may look at, not of all": (
                nats / np.log(6)
            ),
            "numerator in bits, denominator in nats": nats / np.log(2) / np.log(5),
            "a key that gets nothing could have got something: count all allowed keys": (
                nats / np.log(4)
            ),
            "the sign is the wrong way": -nats / np.log(5),
            "divide by ln n, not by n": nats / 5,
        },
        what="normalised entropy",
    )
    passed("normalised entropy")


def check_knock_out(knock_out: Callable[..., Numbers]) -> None:
    """Chapter 8: weights (Q, K) without those to some keys, from (weights, hidden)."""
    weights = np.array([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.2, 0.5, 0.3]])
    hidden = np.array([True, False, False])
    kept = np.where(hidden, 0.0, weights)
    with np.errstate(invalid="ignore"):
        scaled = kept / kept.sum(axis=1, keepdims=True)
    given = weights.copy()
    got = knock_out(given, hidden.copy())
    if not np.array_equal(given, weights):
        raise AssertionError("knock-out: your function changed the weights it was given; copy them")
    compare(
        got,
        np.vstack([weights[0], scaled[1:]]),
        {
            "rows must sum to 1 again: divide by what is left": kept,
            "a query with nothing left keeps all its weights; 0 / 0 is nan": scaled,
            "a query with nothing left keeps all its weights": np.nan_to_num(scaled),
            "hidden keys are columns, not rows": np.vstack([np.zeros(3), weights[1:]]),
            "these are the weights to the hidden keys; take those away": weights - kept,
            "what is freed goes to the other keys in proportion, not evenly": np.vstack(
                [weights[0], [0.0, 0.875, 0.125], [0.0, 0.6, 0.4]]
            ),
        },
        what="knock-out",
    )
    passed("knock-out")
