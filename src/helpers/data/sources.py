"""Datasets of others: Minari's and D4RL's, downloaded once, pinned, and checked.

What arrives is laid under data/datasets in Minari's format, whichever it came in, and from then on
is a dataset like any other: `load_dataset("mujoco/hopper/medium-v0")`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import requests
from tqdm import tqdm

from helpers import paths
from helpers.data.episodes import Dataset, check
from helpers.data.storage import MAIN, replacing_folder, write_minari
from helpers.files import BadFile, read_json, sha256, write_json
from helpers.names import look_up
from helpers.tasks import Task

MINARI_HUB = "farama-minari"
"""Account on the Hugging Face hub that holds Minari's datasets; each namespace is a repository."""
D4RL_SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2"
D4RL_TASKS = {
    "halfcheetah": ("HalfCheetah-v5", (-280.178953, 12135.0)),
    "hopper": ("Hopper-v5", (-20.272305, 3234.3)),
    "walker2d": ("Walker2d-v5", (1.629008, 4592.3)),
}
"""Environment of today that comes nearest, and D4RL's reference scores (d4rl/infos.py)."""
D4RL_FIELDS = ("observations", "actions", "rewards", "terminals", "timeouts")
CHUNK = 1 << 16


# --- files from a server -----------------------------------------------------------------------


def download(url: str, path: Path, expected_sha256: str = "") -> str:
    """Fetch a file, going on where an interrupted call stopped; returns its SHA-256.

    Raises:
        BadFile: no connection (what has arrived is kept), or another hash than expected (what has
            arrived is deleted).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    try:
        with requests.get(
            url, headers={"Range": f"bytes={have}-"} if have else {}, stream=True, timeout=30
        ) as answer:
            complete = answer.status_code == requests.codes.requested_range_not_satisfiable
            if not complete:
                answer.raise_for_status()
                if answer.status_code != requests.codes.partial_content:
                    have = 0  # the server sends the whole file
                _append(answer, part, have, path.name)
    except requests.RequestException as error:
        kept = f"{part.stat().st_size:,} bytes are kept, " if part.exists() else ""
        raise BadFile(
            f"{url}: the download was interrupted ({type(error).__name__}: {error}); {kept}run the "
            "command again to go on. Without network, put the file in place by hand: "
            f"{path}"
        ) from error
    found = sha256(part)
    if expected_sha256 and found != expected_sha256:
        part.unlink()
        raise BadFile(
            f"{url}: SHA-256 {found[:16]} is not the expected {expected_sha256[:16]}; the file was "
            "altered, or the download damaged: it is deleted, run the command again"
        )
    os.replace(part, path)
    return found


def _append(answer: requests.Response, part: Path, have: int, name: str) -> None:
    total = have + int(answer.headers.get("Content-Length", 0))
    bar = tqdm(total=total or None, initial=have, unit="B", unit_scale=True, desc=name)
    with bar, open(part, "ab" if have else "wb") as file:
        for block in answer.iter_content(CHUNK):
            file.write(block)
            bar.update(len(block))
    if total and part.stat().st_size != total:
        raise requests.ConnectionError(f"{part.stat().st_size:,} of {total:,} bytes arrived")


def _pins() -> dict[str, Any]:
    path = paths.DATA / "pins.json"
    return read_json(path) if path.exists() else {}


def _pin(name: str, pin: dict[str, str]) -> None:
    write_json(paths.DATA / "pins.json", {**_pins(), name: pin})


# --- Minari ------------------------------------------------------------------------------------


def download_minari(dataset_id: str, expected_sha256: str = "") -> Path:
    """Fetch a Minari dataset such as mujoco/hopper/medium-v0 into data/datasets.

    The first download pins the hub's commit and the data's SHA-256 in data/pins.json; later ones,
    on any machine, get the same.

    Raises:
        BadFile: no such dataset, no network, another hash, or a storage format other than HDF5.
    """
    name = f"minari:{dataset_id}"
    pin = _pins().get(name, {})
    repository, _, inside = dataset_id.partition("/")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    base = f"{endpoint}/datasets/{MINARI_HUB}/{repository}/resolve"
    revision = pin.get("revision") or _newest_commit(f"{base}/main/{inside}/data/metadata.json")
    url = f"{base}/{revision}/{inside}/data"
    folder = paths.DATASETS / dataset_id
    kept = paths.WORK / "downloads" / dataset_id / revision
    download(f"{url}/metadata.json", kept / "metadata.json")
    kind = read_json(kept / "metadata.json").get("data_format", "hdf5")
    if kind != "hdf5":
        raise BadFile(f"{dataset_id}: stored as {kind}; only Minari's hdf5 format can be read here")
    expected = expected_sha256 or pin.get("sha256", "")
    found = download(f"{url}/{MAIN.name}", kept / MAIN.name, expected)
    with replacing_folder(folder) as temporary:
        (temporary / "data").mkdir()
        for file in ("metadata.json", MAIN.name):
            os.replace(kept / file, temporary / "data" / file)
    if not pin:
        _pin(name, {"revision": revision, "sha256": found})
    return folder


def _newest_commit(url: str) -> str:
    try:
        answer = requests.head(url, timeout=30, allow_redirects=False)
        if answer.status_code == requests.codes.not_found:
            raise BadFile(f"{url}: no such dataset; https://minari.farama.org lists their ids")
        answer.raise_for_status()
        return answer.headers.get("X-Repo-Commit", "main")
    except requests.RequestException as error:
        raise BadFile(
            f"{url}: cannot be reached ({type(error).__name__}). Where there is network, `minari "
            "download ID` fetches a dataset; copy its folder into data/datasets"
        ) from error


# --- D4RL --------------------------------------------------------------------------------------


def download_d4rl(name: str, expected_sha256: str = "") -> Path:
    """Fetch a D4RL locomotion dataset such as halfcheetah-medium-v2; becomes d4rl/halfcheetah/...

    Raises:
        UnknownName: not a HalfCheetah, Hopper or Walker2d set.
        BadFile: as `download` and `read_d4rl`.
    """
    key = f"d4rl:{name}"
    split_name(name)
    file = paths.WORK / "downloads" / f"{name}.hdf5"
    pin = _pins().get(key, {})
    if not file.exists():
        server = os.environ.get("D4RL_ENDPOINT", D4RL_SERVER)
        expected = expected_sha256 or pin.get("sha256", "")
        found = download(f"{server}/{name.replace('-', '_', 1)}.hdf5", file, expected)
        if not pin:
            _pin(key, {"sha256": found})
    folder = convert_d4rl(file, name)
    file.unlink()
    return folder


def split_name(name: str) -> tuple[str, str, str]:
    """Task, tier and version of a D4RL name.

    Raises:
        UnknownName: the task is none of ours.
        BadFile: not of that form.
    """
    parts = re.fullmatch(r"([a-z0-9]+)-([a-z-]+)-v(\d+)", name)
    if parts is None:
        raise BadFile(f"{name!r} is not a D4RL dataset; they are named like halfcheetah-medium-v2")
    task, tier, number = parts.groups()
    look_up(D4RL_TASKS, task, "D4RL task")
    return task, tier, number


def convert_d4rl(file: Path, name: str) -> Path:
    """Write a D4RL file as the Minari dataset d4rl/TASK/TIER-vN, and say where it came from."""
    task_name, tier, number = split_name(name)
    env_id, scores = D4RL_TASKS[task_name]
    dataset = read_d4rl(file)
    task = Task(
        name=name,
        env_id=env_id,
        observation_size=dataset.observations.shape[1],
        action_size=dataset.actions.shape[1],
        horizon=1000,
        return_scale=1000.0,
        target_return=float(dataset.returns.max()),
        reference_scores=scores,
    )
    dataset_id = f"d4rl/{task_name}/{tier}-v{number}"
    folder = paths.DATASETS / dataset_id
    recorded = f"D4RL {name}, with MuJoCo 2 through mujoco-py"
    card = {
        "description": f"{recorded}. Environments of today ({env_id}) move slightly differently.",
        "algorithm_name": "see Fu et al. 2020, arXiv 2004.07219",
        "recorded_on": recorded,
        "ref_min_score": scores[0],
        "ref_max_score": scores[1],
        "source_sha256": sha256(file),
        "gymnasium_version": gymnasium.__version__,
    }
    write_minari(folder, check(dataset, file, task), task, dataset_id, card)
    return folder


def read_d4rl(file: Path) -> Dataset:
    """The episodes of a D4RL HDF5 file; a last one that is cut off is left out.

    Raises:
        BadFile: not HDF5, or without the groups that D4RL's files have.
    """
    try:
        with h5py.File(file) as content:
            missing = [field for field in D4RL_FIELDS if field not in content]
            if missing:
                raise BadFile(
                    f"{file}: lacks {', '.join(missing)} (it has {', '.join(sorted(content))}); "
                    "D4RL's v2 files have them, its v0 files have no timeouts"
                )
            observations, actions, rewards, terminals, timeouts = (
                content[field][()] for field in D4RL_FIELDS
            )
            following = content["next_observations"][()] if "next_observations" in content else None
    except OSError as error:
        raise BadFile(
            f"{file}: not a whole HDF5 file ({error}); delete it and download again"
        ) from error
    ends = np.flatnonzero(terminals.astype(bool) | timeouts.astype(bool))
    if len(ends) == 0:
        raise BadFile(
            f"{file}: no step is a terminal or a timeout, so its episodes cannot be told apart"
        )
    used = ends[-1] + 1
    if following is None:
        # Unknown: what follows the last action. The next episode's first state would be wrong.
        following = observations
    return Dataset(
        observations=observations[:used],
        actions=actions[:used],
        rewards=rewards[:used].astype(np.float64),
        lengths=np.diff(ends, prepend=-1),
        terminated=terminals[ends].astype(bool),
        final_observations=following[ends],
        seeds=np.full(len(ends), -1, np.int64),
    )
