"""Short films inside a chapter, without JavaScript: a strip of frames behind a window.

All frames lie side by side in one picture, and a style sheet moves the strip on by one frame at a
time. The film stands still until the reader ticks its box; in print, and for readers whose system
asks for less motion, it stays on its first frame.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
from collections.abc import Sequence

import numpy as np
from IPython.display import HTML
from jaxtyping import UInt8
from PIL import Image

LARGEST_SIDE = 16_000
"""Pixels; graphics cards refuse pictures that are longer."""
LARGEST_FILM = 300_000
"""Bytes of the HTML; it is stored in the notebook and in the page."""
STILL = "Shown still, since your system asks for less motion."

_PAGE = """\
<div class="film" style="max-width:{width}px;margin:0 auto;text-align:left">
<style>
#{name}-window {{
  width: 100%; aspect-ratio: {w} / {h}; border-radius: 6px;
  background: url({picture}) 0 0 / {n}00% 100% no-repeat;
  -webkit-print-color-adjust: exact; print-color-adjust: exact;
  animation: {name} {seconds:.3f}s infinite paused;
}}
#{name}:checked ~ #{name}-window {{ animation-play-state: running; }}
#{name} ~ .film-still {{ display: none; }}
@keyframes {name} {{
  0% {{ background-position: 0 0; animation-timing-function: steps({n}, jump-none); }}
  {end:.3f}%, 100% {{ background-position: 100% 0; }}
}}
@media (prefers-reduced-motion: reduce) {{
  #{name}-window {{ animation: none; }}
  #{name}, #{name} ~ label {{ display: none; }}
  #{name} ~ .film-still {{ display: inline; }}
}}
@media print {{
  #{name}-window {{ animation: none; }}
  #{name}, #{name} ~ label, #{name} ~ .film-still {{ display: none; }}
}}
</style>
<input type="checkbox" id="{name}">
<label for="{name}">{label}</label>
<span class="film-still">{still}</span>
<div id="{name}-window" role="img" aria-label="{alt}"></div>
</div>
"""


def film(
    frames: Sequence[UInt8[np.ndarray, "H W 3"]] | UInt8[np.ndarray, "N H W 3"],
    seconds_per_frame: float,
    alt: str,
    *,
    label: str = "Play",
    width: int | None = None,
    rest: float = 1.0,
    colours: int = 128,
) -> HTML:
    """Frames as a film that plays, again and again, while its box is ticked.

    Args:
        frames: of equal size.
        seconds_per_frame: how long each is shown.
        alt: what happens, for those who cannot see it.
        label: beside the box.
        width: of the film in the page, in pixels; default that of the frames. It shrinks where the
            page is narrower.
        rest: seconds for which the last frame stays before the film begins again.
        colours: of the palette; 256 at most.

    Raises:
        ValueError: no alternative text, fewer than two frames, or a film that is too long.
    """
    if not alt.strip():
        raise ValueError("the film has no alternative text; say in `alt` what happens in it")
    if len(frames) < 2:
        raise ValueError(f"a film needs two frames or more, not {len(frames)}")
    strip = np.concatenate(list(frames), axis=1)
    height, side = strip.shape[:2]
    if side > LARGEST_SIDE:
        raise ValueError(
            f"{len(frames)} frames are {side:,} pixels side by side; browsers show up to "
            f"{LARGEST_SIDE:,}. Make the frames smaller or leave some out"
        )
    buffer = io.BytesIO()
    Image.fromarray(strip).quantize(colours).save(buffer, "PNG", optimize=True)
    picture = buffer.getvalue()
    w, n = side // len(frames), len(frames)
    playing = n * seconds_per_frame
    page = _PAGE.format(
        name=f"film-{hashlib.sha256(picture + alt.encode()).hexdigest()[:10]}",
        picture=f"data:image/png;base64,{base64.b64encode(picture).decode()}",
        width=width or w,
        w=w,
        h=height,
        n=n,
        seconds=playing + rest,
        end=100 * playing / (playing + rest),
        alt=html.escape(alt),
        label=html.escape(label),
        still=STILL,
    )
    if len(page) > LARGEST_FILM:
        raise ValueError(
            f"the film has {len(page):,} bytes, more than {LARGEST_FILM:,}; make the frames "
            "smaller, or use fewer frames or colours"
        )
    return HTML(page)
