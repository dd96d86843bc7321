"""Papermill as a gate: what is up to date, what is not, and what a failing cell leaves behind."""

import json

import jupytext
import nbformat
import pytest

from helpers import book, paths
from helpers.ledger import READS, noted_reads

CHAPTER = """---
kernelspec:
  name: python3
  display_name: Python 3
  language: python
---

# One

```{code-cell} ipython3
:tags: [parameters]

profile = "book"
seed = 0
```

```{code-cell} ipython3
print(profile, seed)
```
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A book of one chapter; papermill runs for real."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "src" / "helpers").mkdir(parents=True)
    (tmp_path / "notebooks" / "01_one.md").write_text(CHAPTER)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


def printed(path) -> list[str]:
    notebook = nbformat.read(path, 4)
    return [
        output["text"].strip()
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream"
    ]


def test_a_chapter_is_executed_once_until_something_changes(root, capsys):
    (path,) = book.execute()
    assert path == root / "book" / "chapters" / "01_one.ipynb"
    assert printed(path) == ["book 0"]
    book.execute()
    assert "01_one: up to date" in capsys.readouterr().out
    for change in ("src/helpers/new.py", "notebooks/01_one.md"):
        with open(root / change, "a") as file:
            file.write("\n")
        book.execute()
        assert "01_one: executing" in capsys.readouterr().out
    # Another profile, other parameters: other outputs.
    (path,) = book.execute("smoke", parameters={"seed": 3})
    assert printed(path) == ["smoke 3"]


def test_what_a_chapter_reads_is_kept_beside_it(root, capsys):
    source = root / "notebooks" / "01_one.md"
    note = "from helpers.ledger import note_read\nnote_read('dt')\nprint(profile, seed)"
    source.write_text(CHAPTER.replace("print(profile, seed)", note))
    (path,) = book.execute()
    assert noted_reads(path) == {"dt"}
    # Of a notebook that was executed before such notes, nothing is known.
    path.with_suffix(READS).unlink()
    source.write_text(CHAPTER)
    book.execute()
    assert noted_reads(path) == set()
    path.with_suffix(READS).unlink()
    capsys.readouterr()
    book.execute()
    assert "01_one: executing" in capsys.readouterr().out


def test_the_book_profile_adds_no_cell(root):
    (path,) = book.execute("book")
    assert len(nbformat.read(path, 4).cells) == len(jupytext.reads(CHAPTER, fmt="md:myst").cells)


def test_a_failing_cell_stops_and_keeps_the_last_good_notebook(root, capsys):
    (path,) = book.execute()
    before = path.read_bytes()
    source = root / "notebooks" / "01_one.md"
    source.write_text(CHAPTER.replace("print(profile, seed)", "print(profile, sed)"))
    for _ in range(2):  # the failure is not mistaken for "up to date" the next time
        with pytest.raises(
            book.ChapterFailed, match=r"(?s)01_one\.md failed.*'sed' is not defined"
        ):
            book.execute()
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir() if ".part" in p.name] == []


def test_unknown_profile_and_chapter(root):
    with pytest.raises(ValueError, match="choose one of smoke, book, full"):
        book.execute("fast")
    with pytest.raises(ValueError, match="no chapter matches '02'; there are: 01_one"):
        book.execute(only="02")


def test_the_stamp_says_what_went_in(root):
    (path,) = book.execute(parameters={"seed": 4})
    stamp = json.loads(path.with_suffix(".stamp.json").read_text())
    assert stamp["parameters"] == {"seed": 4}
    assert set(stamp) == {"parameters", "shared", "source"}
