"""Checkpoints in Hugging Face's format: from a folder, from a hub, and when there is none."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from helpers.files import BadFile
from helpers.models.pretrained import load_pretrained

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A checkpoint as transformers writes it, with weights large enough to matter."""
    torch.manual_seed(0)
    model = DecisionTransformerModel(
        DecisionTransformerConfig(
            state_dim=17,
            act_dim=6,
            hidden_size=16,
            max_ep_len=1000,
            n_layer=2,
            n_head=1,
            n_positions=64,
        )  # fmt: skip
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def outputs(folder: Path, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """Actions of theirs and of ours on the same window."""
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(2, 20, 17, generator=generator)
    actions = torch.randn(2, 20, 6, generator=generator).clamp(-1, 1)
    togo = torch.randn(2, 20, generator=generator) * 1000
    steps = torch.arange(20).expand(2, -1)
    theirs = DecisionTransformerModel.from_pretrained(folder).eval()
    ours = load_pretrained(folder, **options)
    with torch.no_grad():
        expected = theirs(
            states=states,
            actions=actions,
            returns_to_go=togo[..., None] / 1000,
            timesteps=steps,
            attention_mask=torch.ones(2, 20),
        ).action_preds
        return expected, ours(togo, states, actions, steps)


def test_a_local_folder_gives_the_same_actions(folder):
    expected, actual = outputs(folder)
    assert (expected - actual).abs().max() < 1e-5
    assert expected.std() > 0.1


def test_an_old_pickle_is_read_without_running_code(folder):
    weights = DecisionTransformerModel.from_pretrained(folder).state_dict()
    expected, _ = outputs(folder)
    (folder / "model.safetensors").rename(folder.parent / "aside")
    torch.save(weights, folder / "pytorch_model.bin")
    ours = load_pretrained(folder)
    (folder.parent / "aside").rename(folder / "model.safetensors")
    again, _ = outputs(folder)
    assert torch.equal(expected, again)
    assert torch.equal(ours.predict_action.weight, weights["predict_action.0.weight"])


def test_a_pickle_that_would_run_code_is_refused(folder):
    class Evil:
        def __reduce__(self):
            return os.system, ("touch /tmp/should-not-exist",)

    (folder / "model.safetensors").unlink()
    torch.save({"x": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(BadFile, match="weights_only"):
        load_pretrained(folder)


def test_the_normalisation_can_be_given(folder):
    import numpy as np

    plain = load_pretrained(folder)
    shifted = load_pretrained(folder, observation_mean=np.ones(17), observation_std=np.full(17, 2))
    x = torch.randn(1, 3, 17)
    rest = (torch.zeros(1, 3, 6), torch.arange(3)[None])
    with torch.no_grad():
        a = plain(torch.zeros(1, 3), x, *rest)
        b = shifted(torch.zeros(1, 3), x * 2 + 1, *rest)
    assert torch.allclose(a, b, atol=1e-5)


def test_broken_folders_say_what_is_wrong(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "act_dim": 3}))
    with pytest.raises(BadFile, match="this checkpoint is for another task"):
        load_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({**config, "n_layer": 3}))
    with pytest.raises(BadFile, match="is missing from the checkpoint"):
        load_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadFile, match="neither model.safetensors nor pytorch_model.bin"):
        load_pretrained(folder)
    with pytest.raises(BadFile, match="config.json: no such file"):
        load_pretrained(tmp_path)


# --- the hub -----------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from helpers import paths
paths.DATA = Path(sys.argv[1])
from helpers.models.pretrained import load_pretrained
try:
    print("loaded", sum(p.numel() for p in load_pretrained("someone/some-model").parameters()))
except Exception as error:
    print(type(error).__name__, error)
"""


def load_from(endpoint: str, data: Path, cache: Path) -> str:
    """Load in a fresh process, because the hub library reads its settings when imported."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache),
                   "HF_HUB_DOWNLOAD_TIMEOUT": "2", "HF_HUB_ETAG_TIMEOUT": "2",
                   "HF_HUB_DISABLE_XET": "1"}  # fmt: skip
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "HF_HUB_OFFLINE"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(data)],
        env=environment, capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip


@pytest.fixture
def hub(folder):
    """A server that answers as the hub does for one model; counts requests by path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):  # noqa: N802
            self.answer(body=False)

        def do_GET(self):  # noqa: N802
            self.answer(body=True)

        def answer(self, body: bool):
            name = self.path.split("?")[0].rsplit("/", 1)[-1]
            self.server.seen.append(self.path)
            file = folder / name
            if "/resolve/" not in self.path or not file.is_file():
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_the_first_download_is_pinned_and_later_ones_checked(hub, folder, tmp_path):
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    data = tmp_path / "data"
    assert load_from(endpoint, data, tmp_path / "cache").startswith("loaded")
    pin = json.loads((data / "pins.json").read_text())["someone/some-model"]
    assert pin["revision"] == COMMIT
    assert pin["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    hub.seen.clear()
    assert load_from(endpoint, data, tmp_path / "cache2").startswith("loaded")
    asked = [path for path in hub.seen if "/resolve/" in path]
    assert asked and all(f"/resolve/{COMMIT}/" in path for path in asked), "the pinned revision"
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(content))
    answer = load_from(endpoint, data, tmp_path / "cache3")
    assert answer.startswith("BadFile") and "is not the pinned" in answer


def test_without_network_the_error_says_how_to_get_the_files(tmp_path):
    answer = load_from("http://127.0.0.1:9", tmp_path, tmp_path / "cache")
    assert answer.startswith("BadFile"), answer
    assert "hf download someone/some-model --local-dir" in answer
