"""Vectorised rollouts: many episodes step together, so a method is called once for all of them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm import tqdm

from helpers.agents import Agent
from helpers.tasks import Task

CHUNK = 25
"""Episodes that step together. Fixed, because rounding depends on the batch: with it, the returns
are the same however many processes share the work."""

MakeAgent = Callable[[Float[np.ndarray, " n"]], Agent]


@dataclass(frozen=True)
class Rollouts:
    """Records of n episodes of at most T steps; rewards after the end are 0."""

    rewards: Float[np.ndarray, "n T"]
    lengths: Int[np.ndarray, " n"]

    @property
    def returns(self) -> Float[np.ndarray, " n"]:
        """Undiscounted return of each episode."""
        return self.rewards.sum(axis=1)


def rollout(agent: Agent, task: Task, seeds: list[int], progress: bool = False) -> Rollouts:
    """Play one episode per seed, all at once: each time step is one call of the agent.

    Environments are stepped one after another, and those that have ended leave the batch, so that
    nobody plans for them; Gymnasium's vector environment would reset them, play on and merge their
    infos, for half as much time again.
    """
    envs = [task.make() for _ in seeds]
    observations = np.stack(
        [task.pack(env.reset(seed=seed)[0]) for env, seed in zip(envs, seeds, strict=True)]
    )
    agent.reset(len(seeds))
    rewards = np.zeros((len(seeds), task.horizon))
    lengths = np.zeros(len(seeds), int)
    playing = np.arange(len(seeds))
    for step in tqdm(range(task.horizon), unit="step", disable=not progress, leave=False):
        actions = agent.act(observations)
        going = np.ones(len(playing), bool)
        for row, i in enumerate(playing):
            observation, rewards[i, step], terminated, truncated, _ = envs[i].step(actions[row])
            observations[row] = task.pack(observation)
            lengths[i] += 1
            going[row] = not (terminated or truncated)
        agent.observe(rewards[playing, step])
        if not going.any():
            break
        if not going.all():
            rows = np.flatnonzero(going)
            playing, observations = playing[rows], observations[rows]
            agent.keep(rows)
    for env in envs:
        env.close()
    return Rollouts(rewards, lengths)


def evaluate(
    make_agent: MakeAgent,
    task: Task,
    seeds: list[int],
    targets: Float[np.ndarray, " n"] | float | None = None,
    *,
    workers: int = 1,
    progress: bool = False,
) -> Rollouts:
    """Play one episode per seed in chunks, spread over processes.

    Args:
        make_agent: called in the worker with the target returns of its chunk; must be picklable
            (a module-level function or a partial of one).
        task: where to play.
        seeds: environment seeds, one an episode.
        targets: target return per episode, or one for all; default the task's.
        workers: processes; the returns do not depend on it.
        progress: show a bar over the steps of the first chunk.
    """
    wanted = task.target_return if targets is None else targets
    per_episode = np.broadcast_to(np.asarray(wanted, np.float64), (len(seeds),))
    jobs = [
        (make_agent, task, seeds[i : i + CHUNK], per_episode[i : i + CHUNK].copy())
        for i in range(0, len(seeds), CHUNK)
    ]
    if workers == 1:
        parts = [_play(*job, progress=progress) for job in jobs]
    else:
        # Forked children of a process that already uses threads can hang: start afresh.
        context = multiprocessing.get_context("spawn")
        with one_thread_each(), ProcessPoolExecutor(workers, context) as pool:
            futures = [
                pool.submit(_play, *job, progress=progress and i == 0) for i, job in enumerate(jobs)
            ]
            parts = [future.result() for future in futures]
    return Rollouts(
        np.concatenate([part.rewards for part in parts]),
        np.concatenate([part.lengths for part in parts]),
    )


def _play(
    make_agent: MakeAgent,
    task: Task,
    seeds: list[int],
    targets: Float[np.ndarray, " n"],
    progress: bool,
) -> Rollouts:
    with one_thread():
        return rollout(make_agent(targets), task, seeds, progress)


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes with one thread: the same sums in the same order, whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes that are started in this block compute with one thread, NumPy's products too.

    They inherit these variables. Set by the initializer of a pool they do nothing: NumPy and
    PyTorch, which read them once, are imported before it is called.
    """
    names = [f"{library}_NUM_THREADS" for library in ("OMP", "OPENBLAS", "MKL")]
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
