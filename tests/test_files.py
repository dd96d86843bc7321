"""Files are written whole or not at all, whatever happens meanwhile."""

import os
import resource
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from helpers.files import BadFile, read_arrays, read_json, write_arrays, write_bytes, write_json


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def test_a_full_disk_keeps_the_old_file(tmp_path):
    """The operating system itself refuses to write more than 100 kB in this process."""
    path = tmp_path / "model.safetensors"
    write_bytes(path, b"old")
    code = f"""
        import signal
        from helpers.files import write_bytes
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            write_bytes({str(path)!r}, bytes(1_000_000))
        except OSError as error:
            print(error)
    """

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        preexec_fn=limit, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"could not write {path}" in done.stdout
    assert "unchanged; free some space" in done.stdout
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_a_kill_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"old": True})
    code = f"""
        import time
        from helpers.files import replacing
        with replacing({str(path)!r}) as temporary:
            temporary.write_text("half of a res")
            print("writing", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert read_json(path) == {"old": True}


def test_a_folder_without_permission_is_named(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="permission|Permission"):
        write_bytes(tmp_path / "x", b"")


def test_arrays_round_trip_and_cut_files_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays = {"x": np.arange(6.0).reshape(2, 3).T, "n": np.int64(3).reshape(1)}
    write_arrays(path, arrays, {"model": {"width": 8}, "text": "plain"})
    back, metadata = read_arrays(path)
    assert all(np.array_equal(back[name], arrays[name]) for name in arrays)
    assert metadata == {"model": {"width": 8}, "text": "plain"}
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadFile, match="not a whole safetensors file.*restore it"):
        read_arrays(path)
    with pytest.raises(BadFile, match="no such file"):
        read_arrays(tmp_path / "b.safetensors")


def test_equal_arrays_and_metadata_give_equal_files(tmp_path):
    metadata = {f"key {i}": i for i in range(30)}
    contents = set()
    for _ in range(10):
        write_arrays(tmp_path / "a.safetensors", {"x": np.ones(3), "y": np.zeros(2)}, metadata)
        contents.add((tmp_path / "a.safetensors").read_bytes())
    assert len(contents) == 1
    assert read_arrays(tmp_path / "a.safetensors")[1] == metadata


def test_json_is_the_same_for_the_same_content(tmp_path):
    write_json(tmp_path / "a", {"b": 1, "a": [2]})
    write_json(tmp_path / "b", {"a": [2], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    (tmp_path / "a").write_text('{"b": 1')
    with pytest.raises(BadFile, match="not JSON.*make it again"):
        read_json(tmp_path / "a")
