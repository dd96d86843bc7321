"""Changed worlds: what they change, and runs that are evaluated in them."""

import dataclasses

import gymnasium
import numpy as np
import pytest
from test_disturbances import CHEETAH, Steady

from helpers import paths
from helpers.envs.shifts import SHIFTS, Shifted, check_shifts, shifted
from helpers.evaluate import evaluate, rollout
from helpers.experiments import Evaluation, load_experiments, smoke_version
from helpers.files import BadFile, read_json
from helpers.names import UnknownName
from helpers.runs import execute
from helpers.tasks import get_task


class Still(Steady):
    """Does nothing, in six joints."""

    def act(self, observations):
        return np.zeros((len(observations), 6), np.float32)

    def keep(self, rows):
        self.n = len(rows)


def still(targets):
    return Still()


def world(**factors):
    return Shifted(CHEETAH.make(), **factors).unwrapped


def numbers(env):
    """What of the simulator can be changed."""
    model = env.unwrapped.model
    return {
        "gravity": model.opt.gravity.copy(),
        "friction": model.geom_friction.copy(),
        "damping": model.dof_damping.copy(),
        "start": env.unwrapped._reset_noise_scale,
    }


@pytest.mark.parametrize("name", SHIFTS)
def test_one_property_changes_in_one_environment(name):
    before = numbers(CHEETAH.make())
    changed = numbers(world(**{name: 1.5}))
    fresh = numbers(CHEETAH.make())
    for key in SHIFTS:
        factor = 1.5 if key == name else 1.0
        assert np.array_equal(changed[key], np.multiply(before[key], factor)), key
        assert np.array_equal(fresh[key], before[key]), key
        assert np.any(before[key]), f"{key} is zero, so that a factor changes nothing"


def falls(env):
    """Seconds until the torso, lifted by two metres, has fallen by one."""
    env.reset(seed=0)
    inner = env.unwrapped
    place, speed = np.zeros(9), np.zeros(9)
    place[1] = 2.0
    inner.set_state(place, speed)
    while inner.data.qpos[1] > 1.0:
        env.step(np.zeros(6))
    return inner.data.time


def test_gravity_pulls_harder():
    once, four = falls(CHEETAH.make()), falls(Shifted(CHEETAH.make(), gravity=4.0))
    assert once == pytest.approx(np.sqrt(2 / 9.81), abs=0.06), "not the law of falling bodies"
    assert four == pytest.approx(once / 2, abs=0.06)


def slides(env):
    """Metres that the body slides on when pushed and left alone."""
    env.reset(seed=0)
    inner = env.unwrapped
    for _ in range(20):
        env.step(np.zeros(6))  # until it stands
    speed = inner.data.qvel.copy()
    speed[0] = 5.0
    before = inner.data.qpos[0]
    inner.set_state(inner.data.qpos.copy(), speed)
    for _ in range(20):
        env.step(np.zeros(6))
    return inner.data.qpos[0] - before


def test_ice_is_slippery():
    assert slides(Shifted(CHEETAH.make(), friction=0.1)) > 1.5 * slides(CHEETAH.make())


def swings(env):
    """Speed of a joint of the free body that was kicked, ten steps later."""
    env.reset(seed=0)
    inner = env.unwrapped
    place, speed = np.zeros(9), np.zeros(9)
    place[1], speed[5] = 50.0, 10.0
    inner.set_state(place, speed)
    fastest = 0.0
    for step in range(12):
        env.step(np.zeros(6))
        fastest = max(fastest, abs(inner.data.qvel[5])) if step >= 4 else 0.0
    return fastest


def test_damped_joints_come_to_rest_sooner():
    calm, wild = (swings(Shifted(CHEETAH.make(), damping=f)) for f in (2.0, 0.25))
    assert calm < swings(CHEETAH.make()) < wild


def test_starts_are_the_same_throws_further():
    """And just those of Gymnasium's own option; x is not observed."""
    far = Shifted(CHEETAH.make(), start=5.0).reset(seed=3)[0]
    theirs = gymnasium.make("HalfCheetah-v5", reset_noise_scale=0.5).reset(seed=3)[0]
    near = CHEETAH.make().reset(seed=3)[0]
    assert np.array_equal(far, theirs)
    assert np.allclose(far, 5 * near) and np.any(near)


def test_all_methods_get_the_same_starts():
    task, firsts = shifted(CHEETAH, "start", 3.0), []

    class Watching(Still):
        def act(self, observations):
            if len(firsts) < 2:
                firsts.append(observations.copy())
            return super().act(observations)

    for _ in range(2):
        firsts.clear()
        rollout(Watching(), dataclasses.replace(task, horizon=1), [5, 6])
        assert np.array_equal(firsts[0][1], task.make().reset(seed=6)[0])


def test_several_changes_at_once_and_as_often_as_asked():
    both = numbers(Shifted(Shifted(CHEETAH.make(), gravity=2.0), gravity=2.0, damping=3.0))
    before = numbers(CHEETAH.make())
    assert np.array_equal(both["gravity"], 4 * before["gravity"])
    assert np.array_equal(both["damping"], 3 * before["damping"])


def test_an_environment_knows_how_it_was_made():
    env = Shifted(CHEETAH.make(), gravity=2.0)
    again = gymnasium.make(env.spec, disable_env_checker=True)
    assert np.array_equal(numbers(again)["gravity"], numbers(env)["gravity"])


def test_a_changed_task_is_played_in_other_processes():
    short = dataclasses.replace(shifted(CHEETAH, "gravity", 3.0), horizon=15)
    seeds = list(range(30))  # two chunks
    here = evaluate(still, short, seeds)
    there = evaluate(still, short, seeds, workers=2)
    assert np.array_equal(here.rewards, there.rewards)
    assert not np.array_equal(
        here.rewards, evaluate(still, dataclasses.replace(CHEETAH, horizon=15), seeds).rewards
    )


@pytest.mark.parametrize("factor", [0, 0.0, -1.0, np.nan, np.inf, True, "2"])
def test_factors_are_positive_numbers(factor):
    message = "factor of friction is .*; write a number above 0"
    with pytest.raises(ValueError, match=message):
        check_shifts({"friction": [1.5, factor]})
    if isinstance(factor, float):
        with pytest.raises(ValueError, match=message):
            Shifted(CHEETAH.make(), friction=factor)


@pytest.mark.parametrize("task", ["gamble", "pointmaze", "babyai-gotolocal", "key-to-door"])
def test_only_mujoco_bodies_can_be_changed(task):
    with pytest.raises(ValueError, match="none of Gymnasium's MuJoCo environments"):
        shifted(get_task(task), "gravity", 2.0)


def test_a_body_that_starts_without_noise_cannot_be_thrown_further():
    with pytest.raises(ValueError, match="no noise on its first state"):
        Shifted(gymnasium.make("Reacher-v5", disable_env_checker=True), start=2.0)


@pytest.mark.parametrize(
    ("shifts", "error", "message"),
    [
        ({"gravty": [2.0]}, UnknownName, "unknown shift 'gravty'; did you mean gravity"),
        ({"gravity": 2.0}, ValueError, "factors of gravity are 2.0; write a list"),
        ({"gravity": []}, ValueError, "write a list"),
        ({"start": [0.0]}, ValueError, "factor of start is 0.0; write a number above 0"),
        ({"start": [2.0, 2]}, ValueError, r"factors of start are \[2.0, 2\]; name each of them"),
    ],
)
def test_bad_shifts_are_named(shifts, error, message):
    with pytest.raises(error, match=message):
        check_shifts(shifts)
    with pytest.raises(UnknownName, match="unknown shift"):
        shifted(CHEETAH, "wind", 2.0)


# --- runs --------------------------------------------------------------------------------------

ENTRY = """
[x]
method = "bc"
datasets = ["halfcheetah/medium"]
seeds = [0]
[x.evaluation]
episodes = 5
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("shifts = {wind=[2.0]}\nshift_episodes = 5", "unknown shift 'wind'; known: damping"),
        ("shifts = {gravity=[-1.0]}\nshift_episodes = 5", "factor of gravity is -1.0"),
        ("shifts = ['gravity']", "shifts is \\['gravity'\\]; write a table"),
        ("shifts = {gravity=[2.0]}", "shift_episodes is 10; choose 1 to 5"),
        ("shifts = {gravity=[2.0]}\nshift_episodes = 0", "shift_episodes is 0"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, line, message):
    path = tmp_path / "experiments.toml"
    path.write_text(ENTRY + line)
    with pytest.raises(BadFile, match=rf"\[x.evaluation\] .*{message}"):
        load_experiments(path)


def test_runs_without_shifts_are_who_they_were():
    """Their results stay: the new options are no part of an identity where they are unused."""
    run = load_experiments()["bc10"][0]
    assert read_json(run.result_path())["identity"] == run.identity(
        read_json(run.result_path())["data_sha256"]
    )
    more = dataclasses.replace(run, evaluation={**run.evaluation, "shifts": {"gravity": [2.0]}})
    assert more.identity("a") != run.identity("a")
    assert Evaluation().shifts == {}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A smoke run that is evaluated in changed worlds, and its result."""
    folder, patch = tmp_path_factory.mktemp("shifts"), pytest.MonkeyPatch()
    patch.setattr(paths, "WORK", folder / "work")
    run = load_experiments()["shifted-bc"][0]
    small = smoke_version(dataclasses.replace(run, trained_by=""))
    yield small, read_json(execute(small, folder=folder, sample=True, progress=False)), folder
    patch.undo()


def test_a_result_has_the_returns_in_each_world(played):
    run, result, _ = played
    assert run.evaluation["shifts"].keys() == SHIFTS.keys()
    assert {name: list(some) for name, some in result["shifts"].items()} == {
        name: [f"{factors[0]:g}"] for name, factors in run.evaluation["shifts"].items()
    }
    assert all(len(r) == 1 for some in result["shifts"].values() for r in some.values())
    assert all(some.values() != [result["returns"][0]] for some in result["shifts"].values())


def test_worlds_are_played_by_the_last_model_from_the_first_seeds(played):
    from helpers.data.cards import FINAL_SEED
    from helpers.runs import final_agent

    run, result, folder = played
    make = final_agent(run, run.checkpoint_path(folder))
    again = evaluate(make, shifted(CHEETAH, "damping", 0.5), [FINAL_SEED], result["target"])
    assert result["shifts"]["damping"]["0.5"] == pytest.approx(again.returns, abs=1e-3)


def test_a_task_whose_world_cannot_be_changed_is_told_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "WORK", tmp_path / "work")
    run = load_experiments()["luck-bc"][0]
    more = {**run.evaluation, "shifts": {"gravity": [2.0]}}
    with pytest.raises(ValueError, match="Gamble-v0 is none of Gymnasium's MuJoCo"):
        execute(dataclasses.replace(run, evaluation=more), folder=tmp_path, sample=True)
    assert not (tmp_path / "work").exists()


def test_declared_worlds_are_the_same_for_all_methods():
    """Shares can only be compared in the same worlds, over the same episodes."""
    experiments = load_experiments()
    runs = [
        run for name, some in experiments.items() if name.startswith("shifted-") for run in some
    ]
    assert {run.method for run in runs} == {"bc", "iql", "cql", "dt", "tt"}
    declared = {
        str((run.dataset, run.evaluation["shifts"], run.evaluation["episodes"])) for run in runs
    }
    assert len(declared) == 1
    assert all(run.trained_by and run.trainer().seed == run.seed for run in runs)
