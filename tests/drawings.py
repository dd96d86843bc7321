"""What every diagram must do: fit its canvas, keep its words apart, come out the same twice."""

import io
from collections.abc import Callable

from matplotlib.figure import Figure


def check_drawing(draw: Callable[[], Figure]) -> None:
    """Raise if a word leaves the canvas or covers another one, or if two files of it differ."""
    figure = draw()
    figure.canvas.draw()
    edge = figure.bbox
    boxes = [(text.get_text(), text.get_window_extent()) for text in figure.axes[0].texts]
    for index, (one, box) in enumerate(boxes):
        inside = edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1
        assert inside, f"{one!r} leaves the canvas"
        for other, rival in boxes[index + 1 :]:
            assert not box.overlaps(rival), f"{one!r} covers {other!r}"
    assert _saved(draw()) == _saved(draw())


def _saved(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
