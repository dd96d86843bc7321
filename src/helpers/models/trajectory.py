"""Trajectory Transformer (Janner et al. 2021): a language model of discretised trajectories.

Every number of a time step is a token: S entries of the observation, A of the action, the reward,
and the value (the discounted return from the next step on). A causal transformer predicts each from
all before it, except that nobody may look at values: they are the future, told in hindsight, and
are unknown when the model plans. Facts from jannerm/trajectory-transformer at 8834a6e
(`trajectory/models/transformers.py`, `datasets/sequence.py`, `config/offline.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from helpers.data.episodes import Dataset
from helpers.data.tokens import Discretiser, fit_discretiser
from helpers.models.checkpoints import load_model
from helpers.models.dropout import dropout
from helpers.models.grid_encoder import GridEncoder, GridEncoderConfig
from helpers.models.transformer import INIT_STD, Transformer, TransformerConfig, causal_mask
from helpers.tasks import Task


@dataclass(frozen=True)
class TrajectoryConfig:
    """Shape of a Trajectory Transformer; the defaults are the paper's for HalfCheetah."""

    observation_size: int = 17
    action_size: int = 6
    context_length: int = 10
    """Steps the model sees."""
    bins: int = 100
    """N, tokens of each dimension; a last one, N, says that the episode is over."""
    discretiser: str = "quantile"
    """quantile or uniform."""
    discount: float = 0.99
    """Of the value."""
    termination_penalty: float | None = -100.0
    """Reward at a true end, before values are computed; None leaves it as it is, as a task must
    whose episodes end with success."""
    action_weight: float = 5.0
    """Of the loss on action tokens; 1 on all others."""
    width: int = 128
    layers: int = 4
    heads: int = 4
    dropout: float = 0.1
    activation: str = "gelu"
    actions: int = 0
    """Number of actions where they are numbered (the only tokens of an action that a plan may
    hold); 0 where they are vectors."""
    grid_size: int = 0
    """Cells along an edge of a grid level, whose map and mission stand in front of the tokens as
    one more (`grid_trajectory`); 0 where there is none."""
    sight: str = "grid"
    """What is seen of a grid level: grid or view (`GridEncoderConfig`)."""
    oracle: bool = False
    """Whether the cell that the mission asks for is marked (`GridEncoderConfig`)."""

    @property
    def step_size(self) -> int:
        """M, tokens of a time step."""
        return self.observation_size + self.action_size + 2

    @property
    def core(self) -> TransformerConfig:
        """The part that concerns the transformer."""
        return TransformerConfig(self.width, self.layers, self.heads, self.dropout, self.activation)


class TrajectoryTransformer(nn.Module):
    """Predicts the next token of a trajectory; each dimension has its own tokens and its own head.

    Sequences begin with the first entry of an observation. Token ids count within a dimension.
    """

    method = "tt"
    edges: Tensor

    def __init__(self, config: TrajectoryConfig) -> None:
        super().__init__()
        self.config = config
        size, width = config.step_size, config.width
        # One row for each token of each dimension, and a last one for the end, shared by all.
        self.embed_token = nn.Embedding(size * config.bins + 1, width)
        self.embed_position = nn.Parameter(torch.zeros(size * config.context_length, width))
        self.transformer = Transformer(config.core)
        self.head = nn.Parameter(torch.empty(size, width, config.bins + 1))
        self.register_buffer("edges", torch.zeros(size, config.bins + 1, dtype=torch.float64))
        nn.init.normal_(self.embed_token.weight, std=INIT_STD)
        nn.init.normal_(self.embed_position, std=INIT_STD)
        nn.init.normal_(self.head, std=INIT_STD)
        if config.grid_size:
            grid = GridEncoderConfig(config.grid_size, width, config.sight, config.oracle)
            self.embed_map = GridEncoder(grid)

    @property
    def discretiser(self) -> Discretiser:
        """Between numbers and tokens: one column per dimension of a step."""
        return Discretiser(self.edges.cpu().numpy(), self.config.discretiser)

    def embed(self, tokens: Int[Tensor, "B L"], first: int = 0) -> Float[Tensor, "B L D"]:
        """Embedded tokens at the positions `first`, `first` + 1, ..."""
        config = self.config
        positions = torch.arange(first, first + tokens.shape[1], device=tokens.device)
        rows = tokens + positions % config.step_size * config.bins
        end = config.step_size * config.bins
        x = self.embed_token(torch.where(tokens == config.bins, end, rows))
        return x + self.embed_position[first : first + tokens.shape[1]]

    def features(
        self, tokens: Int[Tensor, "B L"], prefix: Float[Tensor, "B 1 D"] | None = None
    ) -> Float[Tensor, "B L D"]:
        """What the core makes of each token, and of the map in front of them if there is one."""
        x = self.embed(tokens)
        allowed = self.allowed(tokens.shape[1], x.device)
        if prefix is not None:
            x = torch.cat([prefix, x], dim=1)
            # Everyone may look at the map; the map looks at itself.
            allowed = F.pad(F.pad(allowed, (0, 0, 1, 0)), (1, 0), value=True)
        x = dropout(x, self.config.dropout, self.training)
        return self.transformer(x, allowed)[:, x.shape[1] - tokens.shape[1] :]

    def forward(
        self, tokens: Int[Tensor, "B L"], prefix: Float[Tensor, "B 1 D"] | None = None
    ) -> Float[Tensor, "B L bins"]:
        """Logits of the token after each one, over N bins and the end."""
        size = self.config.step_size
        features = self.features(tokens, prefix)
        batch, length, width = features.shape
        # Token p predicts dimension (p + 1) mod M: with one row in front, steps line up.
        steps = -(-(length + 1) // size)
        aligned = F.pad(features, (0, 0, 1, steps * size - length - 1)).view(-1, size, width)
        logits = torch.einsum("bkd,kdn->bkn", aligned, self.head)
        return logits.reshape(batch, steps * size, -1)[:, 1 : length + 1]

    def logits(
        self, features: Float[Tensor, "*batch D"], dimension: int
    ) -> Float[Tensor, "*batch bins"]:
        """Logits of one dimension from the features of the token before it."""
        return features @ self.head[dimension]

    def allowed(self, length: int, device: torch.device | None = None) -> Bool[Tensor, "1 1 L L"]:
        """Who may look at whom: at itself and what came before, unless that is a value."""
        value = torch.arange(length, device=device) % self.config.step_size
        visible = value != self.config.step_size - 1
        return causal_mask(length, device) & visible


# --- data --------------------------------------------------------------------------------------


def discounted_values(dataset: Dataset, config: TrajectoryConfig) -> Float[np.ndarray, " N"]:
    """V_t = r_{t+1} + discount r_{t+2} + ...: what follows after the step itself."""
    rewards = penalised_rewards(dataset, config)
    values = np.zeros(len(rewards))
    ends = dataset.starts + dataset.lengths - 1
    # Backwards through all episodes at once: a few array operations a step of the longest one.
    for back in range(1, int(dataset.lengths.max())):
        rows = (ends - back)[dataset.lengths > back]
        values[rows] = rewards[rows + 1] + config.discount * values[rows + 1]
    return values


def penalised_rewards(dataset: Dataset, config: TrajectoryConfig) -> Float[np.ndarray, " N"]:
    """Rewards, with the penalty (if any) as the last one where the environment ended an episode."""
    rewards = np.array(dataset.rewards, np.float64)
    ends = dataset.starts + dataset.lengths - 1
    if config.termination_penalty is not None:
        rewards[ends[dataset.terminated]] = config.termination_penalty
    return rewards


def columns(dataset: Dataset, config: TrajectoryConfig) -> Float[np.ndarray, "N M"]:
    """The numbers of every step: observation, action, reward, value."""
    return np.concatenate(
        [
            dataset.observations,
            dataset.actions,
            penalised_rewards(dataset, config)[:, None],
            discounted_values(dataset, config)[:, None],
        ],
        axis=1,
        dtype=np.float64,
    )


@dataclass(frozen=True)
class TrajectoryWindows:
    """Windows of T consecutive steps of tokens, drawn uniformly over all steps."""

    tokens: UInt8[Tensor, "N M"]
    remaining: Int[Tensor, " N"]
    """Steps from here to the end of the episode, this one included."""
    ends: Bool[Tensor, " N"]
    """Whether the environment ends this step's episode; otherwise the time limit does."""
    context_length: int
    bins: int

    def sample(self, rng: np.random.Generator, batch_size: int) -> dict[str, Tensor]:
        """A batch: `tokens` (B, L) with L = T M, and `valid` (B, L).

        Behind a true end stand end tokens, which the model learns to predict; behind the time
        limit stands nothing that it could learn.
        """
        start = torch.from_numpy(rng.integers(len(self.tokens), size=batch_size))
        offset = torch.arange(self.context_length)
        inside = offset < self.remaining[start, None]
        rows = start[:, None] + torch.where(inside, offset, 0)
        tokens = torch.where(inside[..., None], self.tokens[rows].long(), self.bins)
        valid = (inside | self.ends[start, None])[..., None].expand_as(tokens)
        return {"tokens": tokens.flatten(1), "valid": valid.flatten(1)}


def make_trajectory_windows(dataset: Dataset, model: TrajectoryTransformer) -> TrajectoryWindows:
    """Tokens of a dataset, a byte each."""
    config = model.config
    step = np.concatenate([np.arange(length) for length in dataset.lengths])
    return TrajectoryWindows(
        tokens=torch.from_numpy(
            model.discretiser.encode(columns(dataset, config)).astype(np.uint8)
        ),
        remaining=torch.from_numpy(np.repeat(dataset.lengths, dataset.lengths) - step),
        ends=torch.from_numpy(np.repeat(dataset.terminated, dataset.lengths)),
        context_length=config.context_length,
        bins=config.bins,
    )


def trajectory_loss(model: TrajectoryTransformer, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
    """Cross-entropy of the next token, actions weighted; mean over the tokens that count."""
    config = model.config
    tokens, valid = batch["tokens"], batch["valid"][:, 1:]
    prefix = model.embed_map(batch["observations"])[:, None] if config.grid_size else None
    logits = model(tokens[:, :-1], prefix)
    weights = torch.ones(config.step_size, device=tokens.device)
    weights[config.observation_size : -2] = config.action_weight
    dimension = torch.arange(1, tokens.shape[1], device=tokens.device) % config.step_size
    losses = F.cross_entropy(
        logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none"
    )
    weighted = losses.view_as(valid) * weights[dimension] * valid
    return weighted.sum() / valid.sum().clamp(min=1)


# --- making, writing, reading ------------------------------------------------------------------


def configure(shape: dict[str, Any], changes: dict[str, Any]) -> TrajectoryConfig:
    """A configuration of that shape with changes.

    Raises:
        ValueError: an unknown or impossible field in `changes`.
    """
    known = {field.name for field in fields(TrajectoryConfig)}
    if unknown := sorted(set(changes) - known):
        raise ValueError(
            f"unknown Trajectory Transformer options {unknown}; known: {sorted(known)}"
        )
    config = TrajectoryConfig(**{**shape, **changes})
    if config.bins > 255:
        raise ValueError(f"bins is {config.bins}; tokens are stored as bytes, so at most 255")
    return config


def make_trajectory(task: Task, dataset: Dataset, **changes: Any) -> TrajectoryTransformer:
    """A model shaped for `task`, with a discretiser fitted on `dataset`.

    Raises:
        ValueError: an unknown or impossible field in `changes`, or a task with discrete actions.
    """
    if task.discrete:
        raise ValueError(f"task {task.name!r} has discrete actions; this model cuts up vectors")
    shape = {"observation_size": task.observation_size, "action_size": task.action_size}
    config = configure(shape, changes)
    model = TrajectoryTransformer(config)
    fitted = fit_discretiser(columns(dataset, config), config.bins, config.discretiser)
    model.edges.copy_(torch.from_numpy(fitted.edges))
    return model


def load_trajectory(path: str | Path) -> tuple[TrajectoryTransformer, dict[str, Any]]:
    """Read a checkpoint; see `checkpoints.load_model`."""
    return load_model(path, {"tt": (TrajectoryTransformer, TrajectoryConfig)})
