"""Open-loop prediction: a Trajectory Transformer imagines what given actions lead to.

The model sees a few recorded steps, is then told only the recorded actions, and predicts every
observation from its own predictions (Janner et al. 2021, section 4.1). The simulator's recording
says how far it went astray.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from helpers.data.episodes import Dataset
from helpers.models.decoding import Decoder, Segment
from helpers.models.trajectory import TrajectoryTransformer, columns
from helpers.planning.beam import draw
from helpers.tasks import Task


@dataclass(frozen=True)
class OpenLoop:
    """Predictions of W windows over H steps beside what was recorded, in the task's units."""

    predicted: Float[np.ndarray, "W H S"]
    recorded: Float[np.ndarray, "W H S"]
    present: Float[np.ndarray, "W S"]
    """The last observation that the model was shown."""
    predicted_rewards: Float[np.ndarray, "W H"]
    recorded_rewards: Float[np.ndarray, "W H"]

    def errors(self, scale: Float[np.ndarray, " S"]) -> Float[np.ndarray, "W H"]:
        """Root mean square error over the entries, each divided by its scale."""
        return root_mean_square((self.predicted - self.recorded) / scale)

    def errors_of_standing_still(self, scale: Float[np.ndarray, " S"]) -> Float[np.ndarray, "W H"]:
        """The same of a prediction that nothing changes: what any model should beat at first."""
        return root_mean_square((self.present[:, None] - self.recorded) / scale)


def root_mean_square(errors: Float[np.ndarray, "*n S"]) -> Float[np.ndarray, "*n"]:
    """Over the last axis."""
    return np.sqrt(np.square(errors).mean(axis=-1))


def simulate(
    task: Task, present: Float[np.ndarray, "W S"], actions: Float[np.ndarray, "W H A"]
) -> Float[np.ndarray, "W H S"]:
    """What the simulator itself makes of given actions from given observations.

    From a recorded observation it gives the recording back; from a rounded one it shows how much
    of a model's error a perfect model would make too.

    Args:
        task: one whose observation is MuJoCo's positions and velocities but for the first
            coordinate, the distance run, which nothing depends on: HalfCheetah.
        present: observations to start from.
        actions: to carry out.

    Raises:
        ValueError: the task's observation is not that.
    """
    env = task.make()
    env.reset(seed=0)
    body = env.unwrapped
    if getattr(body, "observation_structure", {}).get("skipped_qpos") != 1:
        env.close()
        raise ValueError(f"an observation of {task.name!r} does not give the simulator's state")
    count, found = body.model.nq - 1, []
    for observation, sequence in zip(present.astype(float), actions, strict=True):
        body.set_state(np.append(0.0, observation[:count]), observation[count:])
        found.append([body.step(action)[0] for action in sequence])
    env.close()
    return np.array(found)


def open_loop(
    model: TrajectoryTransformer,
    dataset: Dataset,
    starts: Int[np.ndarray, " W"],
    *,
    context: int = 5,
    horizon: int = 10,
    temperature: float = 0.0,
    seed: int = 0,
) -> OpenLoop:
    """Predict `horizon` observations from each of the given steps.

    Args:
        model: a trained one.
        dataset: recorded episodes.
        starts: steps of the dataset whose observation is the present; `context` steps before and
            `horizon` steps after it must belong to the same episode.
        context: recorded steps that the model sees beside the present observation.
        horizon: observations to predict.
        temperature: of the draws of observation tokens; 0 takes the likeliest.
        seed: of the draws.

    Raises:
        ValueError: a window that leaves its episode, or a context that the model cannot hold.
    """
    if context + 1 >= model.config.context_length:
        raise ValueError(
            f"context {context} leaves no room to predict: the model was trained on "
            f"{model.config.context_length} steps"
        )
    episode = np.repeat(np.arange(len(dataset.lengths)), dataset.lengths)
    first, last = starts - context, starts + horizon
    if first.min() < 0 or last.max() >= len(episode) or (episode[first] != episode[last]).any():
        raise ValueError("a window leaves its episode; choose starts further from the ends")
    size = model.config.observation_size
    numbers = columns(dataset, model.config)
    tokens = torch.from_numpy(model.discretiser.encode(numbers))
    rows = starts[:, None] + np.arange(-context, 0)
    past = torch.cat([tokens[rows].flatten(1), tokens[starts, :size]], dim=1)
    actions = tokens[starts[:, None] + np.arange(horizon), size:-2]
    generator = torch.Generator().manual_seed(seed)
    found, rewards = _imagine(model, past, actions, context, temperature, generator)
    centres = model.discretiser.centres
    after = starts[:, None] + np.arange(1, horizon + 1)
    return OpenLoop(
        predicted=centres[np.arange(size), found.numpy()],
        recorded=numbers[after, :size],
        present=numbers[starts, :size],
        predicted_rewards=centres[-2][rewards.numpy()],
        recorded_rewards=numbers[after - 1, -2],
    )


@torch.inference_mode()
def _imagine(
    model: TrajectoryTransformer,
    past: Int[Tensor, "W P"],
    actions: Int[Tensor, "W H A"],
    context: int,
    temperature: float,
    generator: torch.Generator,
) -> tuple[Int[Tensor, "W H S"], Int[Tensor, "W H"]]:
    """Tokens of the observations and rewards that follow the actions."""
    shape, decoder = model.config, Decoder(model.transformer)
    size, windows = shape.step_size, len(past)
    observations, rewards = [], []
    for action in actions.unbind(1):
        known = torch.cat([past, action], dim=1)
        visible = model.allowed(known.shape[1])[0, 0, -1]
        features, seen = decoder.prefill(model.embed(known), visible)
        fresh = Segment(model.transformer, windows, 1, size)
        features, position, new = features[:, -1:], known.shape[1], []
        # Reward, value, and the next observation; the last feature is not needed.
        for offset in range(shape.observation_size + 2):
            dimension = (size - 2 + offset) % size
            logits = model.logits(features, dimension)[:, 0, :-1]
            warmth = temperature if offset > 1 else 0.0
            new.append(draw(logits, generator, top_k=None, cdf=None, temperature=warmth))
            if offset < shape.observation_size + 1:
                x = model.embed(new[-1][:, None], position + offset)
                features = decoder.step(x, [seen, fresh], visible=dimension != size - 1)
        new = torch.stack(new, dim=1)
        rewards.append(new[:, 0])
        observations.append(new[:, 2:])
        past = torch.cat([known, new], dim=1)[:, -(context * size + shape.observation_size) :]
    return torch.stack(observations, dim=1), torch.stack(rewards, dim=1)
