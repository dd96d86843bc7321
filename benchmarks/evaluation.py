"""Evaluating a Decision Transformer: 300 episodes together against one episode after another.

Three ways to play HalfCheetah with the same weights, at the paper's shape (K 20, width 128,
3 layers), each for whole episodes of 1,000 steps:

- transformers' model in the usual loop: one environment, the last K steps padded to K;
- our agent, one environment at a time;
- `evaluate`: 100 episodes for each of three target returns, in chunks of environments that step
  together, spread over processes.

The first two are measured before and after the third, so that other load on the machine falls on
all; what counts is the ratio of seconds an episode. Starting the processes is included.

    python benchmarks/evaluation.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from helpers.agents import DecisionAgent, decision_agent
from helpers.evaluate import CHUNK, evaluate, rollout
from helpers.models.checkpoints import save_model
from helpers.models.pretrained import from_hugging_face
from helpers.tasks import Task, get_task

EPISODES = 100
TARGETS = (2000.0, 4000.0, 6000.0)
CONTEXT = 20


@torch.inference_mode()
def usual_loop(model: torch.nn.Module, task: Task, seed: int, target: float) -> float:
    """One episode as the published evaluation scripts play it; returns its return."""
    env = task.make()
    observation, _ = env.reset(seed=seed)
    states = torch.zeros(0, task.observation_size)
    actions = torch.zeros(0, task.action_size)
    returns_to_go = torch.tensor([target / task.return_scale])
    total = 0.0
    for step in range(task.horizon):
        states = torch.cat([states, torch.from_numpy(observation).float()[None]])
        actions = torch.cat([actions, torch.zeros(1, task.action_size)])
        have = min(CONTEXT, step + 1)
        padding = CONTEXT - have
        mask = torch.cat([torch.zeros(padding), torch.ones(have)]).long()

        def window(x: torch.Tensor, have: int = have, padding: int = padding) -> torch.Tensor:
            return torch.cat([x.new_zeros(padding, *x.shape[1:]), x[-have:]])[None]

        predicted = model(
            states=window(states),
            actions=window(actions),
            returns_to_go=window(returns_to_go[:, None]),
            timesteps=window(torch.arange(step + 1)),
            attention_mask=mask[None],
        ).action_preds
        actions[-1] = predicted[0, -1]
        observation, reward, *_ = env.step(actions[-1].numpy())
        total += float(reward)
        remaining = returns_to_go[-1] - float(reward) / task.return_scale
        returns_to_go = torch.cat([returns_to_go, remaining[None]])
    return total


def main() -> None:
    """Print seconds an episode and the ratios."""
    # Here, because every process of `evaluate` imports this file again.
    from transformers import DecisionTransformerConfig, DecisionTransformerModel

    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = get_task("halfcheetah")
    theirs = DecisionTransformerModel(
        DecisionTransformerConfig(state_dim=17, act_dim=6, max_ep_len=1000)
    ).eval()
    ours = from_hugging_face(theirs.state_dict(), theirs.config.to_dict(), context_length=CONTEXT)
    target, workers = TARGETS[-1], os.cpu_count() or 1
    seconds: dict[str, list[float]] = {"usual": [], "single": []}

    def measure_singles() -> None:
        for seed in range(2):
            start = time.perf_counter()
            usual_loop(theirs, task, seed, target)
            middle = time.perf_counter()
            rollout(DecisionAgent(ours, np.array([target])), task, [seed])
            seconds["usual"].append(middle - start)
            seconds["single"].append(time.perf_counter() - middle)

    measure_singles()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(path, ours, {})
        start = time.perf_counter()
        targets = np.repeat(TARGETS, EPISODES)
        seeds = list(range(len(targets)))
        evaluate(partial(decision_agent, path), task, seeds, targets, workers=workers)
        together = (time.perf_counter() - start) / len(targets)
    measure_singles()

    usual, single = (float(np.median(seconds[name])) for name in ("usual", "single"))
    print(f"{len(targets)} episodes in chunks of {CHUNK} on {workers} cores; seconds an episode")
    print(f"transformers' model, usual loop   {usual:6.3f}   {usual / together:5.1f} times")
    print(f"our agent, one at a time          {single:6.3f}   {single / together:5.1f} times")
    print(f"evaluate                          {together:6.3f}")


if __name__ == "__main__":
    main()
