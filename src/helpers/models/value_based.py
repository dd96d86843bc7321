"""Offline Q-learning: Conservative Q-Learning and Implicit Q-Learning, without memory.

CQL (Kumar et al. 2020) is soft actor-critic with a regulariser that lowers the values of actions
which the data do not show. IQL (Kostrikov et al. 2021) never asks for the value of such an action:
it learns an expectile of the values of the data's own actions, and imitates those with advantage.

One step of either is one scalar loss. Its terms concern different networks and all use the weights
from before the step, so their sum has the gradient of each for its own network: one backward pass,
one optimiser, as CORL's several optimisers do it (tinkoff-ai/CORL at 2b19dd1 (IQL) and 1254f0b
(CQL), `algorithms/offline`). The loop calls `update_target` after every step.

Defaults are CORL's for halfcheetah-medium. Departures from it:

- every network follows the run's schedule; CORL lowers the rate of IQL's actor alone by a cosine;
- CQL's log-sum-exp is computed for all sampled actions, but its gradient is taken at one of them,
  drawn by its weight in the sum: unbiased (see `conservative_actions`), for 0.4 of the work;
- the scale and offset of CQL's log standard deviation are not trained; its bias starts at -1;
- an observation entry that hardly varies is not divided by its standard deviation;
- numbered actions, which CORL lacks: the critics give a value for each. IQL's actor is a softmax.
  CQL has none (it acts greedily); its target is the best action's value and its log-sum-exp exact
  (the paper's CQL(H) on Q-learning), with weight 1 instead of 10.

torchrl's losses were measured first (`benchmarks/value_losses.py`).

Neither method has a memory: on a partially observable task (Key-to-Door, a grid level seen through
`sight = "view"`) they take the observation for the state.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Real
from torch import Tensor, nn

from helpers.data.episodes import Dataset
from helpers.models.feedforward import (
    Network,
    NetworkConfig,
    check_actions,
    configure,
    fit_encoders,
)
from helpers.tasks import Task

LOG_STD_RANGE = (-20.0, 2.0)
CHUNK = 1024
"""Rows of a critic's pass without gradients: hidden layers of that size stay in a core's cache."""

Actions = Float[Tensor, "B A"] | Int[Tensor, " B"]


@dataclass(frozen=True)
class ValueConfig(NetworkConfig):
    """What both methods have in common."""

    discount: float = 0.99
    target_rate: float = 0.005
    """Share of the critics that enters their slow copy after each step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.discount < 1.0:
            raise ValueError(f"discount is {self.discount}; choose 0 or more and less than 1")
        if not 0.0 < self.target_rate <= 1.0:
            raise ValueError(f"target_rate is {self.target_rate}; choose more than 0 and at most 1")


@dataclass(frozen=True)
class IQLConfig(ValueConfig):
    """Implicit Q-Learning; the defaults are the paper's for locomotion."""

    expectile: float = 0.7
    """tau: 0.5 is the mean over the data's actions, towards 1 their best."""
    inverse_temperature: float = 3.0
    """beta: 0 is behaviour cloning, large values follow the advantage."""
    largest_weight: float = 100.0
    """Bound on exp(beta advantage)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.expectile < 1.0:
            raise ValueError(f"expectile is {self.expectile}; choose between 0 and 1, such as 0.7")


@dataclass(frozen=True)
class CQLConfig(ValueConfig):
    """Conservative Q-Learning; the defaults are CORL's for halfcheetah-medium."""

    layers: int = 3
    conservatism: float = 10.0
    """alpha, weight of the regulariser."""
    samples: int = 10
    """Actions from each of three distributions: uniform, policy here, policy in the next state."""
    actor_rate: float = 0.1
    """Learning rate of the actor and of the entropy's weight, over that of the critics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}; set it to 1 or more")


class Critics(nn.Module):
    """Twin critics Q(s, a)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        size = config.action_size
        sizes = {"outputs": size} if config.discrete else {"outputs": 1, "action_inputs": size}
        self.network = Network(config, count=2, **sizes)
        self.discrete = config.discrete

    def forward(
        self, observations: Real[Tensor, "B S"], actions: Actions, frozen: bool = False
    ) -> Float[Tensor, "2 B"]:
        """Values of the given actions; `frozen` keeps gradients from the weights."""
        if self.discrete:
            chosen = actions.expand(2, -1).unsqueeze(-1)
            return self.all_actions(observations).gather(-1, chosen).squeeze(-1)
        return self.network(observations, actions, frozen).squeeze(-1)

    def all_actions(self, observations: Real[Tensor, "B S"]) -> Float[Tensor, "2 B A"]:
        """Values of all numbered actions."""
        return self.network(observations)


class QLearner(nn.Module):
    """Twin critics and their slow copy."""

    def __init__(self, config: ValueConfig) -> None:
        super().__init__()
        self.config = config
        self.critics = Critics(config)

    def copy_target(self) -> None:
        """The slow copy begins as the critics are."""
        self.target = copy.deepcopy(self.critics).requires_grad_(False)

    @torch.no_grad()
    def update_target(self) -> None:
        """Move it towards the critics: (1 - rate) target + rate critics."""
        new, old = list(self.critics.parameters()), list(self.target.parameters())
        torch._foreach_lerp_(old, new, self.config.target_rate)

    def bootstrap(
        self, batch: dict[str, Tensor], next_values: Float[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """Reward + discount * value of the next state, which is 0 behind an end."""
        goes_on = (~batch["terminated"]).float()
        return batch["rewards"] + self.config.discount * goes_on * next_values


# --- Implicit Q-Learning -----------------------------------------------------------------------


class ImplicitQLearning(QLearner):
    """Critics, a state value and a policy: tanh mean with one standard deviation, or softmax."""

    method = "iql"

    def __init__(self, config: IQLConfig) -> None:
        super().__init__(config)
        self.value = Network(config, 1)
        self.actor = Network(config, config.action_size)
        if not config.discrete:
            self.log_std = nn.Parameter(torch.zeros(config.action_size))
        self.copy_target()

    def log_prob(self, observations: Real[Tensor, "B S"], actions: Actions) -> Float[Tensor, " B"]:
        """Log likelihood of the actions under the policy."""
        out = self.actor(observations)[0]
        if self.config.discrete:
            return -F.cross_entropy(out, actions, reduction="none")
        log_std = self.log_std.clamp(*LOG_STD_RANGE)
        return normal_log_prob((actions - torch.tanh(out)) / log_std.exp(), log_std)

    def act(self, observations: Real[Tensor, "B S"]) -> Actions:
        """The policy's mode."""
        out = self.actor(observations)[0]
        return out.argmax(dim=-1) if self.config.discrete else torch.tanh(out)


def expectile_loss(difference: Float[Tensor, " B"], expectile: float) -> Float[Tensor, ""]:
    """Mean of |tau - 1(u < 0)| u^2 (IQL, equation 4), for u = q - v least at the tau-expectile."""
    weight = torch.where(difference < 0, 1.0 - expectile, expectile)
    return (weight * difference.square()).mean()


def iql_loss(model: ImplicitQLearning, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
    """Sum of the losses of the value (equation 5), the critics (6) and the policy (7)."""
    config, states, actions = model.config, batch["observations"], batch["actions"]
    with torch.no_grad():
        slow = model.target(states, actions).amin(dim=0)
        wanted = model.bootstrap(batch, model.value(batch["next_observations"])[0, :, 0])
    advantage = slow - model.value(states)[0, :, 0]
    value_loss = expectile_loss(advantage, config.expectile)
    critic_loss = (model.critics(states, actions) - wanted).square().mean()
    weight = (config.inverse_temperature * advantage.detach()).exp()
    weight = weight.clamp(max=config.largest_weight)
    policy_loss = -(weight * model.log_prob(states, actions)).mean()
    return value_loss + critic_loss + policy_loss


def make_iql(task: Task, dataset: Dataset, **changes: Any) -> ImplicitQLearning:
    """A learner shaped for `task`, normalising with the statistics of `dataset`.

    Raises:
        ValueError: an unknown or impossible field in `changes`, or actions outside [-1, 1].
    """
    config = configure(IQLConfig, "IQL", task, changes)
    check_actions(dataset, config)
    model = ImplicitQLearning(config)
    fit_encoders(model, dataset)
    return model


# --- Conservative Q-Learning -------------------------------------------------------------------


class ConservativeQLearning(QLearner):
    """Critics, and where actions are vectors a squashed Gaussian policy with a learned entropy."""

    method = "cql"

    def __init__(self, config: CQLConfig) -> None:
        super().__init__(config)
        orthogonal_init(self.critics.network)
        self.copy_target()
        if config.discrete:
            return
        size = config.action_size
        self.actor = Network(config, 2 * size)
        self.log_entropy_weight = nn.Parameter(torch.zeros(1))
        with torch.no_grad():
            weight, bias = self.actor.heads.weights[-1], self.actor.heads.biases[-1]
            nn.init.xavier_uniform_(weight[0], gain=1e-2)
            bias.zero_()[..., size:] = -1.0

    def policy(
        self, observations: Real[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B A"]]:
        """Mean and log standard deviation before the tanh."""
        mean, log_std = self.actor(observations)[0].chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def act(self, observations: Real[Tensor, "B S"]) -> Actions:
        """The policy's mode, or the action of highest value."""
        if self.config.discrete:
            return self.critics.all_actions(observations).amin(dim=0).argmax(dim=-1)
        return torch.tanh(self.policy(observations)[0])


def orthogonal_init(network: Network) -> None:
    """Orthogonal weights with gain sqrt(2), 0.01 in the last layer; biases 0 (CORL)."""
    heads, last = network.heads, len(network.heads.weights) - 1
    for i, (weight, bias) in enumerate(zip(heads.weights, heads.biases, strict=True)):
        for k in range(heads.count):
            nn.init.orthogonal_(weight[k], gain=math.sqrt(2.0) if i < last else 1e-2)
        nn.init.zeros_(bias)


def normal_log_prob(
    noise: Float[Tensor, "*n A"], log_std: Float[Tensor, "*#n A"]
) -> Float[Tensor, "*n"]:
    """Log density of mean + std * noise under the normal distribution of that mean and std."""
    return -(0.5 * noise.square() + log_std + 0.5 * math.log(2.0 * math.pi)).sum(dim=-1)


def draw_actions(
    mean: Float[Tensor, "B A"], log_std: Float[Tensor, "B A"], count: int
) -> tuple[Float[Tensor, "B count A"], Float[Tensor, "B count"]]:
    """Reparametrised draws from tanh of a normal distribution, and their log densities."""
    mean, log_std = mean.unsqueeze(1), log_std.unsqueeze(1)
    noise = torch.randn(len(mean), count, mean.shape[-1], device=mean.device)
    before = mean + log_std.exp() * noise
    # log(1 - tanh(u)^2), without the cancellation
    squash = 2.0 * (math.log(2.0) - before - F.softplus(-2.0 * before))
    return torch.tanh(before), normal_log_prob(noise, log_std) - squash.sum(dim=-1)


@torch.no_grad()
def conservative_actions(
    model: ConservativeQLearning,
    states: Real[Tensor, "B S"],
    actions: Float[Tensor, "B n A"],
    log_densities: Float[Tensor, "B n"],
) -> tuple[Float[Tensor, "2 B"], Float[Tensor, "2 B A"]]:
    """The importance-weighted log-sum-exp of Q, and one action that stands for its gradient.

    With importance weights the log-sum-exp over sampled actions is
    L = log sum_i exp(Q(s, a_i) - log mu(a_i)) (CQL, appendix F; the constant log n is left out).
    Its gradient is sum_i p_i grad Q(s, a_i) with p = softmax(Q - log mu), hence the mean of
    grad Q(s, a_J) over draws J ~ p. So no gradient is needed for the other actions.

    Returns:
        L and the drawn action, for each critic.
    """
    heads, (batch, n, size) = model.critics.network.heads, actions.shape
    features = model.critics.network.encode(states).repeat_interleave(n, dim=0)
    rows = torch.cat([features, actions.flatten(0, 1)], dim=-1)
    values = torch.cat([heads(part) for part in rows.split(CHUNK)], dim=1)
    logits = values.view(2, batch, n) - log_densities
    # A draw from softmax(logits), as the largest of logits with Gumbel noise (Maddison et al. 2014)
    chosen = (logits - torch.empty_like(logits).exponential_().log()).argmax(dim=-1)
    drawn = actions.expand(2, -1, -1, -1).gather(
        2, chosen[..., None, None].expand(-1, -1, -1, size)
    )
    return logits.logsumexp(dim=-1), drawn.squeeze(2)


def cql_loss(model: ConservativeQLearning, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
    """Sum of the losses of the critics (CQL, equation 4, on SAC's) and of the policy (SAC)."""
    if model.config.discrete:
        return _discrete_cql_loss(model, batch)
    config, states = model.config, batch["observations"]
    n = config.samples
    mean, log_std = model.policy(states)
    with torch.no_grad():
        after, after_log = draw_actions(*model.policy(batch["next_observations"]), n + 1)
        here, here_log = draw_actions(mean, log_std, n)
        anywhere = torch.empty_like(here).uniform_(-1.0, 1.0)
        anywhere_log = torch.full_like(here_log, -config.action_size * math.log(2.0))
        candidates = torch.cat([anywhere, here, after[:, 1:]], dim=1)
        densities = torch.cat([anywhere_log, here_log, after_log[:, 1:]], dim=1)
        spread, pushed_down = conservative_actions(model, states, candidates, densities)
        next_value = model.target(batch["next_observations"], after[:, 0]).amin(dim=0)
        wanted = model.bootstrap(batch, next_value)

    features = model.critics.network.encode(states)
    pair = torch.stack([batch["actions"].expand(2, -1, -1), pushed_down], dim=1)
    rows = torch.cat([features.expand(2, 2, -1, -1), pair], dim=-1).flatten(1, 2)
    data, low = model.critics.network.heads(rows).view(2, 2, -1).unbind(1)
    low = low + (spread - low).detach()  # the value of the log-sum-exp, the gradient of `low`
    critic_loss = (data - wanted).square().mean(dim=1) + config.conservatism * (low - data).mean(1)

    drawn, log_prob = (x[:, 0] for x in draw_actions(mean, log_std, 1))
    value = model.critics(states, drawn, frozen=True).amin(dim=0)
    entropy_weight = model.log_entropy_weight.detach().exp()
    policy_loss = (entropy_weight * log_prob - value).mean()
    excess = (log_prob.detach() - config.action_size).mean()  # target entropy: -A
    return critic_loss.sum() + policy_loss - (model.log_entropy_weight * excess).sum()


def _discrete_cql_loss(model: ConservativeQLearning, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
    with torch.no_grad():
        next_values = model.target.all_actions(batch["next_observations"]).amin(dim=0).amax(dim=-1)
        wanted = model.bootstrap(batch, next_values)
    values = model.critics.all_actions(batch["observations"])
    data = values.gather(-1, batch["actions"].expand(2, -1).unsqueeze(-1)).squeeze(-1)
    gap = values.logsumexp(dim=-1) - data
    return ((data - wanted).square() + model.config.conservatism * gap).mean(dim=1).sum()


def make_cql(task: Task, dataset: Dataset, **changes: Any) -> ConservativeQLearning:
    """A learner shaped for `task`, normalising with the statistics of `dataset`.

    Raises:
        ValueError: an unknown or impossible field in `changes`, or actions outside [-1, 1].
    """
    weight = {"conservatism": 1.0} if task.discrete else {}
    config = configure(CQLConfig, "CQL", task, {**weight, **changes})
    check_actions(dataset, config)
    model = ConservativeQLearning(config)
    fit_encoders(model, dataset)
    return model


def cql_groups(model: ConservativeQLearning) -> list[dict[str, Any]]:
    """Critics at the run's learning rate, the actor and the entropy's weight at a share of it."""
    critics = [{"params": list(model.critics.parameters())}]
    if model.config.discrete:
        return critics
    slow = [*model.actor.parameters(), model.log_entropy_weight]
    return [*critics, {"params": slow, "rate": model.config.actor_rate}]


KINDS = {"iql": (ImplicitQLearning, IQLConfig), "cql": (ConservativeQLearning, CQLConfig)}
"""What `load_model` may find in a checkpoint of this module. Target networks are not stored: a
loaded learner plays, it does not train on."""
