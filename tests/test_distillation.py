"""Lessons: notes of a teacher's plays are what was really seen, done and earned."""

import numpy as np
import pytest
import torch

from helpers import distillation
from helpers.distillation import LESSON_SEED, lessons, take_notes
from helpers.tasks import get_task

TASK = get_task("crossroads")


class Forward:
    """Walks east from the west: turns right until it looks there, then on."""

    def __init__(self, targets=None):
        self.made = True

    def reset(self, n):
        self.steps = 0

    def act(self, observations):
        from helpers.envs.grids import grid_layout, unpack

        layout = grid_layout(TASK.grid_size, TASK.grid_size)
        directions = unpack(observations, layout)["pose"][:, 2]
        return np.where(directions == 0, 2, 1)

    def observe(self, rewards):
        self.steps += 1

    def keep(self, rows):
        pass


def test_notes_are_what_happened():
    seeds = [5, 6, 7]
    notes = take_notes(Forward(), TASK, seeds)
    assert (notes.returns == 1).all() and notes.terminated.all()
    env = TASK.make()
    for seed, start, length in zip(seeds, notes.starts, notes.lengths, strict=True):
        observation, _ = env.reset(seed=seed)
        for step in range(start, start + length):
            assert np.array_equal(notes.observations[step], TASK.pack(observation))
            observation, reward, ended, _, _ = env.step(notes.actions[step])
            assert reward == notes.rewards[step]
        assert ended


def test_lessons_are_played_once(tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "CHUNK", 2)
    calls = []

    def make(targets):
        calls.append(len(targets))
        return Forward()

    first = lessons(make, TASK, 5, tmp_path)
    assert calls == [2, 2, 1] and len(first.lengths) == 5
    assert first.seeds.tolist() == [LESSON_SEED + i for i in range(5)]
    again = lessons(make, TASK, 5, tmp_path)
    assert calls == [2, 2, 1], "kept ones are read"
    assert again.content_hash() == first.content_hash()
    next(iter(sorted(tmp_path.iterdir()))).unlink()
    lessons(make, TASK, 5, tmp_path)
    assert calls == [2, 2, 1, 2], "only what is missing is played"


def test_lessons_do_not_depend_on_the_cores_of_a_machine(tmp_path):
    """Sums in another order, and a planner decides otherwise."""
    threads, found = torch.get_num_threads(), []

    class Counting(Forward):
        def act(self, observations):
            found.append(torch.get_num_threads())
            return super().act(observations)

    torch.set_num_threads(2)
    try:
        lessons(Counting, TASK, 1, tmp_path)
        assert set(found) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_seeds_of_lessons_are_nobody_elses():
    from helpers.data.catalogue import DATASETS

    last = max(spec.seed + max(spec.episodes, 1) for spec in DATASETS.values())
    assert last < LESSON_SEED


@pytest.mark.parametrize("name", ["cross-qdt", "cross-ttq", "distilled"])
def test_runs_with_partners_go_through_in_smoke(name, monkeypatch, tmp_path):
    from helpers import paths
    from helpers.experiments import load_experiments
    from helpers.runs import obtain

    monkeypatch.setattr(paths, "WORK", tmp_path / "work")
    run = load_experiments()[name][0]
    result, _ = obtain(run, "smoke")
    assert len(result["returns"]) == 2 and result["run"]["experiment"] == name
    assert run.depth == 1
