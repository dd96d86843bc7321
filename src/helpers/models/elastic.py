"""Elastic Decision Transformer (Wu et al. 2023): how much of the past to look at is decided anew.

A Decision Transformer remembers how it came to a place. Where the better way was recorded in
another episode, that memory is a reason to go on as this one did. The elastic variant estimates,
for several lengths of history, the best return that followed in the data, and acts with the length
whose estimate is highest: a short one joins trips that meet, a long one keeps to a good trip.

Departures from the paper, which we simplify to its idea: tokens stand in Decision Transformer's
order and the estimate is read from the state token with returns-to-go hidden; it is a number rather
than a distribution over bins; the agent asks for the task's target, not for the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from helpers.data.episodes import Dataset
from helpers.models.decision import (
    STATE_TOKENS,
    DecisionConfig,
    DecisionTransformer,
    decision_shape,
    fit_statistics,
)
from helpers.models.value_based import expectile_loss
from helpers.tasks import Task


@dataclass(frozen=True)
class ElasticConfig(DecisionConfig):
    """A Decision Transformer with an estimate of the best return."""

    expectile: float = 0.99
    """Of the returns-to-go that followed such a history in the data; towards 1 the best of them."""
    estimate_weight: float = 1.0
    """Of the estimate's loss beside that of the actions."""

    def __post_init__(self) -> None:
        if not 0.0 < self.expectile < 1.0:
            raise ValueError(f"expectile is {self.expectile}; choose between 0 and 1, such as 0.99")


class ElasticDecisionTransformer(DecisionTransformer):
    """Actions, and the best return that a history lets expect."""

    method = "edt"

    def __init__(self, config: ElasticConfig) -> None:
        super().__init__(config)
        self.predict_return = nn.Linear(config.width, 1)

    def estimates(
        self, x: Float[Tensor, "B L D"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        """Best return-to-go at every step, over the scale; `x` as `tokens` gives it, L = 3 T."""
        allowed = _blind(self._allowed(x.shape[1], valid, x.device))
        return self.predict_return(self.transformer(x, allowed, STATE_TOKENS)).squeeze(-1)

    def estimate(self, prepared: Float[Tensor, "B L P"]) -> Float[Tensor, " B"]:
        """Best return-to-go of the last step, over the scale; `prepared` as for `scores`."""
        allowed = _blind(self._allowed(prepared.shape[1], None, prepared.device))
        features = self.transformer.advance(prepared, allowed, slice(-1, None))[:, 0]
        return self.predict_return(features).squeeze(-1)


def _blind(allowed: Bool[Tensor, "#B 1 L L"]) -> Bool[Tensor, "#B 1 L L"]:
    """The same without a look at returns-to-go; one sees itself, since an empty row has no softmax.

    The last token is a state or an action, so the first of three is always a return-to-go.
    """
    length = allowed.shape[-1]
    place = torch.arange(length, device=allowed.device)
    itself = torch.eye(length, dtype=torch.bool, device=allowed.device)
    return allowed & (itself | (place % 3 != 0))


def make_elastic(task: Task, dataset: Dataset, **changes: Any) -> ElasticDecisionTransformer:
    """A model shaped for `task`, normalising with the statistics of `dataset`.

    Raises:
        ValueError: an unknown or impossible field in `changes`.
    """
    model = ElasticDecisionTransformer(
        ElasticConfig(**decision_shape(ElasticConfig, task, changes))
    )
    fit_statistics(model, task, dataset)
    return model


def elastic_loss(model: ElasticDecisionTransformer, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
    """Error of the actions, and the expectile error of the best return (EDT, equation 4)."""
    config, valid = model.config, batch["valid"]
    given = {name: batch[name] for name in ("returns_to_go", "observations", "actions")}
    x = model.tokens(**given, timesteps=batch["timesteps"])
    predicted = model.predict(x, valid)[valid]
    actions = batch["actions"][valid]
    if config.discrete:
        imitation = F.cross_entropy(predicted, actions)
    else:
        imitation = (predicted - actions).square().mean()
    wanted = batch["returns_to_go"] / config.return_scale
    gap = (wanted - model.estimates(x, valid))[valid]
    return imitation + config.estimate_weight * expectile_loss(gap, config.expectile)


KINDS = {"edt": (ElasticDecisionTransformer, ElasticConfig)}
"""What `load_model` may find in a checkpoint of this module."""
