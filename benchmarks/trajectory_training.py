"""Training step of a Trajectory Transformer: ours against the same blocks from transformers' GPT-2.

Whole steps at the paper's shape (249 tokens, width 128, 4 layers, 4 heads), batch 8: sampling,
forward, backward, clipping and AdamW. Theirs is the model as one would write it today: GPT-2's
blocks between the same embeddings and heads, with the mask that hides values. With the paper's
dropout and without; the ways alternate on one core.

    python -m benchmarks.trajectory_training
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model

from helpers.data.catalogue import load_dataset
from helpers.models.trajectory import (
    TrajectoryTransformer,
    make_trajectory,
    make_trajectory_windows,
    trajectory_loss,
)
from helpers.tasks import get_task

ROUNDS, BATCH = 7, 8


class WithGPT2(TrajectoryTransformer):
    """Our embeddings and heads around the library's blocks."""

    def __init__(self, ours: TrajectoryTransformer) -> None:
        super().__init__(ours.config)
        self.edges.copy_(ours.edges)
        config = ours.config
        self.gpt2 = GPT2Model(
            GPT2Config(
                vocab_size=1,
                n_positions=len(self.embed_position),
                n_embd=config.width,
                n_layer=config.layers,
                n_head=config.heads,
                activation_function="gelu_new",
                bos_token_id=None,
                eos_token_id=None,
                embd_pdrop=config.dropout,
                attn_pdrop=config.dropout,
                resid_pdrop=config.dropout,
            )  # fmt: skip
        )
        self.gpt2.wpe.weight.data.zero_()
        self.transformer = nn.Identity()

    def features(self, tokens: Tensor) -> Tensor:
        """What GPT-2's blocks make of each token."""
        allowed = self.allowed(tokens.shape[1])
        mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
        mask = mask.expand(len(tokens), -1, -1, -1)
        return self.gpt2(inputs_embeds=self.embed(tokens), attention_mask=mask).last_hidden_state


def step_of(model: TrajectoryTransformer, windows: object) -> Callable[[], None]:
    """A function that performs one training step."""
    rng = np.random.default_rng(0)
    fused = not isinstance(model, WithGPT2)  # the default of the library's users
    optimiser = torch.optim.AdamW(model.parameters(), 6e-4, fused=fused)

    def step() -> None:
        loss = trajectory_loss(model, windows.sample(rng, BATCH))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return step


def main() -> None:
    """Print tokens a second and the ratio."""
    torch.set_num_threads(1)
    data = load_dataset("halfcheetah/medium", sample=True)
    for dropout in (0.1, 0.0):
        torch.manual_seed(0)
        ours = make_trajectory(get_task("halfcheetah"), data, dropout=dropout)
        theirs = WithGPT2(ours)
        tokens, pad = torch.randint(100, (2, 60)), {}
        with torch.inference_mode():  # the same shape, and the mask is obeyed
            changed = tokens.clone()
            changed[:, 24] = 7
            before, after = (theirs.eval()(t, **pad) for t in (tokens, changed))
            assert torch.equal(before[:, 25:], after[:, 25:])
        windows = make_trajectory_windows(data, ours)
        ways = {"ours": step_of(ours.train(), windows), "GPT-2": step_of(theirs.train(), windows)}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for i in range(ROUNDS + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                if i:
                    seconds[name].append(time.perf_counter() - start)
        ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        for name, values in seconds.items():
            per_second = BATCH * 249 / statistics.median(values)
            print(f"dropout {dropout}: {name:6} {per_second:9,.0f} tokens a second")
        print(f"dropout {dropout}: ours is {middle:.2f} times as fast ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
