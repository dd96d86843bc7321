"""Diagrams fit their canvas and come out the same twice."""

import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from helpers import diagrams, plotting

DRAWINGS = (
    diagrams.draw_value_recursion,
    diagrams.draw_token_stream,
    diagrams.draw_decision_transformer,
)


@pytest.fixture(autouse=True)
def _style():
    with mpl.rc_context():
        mpl.use("Agg")
        plotting.use_style()
        yield
        plt.close("all")


@pytest.mark.parametrize("draw", DRAWINGS)
def test_every_word_lies_on_the_canvas(draw):
    figure = draw()
    figure.canvas.draw()
    edge = figure.bbox
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        inside = edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1
        assert inside, text.get_text()


@pytest.mark.parametrize("draw", DRAWINGS)
def test_no_two_words_overlap(draw):
    figure = draw()
    figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in figure.axes[0].texts]
    for index, (one, box) in enumerate(boxes):
        for other, rival in boxes[index + 1 :]:
            assert not box.overlaps(rival), f"{one!r} covers {other!r}"


@pytest.mark.parametrize("draw", DRAWINGS)
def test_the_same_drawing_is_the_same_file(draw):
    files = []
    for _ in range(2):
        file = io.BytesIO()
        draw().savefig(file, format="svg", metadata={"Date": None})
        files.append(file.getvalue())
    assert files[0] == files[1]


def test_decision_transformer_states_its_depth():
    texts = [text.get_text() for text in diagrams.draw_decision_transformer(4).axes[0].texts]
    assert any("× 4" in text for text in texts)
