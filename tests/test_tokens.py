"""Discretisers: round trips, order, repeated thresholds, bad input, and the bins of others."""

from pathlib import Path

import numpy as np
import pytest

from helpers.data.catalogue import load_dataset
from helpers.data.tokens import (
    Discretiser,
    fit_discretiser,
    load_discretiser,
    save_discretiser,
    uniform_discretiser,
)
from helpers.files import BadFile, write_arrays

REAL = Path(__file__).parents[2] / "shared/data-real/trajectory-transformer"


def columns() -> np.ndarray:
    """Real observations, actions and rewards, and columns that are hard to bin."""
    data = load_dataset("halfcheetah/medium-replay", sample=True)
    n = len(data.rewards)
    rng = np.random.default_rng(0)
    sparse = np.where(rng.random(n) < 0.02, rng.random(n), 0.0)
    signs = rng.choice([-1.0, 0.0, 1.0], n)
    hard = np.stack([np.full(n, 3.0), sparse, signs, np.exp(rng.normal(0, 3, n))], axis=1)
    return np.concatenate([data.observations, data.actions, data.rewards[:, None], hard], axis=1)


@pytest.mark.parametrize("kind", ["uniform", "quantile"])
@pytest.mark.parametrize("bins", [1, 7, 100])
def test_round_trip_stays_within_half_a_bin(kind, bins):
    values = columns()
    discretiser = fit_discretiser(values, bins, kind)
    tokens = discretiser.encode(values)
    assert tokens.min() >= 0 and tokens.max() < bins
    column = np.arange(values.shape[1])
    width = discretiser.edges[column, tokens + 1] - discretiser.edges[column, tokens]
    error = np.abs(discretiser.decode(tokens) - values)
    assert (error <= width / 2 + 1e-9 * np.abs(values).max(axis=0)).all()
    # Tokens that occur survive the way back; others may stand for nothing.
    assert np.array_equal(discretiser.encode(discretiser.decode(tokens)), tokens)


@pytest.mark.parametrize("kind", ["uniform", "quantile"])
def test_larger_numbers_never_get_smaller_tokens(kind):
    values = columns()
    discretiser = fit_discretiser(values, 100, kind)
    tokens = discretiser.encode(np.sort(values, axis=0))
    assert (np.diff(tokens, axis=0) >= 0).all()
    assert (np.diff(discretiser.edges, axis=1) >= 0).all()
    assert (np.diff(discretiser.centres, axis=1) >= 0).all()


def test_quantile_bins_hold_equally_many():
    values = np.random.default_rng(0).normal(size=(10_000, 2))
    tokens = fit_discretiser(values, 50).encode(values)
    counts = np.bincount(tokens[:, 0], minlength=50)
    assert counts.min() >= 198 and counts.max() <= 202


def test_a_repeated_number_is_decoded_exactly_and_apart_from_its_neighbours():
    values = np.concatenate([np.zeros(900), np.linspace(0.5, 1.0, 100)])[:, None]
    discretiser = fit_discretiser(values, 20)
    assert discretiser.decode(discretiser.encode(np.zeros((1, 1)))) == 0.0
    below, zero, above = discretiser.encode(np.array([[-0.1], [0.0], [0.1]]))[:, 0]
    assert below == zero == 0 and above > zero
    signs = fit_discretiser(np.repeat([-1.0, 0.0, 1.0], 40)[:, None], 10)
    three = np.array([[-1.0], [0.0], [1.0]])
    assert np.array_equal(signs.decode(signs.encode(three)), three)


def test_a_constant_column_is_decoded_exactly():
    values = np.full((50, 1), -2.5)
    for kind in ("uniform", "quantile"):
        discretiser = fit_discretiser(values, 100, kind)
        assert (discretiser.decode(discretiser.encode(values)) == -2.5).all()


def test_numbers_outside_fall_into_the_outer_bins():
    discretiser = uniform_discretiser(np.array([0.0]), np.array([1.0]), 10)
    assert discretiser.encode(np.array([[-5.0], [5.0], [1.0], [np.inf]]))[:, 0].tolist() == [
        0,
        9,
        9,
        9,
    ]


def test_fewer_rows_than_bins():
    values = np.array([[1.0], [2.0], [4.0]])
    discretiser = fit_discretiser(values, 100)
    assert np.abs(discretiser.decode(discretiser.encode(values)) - values).max() <= 1.0
    assert len(np.unique(discretiser.encode(values))) == 3


def test_any_leading_shape():
    discretiser = fit_discretiser(columns()[:, :3], 10)
    values = columns()[:24, :3]
    tokens = discretiser.encode(values.reshape(2, 3, 4, 3))
    assert np.array_equal(tokens.reshape(24, 3), discretiser.encode(values))
    assert discretiser.decode(tokens).shape == (2, 3, 4, 3)


def test_bad_input_is_named():
    values = columns()[:, :5]
    with pytest.raises(ValueError, match="kind is 'kmeans'; choose one of uniform, quantile"):
        fit_discretiser(values, kind="kmeans")
    with pytest.raises(ValueError, match="bins is 0"):
        fit_discretiser(values, 0)
    with pytest.raises(ValueError, match=r"shape \(0, 5\)"):
        fit_discretiser(values[:0])
    broken = values.copy()
    broken[7, 3] = np.nan
    with pytest.raises(ValueError, match=r"NaN or infinite values in columns \[3\]"):
        fit_discretiser(broken)
    discretiser = fit_discretiser(values)
    with pytest.raises(ValueError, match=r"cannot encode NaN, which is in columns \[3\]"):
        discretiser.encode(broken)
    with pytest.raises(ValueError, match=r"fitted on 5 columns.*shape \(4000, 4\)"):
        discretiser.encode(values[:, :4])
    with pytest.raises(ValueError, match="tokens reach from 0 to 100; there are 0 to 99"):
        discretiser.decode(np.array([[0, 0, 0, 0, 100]]))


def test_files(tmp_path):
    path = tmp_path / "d.safetensors"
    discretiser = fit_discretiser(columns(), 20)
    save_discretiser(path, discretiser)
    back = load_discretiser(path)
    assert back.kind == "quantile" and np.array_equal(back.edges, discretiser.edges)
    write_arrays(path, {"edges": discretiser.edges[:, ::-1]}, {"kind": "quantile"})
    with pytest.raises(BadFile, match="'edges' decrease"):
        load_discretiser(path)
    write_arrays(path, {"thresholds": discretiser.edges}, {"kind": "quantile"})
    with pytest.raises(BadFile, match="holds no discretiser"):
        load_discretiser(path)


@pytest.mark.skipif(not REAL.exists(), reason="real data are not here")
@pytest.mark.parametrize("task", ["halfcheetah", "hopper"])
def test_uniform_bins_equal_those_of_a_published_discretiser(task):
    theirs = np.load(REAL / f"{task}-medium-v2-discretizer.npz")
    edges = theirs["bin_edges"].astype(np.float64)
    ours = uniform_discretiser(edges[:, 0], edges[:, -1], 100)
    scale = edges[:, -1:] - edges[:, :1]
    assert (np.abs(ours.edges - edges) < 1e-6 * scale).all()
    assert (np.abs(ours.centres - theirs["bin_centers"]) < 1e-6 * scale).all()
    tokens = Discretiser(edges, "uniform").encode(theirs["bin_centers"].astype(np.float64).T)
    assert np.array_equal(tokens, np.tile(np.arange(100)[:, None], (1, len(edges))))
