"""The explorer holds the weights it is given, and does what its buttons, keys and slider say."""

import base64
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import matplotlib.colors as mcolors
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from PIL import Image

from helpers import paths
from helpers.explorer import DARK, LARGEST, Story, Token, decode, encode, explorer, kind_colours
from helpers.explorer_stories import _play, decision_story, leap_story
from helpers.models.decision import load_decision
from helpers.models.leap import load_leap
from helpers.planning.gibbs import GibbsConfig, GibbsPlanner
from helpers.plotting import BACKGROUND, INK, TOKEN_COLOURS
from helpers.tasks import get_task

ALT = 'A "map" of <weights> & tokens.'
KINDS = ("return", "state", "action")
NASTY = ("</script><b>R</b>", "s\"'&", "<!--a", "R@@DATA@@", "\u2028")
ROUNDED = 0.004
"""What a stored weight may be off by."""


def weights(rng, moments=4, layers=2, heads=3, size=5):
    """Causal attention, with one key more in sight at each query."""
    logits = 2 * rng.normal(size=(moments, layers, heads, size, size))
    logits[..., ~np.tri(size, dtype=bool)] = -np.inf
    raised = np.exp(logits)
    maps = raised / raised.sum(axis=-1, keepdims=True)
    return np.where(np.tri(size, dtype=bool), maps, np.nan)


def make_story(name="One", seed=0, moments=4, size=5, labels=("R", "s", "a"), **changes):
    """Tokens slide along by one a moment; the first moment lacks the last two."""
    rng = np.random.default_rng(seed)
    counts = [size - 2, *[size] * (moments - 1)]
    maps = weights(rng, moments, size=size)
    maps[0, ..., size - 2 :, :] = np.nan
    tokens = [
        tuple(
            Token(labels[j % len(labels)], KINDS[j % 3], j // 3, f"{KINDS[j % 3]} of step {j // 3}")
            for j in range(i, i + count)
        )
        for i, count in enumerate(counts)
    ]
    frames = np.zeros((moments, 20, 30, 3), np.uint8) + np.arange(moments)[:, None, None, None] * 40
    fields = {
        "frames": frames.astype(np.uint8),
        "maps": maps,
        "tokens": tuple(tokens),
        "captions": tuple(f"{name}, moment {i}." for i in range(moments)),
        "reads": tuple((count - 1,) for count in counts),
    }
    return Story(name, **{**fields, **changes})


def data_of(page):
    soup = BeautifulSoup(page, "html.parser")
    return json.loads(soup.select_one('script[type="application/json"]').string)


def style_of(page):
    return BeautifulSoup(page, "html.parser").style.string


# --- what is stored ----------------------------------------------------------------------------


def test_weights_come_back_within_the_bound():
    exact = np.concatenate([np.linspace(0, 1, 10_001), np.geomspace(1e-12, 1, 1001)])
    off = np.abs(decode(encode(exact)) - exact)
    assert (off <= np.sqrt(exact) / 255 + 1 / 255**2).all()
    assert off.max() < ROUNDED
    assert np.isnan(decode(encode(np.array([np.nan])))).all(), "a forbidden key is no weight of 0"


def test_the_page_holds_the_storys_weights_tokens_and_pictures():
    story = make_story()
    (stored,) = data_of(explorer([story], alt=ALT).data)["stories"]
    array = np.frombuffer(base64.b64decode(stored["maps"]), np.uint8)
    back = decode(array.reshape(*stored["shape"], stored["shape"][-1]))
    assert np.array_equal(np.isnan(back), np.isnan(story.maps))
    assert np.nanmax(np.abs(back - story.maps)) < ROUNDED
    length = story.maps.shape[-1]
    sums = np.nansum(back, axis=-1)[~np.isnan(back).all(axis=-1)]
    assert np.abs(sums - 1).max() <= np.sqrt(length) / 255 + length / 255**2
    tokens = [[Token(*stored["table"][i]) for i in row] for row in stored["tokens"]]
    assert tuple(map(tuple, tokens)) == story.tokens
    for data, frame in zip(stored["frames"], story.frames, strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert np.array_equal(np.asarray(picture.convert("RGB")), frame)


def test_stories_that_contradict_themselves_are_refused():
    good = make_story()
    half = np.where(np.isnan(good.maps), np.nan, 0.5 * good.maps)
    strange = tuple((replace(row[0], kind="reword"), *row[1:]) for row in good.tokens)
    for changes, message in (
        ({"captions": ("a",)}, "one length"),
        ({"maps": half}, "rows sum to 0.5"),
        ({"tokens": strange}, "unknown kinds {'reword'}"),
        ({"reads": ((9,),) * 4}, "reads are"),
        ({"maps": good.maps[..., :4, :4]}, "5 tokens; the maps have 4"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            replace(good, **changes)


def test_impossible_explorers_are_refused():
    with pytest.raises(ValueError, match="different names"):
        explorer([make_story(), make_story()], alt=ALT)
    with pytest.raises(ValueError, match="different names"):
        explorer([], alt=ALT)
    with pytest.raises(ValueError, match="no alternative text"):
        explorer([make_story()], alt=" ")


def test_too_large_a_page_is_refused_and_says_its_size(monkeypatch):
    assert LARGEST == 2_000_000
    page = explorer([make_story()], alt=ALT).data
    monkeypatch.setattr("helpers.explorer.LARGEST", len(page.encode()) + 1)
    assert explorer([make_story()], alt=ALT).data == page
    monkeypatch.setattr("helpers.explorer.LARGEST", len(page.encode()))
    with pytest.raises(ValueError, match=rf"has {len(page.encode()):,} bytes.*'One': \d{{4}}"):
        explorer([make_story()], alt=ALT)


def test_the_same_stories_are_the_same_page():
    stories = [make_story(), make_story("Two", seed=1)]
    page = explorer(stories, alt=ALT).data
    assert page == explorer(stories, alt=ALT).data
    keys = {
        re.search(r'data-key="(\w+)"', explorer(*a, **k).data)[1]
        for a, k in ((([make_story()],), {"alt": ALT}), ((stories,), {"alt": ALT}),
                     ((stories,), {"alt": "Other."}))
    }  # fmt: skip
    assert len(keys) == 3, "two explorers of a page must not be mixed up"


def test_nothing_in_a_label_can_end_the_script():
    story = make_story(f"One {NASTY[0]}", labels=NASTY)  # the moment's captions hold the name
    page = explorer([story], alt=ALT).data
    soup = BeautifulSoup(page, "html.parser")
    assert len(soup.find_all("script")) == 2 and not soup.find_all("b")
    (stored,) = data_of(page)["stories"]
    assert {row[0] for row in stored["table"]} == set(NASTY)
    assert stored["name"] == story.name
    assert soup.img["alt"] == ALT and soup.select_one(".ax-live")["aria-label"] == ALT


def test_nothing_is_loaded_from_outside():
    page = re.sub(r"[A-Za-z0-9+/=]{200,}", "", explorer([make_story()], alt=ALT).data)
    for pattern in (r"https?:", r"""(src|href)=["']?//""", r"url\(", "@import", r"\bimport\b",
                    "fetch", "XMLHttpRequest", "<link", "<iframe", r"\bon\w+="):  # fmt: skip
        assert not re.search(pattern, page), pattern


def test_every_rule_of_the_style_concerns_the_explorer_alone():
    style = re.sub(r"/\*.*?\*/", "", style_of(explorer([make_story()], alt=ALT).data), flags=re.S)
    flat = re.sub(r"@media [^{]*\{((?:[^{}]*\{[^{}]*\})*)\s*\}", r"\1", style)
    selectors = [text.strip() for text in re.findall(r"([^{}]+)\{[^{}]*\}", flat)]
    assert len(selectors) > 30 and "@media" not in "".join(selectors)
    own = re.compile(r"(html(\[[^\]]*\]|:not\([^)]*\)) )?\.attention-explorer")
    assert [text for text in selectors if not own.match(text)] == []


def contrast(one, other):
    def luminance(colour):
        rgb = np.array(mcolors.to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def themes():
    """Custom properties of the light and the dark theme, as the style sheet has them."""
    style = style_of(explorer([make_story()], alt=ALT).data)
    blocks = re.findall(r"--ax-paper:[^}]*", style)
    found = [dict(re.findall(r"--ax-(\w+): (#\w+)", block)) for block in blocks]
    assert len(found) == 3 and found[1] == found[2], "light, dark by theme, dark by preference"
    return {"light": found[0], "dark": found[1]}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_and_edges_can_be_told_from_the_paper(theme):
    page = themes()[theme]
    assert page["paper"] == {"light": BACKGROUND, "dark": DARK}[theme]
    assert theme == "dark" or page["ink"] == INK
    for name, least in {"ink": 7, "quiet": 4.5, "edge": 3, "focus": 3}.items():
        assert contrast(page[name], page["paper"]) >= least, name
    for kind in TOKEN_COLOURS:
        line, fill = kind_colours(kind)[theme]
        assert contrast(line, page["paper"]) >= 3, kind
        assert contrast(page["ink"], fill) >= 4.5, kind
        assert contrast(fill, page["paper"]) > 1.25, f"{kind}: a share must be seen"


def test_the_template_is_shipped_with_the_package(tmp_path):
    """Built like `pip install .` does, from a copy, without the network."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(paths.ROOT / name, tmp_path)
    shutil.copytree(paths.ROOT / "src" / "helpers", tmp_path / "src" / "helpers")
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert "helpers/explorer.html" in zipfile.ZipFile(wheel).namelist()


# --- stories -----------------------------------------------------------------------------------

CHEETAH = paths.CHECKPOINTS / "dt" / "halfcheetah" / "medium-s0.safetensors"
ROOM = "babyai-gotolocal-s7n5"
LEAP = paths.CHECKPOINTS / "babyai-leap" / ROOM / "expert-n500-s0.safetensors"


@pytest.fixture(scope="module")
def decision():
    model, _ = load_decision(CHEETAH)
    return model, decision_story(model, moments=[0, 1, 21, 24])


@pytest.fixture(scope="module")
def leap():
    model, _ = load_leap(LEAP)
    return model, leap_story(model, get_task(ROOM), 100, config=GibbsConfig(iterations=6))


def test_a_decision_transformer_is_seen_as_it_acts(decision):
    model, story = decision
    assert [len(row) for row in story.tokens] == [2, 5, 59, 59]
    assert story.reads == ((1,), (4,), (58,), (58,)), "the newest state"
    assert [(row[-1].kind, row[-1].step) for row in story.tokens] == [
        ("state", step) for step in (0, 1, 21, 24)
    ]
    assert story.tokens[2][0] == Token("R", "return", 2, story.tokens[2][0].name)
    assert story.maps.shape == (4, 3, 1, 59, 59)
    assert np.isnan(story.maps[3, 0, 0][~np.tri(59, dtype=bool)]).all(), "no one sees the future"
    assert len({frame.tobytes() for frame in story.frames}) == 4, "it moves"
    played, asked = _play(model, 6000.0, 0, [24])
    assert f"Return so far {played.rewards[:24].sum():.1f}".replace("-", "−") in story.captions[3]
    assert asked[0] == 6000 and np.allclose(np.diff(asked), -played.rewards[:-1], atol=1e-3)
    # The very window from which the agent chose: the model chooses the same again.
    window = slice(5, 25)
    given = (torch.from_numpy(part[window]).float()[None]
             for part in (asked, played.observations, played.actions))  # fmt: skip
    with torch.inference_mode():
        chosen = model(*given, torch.arange(5, 25)[None])[0, -1]
    assert np.allclose(chosen.numpy(), played.actions[24], atol=1e-5)
    assert f"back thigh {played.actions[24, 0]:+.2f}".replace("-", "−") in story.captions[3]


def test_moments_of_an_episode_increase(decision):
    for moments in ([], [3, 2], [-1, 2], [1000]):
        with pytest.raises(ValueError, match="moments are"):
            decision_story(decision[0], moments=moments)


def test_leap_is_seen_as_it_fills_in_a_plan(leap):
    model, story = leap
    assert [token.label for token in story.tokens[0]] == ["level", *["MASK"] * 5]
    assert story.reads[0] == (1, 2, 3, 4, 5)
    for tokens, reads in zip(story.tokens, story.reads, strict=True):
        assert tuple(i for i, token in enumerate(tokens) if token.kind == "mask") == reads
    assert all(len(reads) == 1 for reads in story.reads[1:])
    assert "go to the" in story.name
    assert story.frames.shape == (6, 224, 224, 3)
    assert story.maps.shape[1:3] == (3, 4)
    # What a place is filled with stands there when the next one is masked.
    for before, after in itertools.pairwise(range(6)):
        chances = re.findall(r"(\w+) \(probability (\S+)\) at place (\d)", story.captions[before])
        for word, chance, place in chances:
            assert 0 < float(chance) <= 1
            assert story.tokens[after][1 + int(place)].label in (word, "MASK")


@pytest.mark.parametrize("seed", range(100, 106))
def test_a_search_records_what_the_model_was_given(leap, seed):
    model, task = leap[0], get_task(ROOM)
    env = task.make()
    observed = torch.from_numpy(task.pack(env.reset(seed=seed)[0]))[None]
    generator = torch.Generator().manual_seed(0)
    found = GibbsPlanner(model, GibbsConfig()).plan(observed, generator, record=True)
    given, plans = (torch.from_numpy(part[:, 0, 0]) for part in (found.inputs, found.history))
    mask, end = model.config.mask, model.config.end
    assert (given[0] == mask).all() and ((given[1:] == mask).sum(dim=1) == 1).all()
    with torch.inference_mode():
        logits = model(model.encode(observed).expand(len(given), -1), given)
        logits[:, 0, end] = -torch.inf  # a plan has one action or more
    filled = torch.where(given == mask, logits.argmax(dim=-1), given)
    assert torch.equal(filled.masked_fill(~model.active(filled), end), plans)


def test_words_behind_the_end_are_left_out():
    model, _ = load_leap(LEAP)
    for seed in range(100, 130):
        story = leap_story(model, get_task(ROOM), seed, config=GibbsConfig(iterations=3))
        ends = [[t.label for t in row].index("END") for row in story.tokens
                if "END" in [t.label for t in row]]  # fmt: skip
        lengths = [len(row) for row in story.tokens if "END" in [t.label for t in row]]
        assert [end + 1 for end in ends] == lengths
        if ends and min(lengths) < 6:
            return
    raise AssertionError("no plan of these levels ends early; choose other levels")


def test_the_real_stories_come_out_the_same_twice_and_fit(decision, leap):
    again = decision_story(decision[0], moments=[0, 1, 21, 24])
    page = explorer([decision[1], leap[1]], alt=ALT).data
    assert page == explorer([again, leap[1]], alt=ALT).data
    assert len(page) < 300_000
