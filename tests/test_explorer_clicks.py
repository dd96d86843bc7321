"""What a reader does with the explorer, in headless Chromium: click, type, read what it says."""

import base64
import io

import chromium
import matplotlib as mpl
import matplotlib.colors as mcolors
import numpy as np
import pytest
from PIL import Image
from test_explorer import ALT, CHEETAH, LEAP, NASTY, ROOM, ROUNDED, make_story, themes

from helpers.explorer import encode, explorer, kind_colours
from helpers.explorer_stories import decision_story, leap_story
from helpers.models.decision import load_decision
from helpers.models.leap import load_leap
from helpers.planning.gibbs import GibbsConfig
from helpers.tasks import get_task

BEFORE = "<script>window.before = new Set(Object.getOwnPropertyNames(window))</script>"
STRANGER = '<p class="stranger"><button class="ax-map">x</button><select></select></p>'
STRIP, REST = 0.035, 0.01
"""Of the map's side, as in the template: in front of the first cell and behind the last one."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = chromium.executable()
    if program is None:
        pytest.skip(f"none of {', '.join(chromium.NAMES)} is installed; nothing can be clicked")
    with chromium.Chromium(program, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def stories():
    return [make_story(), make_story("Two <b>", seed=1, moments=3, labels=NASTY)]


@pytest.fixture(scope="module")
def site(stories, tmp_path_factory):
    """A page with an explorer, another one, and the first one again."""
    one, other = (explorer(part, alt=ALT).data for part in (stories, [make_story("Three")]))
    path = tmp_path_factory.mktemp("site") / "page.html"
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    path.write_text(f"{head}{BEFORE}</head><body>{STRANGER}{one}{other}{one}</body></html>")
    return path


def part(name, nth=0):
    root = f"document.querySelectorAll('.attention-explorer')[{nth}]"
    return f"{root}.querySelector('[data-ax={name}]')"


def text(page, name, nth=0):
    return page.evaluate(f"{part(name, nth)}.textContent")


def token(i, nth=0):
    return f"{part('tokens', nth)}.children[{i}]"


def of_tokens(page, expression):
    """The value of a JavaScript expression in `button`, for each token."""
    return page.evaluate(f"[...{part('tokens')}.children].map((button) => {expression})")


def check_readout(page, story, moment, layer, head, query, nth=0):
    """Words and numbers of the readout are those of the story; `head` None is their mean."""
    said = text(page, "readout", nth)
    tokens = story.tokens[moment]
    maps = story.maps[moment, layer]
    row = (maps.mean(axis=0) if head is None else maps[head])[query, : len(tokens)]
    heads = "mean of heads" if head is None else f"head {head + 1}"
    assert said.startswith(f"Layer {layer + 1}, {heads}: {tokens[query].name} may look at ")
    count = int((~np.isnan(row)).sum())
    assert ("one token alone" if count == 1 else f" {count} tokens; evenly") in said
    listed = said.split("Most goes to: ")[1].removesuffix(".").split("; ")
    assert len(listed) == min(3, count)
    names, percents = zip(*(item.rsplit(", ", 1) for item in listed), strict=True)
    shares = [float(percent.removesuffix("\N{NO-BREAK SPACE}%")) / 100 for percent in percents]
    assert shares == sorted(shares, reverse=True)
    for name, share in zip(names, shares, strict=True):
        key = [t.name for t in tokens].index(name)
        assert abs(share - row[key]) <= ROUNDED + (0.0005 if share < 0.1 else 0.005)
    left = [w for t, w in zip(tokens, row, strict=True) if t.name not in names]
    assert np.nanmax([*left, 0]) <= shares[-1] + 2 * ROUNDED + 0.005, "the three largest"


# --- the mouse ---------------------------------------------------------------------------------


def test_buttons_change_the_moment_and_the_readout(browser, site, stories):
    browser.open(site)
    check_readout(browser, stories[0], 0, 1, 0, 2)
    assert text(browser, "count") == "1 of 4" and text(browser, "caption") == "One, moment 0."
    browser.click(part("previous"))
    assert text(browser, "count") == "1 of 4", "there is no moment before the first"
    for moment in (1, 2, 3):
        browser.click(part("next"))
        assert text(browser, "caption") == f"One, moment {moment}."
        check_readout(browser, stories[0], moment, 1, 0, 4)
    browser.click(part("next"))
    assert text(browser, "count") == "4 of 4"
    assert browser.evaluate(f"{part('next')}.getAttribute('aria-disabled')") == "true"
    picture = browser.evaluate(f"{part('views')}.querySelector('img').src")
    shown = Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))).convert("RGB")
    assert np.array_equal(np.asarray(shown), stories[0].frames[3])
    browser.click(part("previous"))
    check_readout(browser, stories[0], 2, 1, 0, 4)


def test_a_click_on_a_token_makes_it_the_query(browser, site, stories):
    browser.open(site)
    browser.click(part("next"))
    for query in (2, 0, 3):
        browser.click(token(query))
        check_readout(browser, stories[0], 1, 1, 0, query)
        checked = of_tokens(browser, "button.getAttribute('aria-checked')")
        assert checked == ["true" if i == query else "false" for i in range(5)]
    browser.click(part("next"))
    check_readout(browser, stories[0], 2, 1, 0, 3)
    row = stories[0].maps[2, 1, 0, 3]
    filled = of_tokens(browser, "parseFloat(button.style.getPropertyValue('--ax-share'))")
    assert np.allclose(filled, np.nan_to_num(100 * row / np.nanmax(row)), atol=1.5)
    assert of_tokens(browser, "button.dataset.kind") == [t.kind for t in stories[0].tokens[2]]
    read = of_tokens(browser, "button.getAttribute('aria-label').includes('predicts from here')")
    assert read == [False, False, False, False, True]


def test_a_click_on_the_map_chooses_its_row(browser, site, stories):
    browser.open(site)
    browser.click(part("next"))
    for query in range(5):
        browser.click(part("map"), x=0.4, y=STRIP + (1 - STRIP - REST) * (query + 0.5) / 5)
        check_readout(browser, stories[0], 1, 1, 0, query)


def test_the_map_has_the_colours_of_the_weights(browser, site, stories):
    browser.open(site)
    browser.click(part("next"))
    at = f"Math.round(map.width * ({STRIP} + {1 - STRIP - REST} * (i + 0.5) / 5))"
    pixels = browser.evaluate(
        f"(() => {{ const map = {part('map')}, pen = map.getContext('2d'), found = []; "
        f"const at = (i) => {at}; "
        "for (let row = 0; row < 5; row++) for (let key = 0; key < 5; key++) "
        "found.push([...pen.getImageData(at(key), at(row), 1, 1).data]); return found; })()"
    )
    maps = stories[0].maps[1, 1, 0]
    wanted = mpl.colormaps["viridis"](encode(maps), bytes=True)
    got, visible = np.array(pixels).reshape(5, 5, 4), ~np.isnan(maps)
    assert np.array_equal(got[visible], wanted[visible])
    assert (got[~visible][:, 3] == 0).all(), "the hatched paper shows"


def test_it_plays_to_the_end_and_pauses(browser, site):
    browser.open(site)
    browser.click(part("play"))
    assert text(browser, "play") == "Pause"
    assert browser.evaluate(f"{part('readout')}.getAttribute('aria-live')") == "off"
    browser.until(f"{part('count')}.textContent === '2 of 4'")
    browser.click(part("play"))
    assert text(browser, "play") == "Play"
    assert browser.evaluate(f"{part('readout')}.getAttribute('aria-live')") == "polite"
    browser.click(part("play"))
    browser.until(f"{part('play')}.textContent === 'Play'")
    assert text(browser, "count") == "4 of 4"


# --- the keyboard ------------------------------------------------------------------------------


def test_layer_head_and_story_are_chosen_from_the_keyboard(browser, site, stories):
    browser.open(site)
    for name, keys, expected in (
        ("layer", ["ArrowUp"], (0, 0)),
        ("head", ["ArrowDown"], (0, 1)),
        ("head", ["ArrowDown", "ArrowDown"], (0, None)),
    ):
        browser.evaluate(f"{part(name)}.focus()")
        for key in keys:
            browser.press(key)
        check_readout(browser, stories[0], 0, *expected, 2)
    browser.evaluate(f"{part('story')}.focus()")
    browser.press("ArrowDown")
    check_readout(browser, stories[1], 0, 1, 0, 2)
    assert text(browser, "count") == "1 of 3"
    shown = of_tokens(browser, "button.children[0].textContent")
    assert shown == [t.label for t in stories[1].tokens[0]], "labels are text, whatever they hold"
    assert browser.evaluate("document.querySelectorAll('b').length") == 0


def test_arrow_keys_move_along_the_tokens_and_tab_leaves_them(browser, site, stories):
    browser.open(site)
    browser.click(part("next"))
    browser.evaluate(f"{part('slider')}.focus()")
    focused = f"[...{part('tokens')}.children].indexOf(document.activeElement)"
    browser.press("Tab")
    assert browser.evaluate(focused) == 4, "one stop: the chosen token"
    for key, query in (
        ("ArrowLeft", 3),
        ("ArrowUp", 2),
        ("ArrowRight", 3),
        ("Home", 0),
        ("ArrowLeft", 4),
        ("ArrowDown", 0),
        ("End", 4),
    ):
        browser.press(key)
        assert browser.evaluate(focused) == query, key
        check_readout(browser, stories[0], 1, 1, 0, query)
    assert of_tokens(browser, "button.tabIndex") == [-1, -1, -1, -1, 0]
    style = "getComputedStyle(document.activeElement)"
    assert browser.evaluate(f"{style}.outlineStyle") == "solid"
    assert browser.evaluate(f"parseFloat({style}.outlineWidth)") >= 2, "the focus is visible"
    browser.press("Tab")
    root = "document.querySelector('.attention-explorer')"
    assert not browser.evaluate(f"{root}.contains(document.activeElement)"), "it is the last stop"


def test_buttons_and_slider_work_from_the_keyboard(browser, site):
    browser.open(site)
    browser.evaluate(f"{part('next')}.focus()")
    browser.press("Enter")
    browser.press(" ")
    assert text(browser, "count") == "3 of 4"
    browser.evaluate(f"{part('slider')}.focus()")
    browser.press("ArrowRight")
    assert text(browser, "count") == "4 of 4"
    assert browser.evaluate(f"{part('slider')}.getAttribute('aria-valuetext')") == "4 of 4"
    browser.press("Home")
    assert text(browser, "caption") == "One, moment 0."


# --- the page ----------------------------------------------------------------------------------


def test_nothing_moves_for_readers_who_want_less_motion(browser, site):
    hidden = f"getComputedStyle({part('play')}).display === 'none'"
    browser.open(site, prefers_reduced_motion="reduce")
    assert browser.evaluate(hidden)
    browser.open(site)
    assert not browser.evaluate(hidden)
    browser.click(part("play"))
    browser.media(prefers_reduced_motion="reduce")
    browser.until(hidden)
    assert text(browser, "play") == "Play", "it stops at once"


def test_several_explorers_do_not_disturb_each_other_or_the_page(browser, site, stories):
    browser.open(site)
    assert browser.evaluate("document.querySelectorAll('[data-ready]').length") == 3
    browser.click(part("next", 2))
    browser.click(part("next", 1))
    browser.click(part("next", 1))
    assert [text(browser, "count", nth) for nth in range(3)] == ["1 of 4", "3 of 4", "2 of 4"]
    check_readout(browser, stories[0], 1, 1, 0, 4, nth=2)
    assert text(browser, "caption", 1) == "Three, moment 2."
    names = "Object.getOwnPropertyNames(window).filter((name) => !before.has(name))"
    assert browser.evaluate(names) == ["before"], "no names are left behind"
    looks = (
        "[...document.querySelectorAll('.stranger, .stranger *')].map((one) => { "
        "const style = getComputedStyle(one); "
        "return [...style].map((name) => style.getPropertyValue(name)).join(); })"
    )
    with_explorers = browser.evaluate(looks)
    assert len(with_explorers) == 3
    browser.evaluate("document.querySelectorAll('.attention-explorer').forEach((e) => e.remove())")
    assert browser.evaluate(looks) == with_explorers, "its style stays inside"
    assert browser.errors() == []
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:"))] == []


def rgb(colour):
    return [round(255 * x) for x in mcolors.to_rgb(colour)]


@pytest.mark.parametrize(
    ("preference", "theme", "expected"),
    [
        ("light", None, "light"),
        ("dark", None, "dark"),
        ("dark", "light", "light"),
        ("light", "dark", "dark"),
        ("dark", "dark", "dark"),
    ],
)
def test_it_is_dark_where_the_page_is(browser, site, preference, theme, expected):
    browser.open(site, prefers_color_scheme=preference)
    if theme:
        browser.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    for name, where in (("color", "ink"), ("background-color", "paper")):
        style = f"getComputedStyle({part('map')}.closest('.attention-explorer'))"
        found = browser.evaluate(f"{style}.getPropertyValue('{name}')")
        assert found == f"rgb{tuple(rgb(themes()[expected][where]))}"
    # The map is drawn again in the colours of the theme.
    strip = f"{part('map')}.getContext('2d').getImageData(40, 2, 1, 1).data.slice(0, 3)"
    line = ",".join(map(str, rgb(kind_colours("return")[expected][0])))
    browser.until(f"String({strip}) === '{line}'")


@pytest.mark.parametrize("width", [360, 1000])
def test_it_fits_the_window(browser, site, width):
    browser.open(site, width)
    browser.click(part("next"))
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    everything = "[...document.querySelectorAll('.attention-explorer *')]"
    rights = browser.evaluate(f"{everything}.map((one) => one.getBoundingClientRect().right)")
    assert max(rights) <= width
    small = f"[...{part('tokens')}.children, {part('next')}, {part('play')}, {part('slider')}]"
    sides = browser.evaluate(f"{small}.flatMap((one) => [one.offsetWidth, one.offsetHeight])")
    assert min(sides) >= 24, "a finger finds it"


STILL = (
    "[...document.querySelectorAll('.attention-explorer')].map((one) => "
    "[one.querySelector('.ax-still'), one.querySelector('.ax-live')]"
    ".map((part) => part.getBoundingClientRect().height > 50))"
)
"""Of each explorer: whether the still picture shows, and whether the live part does."""


def test_in_print_there_is_the_still_picture(browser, site):
    browser.open(site)
    assert browser.evaluate(STILL) == [[False, True]] * 3
    browser.media("print")
    assert browser.evaluate(STILL) == [[True, False]] * 3


def test_without_scripts_there_is_the_still_picture_and_its_words(browser, site):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(site)
        assert browser.evaluate(STILL) == [[True, False]] * 3
        assert browser.evaluate("document.querySelector('.ax-still').alt") == ALT
        assert browser.evaluate("document.querySelector('.ax-still').naturalWidth") > 600
        assert browser.evaluate("document.body.innerText").count("needs JavaScript") == 3
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_the_real_stories_run_and_say_what_the_models_attend_to(browser, tmp_path):
    played = decision_story(load_decision(CHEETAH)[0], moments=[0, 1, 21, 24])
    planned = leap_story(load_leap(LEAP)[0], get_task(ROOM), 100, config=GibbsConfig(iterations=3))
    path = tmp_path / "page.html"
    path.write_text(f'<meta charset="utf-8">{explorer([played, planned], alt=ALT).data}')
    browser.open(path)
    for moment in range(4):
        check_readout(browser, played, moment, 2, 0, played.reads[moment][0])
        browser.click(part("next"))
    browser.evaluate(f"{part('story')}.focus()")
    browser.press("ArrowDown")
    browser.click(token(0))
    check_readout(browser, planned, 0, 2, 0, 0)
    browser.click(part("next"))
    check_readout(browser, planned, 1, 2, 0, 0)
    assert text(browser, "caption") == planned.captions[1]
    assert browser.errors() == []
