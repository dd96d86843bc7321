"""Decision Transformer (Chen et al. 2021): actions predicted from returns-to-go, states, actions.

Vectors, or numbered actions and grid levels: then an action's embedding is a row of a table, its
prediction a softmax, and the state token comes from the encoder that all methods share.

Layout and sizes follow the paper's code for the Gym tasks (kzl/decision-transformer at e2d82e6,
`gym/decision_transformer/models/decision_transformer.py`): three linear embeddings, one learned
time-step embedding added to all three tokens of a step, a LayerNorm over the tokens, GPT-2 blocks
without positional embedding, and the action read from the *state* token through linear and tanh.
Departures:

- the state and return heads, which the paper's code builds and never trains, are left out;
- padding is hidden by the mask alone, so no special padding values exist (there: action -10 in
  training and 0 at evaluation);
- the normalisation of states and returns is part of the model, so a checkpoint is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor, nn

from helpers.data.episodes import Dataset
from helpers.data.windows import observation_statistics
from helpers.models.checkpoints import load_model
from helpers.models.dropout import dropout
from helpers.models.grid_encoder import GridEncoder, GridEncoderConfig
from helpers.models.transformer import (
    Transformer,
    TransformerConfig,
    causal_mask,
    padding_aware,
)
from helpers.models.windowed import window_mask
from helpers.tasks import Task

Actions = Float[Tensor, "B T A"] | Int[Tensor, "B T"]

STATE_TOKENS = slice(1, None, 3)
"""Where the states stand in (return-to-go, state, action), (return-to-go, state, action), ..."""


@dataclass(frozen=True)
class DecisionConfig:
    """Shape of a Decision Transformer; the defaults are the paper's for HalfCheetah."""

    observation_size: int = 17
    action_size: int = 6
    context_length: int = 20
    """K, steps the model sees."""
    horizon: int = 1000
    """Rows of the time-step table."""
    width: int = 128
    layers: int = 3
    heads: int = 1
    dropout: float = 0.1
    activation: str = "relu"
    return_scale: float = 1000.0
    """Returns-to-go are divided by this."""
    discrete: bool = False
    """Actions are numbers below `action_size`."""
    grid_size: int = 0
    """Cells along an edge of a grid level; 0 where observations are vectors."""
    sight: str = "grid"
    """What is seen of a grid level: grid or view (`GridEncoderConfig`)."""
    oracle: bool = False
    """Whether the cell that the mission asks for is marked (`GridEncoderConfig`)."""
    distinct: bool = False
    """Whether equal grid observations of a batch are encoded once (`GridEncoderConfig`)."""
    attention_window: int = 0
    """Tokens that each token looks at, itself included (`windowed`); 0 for all before it."""

    @property
    def core(self) -> TransformerConfig:
        """The part that concerns the transformer."""
        return TransformerConfig(self.width, self.layers, self.heads, self.dropout, self.activation)


class DecisionTransformer(nn.Module):
    """Maps a window of returns-to-go, states and past actions to actions."""

    method = "dt"
    observation_mean: Tensor
    observation_std: Tensor

    def __init__(self, config: DecisionConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed_time = nn.Embedding(config.horizon, width)
        self.embed_return = nn.Linear(1, width)
        if config.grid_size:
            grid = GridEncoderConfig(
                config.grid_size, width, config.sight, config.oracle, distinct=config.distinct
            )
            self.embed_observation = GridEncoder(grid)
        else:
            self.embed_observation = nn.Linear(config.observation_size, width)
        kind = nn.Embedding if config.discrete else nn.Linear
        self.embed_action = kind(config.action_size, width)
        self.embed_norm = nn.LayerNorm(width)
        self.transformer = Transformer(config.core)
        self.predict_action = nn.Linear(width, config.action_size)
        self.register_buffer("observation_mean", torch.zeros(config.observation_size))
        self.register_buffer("observation_std", torch.ones(config.observation_size))

    def tokens(
        self,
        returns_to_go: Float[Tensor, "B T"],
        observations: Real[Tensor, "B T S"],
        actions: Actions,
        timesteps: Int[Tensor, "B T"],
    ) -> Float[Tensor, "B L D"]:
        """Embedded tokens R_1, s_1, a_1, R_2, ...; L = 3 T. All inputs in the task's own units."""
        scaled = (returns_to_go / self.config.return_scale).unsqueeze(-1)
        if not self.config.grid_size:
            observations = (observations - self.observation_mean) / self.observation_std
        embedded = (
            self.embed_return(scaled),
            self.embed_observation(observations),
            self.embed_action(actions),
        )
        x = torch.stack(embedded, dim=2).add_(self.embed_time(timesteps).unsqueeze(2))
        return dropout(self.embed_norm(x.flatten(1, 2)), self.config.dropout, self.training)

    def forward(
        self,
        returns_to_go: Float[Tensor, "B T"],
        observations: Real[Tensor, "B T S"],
        actions: Actions,
        timesteps: Int[Tensor, "B T"],
        valid: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T A"]:
        """Predicted action of every step, or logits; `valid` is False on (left) padding."""
        return self.predict(self.tokens(returns_to_go, observations, actions, timesteps), valid)

    def predict(
        self, x: Float[Tensor, "B L D"], valid: Bool[Tensor, "B T"] | None
    ) -> Float[Tensor, "B T A"]:
        """`forward` from the embedded tokens."""
        features = self.transformer(x, self._allowed(x.shape[1], valid, x.device), STATE_TOKENS)
        return self._predict(features)

    def act(self, prepared: Float[Tensor, "B L P"]) -> Float[Tensor, "B A"] | Int[Tensor, " B"]:
        """Action of the last step; see `scores`."""
        scores = self.scores(prepared)
        return scores.argmax(dim=-1) if self.config.discrete else scores

    def scores(self, prepared: Float[Tensor, "B L P"]) -> Float[Tensor, "B A"]:
        """Action of the last step, or its logits: `forward(...)[:, -1]` for less work.

        Args:
            prepared: `transformer.prepare` of the window's tokens without the last action, which
                nothing may look at; L = 3 T - 1. The last block computes one row.
        """
        allowed = self._allowed(prepared.shape[1], None, prepared.device)
        features = self.transformer.advance(prepared, allowed, slice(-1, None))[:, 0]
        return self._predict(features)

    def _predict(self, features: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch A"]:
        predicted = self.predict_action(features).float()
        return predicted if self.config.discrete else torch.tanh(predicted)

    def _allowed(
        self, length: int, valid: Bool[Tensor, "B T"] | None, device: torch.device
    ) -> Bool[Tensor, "#B 1 L L"]:
        window = self.config.attention_window
        allowed = window_mask(length, window, device) if window else causal_mask(length, device)
        return allowed if valid is None else padding_aware(allowed, valid.repeat_interleave(3, 1))


def make_decision(task: Task, dataset: Dataset, **changes: Any) -> DecisionTransformer:
    """A model shaped for `task`, normalising with the statistics of `dataset`.

    Raises:
        ValueError: an unknown or impossible field in `changes`.
    """
    model = DecisionTransformer(DecisionConfig(**decision_shape(DecisionConfig, task, changes)))
    fit_statistics(model, task, dataset)
    return model


def decision_shape(
    kind: type[DecisionConfig], task: Task, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Fields of a configuration for `task`.

    Raises:
        ValueError: a field in `changes` that `kind` does not have.
    """
    known = {field.name for field in fields(kind)}
    if unknown := sorted(set(changes) - known):
        raise ValueError(f"unknown Decision Transformer options {unknown}; known: {sorted(known)}")
    shape = {
        "observation_size": task.observation_size,
        "action_size": task.action_size,
        "horizon": task.horizon,
        "return_scale": task.return_scale,
        "discrete": task.discrete,
        "grid_size": task.grid_size,
    }
    return {**shape, **changes}


def fit_statistics(model: DecisionTransformer, task: Task, dataset: Dataset) -> None:
    """Let a model normalise with the statistics of a dataset."""
    if task.discrete:  # numbers of discrete tasks are codes, not quantities
        return
    mean, std = observation_statistics(dataset)
    model.observation_mean.copy_(torch.from_numpy(mean))
    model.observation_std.copy_(torch.from_numpy(std))


def decision_loss(model: DecisionTransformer, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
    """Mean error of the actions over valid steps (DT, section 3): squared, or cross-entropy."""
    predicted = model(**batch)
    if model.config.discrete:
        return F.cross_entropy(predicted[batch["valid"]], batch["actions"][batch["valid"]])
    return (predicted - batch["actions"])[batch["valid"]].square().mean()


def load_decision(path: str | Path) -> tuple[DecisionTransformer, dict[str, Any]]:
    """Read a checkpoint; see `checkpoints.load_model`."""
    return load_model(path, {"dt": (DecisionTransformer, DecisionConfig)})
