"""Every chapter runs through papermill at smoke scale, its solutions included."""

import jupytext
import nbformat
import pytest

from helpers import book
from helpers.ledger import chapter_reads, noted_reads
from helpers.site import FEWEST_EXERCISES

CHAPTERS = book.chapters()
READS = chapter_reads()


def execute(out):
    """Paths of the chapters, by stem; they train what they need, as in a fresh clone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HELPERS_WORK", str(out / "work"))  # not this checkout's, where all was made
        return {path.stem: path for path in book.execute("smoke", out)}


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    """Paths of the chapters executed in smoke, by stem."""
    return execute(tmp_path_factory.mktemp("smoke"))


@pytest.fixture(scope="module")
def executed(notebooks):
    """Chapters executed in smoke, by stem."""
    return {stem: nbformat.read(path, 4) for stem, path in notebooks.items()}


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_in_smoke(executed, source):
    notebook = executed[source.stem]
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    assert all(cell.execution_count for cell in code)
    injected = [c for c in code if "injected-parameters" in c.metadata.get("tags", [])]
    assert len(injected) == 1 and 'profile = "smoke"' in injected[0].source
    # A name that papermill cannot match is only warned about; here every chapter must know it.
    assert "Passed unknown parameter" not in str(notebook)


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)
def test_a_number_of_the_text_has_one_source(executed, source):
    """A second value under the name of a glued one stops the build of the site, minutes later."""
    outputs = [output for cell in executed[source.stem].cells for output in cell.get("outputs", [])]
    names = [output.get("metadata", {}).get("scrapbook", {}).get("name") for output in outputs]
    glued = [name for name in names if name]
    assert glued, "no number of the text comes from the code"
    assert len(set(glued)) == len(glued), sorted({n for n in glued if glued.count(n) > 1})


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)
def test_the_page_of_runs_names_what_a_chapter_reads(notebooks, source):
    """In smoke a chapter reads a part of what it reads in the book; test_site compares all."""
    stand_ins = {"12_claims": {"shifted-bc", "sparse-bc"}}  # tiny models for all claims
    known = set(READS[source.stem]) | stand_ins.get(source.stem, set())
    assert noted_reads(notebooks[source.stem]) <= known


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)
def test_solutions_are_executed_and_checked(executed, source):
    written = [c for c in jupytext.read(source).cells if "solution" in c.metadata.get("tags", [])]
    ran = [c for c in executed[source.stem].cells if "solution" in c.metadata.get("tags", [])]
    assert len(ran) == len(written)
    assert all(cell.execution_count for cell in ran)
    checks = sum(cell.source.count("exercises.check_") for cell in ran)
    outputs = "".join(str(cell.outputs) for cell in ran)
    assert checks >= FEWEST_EXERCISES and outputs.count(": correct") >= checks


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """What each cell printed or returned as text, pictures aside."""
    return [
        "".join(
            output.get("text") or output.get("data", {}).get("text/plain", "")
            for output in cell.get("outputs", [])  # their number depends on when buffers empty
        )
        for cell in notebook.cells
    ]


def test_executing_twice_gives_the_same_numbers(executed, tmp_path):
    """Also those of what is trained in between: each execution has a working folder of its own."""
    again = execute(tmp_path)
    assert list((tmp_path / "work" / "runs").iterdir()), "nothing was trained"
    for stem, path in again.items():
        assert texts(nbformat.read(path, 4)) == texts(executed[stem]), stem
