"""Datasets of others: downloads from a local server, D4RL files, a user's own Minari set."""

import hashlib
import http.server
import json
import shutil
import threading
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest

from helpers import paths
from helpers.data import sources
from helpers.data.catalogue import load_dataset
from helpers.data.own import own_task
from helpers.data.sources import convert_d4rl, download, download_d4rl, download_minari, read_d4rl
from helpers.files import BadFile, read_json
from helpers.names import UnknownName
from helpers.tasks import get_task

REAL = paths.ROOT.parent / "shared" / "data-real"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="third-party data is not here")
COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """Empty data folders, also Minari's."""
    for name in ("DATASETS", "WORK", "DATA", "RESULTS", "CHECKPOINTS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    own_task.cache_clear()
    return tmp_path


@pytest.fixture
def server(tmp_path):
    """Serves files by path, understands ranges; `cut` bytes are sent before it hangs up once."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):  # noqa: N802
            self.answer(body=False)

        def do_GET(self):  # noqa: N802
            self.answer(body=True)

        def answer(self, body: bool):
            self.server.seen.append((self.path, self.headers.get("Range")))
            content = self.server.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = 0
            asked = self.headers.get("Range")
            if asked and self.server.ranges:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    self.send_error(416)
                    return
            self.send_response(206 if start else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if body:
                cut, self.server.cut = self.server.cut, None
                self.wfile.write(content[start:cut])

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.seen, server.ranges, server.cut = {}, [], True, None
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


# --- downloads ---------------------------------------------------------------------------------

CONTENT = np.random.default_rng(0).bytes(3_000_000)
HASH = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(server, tmp_path, ranges):
    server.files["/big"] = CONTENT
    server.ranges, server.cut = ranges, 2_000_000
    target = tmp_path / "folder" / "big"
    with pytest.raises(BadFile, match=r"interrupted .*1,966,080 bytes are kept, run the command"):
        download(f"{server.url}/big", target, HASH)
    assert not target.exists()
    assert download(f"{server.url}/big", target, HASH) == HASH
    assert target.read_bytes() == CONTENT
    assert server.seen[-1] == ("/big", "bytes=1966080-")
    assert [path.name for path in target.parent.iterdir()] == ["big"]


def test_a_download_that_only_lacked_its_rename_is_not_repeated(server, tmp_path):
    server.files["/big"] = CONTENT
    (tmp_path / "big.part").write_bytes(CONTENT)
    assert download(f"{server.url}/big", tmp_path / "big") == HASH
    assert (tmp_path / "big").read_bytes() == CONTENT


def test_a_wrong_hash_is_refused_and_deleted(server, tmp_path):
    server.files["/big"] = CONTENT
    with pytest.raises(BadFile, match=f"{HASH[:16]} is not the expected 0000000000000000"):
        download(f"{server.url}/big", tmp_path / "big", "0" * 64)
    assert not list(tmp_path.iterdir())


def test_no_network_and_no_such_file_are_told(server, tmp_path):
    with pytest.raises(BadFile, match="put the file in place by hand"):
        download("http://127.0.0.1:9/x", tmp_path / "x")
    with pytest.raises(BadFile, match="404"):
        download(f"{server.url}/x", tmp_path / "x")


# --- Minari's hub ------------------------------------------------------------------------------


def serve_minari(server, folder: Path, dataset_id: str, revisions=("main", COMMIT)) -> None:
    repository, inside = dataset_id.split("/", 1)
    for revision in revisions:
        base = f"/datasets/farama-minari/{repository}/resolve/{revision}/{inside}/data"
        for file in (folder / "data").iterdir():
            server.files[f"{base}/{file.name}"] = file.read_bytes()


def test_a_minari_dataset_is_fetched_pinned_and_used(server, work, monkeypatch):
    """One of our samples plays the public dataset."""
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    sample = paths.SAMPLES / "halfcheetah" / "medium-v0"
    serve_minari(server, sample, "mujoco/cheetah/medium-v0")
    folder = download_minari("mujoco/cheetah/medium-v0")
    assert folder == paths.DATASETS / "mujoco/cheetah/medium-v0"
    pin = read_json(paths.DATA / "pins.json")["minari:mujoco/cheetah/medium-v0"]
    main = sample / "data" / "main_data.hdf5"
    assert pin == {"revision": COMMIT, "sha256": hashlib.sha256(main.read_bytes()).hexdigest()}
    data = load_dataset("mujoco/cheetah/medium-v0")
    assert data.content_hash() == load_dataset("halfcheetah/medium", sample=True).content_hash()
    task = get_task("mujoco/cheetah/medium-v0")
    assert (task.env_id, task.observation_size, task.action_size) == ("HalfCheetah-v5", 17, 6)
    server.seen.clear()
    download_minari("mujoco/cheetah/medium-v0")
    assert all(COMMIT in path for path, _ in server.seen), "the pinned revision"
    shutil.rmtree(folder)
    for path in server.files:
        if path.endswith("hdf5"):
            server.files[path] = server.files[path][:-1] + b"!"
    with pytest.raises(BadFile, match="is not the expected"):
        download_minari("mujoco/cheetah/medium-v0")
    assert not folder.exists()


def test_other_minari_answers(server, work, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    with pytest.raises(BadFile, match="no such dataset; https://minari.farama.org"):
        download_minari("mujoco/cheetah/best-v0")
    base = f"/datasets/farama-minari/a/resolve/{{}}/b-v0/data/metadata.json"  # noqa: F541
    for revision in ("main", COMMIT):
        server.files[base.format(revision)] = json.dumps({"data_format": "arrow"}).encode()
    with pytest.raises(BadFile, match="stored as arrow"):
        download_minari("a/b-v0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BadFile, match="`minari download ID`"):
        download_minari("a/b-v0")


# --- D4RL --------------------------------------------------------------------------------------


def d4rl_file(path: Path, lengths=(4, 3), left_over=2, **changes) -> Path:
    """A file in D4RL's layout: the first episode falls, the others run out of time."""
    n = sum(lengths) + left_over
    ends = np.cumsum(lengths) - 1
    rng = np.random.default_rng(1)
    fields = {
        "observations": rng.normal(size=(n, 11)).astype(np.float32),
        "next_observations": rng.normal(size=(n, 11)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (n, 3)).astype(np.float32),
        "rewards": np.arange(n, dtype=np.float32),
        "terminals": np.isin(np.arange(n), ends[:1]),
        "timeouts": np.isin(np.arange(n), ends[1:]),
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, values in fields.items():
            if values is not None:
                file[name] = values
    return path


def test_d4rl_episodes_are_told_apart(tmp_path):
    file = d4rl_file(tmp_path / "x.hdf5")
    data = read_d4rl(file)
    assert data.lengths.tolist() == [4, 3], "the last two steps belong to no whole episode"
    assert data.terminated.tolist() == [True, False]
    assert data.returns.tolist() == [6.0, 15.0]
    with h5py.File(file) as content:
        assert np.array_equal(data.final_observations, content["next_observations"][()][[3, 6]])


def test_bad_d4rl_files_are_told(tmp_path):
    path = tmp_path / "x.hdf5"
    with pytest.raises(BadFile, match=r"lacks rewards, timeouts \(it has actions, next_obs"):
        read_d4rl(d4rl_file(path, rewards=None, timeouts=None))
    with pytest.raises(BadFile, match="no step is a terminal or a timeout"):
        read_d4rl(d4rl_file(path, terminals=np.zeros(9, bool), timeouts=np.zeros(9, bool)))
    d4rl_file(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadFile, match="not a whole HDF5 file"):
        read_d4rl(path)
    with pytest.raises(UnknownName, match="did you mean hopper"):
        download_d4rl("hoper-medium-v2")
    with pytest.raises(BadFile, match="named like halfcheetah-medium-v2"):
        download_d4rl("hopper")


def test_a_d4rl_set_becomes_a_minari_set(server, work, monkeypatch):
    import minari

    monkeypatch.setenv("D4RL_ENDPOINT", server.url)
    content = d4rl_file(work / "x.hdf5").read_bytes()
    server.files["/hopper_medium-replay-v2.hdf5"] = content
    folder = download_d4rl("hopper-medium-replay-v2")
    dataset_id = "d4rl/hopper/medium-replay-v2"
    assert folder == paths.DATASETS / dataset_id
    digest = hashlib.sha256(content).hexdigest()
    assert read_json(paths.DATA / "pins.json")["d4rl:hopper-medium-replay-v2"]["sha256"] == digest
    data, task = load_dataset(dataset_id), get_task(dataset_id)
    assert data.returns.tolist() == [6.0, 15.0]
    assert task.reference_scores == sources.D4RL_TASKS["hopper"][1]
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(paths.DATASETS))
    opened = minari.load_dataset(dataset_id)
    assert opened.env_spec.id == "Hopper-v5"
    assert "mujoco-py" in read_json(folder / "data/metadata.json")["recorded_on"]
    server.files["/hopper_medium-replay-v2.hdf5"] = content + b" "
    with pytest.raises(BadFile, match="is not the expected"):
        download_d4rl("hopper-medium-replay-v2")


@needs_real_data
def test_real_d4rl_steps_pass_through(work):
    """93 real transitions of hopper-medium-v2, in the layout of the real file."""
    real = np.load(REAL / "trajectories" / "d4rl-hopper-medium-v2-fragment.npz")
    names = {key.split(".")[-1]: key for key in real.files}
    observations, actions, rewards = (
        real[names[name]] for name in ("observations", "actions", "rewards")
    )
    n = len(rewards)
    file = d4rl_file(
        work / "real.hdf5", lengths=(n,), left_over=0, next_observations=None,
        observations=observations, actions=actions, rewards=rewards,
        terminals=np.arange(n) == n - 1, timeouts=np.zeros(n, bool),
    )  # fmt: skip
    convert_d4rl(file, "hopper-medium-v2")
    data = load_dataset("d4rl/hopper/medium-v2")
    assert np.array_equal(data.observations, observations)
    assert data.returns[0] == pytest.approx(187.7, abs=0.1)


# --- a dataset of one's own --------------------------------------------------------------------


def record(env_id: str, dataset_id: str, episodes: int = 3, **options) -> None:
    """Random actions, through Minari's own functions."""
    import minari
    from minari.data_collector import EpisodeBuffer

    env = gymnasium.make(env_id, **options)
    env.action_space.seed(0)
    buffers = []
    for seed in range(episodes):
        steps = {name: [] for name in ("actions", "rewards", "terminations", "truncations")}
        observations = [env.reset(seed=seed)[0]]
        while not any(end[-1:] == [True] for end in (steps["terminations"], steps["truncations"])):
            action = env.action_space.sample()
            observation, *rest, _ = env.step(action)
            observations.append(observation)
            for values, value in zip(steps.values(), (action, *rest), strict=True):
                values.append(value)
        if isinstance(observation, dict):
            stacked = {name: np.stack([o[name] for o in observations]) for name in observation}
        else:
            stacked = np.stack(observations)
        arrays = {name: np.stack(values) for name, values in steps.items()}
        buffers.append(EpisodeBuffer(id=seed, seed=seed, observations=stacked, **arrays))
    minari.create_dataset_from_buffers(dataset_id, buffers, env=env, algorithm_name="random")
    env.close()


def test_ones_own_dataset_trains_by_its_name(work, monkeypatch, capsys):
    from helpers.__main__ import train

    monkeypatch.setattr("helpers.runs.paths.RESULTS", work / "results")
    record("Hopper-v5", "mine/hopper-v0")
    task = get_task("mine/hopper-v0")
    data = load_dataset("mine/hopper-v0")
    assert task.horizon == 1000 and task.observation_size == 11 and task.action_size == 3
    assert task.target_return == pytest.approx(data.returns.max())
    assert data.terminated.all() and data.seeds.tolist() == [0, 1, 2]
    train("mine/hopper-v0", steps=4, episodes=2)
    assert "mean return" in capsys.readouterr().out
    result = read_json(paths.DATA / "results" / "own-dt" / "mine" / "hopper-v0-s0.json")
    assert len(result["returns"]) == 2 and result["versions"]["environment"] == "Hopper-v5"


def test_dictionaries_of_arrays_and_numbered_actions_are_read(work):
    record("gymnasium_robotics:PointMaze_UMaze-v3", "mine/maze-v0", 2, max_episode_steps=20)
    task, data = get_task("mine/maze-v0"), load_dataset("mine/maze-v0")
    assert task.observation_size == 8 and data.observations.shape == (40, 8)
    observation, _ = task.make().reset(seed=0)
    assert np.allclose(task.pack(observation), data.observations[0])
    record("CartPole-v1", "mine/pole-v0", 2)
    task, data = get_task("mine/pole-v0"), load_dataset("mine/pole-v0")
    assert task.discrete and task.action_size == 2
    assert data.actions.ndim == 1


def test_kinds_that_cannot_be_used_are_told(work):
    record("Pendulum-v1", "mine/pendulum-v0", 1)
    with pytest.raises(BadFile, match=r"actions are Box\(-2.0, 2.0.*RescaleAction"):
        get_task("mine/pendulum-v0")
    record("FrozenLake-v1", "mine/lake-v0", 1)
    with pytest.raises(BadFile, match=r"observations hold .*Discrete\(16\)"):
        get_task("mine/lake-v0")
    with pytest.raises(BadFile, match="python -m helpers download mine/none-v0"):
        load_dataset("mine/none-v0")
    metadata = work / "minari/mine/lake-v0/data/metadata.json"
    content = json.loads(metadata.read_text())
    metadata.write_text(json.dumps({**content, "env_spec": None}))
    with pytest.raises(BadFile, match="in which environment it was recorded"):
        own_task("mine/lake-v0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rewards", r"episode 1 has no rewards \(it has actions, infos"),
        ("open end", "episode 1 ends with neither a termination nor a truncation"),
        ("mission", r"episode 1: mission 'go to the moon' has unknown words \['moon'\]"),
        ("parts", "observations of episode 1 have the parts grid, mission, pose, target, but task"),
    ],
)
def test_faults_inside_a_file_are_placed(work, change, message):
    sample = paths.SAMPLES / "babyai-gotolocal" / "expert-v0"
    folder = work / "datasets" / "x"
    shutil.copytree(sample, folder)
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        group = file["episode_1"]
        if change == "rewards":
            del group["rewards"]
        elif change == "open end":
            group["terminations"][-1] = False
        elif change == "parts":
            del group["observations/view"]
        else:
            missions = group["observations/mission"][()]
            del group["observations/mission"]
            group["observations/mission"] = np.array([b"go to the moon"] * len(missions))
    from helpers.data.storage import open_minari, read_minari

    for reader in (read_minari, open_minari):
        with pytest.raises(BadFile, match=message):
            reader(folder, get_task("babyai-gotolocal"))
