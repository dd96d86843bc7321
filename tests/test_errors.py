"""Growth of errors, and errors of single actions."""

import dataclasses

import numpy as np
import pytest
import torch
from test_trajectory import episodes

from helpers.agents import DecisionAgent
from helpers.analysis.errors import action_errors, cumulative, fit_growth, local_slopes
from helpers.models.decision import DecisionConfig, DecisionTransformer

HORIZONS = np.arange(1, 21)
LENGTHS = (12, 9)

# --- growth ------------------------------------------------------------------------------------


def power(noise: float = 0.0, windows: int = 200) -> np.ndarray:
    return 0.3 * HORIZONS**1.5 * factors(noise, windows)


def exponential(noise: float = 0.0, windows: int = 200) -> np.ndarray:
    return 0.3 * np.exp(0.12 * HORIZONS) * factors(noise, windows)


def factors(noise: float, windows: int) -> np.ndarray:
    """Windows differ in size, and apart from that each error may be noisy."""
    rng = np.random.default_rng(0)
    sizes = rng.uniform(0.5, 1.5, (windows, 1))
    drawn = np.exp(noise * rng.normal(size=(windows, len(HORIZONS))))
    return sizes / sizes.mean() * drawn


def test_exact_laws_are_recovered():
    growth = fit_growth(HORIZONS, power())
    rate = growth.power.rate
    assert (rate.score, rate.low, rate.high) == pytest.approx((1.5, 1.5, 1.5), abs=1e-6)
    assert growth.power.intercept == pytest.approx(np.log(0.3))
    assert growth.power.residual < 1e-9 < 0.1 < growth.exponential.residual
    assert growth.better == "power law"
    growth = fit_growth(HORIZONS, exponential())
    rate = growth.exponential.rate
    assert (rate.score, rate.low, rate.high) == pytest.approx((0.12, 0.12, 0.12), abs=1e-6)
    assert growth.exponential.intercept == pytest.approx(np.log(0.3))
    assert growth.exponential.residual < 1e-9 < 0.1 < growth.power.residual
    assert growth.better == "exponential"


def test_noisy_laws_are_told_apart():
    growth = fit_growth(HORIZONS, power(noise=0.5))
    assert growth.power.rate.low < 1.5 < growth.power.rate.high
    assert 0 < growth.power.rate.high - growth.power.rate.low < 0.2
    assert growth.better == "power law" and growth.aic.low > 0
    growth = fit_growth(HORIZONS, exponential(noise=0.5))
    assert growth.exponential.rate.low < 0.12 < growth.exponential.rate.high
    assert 0 < growth.exponential.rate.high - growth.exponential.rate.low < 0.02
    assert growth.better == "exponential" and growth.aic.high < 0


def test_the_interval_of_a_rate_has_about_the_stated_coverage():
    hits, rng = 0, np.random.default_rng(1)
    for i in range(60):
        noisy = HORIZONS**1.5 * np.exp(0.5 * rng.normal(size=(50, len(HORIZONS))))
        rate = fit_growth(HORIZONS, noisy, seed=i).power.rate
        hits += rate.low <= 1.5 <= rate.high
    assert 52 <= hits


def test_the_typical_window_is_not_ruled_by_the_wildest():
    """One window in fifty grows much faster: it makes the mean, and not the geometric mean."""
    errors = exponential(noise=0.1, windows=50)
    errors[7] = 1e-3 * np.exp(0.9 * HORIZONS)
    mean, typical = (fit_growth(HORIZONS, errors, typical=which) for which in (False, True))
    assert typical.exponential.rate.score == pytest.approx(0.12 + 0.78 / 50, abs=0.01)
    assert mean.exponential.rate.score > 2 * typical.exponential.rate.score
    assert typical.better == "exponential"
    same = fit_growth(HORIZONS, power(), typical=True)
    assert same.power.rate.score == pytest.approx(1.5)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_errors_that_do_not_grow_follow_both_laws(noise):
    assert fit_growth(HORIZONS, 0.3 * factors(noise, 50)).better == "undecided"


def test_the_aic_by_hand():
    errors = np.array([[1.0, 2.0, 5.0, 6.0]])
    horizons, logs = np.arange(1, 5), np.log(errors[0])
    squares = [
        np.square(logs - np.polyval(np.polyfit(x, logs, 1), x)).sum()
        for x in (np.log(horizons), horizons)
    ]
    growth = fit_growth(horizons, errors)
    assert growth.aic.score == pytest.approx(4 * np.log(squares[1] / squares[0]))
    assert growth.power.residual == pytest.approx(np.sqrt(squares[0] / 4))


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_errors_must_be_above_zero(bad):
    errors = power(windows=3)
    errors[1:, 6] = bad
    with pytest.raises(ValueError, match="at horizon 7 they are not in 2 of 3 windows"):
        fit_growth(HORIZONS, errors)


@pytest.mark.parametrize("horizons", [np.arange(1, 3), np.arange(4)])
def test_horizons_must_allow_a_fit(horizons):
    with pytest.raises(ValueError, match="at least three"):
        fit_growth(horizons, np.ones((2, len(horizons))))


def test_the_sum_of_a_constant_error_has_slope_1():
    errors = np.full((5, 20), 0.2)
    sums = cumulative(errors)
    assert np.allclose(sums[:, -1], 4.0)
    assert np.allclose(local_slopes(HORIZONS, sums.mean(axis=0)), 1.0)
    assert np.allclose(local_slopes(HORIZONS, errors.mean(axis=0)), 0.0)
    assert fit_growth(HORIZONS, sums).power.rate.score == pytest.approx(1.0)


def test_local_slopes_show_the_law():
    assert np.allclose(local_slopes(HORIZONS, 0.3 * HORIZONS**1.5), 1.5)
    rising = local_slopes(HORIZONS, np.exp(0.12 * HORIZONS))
    assert np.allclose(rising[5:-1], 0.12 * HORIZONS[5:-1], rtol=0.02)


# --- errors of single actions ------------------------------------------------------------------


def model_of(**changes) -> DecisionTransformer:
    torch.manual_seed(0)
    shape = {"context_length": 4, "horizon": 12, "width": 8, "layers": 2, "return_scale": 100.0}
    model = DecisionTransformer(DecisionConfig(3, 2, **{**shape, **changes}))
    with torch.no_grad():
        for weight in model.transformer.parameters():
            weight.mul_(8.0 if weight.ndim == 2 else 1.0)
    return model


def played_by(model: DecisionTransformer):
    """A dataset whose actions are the model's own, one episode after the other."""
    dataset = episodes(LENGTHS)
    dataset = dataclasses.replace(dataset, actions=dataset.actions.astype(np.float32))
    for start, length, wanted in zip(dataset.starts, LENGTHS, dataset.returns, strict=True):
        agent = DecisionAgent(model, np.array([wanted]))
        agent.reset(1)
        for row in range(start, start + length):
            dataset.actions[row] = agent.act(dataset.observations[row : row + 1])[0]
            agent.observe(dataset.rewards[row : row + 1])
    return dataset


def test_a_model_agrees_with_its_own_play(monkeypatch):
    monkeypatch.setattr("helpers.analysis.errors.BATCH", 5)  # batches of parts of episodes
    model = model_of()
    dataset = played_by(model)
    scale = np.array([1.0, 1.0])
    found = action_errors(model.train(), dataset, np.array([1, 0]), scale, steps=9)
    assert found.shape == (2, 9)
    assert np.allclose(found, 0.0, atol=1e-5)


def test_action_errors_by_hand():
    model = model_of()
    dataset = played_by(model)
    before = dataset.actions.copy()
    dataset.actions[5] += np.array([0.3, -0.4], np.float32)
    scale = np.array([0.5, 2.0])
    found = action_errors(model, dataset, np.array([0]), scale, steps=12)[0]
    assert found[5] == pytest.approx(np.sqrt((0.6**2 + 0.2**2) / 2), abs=1e-4)
    assert np.allclose(found[:5], 0.0, atol=1e-4)
    # The next decisions of a window of four see the changed action, the later ones do not.
    assert (found[6:9] > 1e-3).all()
    assert np.allclose(found[9:], 0.0, atol=1e-4)
    dataset.actions[5] = before[5]
    assert np.allclose(action_errors(model, dataset, np.array([0]), scale, steps=12), 0, atol=1e-4)


def test_actions_must_be_comparable():
    dataset, scale = episodes(LENGTHS), np.ones(2)
    with pytest.raises(ValueError, match="shortest of the episodes .9."):
        action_errors(model_of(), dataset, np.array([0, 1]), scale, steps=10)
    with pytest.raises(ValueError, match="horizon .5."):
        action_errors(model_of(horizon=5), dataset, np.array([0]), scale, steps=6)
    with pytest.raises(ValueError, match="numbered actions"):
        action_errors(model_of(discrete=True), dataset, np.array([0]), scale, steps=2)
