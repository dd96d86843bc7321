"""Training windows: batches of 64 windows of K = 20 from a million transitions, on one core.

Beside ours stands the usual way: a Python loop that slices, pads and stacks one window after
another (as in the Decision Transformer's own `get_batch`). The two alternate. Also printed: the
memory of the process (Linux only).

    python benchmarks/windows.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import statistics
import time
from pathlib import Path

import numpy as np
import torch

from helpers.data.catalogue import load_dataset
from helpers.data.episodes import Dataset
from helpers.data.windows import make_windows

ROUNDS, BATCH, CONTEXT = 200, 64, 20


def usual_batch(dataset: Dataset, togo: np.ndarray, rng: np.random.Generator) -> list[torch.Tensor]:
    """One batch, window by window; episodes are drawn in proportion to their length."""
    episodes = rng.choice(
        len(dataset.lengths), size=BATCH, p=dataset.lengths / dataset.lengths.sum()
    )
    columns: list[list[np.ndarray]] = [[], [], [], [], []]
    for episode in episodes:
        first, length = int(dataset.starts[episode]), int(dataset.lengths[episode])
        start = int(rng.integers(length))
        rows = slice(first + start, first + min(start + CONTEXT, length))
        have = rows.stop - rows.start
        parts = (
            dataset.observations[rows], dataset.actions[rows], togo[rows, None],
            np.arange(start, start + have)[:, None], np.ones((have, 1)),
        )  # fmt: skip
        for column, part in zip(columns, parts, strict=True):
            pad = np.zeros((CONTEXT - have, part.shape[1]))
            column.append(np.concatenate([pad, part]))
    return [torch.from_numpy(np.stack(column)).float() for column in columns]


def megabytes() -> str:
    """Memory of this process: its own, and pages of files, which the system can take back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    size = {name: int(rest.split()[0]) / 1024 for name, rest in
            (line.split(":") for line in lines if line.startswith("Rss"))}  # fmt: skip
    return f"{size['RssAnon']:,.0f} MB own, {size['RssFile']:,.0f} MB of files"


def main() -> None:
    """Print windows a second and the memory."""
    torch.set_num_threads(1)
    print("memory at start:    ", megabytes())
    dataset = load_dataset("halfcheetah/medium")
    windows = make_windows(dataset, CONTEXT)
    print("memory with windows:", megabytes())
    togo, rng = dataset.returns_to_go(), np.random.default_rng(0)
    ways = {
        "ours": lambda: windows.sample(rng, BATCH),
        "one by one": lambda: usual_batch(dataset, togo, rng),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{len(dataset.rewards):,} transitions, batches of {BATCH} windows, one core")
    for name, value in median.items():
        ratio = median["one by one"] / value
        print(f"{name:12} {BATCH / value:10,.0f} windows a second   {ratio:5.1f} times")
    print("memory at the end:  ", megabytes())


if __name__ == "__main__":
    main()
