"""LEAP's planner: plans a second for one environment at a time and for 64 at once.

The released code's shape (3 layers, width 128, 4 heads) on 7 x 7 grids, 30 iterations, plans of 5
actions; random weights, since time does not depend on them. The baseline is what the released code
does: one environment after another.

    python -m benchmarks.refinement [--json]
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

import numpy as np
import torch

from helpers.data.catalogue import load_dataset
from helpers.models.leap import make_leap
from helpers.planning.gibbs import GibbsConfig, GibbsPlanner
from helpers.tasks import get_task

ROUNDS, TOGETHER = 9, 64
SEARCH = GibbsConfig(iterations=30)


def main() -> None:
    """Print milliseconds a plan and the ratio to one at a time, on one core and on all."""
    torch.manual_seed(0)
    task = get_task("babyai-gotolocal-s7n5")
    data = load_dataset(f"{task.name}/expert", sample=True)
    planner = GibbsPlanner(make_leap(task, data), SEARCH)
    rows = np.resize(np.arange(len(data.observations)), TOGETHER)
    observations = torch.from_numpy(data.observations[rows])
    table = []
    for threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        seconds = measure(planner, observations)
        ratios = [a / b for a, b in zip(seconds[1], seconds[TOGETHER], strict=True)]
        for envs, ratio in ((1, 1.0), (TOGETHER, statistics.median(ratios))):
            ms = 1e3 * statistics.median(seconds[envs])
            table.append({"threads": threads, "environments": envs, "ms": ms, "ratio": ratio})
    if "--json" in sys.argv:
        print(json.dumps(table, indent=1))
        return
    for row in table:
        print(
            f"{row['threads']} threads, {row['environments']:2} at once "
            f"{row['ms']:8.2f} ms a plan   {row['ratio']:5.1f} times the plans"
        )


def measure(planner: GibbsPlanner, observations: torch.Tensor) -> dict[int, list[float]]:
    """Seconds a plan by the number of environments, in turns; the first round warms up."""
    generator = torch.Generator().manual_seed(0)
    seconds: dict[int, list[float]] = {1: [], TOGETHER: []}
    for i in range(ROUNDS + 1):
        for envs, times in seconds.items():
            start = time.perf_counter()
            planner.plan(observations[:envs], generator)
            if i:
                times.append((time.perf_counter() - start) / envs)
    return seconds


if __name__ == "__main__":
    main()
