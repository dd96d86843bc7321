"""LEAP's planner: plans a second for one environment at a time and for 64 at once, on one core.

The released code's shape (3 layers, width 128, 4 heads) on 7 x 7 grids, 30 iterations, plans of 5
actions; random weights, since time does not depend on them. The baseline is what the released code
does: one environment after another.

    python -m benchmarks.refinement [--json]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import json
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
    """Print milliseconds a plan and the ratio to one at a time."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = get_task("babyai-gotolocal-s7n5")
    data = load_dataset(f"{task.name}/expert", sample=True)
    planner = GibbsPlanner(make_leap(task, data), SEARCH)
    rows = np.resize(np.arange(len(data.observations)), TOGETHER)
    observations = torch.from_numpy(data.observations[rows])
    generator = torch.Generator().manual_seed(0)
    seconds: dict[int, list[float]] = {1: [], TOGETHER: []}
    for i in range(ROUNDS + 1):
        for envs, times in seconds.items():
            start = time.perf_counter()
            planner.plan(observations[:envs], generator)
            if i:  # the first round warms up
                times.append((time.perf_counter() - start) / envs)
    ratio = statistics.median(a / b for a, b in zip(seconds[1], seconds[TOGETHER], strict=True))
    table = [
        {"name": "one at a time", "ms": 1e3 * statistics.median(seconds[1]), "ratio": 1.0},
        {
            "name": f"{TOGETHER} at once",
            "ms": 1e3 * statistics.median(seconds[TOGETHER]),
            "ratio": ratio,
        },
    ]
    if "--json" in sys.argv:
        print(json.dumps(table, indent=1))
        return
    for row in table:
        print(f"{row['name']:14} {row['ms']:8.2f} ms a plan   {row['ratio']:5.1f} times the plans")


if __name__ == "__main__":
    main()
