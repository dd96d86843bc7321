"""Whole training steps of IQL and CQL: our losses against torchrl's, at CORL's shapes.

Same networks, batch (256) and optimiser (one fused AdamW); sampling, losses, backward, step and
target networks are timed. The two alternate on one core, so that other load on the machine falls on
both; the ratio of the medians is what counts. `--train STEPS` trains IQL with both from the same
weights and plays 10 episodes of each.

torchrl is not a dependency of the book: `pip install torchrl==0.14.1` beside it first.

    python benchmarks/value_losses.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from tensordict.nn import NormalParamExtractor, TensorDictModule
from torch import nn
from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import CQLLoss, IQLLoss, SoftUpdate

from helpers.agents import MemorylessAgent
from helpers.data.catalogue import load_dataset
from helpers.data.transitions import make_transitions
from helpers.evaluate import rollout
from helpers.methods import METHODS
from helpers.tasks import get_task

ROUNDS, BATCH = 9, 256
STEPS = {"iql": 40, "cql": 6}
"""Of each method in a round."""
TASK = get_task("halfcheetah")


def perceptron(inputs: int, outputs: int, layers: int) -> list[nn.Module]:
    """Hidden layers of 256."""
    sizes = [inputs, *[256] * layers, outputs]
    parts = [
        part
        for a, b in zip(sizes[:-1], sizes[1:], strict=True)
        for part in (nn.Linear(a, b), nn.ReLU())
    ]
    return parts[:-1]


class Both(nn.Module):
    """Perceptron of state and action."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.net = nn.Sequential(*perceptron(23, 1, layers))

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Value."""
        return self.net(torch.cat([observation, action], -1))


def torchrl_loss(method: str, layers: int) -> tuple[nn.Module, Any]:
    """The loss module and its target updater."""
    policy = nn.Sequential(*perceptron(17, 12, layers), NormalParamExtractor())
    actor = ProbabilisticActor(
        TensorDictModule(policy, ["observation"], ["loc", "scale"]),
        in_keys=["loc", "scale"],
        distribution_class=TanhNormal,
        return_log_prob=True,
    )
    q = ValueOperator(Both(layers), in_keys=["observation", "action"])
    if method == "iql":
        value = ValueOperator(nn.Sequential(*perceptron(17, 1, layers)), in_keys=["observation"])
        loss = IQLLoss(actor, q, value, loss_function="l2", temperature=3.0, expectile=0.7)
    else:
        loss = CQLLoss(
            actor, q, loss_function="l2", min_q_weight=10.0, target_entropy=-6.0,
            action_spec=None,
        )  # fmt: skip
    loss.make_value_estimator(gamma=0.99)
    return loss, SoftUpdate(loss, tau=0.005)


def torchrl_step(method: str) -> tuple[Callable[[int], None], nn.Module]:
    """One training step by torchrl."""
    dataset = load_dataset("halfcheetah/medium")
    transitions = make_transitions(dataset)
    loss, updater = torchrl_loss(method, 2 if method == "iql" else 3)
    mean = torch.from_numpy(dataset.observations[:100_000].mean(0)).float()
    std = torch.from_numpy(dataset.observations[:100_000].std(0)).float()
    optimiser = torch.optim.AdamW(loss.parameters(), 3e-4, weight_decay=0.0, fused=True)

    def step(i: int) -> None:
        batch = transitions.sample(np.random.default_rng((0, i)), BATCH)
        done = batch["terminated"].unsqueeze(-1)
        following = {
            "observation": (batch["next_observations"] - mean) / std,
            "reward": batch["rewards"].unsqueeze(-1),
            "done": done,
            "terminated": done,
        }
        data = TensorDict(
            {
                "observation": (batch["observations"] - mean) / std,
                "action": batch["actions"],
                "next": TensorDict(following, [BATCH]),
            },
            [BATCH],
        )
        losses = loss(data)
        names = [k for k in losses.keys() if k.startswith("loss_") and k != "loss_actor_bc"]  # noqa: SIM118
        total = sum(losses[name] for name in names)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        updater.step()

    step.normalise = (mean, std)
    return step, loss


def our_step(method: str) -> tuple[Callable[[int], None], nn.Module]:
    """One training step by the book."""
    recipe = METHODS[method]
    model = recipe.make(TASK, load_dataset("halfcheetah/medium"))
    transitions = recipe.windows(load_dataset("halfcheetah/medium"), model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, 3e-4, weight_decay=0.0, fused=True)

    def step(i: int) -> None:
        loss = recipe.loss(model, transitions.sample(np.random.default_rng((0, i)), BATCH))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        recipe.after_step(model)

    return step, model


def seconds(step: Callable[[int], None], count: int) -> float:
    """Of one step, on average."""
    start = time.perf_counter()
    for i in range(count):
        step(i)
    return (time.perf_counter() - start) / count


class TorchrlPolicy(nn.Module):
    """The mode of torchrl's actor."""

    def __init__(self, loss: nn.Module, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.loss, self.mean, self.std = loss, mean, std

    def act(self, observations: torch.Tensor) -> torch.Tensor:
        """Tanh of the location."""
        data = TensorDict(
            {"observation": (observations.float() - self.mean) / self.std}, [len(observations)]
        )
        with self.loss.actor_network_params.to_module(self.loss.actor_network):
            return torch.tanh(self.loss.actor_network[0](data)["loc"])


def compare_training(steps: int) -> None:
    """Train IQL with both and play."""
    for name, make in (("torchrl", torchrl_step), ("ours", our_step)):
        torch.manual_seed(0)
        step, model = make("iql")
        took = seconds(step, steps)
        policy = model if name == "ours" else TorchrlPolicy(model, *step.normalise)
        returns = rollout(MemorylessAgent(policy), TASK, list(range(10))).returns
        print(f"iql {name}: {steps} steps of {1e3 * took:.1f} ms, return {returns.mean():.0f} "
              f"(standard error {returns.std(ddof=1) / 10**0.5:.0f})", flush=True)  # fmt: skip


def main() -> None:
    """Print the medians and their ratio."""
    torch.set_num_threads(1)
    if "--train" in sys.argv:
        compare_training(int(sys.argv[-1]))
        return
    for method, count in STEPS.items():
        torch.manual_seed(0)
        theirs, ours = torchrl_step(method)[0], our_step(method)[0]
        for step in (theirs, ours):
            seconds(step, 3)
        pairs = [(seconds(theirs, count), seconds(ours, count)) for _ in range(ROUNDS)]
        a, b = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{method}: torchrl {a:.1f} ms, ours {b:.1f} ms a step, ratio {a / b:.2f}")


if __name__ == "__main__":
    main()
