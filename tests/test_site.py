"""The book as a reader gets it: executed in the book profile, built with warnings as errors."""

from pathlib import Path

import pytest

from helpers import book, paths
from helpers.ledger import page_with_ledger
from helpers.site import check_site, check_sources


@pytest.fixture(scope="module")
def html() -> Path:
    """The folder of the built site."""
    book.execute("book")
    return book.build().parent


def test_the_built_site_has_no_problems(html):
    assert check_site(html, paths.ROOT / "_toc.yml", paths.ROOT / "notebooks") == []


def test_the_page_of_runs_names_what_chapters_read(html):
    """Of all chapters, in the profile of the site; elsewhere the page is taken at its word."""
    path, text = page_with_ledger(executed=paths.ROOT / "book" / "chapters")
    assert path.read_text() == text, "write it anew: python -m helpers ledger"


def test_numbers_in_the_text_are_plain(html):
    """A glued string must not show the quotes of its Python form."""
    for page in (html / "book" / "chapters").glob("*.html"):
        text = page.read_text()
        assert 'class="pasted-text"' in text or "pasted" not in text
        for piece in text.split('class="pasted-text">')[1:]:
            assert not piece.startswith(("&#39;", "'", '"', "&quot;")), (page.name, piece[:40])


def test_sources_keep_the_rules():
    assert check_sources(paths.ROOT / "notebooks") == []
