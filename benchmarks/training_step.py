"""Training step of a Decision Transformer: ours against transformers' DecisionTransformerModel.

Whole steps at the paper's shape (batch 64, K 20, width 128, 3 layers, 1 head, dropout 0.1):
sampling a batch, forward, backward, clipping and AdamW. The two alternate on one core, so that
other load on the machine falls on both; the ratio of the medians is what counts.

    python benchmarks/training_step.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from helpers.data.catalogue import load_dataset
from helpers.data.windows import make_windows
from helpers.models.decision import DecisionConfig, DecisionTransformer, decision_loss
from helpers.train import TrainConfig, has_fast_bfloat16

ROUNDS = 15
CONFIG = TrainConfig()


def step_of(model: torch.nn.Module, loss: Callable, fused: bool, bfloat16: bool) -> Callable:
    """A function that performs one training step."""
    windows = make_windows(load_dataset("halfcheetah/medium", sample=True), 20)
    rng = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(
        model.parameters(), CONFIG.learning_rate, weight_decay=CONFIG.weight_decay, fused=fused
    )

    def step() -> None:
        batch = windows.sample(rng, CONFIG.batch_size)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            value = loss(model, batch)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CONFIG.gradient_clip)
        optimiser.step()

    return step


def hugging_face_loss(model: DecisionTransformerModel, batch: dict) -> torch.Tensor:
    """The same loss through their model."""
    predicted = model(
        states=batch["observations"],
        actions=batch["actions"],
        returns_to_go=batch["returns_to_go"].unsqueeze(-1) / 1000,
        timesteps=batch["timesteps"],
        attention_mask=batch["valid"].long(),
    ).action_preds
    return (predicted - batch["actions"])[batch["valid"]].square().mean()


def main() -> None:
    """Print milliseconds a step and the ratios."""
    torch.set_num_threads(1)
    theirs = DecisionTransformerModel(
        DecisionTransformerConfig(state_dim=17, act_dim=6, max_ep_len=1000)
    )
    steps = {
        "transformers, float32": step_of(theirs, hugging_face_loss, False, False),
        "ours, float32": step_of(DecisionTransformer(DecisionConfig()), decision_loss, True, False),
        "ours, bfloat16": step_of(DecisionTransformer(DecisionConfig()), decision_loss, True, True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(ROUNDS + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_ >= 2:  # the first two warm up
                seconds[name].append(time.perf_counter() - start)
    baseline = statistics.median(seconds["transformers, float32"])
    print(f"one core, {ROUNDS} paired steps; fast bfloat16 here: {has_fast_bfloat16('cpu')}")
    for name, values in seconds.items():
        median = statistics.median(values)
        ratios = [a / b for a, b in zip(seconds["transformers, float32"], values, strict=True)]
        low, high = np.percentile(ratios, [25, 75])
        print(
            f"{name:24} {1000 * median:7.1f} ms   {baseline / median:4.2f} times "
            f"(quartiles of paired ratios {low:.2f} to {high:.2f})"
        )


if __name__ == "__main__":
    main()
