"""Behaviour policies, collection, Minari files and training windows."""

import copy
import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from helpers import paths
from helpers.data import collect as collecting
from helpers.data import storage
from helpers.data.cards import FINAL_SEED, describe
from helpers.data.catalogue import DATASETS, DatasetSpec, load_dataset, registry
from helpers.data.collect import collect, collect_episodes
from helpers.data.episodes import Dataset, check, join
from helpers.data.policies import Policy, load_policy, save_policy
from helpers.data.storage import read_minari, write_minari
from helpers.data.windows import make_windows, observation_statistics
from helpers.files import BadFile, write_arrays
from helpers.names import UnknownName
from helpers.tasks import get_task

CHEETAH = get_task("halfcheetah")
REAL = paths.ROOT.parent / "shared" / "data-real"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="third-party data is not here")


def tiny(lengths=(3, 2), size=17, actions=6) -> Dataset:
    """Episodes whose numbers tell where they stand."""
    n = sum(lengths)
    rng = np.random.default_rng(0)
    return Dataset(
        observations=rng.normal(size=(n, size)),
        actions=rng.uniform(-1, 1, (n, actions)).astype(np.float32),
        rewards=np.arange(1.0, n + 1.0),
        lengths=np.array(lengths),
        terminated=np.array([i % 2 == 1 for i in range(len(lengths))]),
        final_observations=rng.normal(size=(len(lengths), size)),
        seeds=np.arange(len(lengths)) + 7,
    )


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """An empty data folder."""
    for name in ("DATASETS", "WORK", "SAMPLES", "DATA"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    return tmp_path


# --- datasets in memory ------------------------------------------------------------------------


def test_returns_to_go_by_hand():
    data = tiny()
    assert data.returns_to_go().tolist() == [6.0, 5.0, 3.0, 9.0, 5.0]
    assert data.returns.tolist() == [6.0, 9.0]
    assert data.starts.tolist() == [0, 3]


def test_returns_to_go_start_at_the_return_and_fall_by_the_reward():
    data = load_dataset("halfcheetah/medium", sample=True)
    togo = data.returns_to_go()
    assert np.allclose(togo[data.starts], data.returns)
    inside = np.ones(len(togo), bool)
    inside[data.starts] = False
    steps = np.flatnonzero(inside)
    assert np.allclose(togo[steps - 1] - togo[steps], data.rewards[steps - 1])


def test_select_undoes_join():
    data = tiny((3, 2, 4))
    first, rest = data.select([0]), data.select([1, 2])
    assert join([first, rest]).content_hash() == data.content_hash()
    assert data.select([2, 0]).lengths.tolist() == [4, 3]
    assert data.select([1]).rewards.tolist() == [4.0, 5.0]


def test_content_hash_sees_every_array():
    data = tiny()
    for field in dataclasses.fields(data):
        changed = getattr(data, field.name).copy()
        changed.flat[0] = not changed.flat[0] if changed.dtype == bool else changed.flat[0] + 1
        assert dataclasses.replace(data, **{field.name: changed}).content_hash() != (
            data.content_hash()
        ), field.name


# --- Minari files ------------------------------------------------------------------------------


def test_minari_round_trip(work):
    data, folder = tiny(), work / "x" / "tiny-v0"
    write_minari(folder, data, get_task("halfcheetah"), "x/tiny-v0", {})
    assert read_minari(folder, CHEETAH).content_hash() == data.content_hash()


def test_minari_itself_opens_our_samples(monkeypatch):
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(paths.SAMPLES))
    dataset = minari.load_dataset("halfcheetah/medium-v0")
    episode = next(dataset.iterate_episodes())
    ours = load_dataset("halfcheetah/medium", sample=True)
    assert dataset.total_steps == len(ours.rewards)
    assert np.array_equal(episode.observations[:-1], ours.observations[:1000])
    assert np.array_equal(episode.rewards, ours.rewards[:1000])
    assert dataset.env_spec.id == "HalfCheetah-v5"


def test_every_dataset_has_a_sample_that_agrees_with_the_registry():
    for dataset_id in DATASETS:
        sample = load_dataset(dataset_id, sample=True)
        entry = registry()[dataset_id]
        assert sample.content_hash() == entry["sample_sha256"]
        assert len(entry["returns"]) == len(entry["lengths"]) == min(entry["episodes"], 1000)
        ends = [entry["returns"][0], entry["returns"][-1]]
        assert np.allclose(sample.returns[[0, -1]], ends, atol=0.01)


def test_a_write_that_fails_leaves_the_old_dataset(work, monkeypatch):
    from minari.dataset.minari_storage import MinariStorage

    data, folder, task = tiny(), work / "x" / "tiny-v0", get_task("halfcheetah")
    write_minari(folder, data, task, "x/tiny-v0", {})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MinariStorage, "update_metadata", full)
    with pytest.raises(OSError, match="what was there before is unchanged"):
        write_minari(folder, tiny((1,)), task, "x/tiny-v0", {})
    assert read_minari(folder, CHEETAH).content_hash() == data.content_hash()
    assert [path.name for path in folder.parent.iterdir()] == ["tiny-v0"]


def test_a_cut_or_altered_file_is_refused(work):
    folder = work / "x" / "tiny-v0"
    write_minari(folder, tiny(), get_task("halfcheetah"), "x/tiny-v0", {})
    path = folder / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadFile, match=r"main_data.hdf5.*collect or download it again"):
        read_minari(folder, CHEETAH)
    path.unlink()
    with pytest.raises(BadFile, match="no such file"):
        read_minari(folder, CHEETAH)


def test_a_set_that_two_open_at_once_is_laid_out_once(work, monkeypatch):
    write_minari(work / "a-v0", tiny(), CHEETAH, "a-v0", {})
    lay, calls = storage._lay_end_to_end, []

    def slowly(*given):
        calls.append(given)
        time.sleep(0.3)
        lay(*given)

    monkeypatch.setattr(storage, "_lay_end_to_end", slowly)
    with ThreadPoolExecutor(2) as pool:
        opened = list(pool.map(lambda _: storage.open_minari(work / "a-v0", CHEETAH), range(2)))
    assert len(calls) == 1
    assert {data.content_hash() for data in opened} == {tiny().content_hash()}


@pytest.mark.parametrize("field", ["observations", "actions", "rewards"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_a_number_is_refused_with_its_place(field, value):
    data = tiny()
    array = getattr(data, field)
    array[4] = value
    with pytest.raises(BadFile, match=rf"here: {field} has NaN.*episode 1 at step 1"):
        check(data, "here")


def broken(data: Dataset, **fields) -> Dataset:
    """A dataset that its own constructor would refuse under the tests' shape checks."""
    copied = copy.copy(data)
    for name, value in fields.items():
        object.__setattr__(copied, name, value)
    return copied


def test_other_bad_data_is_refused():
    data = tiny()
    with pytest.raises(BadFile, match="no episodes"):
        check(data.select([]), "here")
    with pytest.raises(BadFile, match="episode 1 has length 0"):
        check(broken(data, lengths=np.array([5, 0])), "here")
    with pytest.raises(BadFile, match="rewards has 4 rows but the episode lengths add up to 5"):
        check(broken(data, rewards=data.rewards[:4]), "here")
    task = get_task("halfcheetah")
    with pytest.raises(BadFile, match=r"observations have shape \(5, 11\).*needs \(steps, 17\)"):
        check(tiny(size=11), "here", task)
    with pytest.raises(BadFile, match=r"actions have shape \(5, 3\).*needs \(steps, 6\)"):
        check(tiny(actions=3), "here", task)


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UnknownName, match="did you mean halfcheetah/medium"):
        load_dataset("halfcheetah/medum")
    with pytest.raises(UnknownName, match="did you mean .*halfcheetah"):
        get_task("half-cheetah")
    with pytest.raises(UnknownName, match="known: babyai-both, .*halfcheetah"):
        get_task("zzz")


def test_a_dataset_that_is_not_there_names_the_command(work):
    with pytest.raises(BadFile, match="python -m helpers collect halfcheetah/medium"):
        load_dataset("halfcheetah/medium")


# --- collection --------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch) -> DatasetSpec:
    """Three short episodes of the medium policy."""
    spec = dataclasses.replace(DATASETS["halfcheetah/medium"], episodes=3)
    monkeypatch.setitem(DATASETS, spec.id, spec)
    return spec


def test_collection_repeats_the_committed_sample(work, monkeypatch):
    """The first episode, collected again, is the sample's, to the last bit on one machine."""
    committed = read_minari(
        Path(__file__).parents[1] / "data/samples/halfcheetah/medium-v0", CHEETAH
    )
    again = collecting.EpisodeMaker(DATASETS["halfcheetah/medium"])(0)
    # The dynamics are chaotic: on another processor, rounding may part the paths after a while.
    assert np.allclose(again.observations[:50], committed.observations[:50], atol=1e-6)
    assert abs(again.returns[0] - committed.returns[0]) < 500


def test_the_replay_comes_back_from_its_actions(work):
    committed = read_minari(
        Path(__file__).parents[1] / "data/samples/halfcheetah/medium-replay-v0", CHEETAH
    )
    maker = collecting.EpisodeMaker(DATASETS["halfcheetah/medium-replay"])
    again = maker(maker.seeds.tolist().index(int(committed.seeds[1])))
    assert np.array_equal(again.actions, committed.actions[1000:2000])
    assert np.allclose(again.observations[:50], committed.observations[1000:1050], atol=1e-6)


def test_workers_do_not_change_the_data(work, short):
    one = collect_episodes(short, workers=1)
    two = read_minari(collect(short.id, workers=2), CHEETAH)
    assert one.content_hash() == two.content_hash()
    assert one.seeds.tolist() == [short.seed, short.seed + 1, short.seed + 2]
    assert len(set(one.returns)) == 3, "episodes must differ"


def test_a_killed_collection_goes_on_where_it_stopped(tmp_path):
    """SIGKILL during collection; the second call makes only what is missing."""
    program = (
        "import dataclasses, sys\n"
        "from pathlib import Path\n"
        "from helpers import paths\n"
        "from helpers.data import catalogue, collect as c\n"
        "paths.DATASETS = Path(sys.argv[1]) / 'datasets'; paths.WORK = Path(sys.argv[1]) / 'work'\n"
        "spec = catalogue.DATASETS['halfcheetah/random']\n"
        "spec = dataclasses.replace(spec, episodes=int(sys.argv[2]))\n"
        "catalogue.DATASETS[spec.id] = spec\n"
        "if __name__ == '__main__': print(c.collect(spec.id, workers=1))\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    parts = tmp_path / "work/collect/halfcheetah/random-v0"
    command = [sys.executable, str(script), str(tmp_path), "40"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while len(list(parts.glob("*/*.safetensors"))) < 3 and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in parts.glob("*/*.safetensors")}
    assert 3 <= len(finished) < 40
    assert not (tmp_path / "datasets").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{len(finished)}/40" in done.stderr, "the bar starts at what was there"
    assert len(read_minari(tmp_path / "datasets/halfcheetah/random-v0", CHEETAH).lengths) == 40


# --- policies ----------------------------------------------------------------------------------


def test_policy_round_trip_and_bad_files(tmp_path):
    path = tmp_path / "policy.safetensors"
    policy = load_policy(paths.POLICIES / "halfcheetah-medium.safetensors")
    save_policy(path, policy)
    observation, rng = np.ones(17), np.random.default_rng
    ours, again = (p.actor(sample=True)(observation, rng(0)) for p in (policy, load_policy(path)))
    assert np.array_equal(ours, again) and ours.shape == (6,) and np.abs(ours).max() <= 1
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(BadFile, match="not a whole safetensors file"):
        load_policy(path)
    write_arrays(path, {"x": np.ones(2)})
    with pytest.raises(BadFile, match="layers.0.weight"):
        load_policy(path)
    write_arrays(path, policy.arrays, {"activation": "swish"})
    with pytest.raises(BadFile, match="activation is 'swish'"):
        load_policy(path)
    with pytest.raises(BadFile, match="no log_std"):
        Policy({"layers.0.weight": np.ones((2, 3))}).actor(sample=True)


def test_training_seeds_stay_clear_of_the_datasets():
    from helpers.data.sac import SACConfig

    assert SACConfig(seed=8).seed == 8
    with pytest.raises(ValueError, match="seed is 9; choose 0 to 8"):
        SACConfig(seed=9)


def test_committed_policies_have_the_returns_that_were_asked_for():
    """Medium 4,000 to 5,500, expert 9,000 or more; one fresh episode each confirms the order."""
    medium, expert = (
        load_policy(paths.POLICIES / f"halfcheetah-{tier}.safetensors").metadata
        for tier in ("medium", "expert")
    )
    assert 4_000 <= medium["return_sampled"] <= 5_500
    assert expert["return_sampled"] >= 9_000
    for name, low, high in (("medium", 4_000, 5_500), ("expert", 8_000, 14_000)):
        entry = registry()[f"halfcheetah/{name}"]
        assert low < entry["return_mean"] < high


@needs_real_data
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("sac", 9_000, 9_800), ("ppo", 5_700, 6_100), ("ars", -300, 5_500), ("trpo", 1_700, 1_900)],
)
def test_third_party_policies_score_what_others_measured(name, low, high):
    policy = load_policy(REAL / "policies" / f"halfcheetah-{name}-rlzoo.safetensors")
    actor = policy.actor(sample=False)
    env = get_task("halfcheetah").make()
    rng = np.random.default_rng(0)
    episode = collecting.play(CHEETAH, env, 0, lambda: lambda observation: actor(observation, rng))
    assert low < episode.returns[0] < high


# --- windows -----------------------------------------------------------------------------------


def test_windows_are_runs_of_one_episode():
    data = tiny((5, 3, 8))
    data = dataclasses.replace(data, rewards=np.sqrt(np.arange(2.0, 18.0)))
    windows = make_windows(data, 4)
    batch = windows.sample(np.random.default_rng(0), 500)
    valid = batch["valid"].numpy()
    togo = data.returns_to_go()
    where = {round(float(value), 3): i for i, value in enumerate(togo)}
    assert len(where) == len(togo)
    starts, full = set(), 0
    for row in range(500):
        steps = [where[round(float(v), 3)] for v in batch["returns_to_go"][row][valid[row]]]
        assert steps == list(range(steps[0], steps[0] + len(steps))), "consecutive"
        episode = np.searchsorted(np.cumsum(data.lengths), steps, side="right")
        assert len(set(episode)) == 1, "within one episode"
        expected = min(4, int(data.starts[episode[0]] + data.lengths[episode[0]]) - steps[0])
        assert len(steps) == expected, "padded only where the episode ends"
        assert valid[row].tolist() == [False] * (4 - expected) + [True] * expected
        assert batch["timesteps"][row][-1] == steps[-1] - data.starts[episode[0]]
        assert np.allclose(batch["actions"][row][valid[row]], data.actions[steps])
        starts.add(steps[0])
        full += expected == 4
    assert starts == set(range(16)), "every transition can start a window"
    assert 0 < full < 500


def test_observation_statistics():
    mean, std = observation_statistics(tiny((30,)))
    assert mean.shape == std.shape == (17,)
    data = tiny((30,))
    normed = (data.observations - mean) / std
    assert np.allclose(normed.mean(0), 0, atol=1e-5) and np.allclose(normed.std(0), 1, atol=1e-4)


# Reward at the end


def test_delayed_episodes_are_what_the_delayed_environment_pays():
    plain = load_dataset("halfcheetah/medium", sample=True)
    delayed = load_dataset("halfcheetah-delayed/medium", sample=True)
    assert np.array_equal(delayed.observations, plain.observations)
    assert np.allclose(delayed.returns, plain.returns)
    assert np.count_nonzero(delayed.rewards) == len(delayed.lengths)
    env = get_task("halfcheetah-delayed").make()
    env.reset(seed=int(plain.seeds[0]))
    paid = [env.step(action)[1] for action in plain.actions[:1000]]
    assert np.count_nonzero(paid) == 1
    # The simulator repeats itself only on the processor that recorded, so compare with itself.
    again = get_task("halfcheetah").make()
    again.reset(seed=int(plain.seeds[0]))
    rewards = [again.step(action)[1] for action in plain.actions[:1000]]
    assert paid[-1] == pytest.approx(sum(rewards))


def test_a_second_episode_owes_nothing_of_the_first():
    env = get_task("halfcheetah-delayed").make()
    idle = np.zeros(6, np.float32)
    env.reset(seed=0)
    for _ in range(10):
        env.step(idle)
    env.reset(seed=0)
    paid = [env.step(idle)[1] for _ in range(1000)]
    env.reset(seed=0)
    assert [env.step(idle)[1] for _ in range(1000)] == paid


def test_minari_recovers_the_delayed_environment(monkeypatch):
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(paths.SAMPLES))
    env = minari.load_dataset("halfcheetah-delayed/medium-v0").recover_environment()
    env.reset(seed=0)
    assert env.step(np.ones(6, np.float32))[1] == 0.0


def test_returns_to_go_of_a_delayed_episode_are_constant():
    data = load_dataset("halfcheetah-delayed/medium-replay", sample=True)
    togo = data.returns_to_go()
    assert np.allclose(togo, np.repeat(data.returns, data.lengths))


# Who is tested on what, and what is written down about it


def test_no_dataset_shares_a_seed_with_another_or_with_the_evaluation():
    """Final evaluation 500,000s, sweep 600,000s, SAC 1,000,000s to 9,000,000s."""
    ranges = sorted(
        (spec.seed, spec.seed + spec.episodes) for spec in DATASETS.values() if spec.episodes
    )
    assert ranges[0][0] >= 10_000_000
    for (_, end), (start, _) in itertools.pairwise(ranges):
        assert end <= start


def test_recorded_seeds_are_those_of_the_catalogue():
    for spec in DATASETS.values():
        if spec.episodes:
            seeds = load_dataset(spec.id, sample=True).seeds
            assert seeds[0] == spec.seed and seeds[-1] == spec.seed + spec.episodes - 1


def test_no_level_of_the_evaluation_was_in_the_training_data():
    """Measured when a set is recorded: the first 200 levels of the final evaluation.

    Key-to-Door begins in one of 9 cells, 4 directions and 8 places of the key: all are in the data.
    The crossroads begin at one of two ends, in one of 4 directions.
    """
    grids = {name: entry for name, entry in registry().items() if "levels" in entry}
    assert len(grids) == 27
    for name, entry in grids.items():
        if name.startswith("babyai"):
            assert entry["tested_levels_met"] == 0
            assert entry["levels"] > 0.99 * entry["episodes"]
        else:
            assert entry["levels"] <= (2 * 4 if name.startswith("crossroads") else 9 * 4 * 8)
        assert sum(map(sum, entry["visits"])) == entry["steps"] == sum(entry["actions"])


def test_levels_that_are_met_are_counted():
    """A set recorded with the evaluation's own seeds: the measure above is not blind."""
    spec = dataclasses.replace(DATASETS["babyai-gotolocal/expert"], seed=FINAL_SEED)
    maker = collecting.EpisodeMaker(spec)
    task = get_task(spec.task)
    entry = describe(join([maker(i) for i in (0, 1, 2, 0)]), task)
    assert (entry["levels"], entry["tested_levels_met"]) == (3, 3)


@pytest.mark.parametrize("dataset_id", DATASETS)
def test_every_dataset_has_a_card(dataset_id):
    spec, entry = DATASETS[dataset_id], registry()[dataset_id]
    text = (paths.SAMPLES / spec.minari_id / "README.md").read_text()
    assert text.startswith(f"# {dataset_id}\n")
    for expected in (f"{entry['episodes']:,}", entry["sha256"][:16], "gymnasium==", "Licence"):
        assert expected in text
