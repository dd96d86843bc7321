"""Statistics of `claims.yml` that are no differences between results.

Each is computed anew from committed checkpoints, results or published tables, in seconds, and is
written so that a large value speaks for the claim. Its argument is a profile, as of `runs.obtain`;
in smoke it looks at tiny models. Definitions are those of the chapters that the claims name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
from jaxtyping import Float

from helpers import deadly_triad, published
from helpers.analysis.cost import beam_cost, block_operations, gibbs_cost
from helpers.analysis.robustness import kept_of
from helpers.analysis.statistics import (
    Interval,
    mean_interval,
    percentile_interval,
    slope_interval,
)
from helpers.claim_attention import ATTENTION
from helpers.claim_errors import ERRORS
from helpers.claim_models import (
    decision_models,
    leap_model,
    runs_of,
    timed_decisions,
    trajectory_models,
)
from helpers.data.catalogue import get_spec, registry
from helpers.data.collect import EpisodeMaker
from helpers.data.episodes import join
from helpers.envs.tables import best_values
from helpers.experiments import load_experiments
from helpers.models.grid_trajectory import POSE
from helpers.models.leap import LeapConfig
from helpers.models.trajectory import TrajectoryConfig
from helpers.planning.beam import BeamConfig
from helpers.planning.gibbs import GibbsConfig
from helpers.runs import obtain
from helpers.tasks import get_task

OTHER_MACHINES = 4.0
"""Factor by which times may differ elsewhere: intervals of times are wider by it, both ways."""


def exactly(value: float) -> Interval:
    """A number that is counted and does not vary."""
    return Interval(float(value), float(value), float(value))


# --- values and data ---------------------------------------------------------------------------


def triad_diverges(profile: str) -> Interval:
    """Negative smallest real part of an eigenvalue of the expected update with all three legs."""
    problem, learner = deadly_triad.Baird(), deadly_triad.Learner()
    count = 4 if profile == "smoke" else 20
    data = [deadly_triad.sample_transitions(problem, np.random.default_rng([0, i]))
            for i in range(count)]  # fmt: skip
    matrices = [deadly_triad.update_matrix(learner, problem, one) for one in data]
    return mean_interval(np.array([[-deadly_triad.smallest_real_part(m)] for m in matrices]))


def copying_success(profile: str) -> Interval:
    """Expected return of imitating the luckiest tenth of gambles minus that of the best plan."""
    maker, count = EpisodeMaker(get_spec("gamble/random")), 400 if profile == "smoke" else 2000
    game = get_task("gamble").make().unwrapped
    best = best_values(game.P, game.rounds)[0][0, 0]
    played = join([maker(number) for number in range(count)])
    lucky = np.argsort(-played.returns, kind="stable")[: count // 10]
    bets = played.actions.reshape(count, game.rounds)[lucky]
    # A safe round pays 1 and a bet -1 on average, so an imitator expects 1 - 2 q in each round.
    return mean_interval((1 - 2 * bets).sum(axis=1)[None] - best)


@cache
def _asked(
    tier: str, profile: str
) -> tuple[Float[np.ndarray, " targets"], Float[np.ndarray, "_t _s _e"]]:
    """Targets and achieved returns of Decision Transformer's sweeps."""
    runs = runs_of("dt", f"halfcheetah/{tier}", profile)
    sweeps = [obtain(run, profile)[0]["sweep"] for run in runs]
    achieved = np.array([sweep["returns"] for sweep in sweeps]).transpose(1, 0, 2)
    return np.array(sweeps[0]["targets"], float), achieved


def _obeys(tier: str, profile: str) -> Interval:
    asked, achieved = _asked(tier, profile)
    known = registry()[f"halfcheetah/{tier}"]
    inside = (asked >= known["return_min"]) & (asked <= known["return_max"])
    return slope_interval(asked[inside], achieved[inside])


def obeys_replay(profile: str) -> Interval:
    """Slope of achieved on asked returns within medium-replay's range."""
    return _obeys("medium-replay", profile)


def obeys_medium(profile: str) -> Interval:
    """Slope of achieved on asked returns within medium's range."""
    return _obeys("medium", profile)


def obeys_beyond(profile: str) -> Interval:
    """Share of the highest target of the sweep that models of medium-replay deliver."""
    asked, achieved = _asked("medium-replay", profile)
    return mean_interval(achieved[-1] / asked[-1])


# --- changed worlds ----------------------------------------------------------------------------

SEQUENCE_MODELS = ("shifted-dt", "shifted-tt-greedy")
VALUE_BASED = ("shifted-iql", "shifted-cql")


def _kept(
    experiments: Sequence[str], profile: str, rng: np.random.Generator, worlds: str = ""
) -> tuple[float, Float[np.ndarray, " resamples"]]:
    """Percent of the return that is kept, on average over worlds and methods, and its resamples.

    `worlds` names what is changed (`envs.shifts.SHIFTS`); all that were tried if empty.
    """
    if profile == "smoke":  # a search takes minutes; one tiny model stands for all
        experiments = ("shifted-bc",)
    runs = [runs_of(name, "halfcheetah/medium", profile) for name in experiments]
    kept = [kept_of([obtain(run, profile)[0] for run in some]) for some in runs]
    some = [i for i, (name, _) in enumerate(kept[0].changed) if worlds in ("", name)]
    shares, draws = [one.shares[some] for one in kept], [one.draws(rng)[some] for one in kept]
    return 100 * float(np.mean(shares)), 100 * np.mean(draws, axis=(0, 1))


def shift_lead(profile: str) -> Interval:
    """Share of the return that sequence models keep minus that of value-based methods, points."""
    rng = np.random.default_rng(0)
    (ours, our_draws), (theirs, their_draws) = (
        _kept(names, profile, rng) for names in (SEQUENCE_MODELS, VALUE_BASED)
    )
    return percentile_interval(ours - theirs, our_draws - their_draws)


def shift_loss(profile: str) -> Interval:
    """Percent of their return that sequence models lose in changed worlds."""
    kept, draws = _kept(SEQUENCE_MODELS, profile, np.random.default_rng(0))
    return percentile_interval(100 - kept, 100 - draws)


def start_loss(profile: str) -> Interval:
    """Percent of their return that sequence models lose when the first state is thrown further."""
    kept, draws = _kept(SEQUENCE_MODELS, profile, np.random.default_rng(0), worlds="start")
    return percentile_interval(100 - kept, 100 - draws)


# --- structured tasks --------------------------------------------------------------------------


def atari_lead(profile: str) -> Interval:
    """Published score of LEAP minus CQL's; the interval resamples the four games."""
    games = published.scores("atari").pivot(index="method", columns="task", values="score")
    lead = games.loc["LEAP", list(published.GAMES)] - games.loc["CQL", list(published.GAMES)]
    return mean_interval(lead.to_numpy()[None])


def shared_tasks(profile: str) -> Interval:
    """Negative number of datasets on which DT, TT and LEAP were all trained and evaluated here."""
    done: dict[str, set[str]] = {}
    for runs in load_experiments().values():
        for run in runs:
            trained = run.method in ("dt", "tt", "leap") and not run.trained_by
            if trained and run.state() == "done":
                done.setdefault(run.dataset, set()).add(run.method)
    return exactly(-float(sum(len(methods) == 3 for methods in done.values())))


# --- cost --------------------------------------------------------------------------------------


def beam_is_linear(profile: str) -> Interval:
    """Negative distance from 1 of the slope of counted tokens on the beam's width, 1 to 32."""
    widths = [1, 2, 4, 8, 16, 32]
    model = TrajectoryConfig(observation_size=17, action_size=6)
    tokens = [beam_cost(model, BeamConfig(beam_width=width), BeamConfig().context).tokens
              for width in widths]  # fmt: skip
    return exactly(-abs(np.polyfit(np.log(widths), np.log(tokens), 1)[0] - 1))


def room_tokens() -> dict[str, int]:
    """Tokens that one plan of TT and one of LEAP pass through the network in GoToLocalS7N5."""
    experiments, dataset = load_experiments(), "babyai-gotolocal-s7n5/expert"
    tt, leap = (next(run for run in experiments[name] if run.dataset == dataset)
                for name in ("babyai-tt", "babyai-leap"))  # fmt: skip
    shape = TrajectoryConfig(observation_size=POSE, action_size=1)
    search = BeamConfig(**tt.planner)
    level = 1  # the token in front, of map and mission; LEAP's is counted in `gibbs_cost`
    leap_shape = LeapConfig(observation_size=0, action_size=0, **leap.model)
    return {
        "tt": level + beam_cost(shape, search, search.context).tokens,
        "leap": gibbs_cost(leap_shape, GibbsConfig(**leap.planner)).tokens,
    }


def leap_dearer(profile: str) -> Interval:
    """Decimal logarithm of LEAP's tokens over TT's, one plan each."""
    tokens = room_tokens()
    return exactly(np.log10(tokens["leap"] / tokens["tt"]))


def attention_share(profile: str) -> Interval:
    """Largest share of attention in a block's operations, among the windows of DT, TT and LEAP."""
    tier = "medium"
    first = decision_models(tier, profile)[0], trajectory_models(profile)[0], leap_model(profile)
    dt, tt, leap = (model.config for model in first)
    lengths = [3 * dt.context_length, tt.context_length * tt.step_size, 1 + leap.plan_length]
    widths = [dt.core.width, tt.core.width, leap.core.width]
    shares = []
    for length, width in zip(lengths, widths, strict=True):
        linear, square = block_operations(np.array([length]), width)
        shares.append(float((square / (linear + square))[0]))
    return exactly(max(shares))


def _milliseconds(method: str, profile: str) -> Interval:
    """Median time of a decision on one core; the interval allows for other machines."""
    times = timed_decisions(profile)[method]
    return Interval(
        float(np.median(times)), times.min() / OTHER_MACHINES, times.max() * OTHER_MACHINES
    )


def dt_milliseconds(profile: str) -> Interval:
    """Of a Decision Transformer with a full window."""
    return _milliseconds("dt", profile)


def tt_milliseconds(profile: str) -> Interval:
    """Of a Trajectory Transformer's search, one decision."""
    return _milliseconds("tt", profile)


def leap_milliseconds(profile: str) -> Interval:
    """Of a plan of LEAP."""
    return _milliseconds("leap", profile)


STATISTICS: Mapping[str, Callable[[str], Interval]] = {
    **{
        function.__name__: function
        for function in (
            triad_diverges, copying_success, obeys_replay, obeys_medium, obeys_beyond,
            shift_lead, shift_loss, start_loss, atari_lead, shared_tasks, beam_is_linear,
            leap_dearer, attention_share, dt_milliseconds, tt_milliseconds, leap_milliseconds,
        )
    },
    **ATTENTION,
    **ERRORS,
}  # fmt: skip
