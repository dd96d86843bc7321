"""An interactive view of attention: step through an episode, choose a layer, a head and a query.

One `<div>` with its own style sheet, data and script; it loads nothing and adds no name to the
page. Where no script runs, and in print, it is a picture. `explorer.html` is its template.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import matplotlib as mpl
import matplotlib.colors as mcolors
import numpy as np
from IPython.display import HTML
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from helpers.plotting import BACKGROUND, GRID, INK, SEQUENTIAL, TOKEN_COLOURS, tint

LARGEST = 2_000_000
"""Bytes of the HTML; it is stored in the notebook and in the page."""
DARK = "#1b1f24"
"""The explorer's paper in the dark theme, as in the template."""
KIND_NAMES = {"return": "return-to-go", "mask": "MASK"}
"""Kinds of tokens whose names in `TOKEN_COLOURS` a reader would not understand."""


@dataclass(frozen=True)
class Token:
    """What stands at one position of a model's input."""

    label: str
    """On its button, a few letters."""
    kind: str
    """A key of `plotting.TOKEN_COLOURS`."""
    step: int
    """Time step, or place in a plan; negative (`attention.LEVEL`) where it has none."""
    name: str
    """In words, as it is read out."""


@dataclass(frozen=True)
class Story:
    """An episode of a model, or another sequence of S moments at which it looks at L tokens."""

    name: str
    frames: UInt8[np.ndarray, "S h w 3"]
    """Pictures; a few colours and some hundred pixels a side keep them small."""
    maps: Float[np.ndarray, "S layers heads L L"]
    """Weights; rows are queries. NaN where a query may not look, and behind a moment's tokens."""
    tokens: tuple[tuple[Token, ...], ...]
    """Of each moment; L or fewer."""
    captions: tuple[str, ...]
    reads: tuple[tuple[int, ...], ...]
    """Positions from which the model predicts at each moment; the first one is shown at first."""

    def __post_init__(self) -> None:
        moments = {len(part) for part in (self.frames, self.maps, self.tokens, self.captions)}
        if moments != {len(self.reads)} or not self.reads:
            raise ValueError(
                f"{self.name}: frames, maps, tokens, captions and reads must have one length, 1 or "
                f"more; found {sorted(moments | {len(self.reads)})}"
            )
        for i, (tokens, reads) in enumerate(zip(self.tokens, self.reads, strict=True)):
            n, what = len(tokens), f"{self.name}, moment {i}"
            if not 0 < n <= self.maps.shape[-1]:
                raise ValueError(f"{what}: {n} tokens; the maps have {self.maps.shape[-1]}")
            if not reads or not all(0 <= row < n for row in reads):
                raise ValueError(f"{what}: reads are {reads}; choose among its {n} tokens")
            if unknown := {token.kind for token in tokens} - set(TOKEN_COLOURS):
                raise ValueError(f"{what}: unknown kinds {unknown}; known: {list(TOKEN_COLOURS)}")
            sums = np.nansum(self.maps[i, ..., :n, :n], axis=-1)
            if not np.allclose(sums, 1.0, atol=1e-3):
                raise ValueError(
                    f"{what}: rows sum to {sums.min():.3f} to {sums.max():.3f}, not to 1; are "
                    "queries the rows, and all keys among the tokens?"
                )


# --- weights as bytes --------------------------------------------------------------------------


def encode(weights: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """255 times the square root, rounded; 0 stands for NaN alone.

    The root keeps small weights apart. A weight w is off by at most sqrt(w) / 255 + 1 / 255^2,
    which is below 0.004.
    """
    scaled = np.rint(255 * np.sqrt(np.nan_to_num(weights))).clip(1, 255)
    return np.where(np.isnan(weights), 0, scaled).astype(np.uint8)


def decode(stored: UInt8[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The weights of `encode`, as the script reads them."""
    return np.where(stored == 0, np.nan, np.square(stored / 255.0))


# --- the page ----------------------------------------------------------------------------------


def explorer(stories: Sequence[Story], *, alt: str) -> HTML:
    """Stories to step through.

    Args:
        stories: one or more, of different names.
        alt: what there is to see, for those who cannot see it and for the still picture.

    Raises:
        ValueError: no story, two of one name, no alternative text, or 2 MB and more.
    """
    names = [story.name for story in stories]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"an explorer needs stories of different names, not {names}")
    if not alt.strip():
        raise ValueError("the explorer has no alternative text; say in `alt` what it shows")
    scale = mpl.colormaps[SEQUENTIAL](np.arange(256), bytes=True)[:, :3]
    packed = [_packed(story) for story in stories]
    data = json.dumps({"stories": packed, "scale": _base64(scale.tobytes())})
    for character in "<>&":  # what could end the element, or begin a comment
        data = data.replace(character, f"\\u{ord(character):04x}")
    fields = {
        "KEY": hashlib.sha256((data + alt).encode()).hexdigest()[:12],
        "ALT": html.escape(alt),
        "KINDS": _kind_rules(),
        "LEGEND": _legend(stories),
        "STILL": _png(_still(stories[0]), colours=256),
        "DATA": data,
    }
    template = resources.files("helpers").joinpath("explorer.html").read_text()
    page = re.sub("@@([A-Z]+)@@", lambda match: fields[match[1]], template)
    if (size := len(page.encode())) >= LARGEST:
        sizes = {one["name"]: len(json.dumps(one)) for one in packed}
        raise ValueError(
            f"the explorer has {size:,} bytes, and less than {LARGEST:,} are allowed; of the "
            f"stories, in bytes: {sizes}. Use fewer moments, or smaller or plainer frames"
        )
    return HTML(page)


def _packed(story: Story) -> dict[str, object]:
    """What the script is given of a story; tokens are listed once and then numbered."""
    table = list(dict.fromkeys(token for tokens in story.tokens for token in tokens))
    numbers = {token: i for i, token in enumerate(table)}
    return {
        "name": story.name,
        "shape": story.maps.shape[:4],
        "maps": _base64(encode(story.maps).tobytes()),
        "frames": [_png(frame) for frame in story.frames],
        "table": [[t.label, t.kind, t.step, t.name] for t in table],
        "tokens": [[numbers[token] for token in tokens] for tokens in story.tokens],
        "captions": story.captions,
        "reads": story.reads,
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _png(picture: UInt8[np.ndarray, "h w 3"], colours: int = 64) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).quantize(colours).save(buffer, "PNG", optimize=True)
    return _base64(buffer.getvalue())


def kind_colours(kind: str) -> dict[str, tuple[str, str]]:
    """Line and fill of a kind of token, in the light and in the dark theme."""
    colour = TOKEN_COLOURS[kind]
    bright = _mix(colour, "#ffffff", 0.35)
    return {"light": (colour, tint(colour, 0.35)), "dark": (bright, _mix(bright, DARK, 0.62))}


def _mix(one: str, other: str, share: float) -> str:
    """The first colour with a share of the other."""
    first, second = (np.array(mcolors.to_rgb(colour)) for colour in (one, other))
    return mcolors.to_hex((1 - share) * first + share * second)


def _kind_rules() -> str:
    """Custom properties of each kind; the template's style chooses among the themes."""
    return "\n".join(
        f'.attention-explorer [data-kind="{kind}"] {{ '
        + " ".join(
            f"--ax-{theme}-line: {line}; --ax-{theme}-fill: {fill};"
            for theme, (line, fill) in kind_colours(kind).items()
        )
        + " }"
        for kind in TOKEN_COLOURS
    )


def _legend(stories: Sequence[Story]) -> str:
    used = {token.kind for story in stories for tokens in story.tokens for token in tokens}
    return "\n".join(
        f'<li data-kind="{kind}">{KIND_NAMES.get(kind, kind)}</li>'
        for kind in TOKEN_COLOURS
        if kind in used
    )


def _still(story: Story) -> UInt8[np.ndarray, "h w 3"]:
    """The last moment of a story, with the map of the last layer's first head."""
    figure = Figure(figsize=(7.2, 3.5), dpi=110, facecolor=BACKGROUND, layout="none")
    canvas = FigureCanvasAgg(figure)
    left, right = (
        figure.add_axes((0.02, 0.08, 0.44, 0.78)),
        figure.add_axes((0.53, 0.1, 0.43, 0.78)),
    )
    left.imshow(story.frames[-1], interpolation="antialiased")
    n = len(story.tokens[-1])
    right.imshow(np.sqrt(story.maps[-1, -1, 0, :n, :n]), vmin=0, vmax=1, cmap=SEQUENTIAL)
    right.set(xlabel="keys", ylabel="queries", facecolor=GRID)
    for ax in (left, right):
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.grid(False)
    title = f"{story.name}: layer {story.maps.shape[1]}, head 1"
    figure.text(0.02, 0.93, title, fontsize=11, color=INK)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
