"""One decision of the Trajectory Transformer at HalfCheetah's shape, on one core and on all.

25 tokens a step, 4 layers, width 128, context 5, beam 32, 2 expansions, horizon 5; random weights,
since time does not depend on them. Ours, for one environment and for 16 at once, stands beside the
naive planner, which for every token passes the whole sequence of every beam through the model
again. Also printed: the arithmetic that cannot be spared, at the speed this core multiplies large
matrices, and how near to it we are.

One search is a batch already (32 to 64 rows a token), which leaves little for a batch of searches
to gain on one core; what it does gain is rows enough for every core.

    python -m benchmarks.planning [--json]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from helpers.models.trajectory import TrajectoryConfig, TrajectoryTransformer
from helpers.planning.beam import BeamConfig, BeamPlanner, draw

ROUNDS, TOGETHER = 9, 16
SHAPE, SEARCH = TrajectoryConfig(), BeamConfig()


@torch.inference_mode()
def naive_plan(model: TrajectoryTransformer, context: Tensor, generator: torch.Generator) -> Tensor:
    """The same search without a cache: returns the tokens of the best plan."""
    size, first_action = SHAPE.step_size, SHAPE.observation_size
    centres = torch.from_numpy(model.discretiser.centres).float()
    tokens = context.expand(SEARCH.beam_width, -1)
    earned = torch.zeros(SEARCH.beam_width)

    def after(tokens: Tensor) -> Tensor:
        features = model.features(tokens)[:, -1]
        return model.logits(features, tokens.shape[1] % size)[:, :-1]

    for step in range(SEARCH.horizon):
        tokens = tokens.repeat_interleave(SEARCH.expansions, 0)
        earned = earned.repeat_interleave(SEARCH.expansions, 0)
        for _ in range(SHAPE.action_size):
            token = draw(after(tokens), generator, top_k=None, cdf=SEARCH.action_cdf,
                         temperature=SEARCH.temperature)  # fmt: skip
            tokens = torch.cat([tokens, token[:, None]], 1)
        read = []
        for dimension in (first_action + SHAPE.action_size, size - 1):
            logits = after(tokens)
            read.append(logits.softmax(-1) @ centres[dimension])
            tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], 1)
        earned = earned + SEARCH.discount**step * read[0]
        scores = earned + SEARCH.discount ** (step + 1) * read[1]
        kept = scores.topk(SEARCH.beam_width).indices
        tokens, earned, scores = tokens[kept], earned[kept], scores[kept]
        if step < SEARCH.horizon - 1:
            for _ in range(SHAPE.observation_size):
                tokens = torch.cat([tokens, after(tokens).argmax(-1, keepdim=True)], 1)
    return tokens[scores.argmax()]


def multiplications() -> float:
    """Floating-point operations of a decision's matrix products with weights, context included."""
    width, layers = SHAPE.width, SHAPE.layers
    candidates = SEARCH.beam_width * SEARCH.expansions
    context = SEARCH.context * SHAPE.step_size + SHAPE.observation_size
    decoded = SEARCH.horizon * (SHAPE.action_size + 1) * candidates
    decoded += (SEARCH.horizon - 1) * (SHAPE.observation_size + 1) * SEARCH.beam_width
    return 2.0 * layers * 12 * width**2 * (context + decoded)


def peak() -> float:
    """Floating-point operations a second of a large product."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = min(timed(lambda: a @ b) for _ in range(20))
    return 2 * 1024**3 / best


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print milliseconds a decision and ratios."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = TrajectoryTransformer(SHAPE).eval()
    edges = torch.linspace(-1, 1, SHAPE.bins + 1, dtype=torch.float64)
    model.edges.copy_(edges.expand(SHAPE.step_size, -1))
    planner = BeamPlanner(model, SEARCH)
    length = SEARCH.context * SHAPE.step_size + SHAPE.observation_size
    contexts = torch.randint(SHAPE.bins, (TOGETHER, length))
    generator = torch.Generator().manual_seed(0)
    cores = os.cpu_count() or 1
    seconds: dict[tuple[int, int], list[float]] = {}
    for i in range(ROUNDS + 1):
        for threads, envs in ((1, 1), (1, TOGETHER), (cores, 1), (cores, TOGETHER)):
            torch.set_num_threads(threads)
            passed = timed(lambda envs=envs: planner.plan(contexts[:envs], generator)) / envs
            if i:  # the first round warms up
                seconds.setdefault((threads, envs), []).append(passed)
    torch.set_num_threads(1)
    naive = timed(lambda: naive_plan(model, contexts[:1], generator))
    limit = multiplications() / peak()
    rows: list[dict[str, Any]] = [{"name": "naive", "ms": 1e3 * naive, "ratio": 1.0}]
    for (threads, envs), times in seconds.items():
        name = "ours" + (f", {envs} at once" if envs > 1 else "")
        name += f", {threads} cores" if threads > 1 else ""
        pairs = zip(seconds[1, 1], times, strict=True)
        row = {"name": name, "ms": 1e3 * statistics.median(times)}
        row["ratio"] = 1e3 * naive / row["ms"]
        row["ratio_to_one"] = statistics.median(a / b for a, b in pairs)
        rows.append(row)
    rows.append({"name": "arithmetic limit", "ms": 1e3 * limit, "ratio": naive / limit})
    if "--json" in sys.argv:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(
            f"{row['name']:26} {row['ms']:9,.1f} ms a decision   {row['ratio']:7.1f} times naive",
            f"  {row['ratio_to_one']:5.2f} times ours" if "ratio_to_one" in row else "",
        )


if __name__ == "__main__":
    main()
