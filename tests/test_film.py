"""A film is one picture, a style sheet and a box to tick; nothing is fetched and nothing runs."""

import base64
import io
import re

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from helpers.film import LARGEST_FILM, LARGEST_SIDE, film

FRAMES = [np.full((6, 8, 3), 40 * i, np.uint8) for i in range(5)]


def soup(frames=FRAMES, **options):
    shown = film(frames, 0.2, options.pop("alt", "Grey squares grow lighter."), **options)
    return BeautifulSoup(shown.data, "html.parser")


def strip_of(page):
    data = re.search(r"url\(data:image/png;base64,([^)]+)\)", page.style.string)[1]
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_the_strip_holds_every_frame_in_order():
    picture = strip_of(soup())
    assert picture.size == (5 * 8, 6) and picture.mode == "P"
    assert np.array_equal(np.asarray(picture.convert("RGB")), np.concatenate(FRAMES, axis=1))


@pytest.mark.parametrize("count", [2, 5])
def test_there_are_as_many_steps_as_frames(count):
    style = soup(FRAMES[:count], rest=0.5).style.string
    assert f"steps({count}, jump-none)" in style
    assert f"/ {count}00% 100%" in style, "the strip is as many windows wide"
    total = count * 0.2 + 0.5
    assert f"{total:.3f}s" in style and f"{100 * count * 0.2 / total:.3f}%, 100%" in style


def test_the_picture_is_described_and_the_box_labelled():
    page = soup(alt='A "door" <opens>.', label="Play: go & see")
    (window,) = page.select("[role=img]")
    assert window["aria-label"] == 'A "door" <opens>.'
    (box,) = page.select("input[type=checkbox]")
    assert page.label["for"] == box["id"] and page.label.string == "Play: go & see"
    assert f"#{box['id']}:checked ~ #{window['id']}" in page.style.string
    assert "disabled" not in box.attrs and "tabindex" not in box.attrs


def test_it_is_still_until_asked_and_for_those_who_want_it_still():
    style = soup().style.string
    assert "infinite paused" in style
    for query in ("@media (prefers-reduced-motion: reduce)", "@media print"):
        assert "animation: none" in style.split(query)[1]
    assert "print-color-adjust: exact" in style


def test_nothing_runs_and_nothing_is_fetched():
    text = re.sub(r"base64,[^)]+", "", film(FRAMES, 0.2, "Squares.").data)
    assert "<script" not in text and "http" not in text and "//" not in text
    assert not re.search(r"\bon\w+=", text)


def test_films_have_their_own_ids_and_come_out_the_same_twice():
    one, again = film(FRAMES, 0.2, "One."), film(FRAMES, 0.2, "One.")
    assert one.data == again.data
    ids = {soup(alt=alt).input["id"] for alt in ("One.", "Two.")}
    assert len({*ids, soup(FRAMES[::-1]).input["id"]}) == 3


def test_impossible_films_are_refused():
    with pytest.raises(ValueError, match="no alternative text"):
        film(FRAMES, 0.2, " ")
    with pytest.raises(ValueError, match="two frames or more, not 1"):
        film(FRAMES[:1], 0.2, "One.")
    with pytest.raises(ValueError, match=f"browsers show up to {LARGEST_SIDE:,}"):
        film([np.zeros((2, 9000, 3), np.uint8)] * 2, 0.2, "Long.")
    noise = np.random.default_rng(0).integers(256, size=(2, 400, 600, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=f"more than {LARGEST_FILM:,}"):
        film(noise, 0.2, "Noise.")
