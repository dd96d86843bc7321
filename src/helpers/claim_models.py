"""What the statistics of `claims.yml` look at: trained models and windows of episodes.

Models are the committed checkpoints, episodes those of chapters 8 and 9: further ones of the policy
that made the data where there are any, so that no model has seen them. Everything is made once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from helpers import paths
from helpers.agents import DecisionAgent, GridTrajectoryAgent, LeapAgent
from helpers.analysis.attention import recorded_windows
from helpers.analysis.cost import Work, beam_work, decision_work, gibbs_work, milliseconds
from helpers.analysis.statistics import Interval, mean_draws, mean_interval, percentile_interval
from helpers.benchmark import reported
from helpers.data.catalogue import get_spec, load_dataset
from helpers.data.collect import EpisodeMaker
from helpers.data.episodes import Dataset, join
from helpers.data.policies import load_policy
from helpers.evaluate import one_thread
from helpers.experiments import Run, load_experiments, smoke_version
from helpers.files import BadFile
from helpers.models.decision import DecisionTransformer, load_decision
from helpers.models.leap import Leap, load_leap
from helpers.models.trajectory import TrajectoryTransformer, columns, load_trajectory
from helpers.planning.beam import BeamConfig
from helpers.planning.gibbs import GibbsConfig, GibbsPlanner
from helpers.runs import fresh_model, obtain

TASK = "halfcheetah"
TIERS = ("medium", "medium-replay")
ROOM = "babyai-gotolocal-s7n5/expert"
WINDOWS_AN_EPISODE = 12
CONTEXT = 5
"""Steps of the past that Trajectory Transformer sees when it acts or imagines."""


def runs_of(experiment: str, dataset: str, profile: str) -> list[Run]:
    """An experiment's runs on a dataset: of the benchmark's seeds, and those that are done.

    In smoke the first one stands alone.
    """
    runs = [run for run in load_experiments()[experiment] if run.dataset == dataset]
    if profile == "smoke":
        return runs[:1]
    return reported(runs)


def _models(reader: Callable[..., Any], runs: list[Run], profile: str) -> tuple[Any, ...]:
    """Trained models; in smoke a tiny untrained one.

    Raises:
        BadFile: a checkpoint is lacking; an interval of fewer models would mean less.
    """
    if profile == "smoke":  # to train it would mean to play it, through a thousand steps
        sample = load_dataset(runs[0].dataset, sample=True)
        return (fresh_model(smoke_version(runs[0]), sample).eval(),)
    checkpoints = [obtain(run, profile)[1] for run in runs]
    if lacking := [str(checkpoint) for checkpoint in checkpoints if not checkpoint.exists()]:
        raise BadFile(
            f"{', '.join(lacking)}: no such file; it is committed: git checkout restores it"
        )
    return tuple(reader(checkpoint)[0].eval() for checkpoint in checkpoints)


@cache
def decision_models(tier: str, profile: str) -> tuple[DecisionTransformer, ...]:
    """Decision Transformers of HalfCheetah."""
    return _models(load_decision, runs_of("dt", f"{TASK}/{tier}", profile), profile)


@cache
def trajectory_models(profile: str) -> tuple[TrajectoryTransformer, ...]:
    """Trajectory Transformers of HalfCheetah medium."""
    return _models(load_trajectory, runs_of("tt", f"{TASK}/medium", profile), profile)


@cache
def leap_model(profile: str) -> Leap:
    """LEAP of a room: the first seed's, whose checkpoint is committed."""
    return _models(load_leap, runs_of("babyai-leap", ROOM, profile)[:1], profile)[0]


# --- episodes and windows ----------------------------------------------------------------------


@cache
def episodes(tier: str, profile: str) -> Dataset:
    """Eight episodes that no model has seen, or of a replay eight at even distances."""
    spec, count = get_spec(f"{TASK}/{tier}"), 2 if profile == "smoke" else 8
    make = EpisodeMaker(spec)
    last = len(make.actions) - 1 if spec.replay else spec.episodes + count - 1
    numbers = np.linspace(0 if spec.replay else spec.episodes, last, count)
    return join([make(int(number)) for number in numbers])


def moments(data: Dataset, per_episode: int) -> Int[np.ndarray, " windows"]:
    """Steps at even distances, episode after episode."""
    inside = data.lengths[:, None] * np.linspace(0.05, 0.99, per_episode)
    return (data.starts[:, None] + inside).astype(int).ravel()


@cache
def decision_windows(tier: str, profile: str) -> dict[str, Tensor]:
    """Windows as a Decision Transformer is given them, `WINDOWS_AN_EPISODE` of each episode."""
    data = episodes(tier, profile)
    steps = decision_models(tier, profile)[0].config.context_length
    return recorded_windows(data, moments(data, WINDOWS_AN_EPISODE), steps)


def trajectory_tokens(profile: str, steps: int, per_episode: int) -> Int[Tensor, "windows tokens"]:
    """Windows of medium episodes as a Trajectory Transformer reads them."""
    model, data = trajectory_models(profile)[0], episodes("medium", profile)
    rows = columns(data, model.config)[
        moments(data, per_episode)[:, None] + np.arange(1 - steps, 1)
    ]
    return torch.from_numpy(model.discretiser.encode(rows)).flatten(1)


@cache
def demonstrations(profile: str) -> Dataset:
    """Further demonstrations of the bot in a room."""
    spec, count = get_spec(ROOM), 12 if profile == "smoke" else 200
    make = EpisodeMaker(spec)
    return join([make(spec.episodes + number) for number in range(count)])


def intended(observations: Float[np.ndarray, "*n S"]) -> Float[np.ndarray, "*n A"]:
    """What the policy that made the medium data would do, without its noise."""
    spec = get_spec(f"{TASK}/medium")
    actor = load_policy(paths.POLICIES / f"{spec.behaviour}.safetensors").actor(sample=False)
    flat = observations.reshape(-1, observations.shape[-1])
    return actor(flat, np.random.default_rng()).reshape(*observations.shape[:-1], -1)


# --- times -------------------------------------------------------------------------------------


@cache
def timed_decisions(profile: str) -> dict[str, Float[np.ndarray, " rounds"]]:
    """Milliseconds of one core: DT's and TT's decisions on HalfCheetah, a plan of LEAP's.

    They take turns, so that what disturbs one disturbs all.
    """
    experiments, smoke = load_experiments(), profile == "smoke"
    search = BeamConfig(**experiments["tt"][0].planner)
    if smoke:
        search = BeamConfig(beam_width=2, horizon=2, context=2)
    room = load_dataset(ROOM, sample=True)
    works = {
        "dt": decision_work(decision_models("medium", profile)[0]),
        "tt": beam_work(trajectory_models(profile)[0], search, search.context),
        "leap": gibbs_work(
            leap_model(profile),
            GibbsConfig(**experiments["babyai-leap"][0].planner),
            torch.from_numpy(room.observations[:1]),
        ),
    }
    with one_thread():
        times = milliseconds(list(works.values()), rounds=1 if smoke else 3)
    if smoke:  # its outputs must not depend on the machine
        times = np.ones_like(times)
    return dict(zip(works, times.T, strict=True))


@dataclass(frozen=True)
class Pace:
    """What a plan costs in a room; a Decision Transformer's plan is one action."""

    milliseconds: Float[np.ndarray, " turns"]
    """Of a plan for one environment, on one core."""
    actions: Float[np.ndarray, " plans"]
    """That are carried out of a plan, at most: an episode may end before."""

    @property
    def of_a_plan(self) -> Interval:
        """Mean milliseconds; the interval is over repeats on this machine."""
        return mean_interval(self.milliseconds[None])

    @property
    def of_an_action(self) -> Interval:
        """Mean milliseconds of a plan over the mean number of its actions."""
        rng = np.random.default_rng(0)
        times, counts = self.milliseconds[None], self.actions[None]
        draws = mean_draws(times, rng) / mean_draws(counts, rng)
        return percentile_interval(times.mean() / counts.mean(), draws)


@cache
def room_paces(profile: str) -> dict[str, Pace]:
    """DT, TT and LEAP in the same room with the same observation, timed in turns.

    A time needs the shape of a network and not its training, so DT and TT are fresh models of the
    trained ones' configurations. How long LEAP's plans are, its trained model says.
    """
    smoke = profile == "smoke"
    sample = load_dataset(ROOM, sample=True)
    runs = {
        method: next(run for run in load_experiments()[f"babyai-{method}"] if run.dataset == ROOM)
        for method in ("dt", "tt", "leap")
    }
    if smoke:
        runs = {method: smoke_version(run) for method, run in runs.items()}
    search, refinement = BeamConfig(**runs["tt"].planner), GibbsConfig(**runs["leap"].planner)
    dt, tt = (fresh_model(runs[method], sample).eval() for method in ("dt", "tt"))
    leap, seen = leap_model(profile), sample.observations[:1]
    works = {
        "dt": _full_window(DecisionAgent(dt, np.ones(1)), dt.config.context_length, seen),
        "tt": _plan_anew(GridTrajectoryAgent(tt, search), seen),
        "leap": _plan_anew(LeapAgent(leap, refinement), seen),
    }
    rounds, least = (1, 0.0) if smoke else (20, 5.0)
    with one_thread():
        times = milliseconds(list(works.values()), rounds, least=least)
    if smoke:  # its outputs must not depend on the machine
        times = np.ones_like(times)
    data = demonstrations(profile)
    beginnings = torch.from_numpy(data.observations[data.starts])
    plans = GibbsPlanner(leap, refinement).plan(beginnings, torch.Generator().manual_seed(0))
    actions = {"dt": np.ones(1), "tt": np.full(1, float(search.plan_every)),
               "leap": plans.lengths.astype(float)}  # fmt: skip
    return {method: Pace(times[:, i], actions[method]) for i, method in enumerate(works)}


def _full_window(agent: DecisionAgent, steps: int, seen: Real[np.ndarray, "1 S"]) -> Work:
    """A decision behind as many steps as the agent remembers, its encoder of the level included."""
    agent.reset(1)
    for _ in range(steps):
        agent.act(seen)
        agent.observe(np.zeros(1))
    return lambda: agent.act(seen)


def _plan_anew(agent: GridTrajectoryAgent | LeapAgent, seen: Real[np.ndarray, "1 S"]) -> Work:
    """A plan from the first state, its encoder of the level included."""

    def plan() -> None:
        agent.reset(1)
        agent.act(seen)

    return plan
