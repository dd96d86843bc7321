"""Train the HalfCheetah behaviour policies by Soft Actor-Critic (Haarnoja et al. 2018).

The learner is SBX (Stable-Baselines3 on JAX), an extra of this project: nobody needs it to read or
re-run the book. One run gives three things: the *medium* actor (the first snapshot whose sampled
return reaches D4RL's medium level), the *expert* actor (the best snapshot), and the *replay*: every
action played up to the medium snapshot with the seed of every episode, from which the simulator
reproduces the replay buffer exactly (see `collect`).

    python -m helpers policy
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from helpers.data.policies import Policy, load_policy, save_policy
from helpers.files import write_arrays, write_json


@dataclass(frozen=True)
class SACConfig:
    """Hyper-parameters: those of the SAC paper unless a comment says otherwise."""

    env_id: str = "HalfCheetah-v5"
    steps: int = 300_000
    """Environment steps over all copies; about 32 minutes on one core."""
    n_envs: int = 4
    """Copies stepped together; each step of all copies is followed by as many gradient steps."""
    seed: int = 0
    learning_rate: float = 3e-4
    qf_learning_rate: float = 1e-3
    """Critics learn faster than the actor, as in CleanRL; 3e-4 in the paper."""
    policy_delay: int = 2
    """Critic updates per actor update; 1 in the paper, 2 spares a third of the time."""
    batch_size: int = 256
    learning_starts: int = 10_000
    """Steps of uniform random actions before learning."""
    eval_every: int = 10_000
    eval_episodes: int = 5
    medium_return: float = 4_770.0
    """Return of D4RL's medium set (mean of halfcheetah-medium-v2), sampled actions."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 9:
            raise ValueError(
                f"seed is {self.seed}; choose 0 to 8: from 10,000,000 on, environment seeds belong "
                "to the datasets"
            )


class SeededEpisodes(gymnasium.Wrapper):
    """Gives episode k of copy i the seed `offset + i + n * k`, and remembers every action.

    A vectorised learner resets its environments without a seed, from a generator whose state
    nobody stores; with explicit seeds the actions alone determine the whole trajectory.
    """

    def __init__(self, env: gymnasium.Env, copy: int, n_envs: int, offset: int) -> None:
        super().__init__(env)
        self.next_seed = offset + copy
        self.n_envs = n_envs
        self.seeds: list[int] = []
        self.actions: list[list[np.ndarray]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start the next episode; the caller's seed is ignored, ours is recorded."""
        if self.actions and not self.actions[-1]:  # a second reset before the first step
            self.next_seed -= self.n_envs
            self.seeds.pop()
            self.actions.pop()
        self.seeds.append(self.next_seed)
        self.actions.append([])
        result = self.env.reset(seed=self.next_seed, options=options)
        self.next_seed += self.n_envs
        return result

    def step(self, action: np.ndarray):
        """Play and record one action."""
        self.actions[-1].append(np.array(action, np.float32))
        return self.env.step(action)


def export_actor(params: Any, metadata: dict[str, Any]) -> Policy:
    """Turn the parameters of SBX's `SquashedGaussianActor` into a `Policy`.

    Flax numbers the dense layers in call order: hidden layers, then the mean, then the log std.
    """
    tree = params["params"]
    names = sorted((k for k in tree if k.startswith("Dense_")), key=lambda k: int(k[6:]))
    arrays = {}
    for i, name in enumerate(names):
        key = "log_std" if i == len(names) - 1 else f"layers.{i}"
        arrays[f"{key}.weight"] = np.asarray(tree[name]["kernel"], np.float32).T
        arrays[f"{key}.bias"] = np.asarray(tree[name]["bias"], np.float32)
    return Policy(arrays, "relu", "tanh", metadata=metadata)


def rollout_returns(policy: Policy, env_id: str, seeds: list[int], *, sample: bool) -> list[float]:
    """Undiscounted return of one episode per seed."""
    actor = policy.actor(sample=sample)
    env = gymnasium.make(env_id)
    returns = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        observation, _ = env.reset(seed=seed)
        total, done = 0.0, False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(actor(observation, rng))
            total += float(reward)
            done = terminated or truncated
        returns.append(total)
    env.close()
    return returns


def _replay(envs: list[SeededEpisodes]) -> dict[str, np.ndarray]:
    """All complete episodes in order of their end: actions (N, A), lengths and seeds (E,)."""
    episodes = [
        (sum(len(a) for a in env.actions[: k + 1]), i, env.seeds[k], actions)
        for i, env in enumerate(envs)
        for k, actions in enumerate(env.actions[:-1])
    ]
    episodes.sort(key=lambda episode: episode[:2])
    return {
        "actions": np.concatenate([np.stack(actions) for *_, actions in episodes]),
        "lengths": np.array([len(actions) for *_, actions in episodes], np.int64),
        "seeds": np.array([seed for _, _, seed, _ in episodes], np.int64),
    }


def train_sac(config: SACConfig, folder: Path) -> None:
    """Train and leave `snapshots/`, `curve.json` and `replay.safetensors` in `folder`.

    Raises:
        ImportError: the `policies` extra is not installed; the message gives the command.
    """
    try:
        from sbx import SAC
        from stable_baselines3.common.callbacks import BaseCallback
        from stable_baselines3.common.vec_env import DummyVecEnv
    except ImportError as error:
        raise ImportError(
            "training behaviour policies needs the extra: pip install -e '.[policies]'"
        ) from error

    offset = 1_000_000 * (config.seed + 1)  # far from the seeds of evaluation and collection
    envs = [
        SeededEpisodes(gymnasium.make(config.env_id), i, config.n_envs, offset)
        for i in range(config.n_envs)
    ]
    start = time.time()
    curve: list[dict[str, float]] = []

    class Snapshot(BaseCallback):
        """Every `eval_every` steps: evaluate, store the actor, extend the learning curve."""

        replay_done = False

        def _on_step(self) -> bool:
            if self.num_timesteps % config.eval_every == 0:
                self.snapshot()
            return True

        def snapshot(self) -> None:
            steps = self.num_timesteps
            provenance = {"algorithm": "SAC (SBX)", "config": dataclasses.asdict(config)}
            policy = export_actor(self.model.policy.actor_state.params, provenance)
            seeds = list(range(config.eval_episodes))
            row = {"steps": steps, "seconds": round(time.time() - start, 1)}
            for name, sample in (("mean_action", False), ("sampled", True)):
                returns = rollout_returns(policy, config.env_id, seeds, sample=sample)
                row[name] = round(float(np.mean(returns)), 2)
                row[f"{name}_min"] = round(min(returns), 2)
            curve.append(row)
            print(row, flush=True)
            save_policy(folder / "snapshots" / f"{steps:07d}.safetensors", policy)
            write_json(folder / "curve.json", {"config": dataclasses.asdict(config), "rows": curve})
            if not self.replay_done and steps > config.learning_starts:
                write_arrays(folder / "replay.safetensors", _replay(envs), {"steps": steps})
                self.replay_done = row["sampled"] >= config.medium_return

    SAC(
        "MlpPolicy",
        DummyVecEnv([lambda env=env: env for env in envs]),
        learning_rate=config.learning_rate,
        qf_learning_rate=config.qf_learning_rate,
        policy_delay=config.policy_delay,
        batch_size=config.batch_size,
        learning_starts=config.learning_starts,
        gradient_steps=config.n_envs,
        buffer_size=config.steps,
        seed=config.seed,
    ).learn(config.steps, callback=Snapshot())


def choose_tiers(folder: Path, target: Path) -> None:
    """Copy the medium and expert snapshots, the replay and the curve of a run into `target`.

    Medium is the first snapshot whose sampled return reaches `medium_return`; expert is the one
    with the best sampled return. Both files gain their own 20-episode returns as provenance.
    """
    from helpers.files import read_arrays, read_json

    curve = read_json(folder / "curve.json")
    rows, config = curve["rows"], curve["config"]
    medium = next(row for row in rows if row["sampled"] >= config["medium_return"])
    expert = max(rows, key=lambda row: row["sampled"])
    for tier, row in (("medium", medium), ("expert", expert)):
        policy = load_policy(folder / "snapshots" / f"{row['steps']:07d}.safetensors")
        seeds = list(range(100, 120))
        measured = {"steps": row["steps"]}
        for name, sample in (("mean_action", False), ("sampled", True)):
            returns = rollout_returns(policy, config["env_id"], seeds, sample=sample)
            measured[f"return_{name}"] = round(float(np.mean(returns)), 1)
        provenance = {"algorithm": "SAC (SBX)", "config": config, **measured}
        save_policy(
            target / f"halfcheetah-{tier}.safetensors",
            dataclasses.replace(policy, metadata=provenance),
        )
        print(tier, measured)
    arrays, metadata = read_arrays(folder / "replay.safetensors")
    write_arrays(target / "halfcheetah-replay.safetensors", arrays, {"config": config, **metadata})
    write_json(target / "halfcheetah-curve.json", curve)
