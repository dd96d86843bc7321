"""What is noted in play is what the agent was given."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.analysis.play import play_and_note
from helpers.models.decision import DecisionConfig, DecisionTransformer
from helpers.tasks import get_task


def model_of(task, **changes):
    torch.manual_seed(0)
    config = DecisionConfig(
        task.observation_size, task.action_size, context_length=4, horizon=task.horizon, width=8,
        layers=2, discrete=task.discrete, grid_size=task.grid_size, **changes,
    )  # fmt: skip
    return DecisionTransformer(config).eval()


@torch.inference_mode()
def test_windows_give_the_actions_that_were_taken():
    task = replace(get_task("halfcheetah"), horizon=9)
    model = model_of(task)
    played = play_and_note(model, task, [3, 4], 50.0)
    assert played.actions.shape == (2, 9, 6) and played.rewards.shape == (2, 9)
    for step, length in ((0, 1), (2, 3), (7, 4)):  # the first, a short and a full window
        window = played.window(step, 4)
        assert window["timesteps"][0].tolist() == list(range(step + 1 - length, step + 1))
        predicted = model(**window)[:, -1].numpy()
        np.testing.assert_allclose(predicted, played.actions[:, step], atol=1e-5)
    told = 50.0 - played.rewards.cumsum(axis=1)[:, :-1]
    np.testing.assert_allclose(played.returns_to_go[:, 1:], told, rtol=1e-5)
    assert (played.returns_to_go[:, 0] == 50.0).all()


def test_episodes_of_different_lengths_are_refused():
    task = get_task("babyai-gotolocal-s7n5")
    model = model_of(task)
    with pytest.raises(ValueError, match="last to its time limit"):
        play_and_note(model, task, list(range(20)), 1.0)
