"""The counted policy is Bayes' rule on the recorded data."""

import numpy as np
import pytest

from helpers import return_conditioning as conditioning


def test_lever_policy_is_the_share_still_needed():
    data = conditioning.record(conditioning.LEVER, 200_000, np.random.default_rng(0))
    policy = conditioning.conditional_policy(data, 2, 10)
    for step, to_go in ((0, 1), (0, 3), (4, 2), (9, 1)):
        assert policy[step, to_go, 1] == pytest.approx(to_go / (10 - step), abs=0.02)


def test_lever_returns_what_the_data_support():
    achieved, _ = conditioning.sweep_targets(
        conditioning.LEVER, [0, 1, 2, 3], episodes=5000, seeds=2, rng=np.random.default_rng(0)
    )
    np.testing.assert_allclose(achieved, np.tile([0, 1, 2, 3], (2, 1)), atol=0.05)


def test_asking_the_gamble_for_most_gets_less_than_safe():
    achieved, _ = conditioning.sweep_targets(
        conditioning.GAMBLE, [1, 3], episodes=5000, seeds=2, rng=np.random.default_rng(0)
    )
    np.testing.assert_allclose(achieved[:, 0], 1.0)
    np.testing.assert_allclose(achieved[:, 1], 0.6, atol=0.08)


def test_unseen_pairs_fall_back_to_overall_frequencies():
    data = conditioning.Recorded(np.array([[0], [1], [1], [1]]), np.array([[1], [0], [0], [3]]))
    policy = conditioning.conditional_policy(data, 2, 5)
    np.testing.assert_allclose(policy[0, 5], [0.25, 0.75])
    np.testing.assert_allclose(policy[0, 3], [0.0, 1.0])
