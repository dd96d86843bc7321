"""Stories for the explorer: a Decision Transformer plays HalfCheetah, LEAP refines a plan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from helpers.agents import DecisionAgent
from helpers.analysis.attention import LEVEL, AttentionMaps, decision_attention, leap_attention
from helpers.analysis.plans import Walk, walk
from helpers.cheetah import pose_pictures, poses
from helpers.data.episodes import Dataset
from helpers.envs.grids import ACTIONS
from helpers.explorer import Story, Token
from helpers.leap_diagrams import draw_way, words
from helpers.models.decision import DecisionTransformer
from helpers.models.leap import Leap
from helpers.planning.gibbs import GibbsConfig, GibbsPlanner
from helpers.plotting import METHOD_COLOURS
from helpers.tasks import Task, get_task

JOINTS = ("back thigh", "back shin", "back foot", "front thigh", "front shin", "front foot")
"""What each entry of an action turns."""
TILE = 32
"""Pixels of a cell's side."""


def decision_story(
    model: DecisionTransformer,
    *,
    target: float = 6000.0,
    seed: int = 0,
    moments: Sequence[int] = range(40),
    name: str = "Decision Transformer, HalfCheetah",
) -> Story:
    """A Decision Transformer plays HalfCheetah; at each moment, the window from which it acts.

    Args:
        model: of HalfCheetah.
        target: return that is asked for.
        seed: of the episode.
        moments: time steps to show, increasing.
        name: of the story.

    Raises:
        ValueError: moments that do not increase, or lie outside an episode.
    """
    played, asked = _play(model, target, seed, moments)
    maps, tokens = [], []
    for t in moments:
        window = slice(max(0, t + 1 - model.config.context_length), t + 1)
        maps.append(_decision_maps(model, played, asked, window))
        tokens.append(_decision_tokens(window, asked))
    size = max(len(one) for one in tokens)
    return Story(
        name=name,
        frames=pose_pictures(*poses(played, 0, moments), METHOD_COLOURS["dt"]),
        maps=np.stack([_padded(one, size) for one in maps]),
        tokens=tuple(tokens),
        captions=tuple(_torques(played, asked, t) for t in moments),
        reads=tuple((len(one) - 1,) for one in tokens),
    )


def _play(
    model: DecisionTransformer, target: float, seed: int, moments: Sequence[int]
) -> tuple[Dataset, Float[np.ndarray, " N"]]:
    """An episode up to the last moment, and what was asked for at each step."""
    task = get_task("halfcheetah")
    shown = list(moments)
    if shown != sorted(set(shown)) or not shown or not 0 <= shown[0] <= shown[-1] < task.horizon:
        raise ValueError(f"moments are {shown}; give increasing steps from 0 to {task.horizon - 1}")
    env, agent = task.make(), DecisionAgent(model, np.array([target]))
    observation, _ = env.reset(seed=seed)
    agent.reset(1)
    observations, actions, rewards = [observation], [], []
    for _ in range(shown[-1] + 1):
        actions.append(agent.act(observations[-1][None].astype(np.float32))[0])
        observation, reward, *_ = env.step(actions[-1])
        agent.observe(np.array([reward]))
        observations.append(observation)
        rewards.append(float(reward))
    env.close()
    steps = len(rewards)
    played = Dataset(
        observations=np.stack(observations[:-1]),
        actions=np.stack(actions),
        rewards=np.array(rewards),
        lengths=np.array([steps]),
        terminated=np.array([False]),
        final_observations=observations[-1][None],
        seeds=np.array([seed]),
    )
    return played, agent.returns_to_go[0, :steps].double().numpy()


def _decision_maps(
    model: DecisionTransformer, played: Dataset, asked: Float[np.ndarray, " N"], window: slice
) -> Float[np.ndarray, "layers heads L L"]:
    """Attention in a window without its last action, which is yet to be chosen."""
    inputs = (asked, played.observations, played.actions)
    given = (torch.from_numpy(part[window]).float()[None] for part in inputs)
    times = torch.arange(window.start, window.stop)[None]
    return _with_gaps(decision_attention(model, *given, times))[..., :-1, :-1]


def _with_gaps(maps: AttentionMaps) -> Float[np.ndarray, "layers heads L L"]:
    """The weights of the first window, NaN where a query may not look."""
    return maps.weights[:, 0].masked_fill(~maps.allowed[0], torch.nan).numpy()


def _padded(
    maps: Float[np.ndarray, "layers heads n n"], size: int
) -> Float[np.ndarray, "layers heads L L"]:
    room = size - maps.shape[-1]
    return np.pad(maps, ((0, 0), (0, 0), (0, room), (0, room)), constant_values=np.nan)


def _decision_tokens(window: slice, asked: Float[np.ndarray, " N"]) -> tuple[Token, ...]:
    tokens = []
    for t in range(window.start, window.stop):
        tokens += [
            Token("R", "return", t, f"return-to-go {_number(asked[t], ',.1f')} of step {t}"),
            Token("s", "state", t, f"state of step {t}"),
            Token("a", "action", t, f"action of step {t}"),
        ]
    return tuple(tokens[:-1])


def _torques(played: Dataset, asked: Float[np.ndarray, " N"], t: int) -> str:
    """What is asked for and done at a step."""
    torques = [
        f"{joint} {_number(torque, '+.2f')}"
        for joint, torque in zip(JOINTS, played.actions[t], strict=True)
    ]
    return (
        f"Step {t}. Return so far {_number(played.rewards[:t].sum(), ',.1f')}, still asked for "
        f"{_number(asked[t], ',.1f')}. The model chooses the torques {', '.join(torques)}; the "
        f"reward is {_number(played.rewards[t], '.2f')}."
    )


def _number(value: float | np.floating, form: str) -> str:
    return format(float(value), form).replace("-", "−")


def leap_story(
    model: Leap,
    task: Task,
    seed: int,
    *,
    config: GibbsConfig | None = None,
    draws: int = 0,
    name: str = "LEAP, BabyAI",
) -> Story:
    """LEAP refines a plan; at each iteration, the level and the words that it is given.

    Words behind a plan's END are left out: nobody looks at them.

    Args:
        model: of the task.
        task: a grid.
        seed: of the level.
        config: of the search; of several chains, the first one is shown.
        draws: seed of the search.
        name: of the story; the mission is added.
    """
    level, mission, observed = _level(task, seed)
    generator = torch.Generator().manual_seed(draws)
    found = GibbsPlanner(model, config or GibbsConfig()).plan(observed, generator, record=True)
    given, plans = (torch.from_numpy(part[:, 0, 0]) for part in (found.inputs, found.history))
    with torch.inference_mode():
        states = model.encode(observed).expand(len(given), -1)
        chances = model(states, given).softmax(dim=-1)
    maps = leap_attention(model, states, given)
    # Words that are given, the first END included.
    counts = model.active(given).sum(dim=1).tolist()
    kept = [
        _padded(_with_gaps(maps.select([i]))[..., : 1 + n, : 1 + n], 1 + max(counts))
        for i, n in enumerate(counts)
    ]
    walks = [walk(task, seed, plan) for plan in plans.numpy()]
    vocabulary = ACTIONS[: task.action_size]
    return Story(
        name=f"{name}: {mission}",
        frames=np.stack([_level_picture(level, walked) for walked in walks]),
        maps=np.stack(kept),
        tokens=tuple(
            _plan_tokens(words(plan[:n], vocabulary)) for plan, n in zip(given, counts, strict=True)
        ),
        captions=tuple(
            f"Iteration {i + 1}. {_filled(*parts, vocabulary)} The plan's energy is {energy:.2f}; "
            f"carried out, it {'reaches' if walked.success else 'does not reach'} the goal."
            for i, (*parts, energy, walked) in enumerate(
                zip(given, plans, chances, found.energies[:, 0, 0], walks, strict=True)
            )
        ),
        reads=tuple(
            tuple((1 + np.flatnonzero(row == model.config.mask)).tolist()) for row in given.numpy()
        ),
    )


def _level(task: Task, seed: int) -> tuple[UInt8[np.ndarray, "P P 3"], str, Tensor]:
    """Picture, mission and observation of a level at its start."""
    env = task.make()
    seen, _ = env.reset(seed=seed)
    picture = env.unwrapped.get_frame(False, TILE)
    env.close()
    return picture, seen["mission"], torch.from_numpy(task.pack(seen))[None]


def _level_picture(
    level: UInt8[np.ndarray, "P P 3"], walked: Walk, dpi: int = 100
) -> UInt8[np.ndarray, "P P 3"]:
    """The level with the plan's way."""
    side = level.shape[0] / dpi
    figure = Figure(figsize=(side, side), dpi=dpi, layout="none")
    canvas = FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.imshow(level, interpolation="nearest")
    draw_way(ax, walked, float(TILE))
    ax.axis("off")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _plan_tokens(given: Sequence[str]) -> tuple[Token, ...]:
    tokens = [Token("level", "state", LEVEL, "the level")]
    for place, word in enumerate(given):
        kind = "mask" if word == "MASK" else "action"
        tokens.append(Token(word, kind, place, f"{word} at place {place}"))
    return tuple(tokens)


def _filled(
    given: Int[Tensor, " H"],
    plan: Int[Tensor, " H"],
    chances: Float[Tensor, "H tokens"],
    vocabulary: Sequence[str],
) -> str:
    """What the model put in place of the MASKs, up to the plan's END, and its probability."""
    names = words(plan, vocabulary)
    ends = names.index("END") if "END" in names else len(names)
    mask = len(vocabulary) + 1
    parts = []
    for place in range(min(ends + 1, len(names))):
        if given[place] == mask:
            chance = float(chances[place, plan[place]])
            parts.append(f"{names[place]} (probability {chance:.2f}) at place {place}")
    return f"The model fills in {', '.join(parts)}."
