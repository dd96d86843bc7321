"""The post's numbers come out of its formulas, most of them whatever the network; the list."""

import dataclasses
import math
import re
import shutil

import jupytext
import numpy as np
import pytest
import torch

from helpers import errata as listed
from helpers import paths
from helpers.analysis import as_published
from helpers.analysis.as_published import random_attention
from helpers.analysis.attention import (
    AttentionMaps,
    normalised_entropy,
    small_weights,
    uniform,
)
from helpers.analysis.sums import LAWS, fit_sum
from helpers.files import BadFile
from helpers.published import post_figure


def causal(length: int, heads: int = 1, sharpness: float = 2.0) -> AttentionMaps:
    """Random causal attention, another one for each length."""
    return random_attention(length, heads=heads, sharpness=float(sharpness), seed=length)


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 9.0])
def test_the_mean_attention_of_any_network_is_one_over_its_length(sharpness):
    """The post has 0.010 for windows of 100 tokens; 0.029 for 25 windows, one of them short."""
    hundred = as_published.mean_weight(causal(100, sharpness=sharpness))
    assert torch.allclose(hundred, torch.tensor(0.010), atol=1e-6)
    short, full = (as_published.mean_weight(causal(n, sharpness=sharpness)) for n in (3, 63))
    assert torch.allclose((short + 24 * full) / 25, torch.tensor(0.0286), atol=1e-4)


def test_half_of_the_published_sparsity_is_the_mask():
    for length, zeros in ((63, 0.492), (100, 0.495)):
        even = uniform(causal(length))
        published = as_published.sparsity(even, below=1e-9)
        assert torch.allclose(published, torch.tensor(zeros), atol=1e-3)
        assert (small_weights(even) == 0).all(), "nothing is sparse about even attention"


def test_the_published_threshold_depends_on_the_window():
    """With the same preferences, a longer window looks sparser."""
    scores = [as_published.sparsity(causal(n, sharpness=0.1)).mean() - (n - 1) / (2 * n)
              for n in (60, 240)]  # fmt: skip
    assert scores[0] < 0.05 and scores[1] > 0.3
    honest = [small_weights(causal(n, sharpness=0.1)).mean() for n in (60, 240)]
    assert abs(honest[0] - honest[1]) < 0.01


def test_averaging_heads_first_hides_what_each_ignores():
    one, four = causal(60, heads=1, sharpness=4), causal(60, heads=4, sharpness=4)
    assert as_published.sparsity(four).mean() < as_published.sparsity(one).mean() - 0.08
    assert abs(small_weights(four).mean() - small_weights(one).mean()) < 0.03


def test_published_head_entropies_exceed_what_a_row_can_have():
    maps = causal(100, heads=4, sharpness=0.5)
    found = as_published.head_entropy(maps)
    rows = torch.special.entr(maps.weights).sum(dim=-1).mean(dim=-1)
    assert torch.allclose(found, math.log(100) + rows, atol=1e-3)
    assert (found > math.log(100)).all() and (normalised_entropy(maps) <= 1).all()
    even = as_published.head_entropy(uniform(maps))
    assert torch.allclose(even, torch.tensor(math.log(100) + 3.64), atol=0.01)


def test_even_attention_already_looks_back_a_quarter_of_the_window_in_tokens():
    found = as_published.look_back(uniform(causal(100)))
    assert torch.allclose(found, torch.tensor(24.75), atol=0.01)


def test_the_published_allocation_of_even_attention():
    """Shares of 0.25, 0.5 and 0.25 are the widths of the windows, and the sum exceeds 1."""
    maps = uniform(causal(60))
    found = as_published.allocation(maps, query=59, again=57)
    assert torch.allclose(found[:, :3], torch.tensor([0.25, 0.5, 0.25]))
    assert torch.allclose(found.sum(-1), torch.tensor(1 + 1 / 60))
    peaked = dataclasses.replace(maps, weights=causal(60, sharpness=3).weights)
    sums = as_published.allocation(peaked, query=59, again=57).sum(dim=-1)
    assert ((sums > 1) & (sums < 2)).all()


def test_published_variance_falls_with_the_window_of_even_attention():
    found = [as_published.variance(uniform(causal(n))).mean().item() for n in (20, 80)]
    assert found[0] > 3 * found[1] and np.isfinite(found).all()


def test_random_attention_is_attention_over_what_is_not_hidden():
    maps = random_attention(50, heads=2, kinds=25, hidden_kind=24, sharpness=2.0)
    assert torch.allclose(maps.weights.sum(-1), torch.ones(()))
    assert (maps.weights[..., 24::25] == 0).all() and maps.keys[0, 49] == 48
    assert maps.steps[0, 24] == 0 and maps.steps[0, 25] == 1
    flat = random_attention(20, sharpness=0.0)
    assert torch.allclose(flat.weights, uniform(flat).weights)


# --- sums of errors ---


@pytest.mark.parametrize("law", LAWS)
def test_each_law_finds_itself(law):
    steps = np.arange(5, 100, 7)
    sums = {other: 3 * LAWS[other](steps, 1.5 if "power" in other else 0.03) for other in LAWS}
    fits = {other: fit_sum(law, steps, values) for other, values in sums.items()}
    assert fits[law].rate == pytest.approx(1.5 if "power" in law else 0.03, rel=1e-3)
    assert fits[law].factor == pytest.approx(3, rel=1e-2) and fits[law].residual < 1e-4
    assert np.allclose(fits[law](steps), sums[law], rtol=1e-3)
    assert all(fits[other].residual > 0.01 for other in LAWS if other != law)


def test_sums_must_have_logarithms():
    with pytest.raises(ValueError, match="above 0"):
        fit_sum("the sum is a power", np.array([0, 1, 2]), np.ones(3))
    with pytest.raises(ValueError, match="three steps"):
        fit_sum("the sum is a power", np.array([1, 2]), np.ones(2))


def test_what_the_posts_errors_say():
    """Its sum is no exponential; what grows under it, its figure does not decide."""
    curve = post_figure("error-propagation", "DT")
    left = {law: fit_sum(law, curve.index.to_numpy(), curve.to_numpy()).residual for law in LAWS}
    assert left["the sum is exponential"] > 2 * left["the sum is a power"]
    assert 0.5 < left["errors grow linearly"] / left["errors grow exponentially"] < 2


# --- the list ---

CHAPTER = paths.ROOT / "notebooks" / "13_errata.md"


def test_every_defect_is_on_the_page_and_every_number_is_computed_there():
    entries, source = listed.errata(), CHAPTER.read_text()
    shown = set(re.findall(r'listing\(entries, "(\w+)", found\)', source))
    assert shown == set(listed.TOPICS) == {entry.topic for entry in entries}
    assert sum(listed.counts(entries).values()) == len(entries) >= 29
    page = "".join(cell.source for cell in jupytext.read(CHAPTER).cells)
    assert "found |= {" in page and "${" not in page


def test_figures_and_papers_of_the_list_exist():
    text = (paths.DATA / "published" / "errata.yml").read_text()
    notebooks = paths.ROOT / "notebooks"
    sources = "".join(path.read_text() for path in notebooks.glob("[0-9][0-9]_*.md"))
    for name in re.findall(r"\{numref\}`([^`]+)`", text):
        assert f"name: {name}\n" in sources, name
    bibliography = (paths.ROOT / "book" / "references.bib").read_text()
    for keys in re.findall(r"\{cite:p\}`([^`]+)`", text):
        assert all(f"{{{key}," in bibliography for key in keys.split(",")), keys


def test_an_entry_as_markdown():
    entry = listed.Erratum(7, "Title", "7.c", "means", "wording", "Says.", "Is ${a-b}.", "Do.")
    text = entry.markdown({"a-b": "4"})
    assert text.startswith(
        "(defect-7)=\n**7. Title** (7.c; a matter of wording)\n\n- *The post.* Says."
    )
    assert "Is 4." in text and "holds" not in text
    with pytest.raises(KeyError, match="defect 7 needs the number 'a-b'"):
        entry.markdown({})
    assert 'href="#defect-7"' in listed.overview([entry])
    with pytest.raises(ValueError, match="topic is 'mean'"):
        listed.listing([entry], "mean", {})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("- number: 2\n", "- number: 3\n", "count from 1 without gaps"),
        ("- number: 1\n", "- number: one\n", "entry 1: number is 'one'; write int"),
        ("  topic: shares\n", "  topic: share\n", "topic is 'share'; choose one of"),
        ("  shown_by: recomputation\n", "  shown_by: sight\n", "shown_by is 'sight'; choose"),
        ("  topic: shares\n", "", r"entry 1: lacks \['topic'\]"),
        ("  topic: shares\n", "  topic: shares\n  topics: x\n", r"unknown \['topics'\]"),
        ("  topic: shares\n", "  topic: shares\n  holds:\n", "holds is None; write str"),
        ("- number: 1\n", "- number: [\n", "not YAML"),
    ],
)
def test_a_bad_list_is_told(tmp_path, monkeypatch, old, new, message):
    shutil.copytree(paths.DATA / "published", tmp_path / "published")
    path = tmp_path / "published" / "errata.yml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    monkeypatch.setattr(paths, "DATA", tmp_path)
    with pytest.raises(BadFile, match=message):
        listed.errata()
