"""Checks of the chapters' sources and of the built site, and chapters without their solutions.

The checks hold what no tool in the chain enforces: myst-nb drops a figure with misspelt metadata
without a word, Sphinx accepts an image without a description, and a browser hides a broken link.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jupytext
import nbformat
import yaml
from bs4 import BeautifulSoup, Tag

LONGEST_DEFINITION = 15
FEWEST_EXERCISES = 3
"""In a chapter, with a check each; further ones may say that there is no check."""
OWN_PAGES = {"genindex.html", "search.html"}  # of Sphinx itself
LOADED_LINKS = {"stylesheet", "preload", "modulepreload", "icon", "apple-touch-icon"}
DRAWING_CALLS = {"show", "plot", "subplots", "new_axes"}
_OUTSIDE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
_OUTSIDE_STYLE = re.compile(r"""(url\(|@import)\s*['"]?\s*(https?:)?//""", re.IGNORECASE)
_FENCE = re.compile(r"^ {0,3}(`{3,})([^`\n]*)\n(.*?)^ {0,3}\1`*[ \t]*(?:\n|\Z)", re.M | re.S)
_GATE = re.compile(r"\{((?:exercise|solution)-(?:start|end))\}\s*(\S*)")
_EFFORT = re.compile(r"\(difficulty [1-5] of 5, [1-9]\d* minutes\)")
_NO_CHECK = "there is no check"


def check_site(html: Path, toc: Path, notebooks: Path) -> list[str]:
    """Find what is wrong with a built site.

    Args:
        html: the folder `_build/html`.
        toc: the `_toc.yml` (format jb-book) that the site was built from.
        notebooks: folder of the chapters, whose named figures must all have arrived.

    Returns:
        Problems as `page: what`.
    """
    listed = [f"{entry}.html" for entry in _toc_files(yaml.safe_load(toc.read_text()))]
    paths = [path.relative_to(html) for path in sorted(html.rglob("*.html"))]
    built = {
        path.as_posix(): BeautifulSoup((html / path).read_text(), "html.parser")
        for path in paths
        if not path.parts[0].startswith("_")
    }
    anchors = {
        page: {str(tag.get("id") or tag["name"]) for tag in soup.select("[id], a[name]")}
        for page, soup in built.items()
    }
    problems = [f"{page}: was not built" for page in listed if page not in built]
    for page, soup in built.items():
        if page in OWN_PAGES:
            continue
        found = [*_outside(soup), *_broken_links(html.resolve(), page, soup, anchors)]
        if page in listed:
            found += _content(soup.select_one("article.bd-article") or soup.body or soup)
        # jupyter-book writes a page that redirects to the root of the book; it has no content.
        elif not soup.select('meta[http-equiv="refresh" i]'):
            found.append("is not in the table of contents")
        problems += [f"{page}: {what}" for what in found]
    return [*problems, *_lost_figures(notebooks, anchors)]


def _toc_files(node: dict[str, Any]) -> Iterator[str]:
    """All `root` and `file` entries, without a suffix, in reading order."""
    if "root" in node or "file" in node:
        yield re.sub(r"\.(md|ipynb|rst)$", "", node.get("root") or node["file"])
    for key in ("parts", "chapters", "sections"):
        for child in node.get(key, []):
            yield from _toc_files(child)


def _content(article: Tag) -> Iterator[str]:
    for image in article.find_all("img"):
        if what := _bad_alt(image.get("alt")):
            yield f"image {image.get('src')} {what}"
    for figure in article.find_all("figure"):
        if not any(caption.get_text(strip=True) for caption in figure.find_all("figcaption")):
            yield f"figure {figure.get('id', 'without id')} has no caption"
    for table in article.select("table:not(.highlighttable)"):  # those number lines of code
        if not any(cell.get_text(strip=True) for cell in table.find_all("th")):
            yield f"table {table.get('id', 'without id')} has no header cells"
    levels = [int(tag.name[1]) for tag in article.find_all(re.compile("^h[1-6]$"))]
    if levels.count(1) != 1 or levels[0] != 1:
        yield f"has {levels.count(1)} headings of level 1, not one at its start"
    for before, level in itertools.pairwise(levels):
        if level > before + 1:
            yield f"a heading of level {level} follows one of level {before}"
    if "Traceback" in article.get_text():
        yield "shows a traceback"
    for tag in article.select(".problematic"):
        yield f"Sphinx could not resolve {tag.get_text(strip=True)[:60]!r}"


def _bad_alt(alt: Any) -> str:
    text = str(alt or "").strip()
    if not text:
        return "has no alternative text"
    # docutils falls back to the address of the picture, which tells a blind reader nothing.
    is_path = "/" in text and not re.search(r"\s", text)
    if is_path or re.search(r"\.(png|svg|jpe?g|gif|webp|pdf)$", text, re.IGNORECASE):
        return f"has a file name as alternative text: {text}"
    return ""


def _outside(soup: BeautifulSoup) -> Iterator[str]:
    """What the browser would fetch by itself from another host; plain links are fine."""
    links = [tag for tag in soup.find_all("link") if LOADED_LINKS & set(tag.get("rel", []))]
    for tag in [*links, *soup.select("[src], [srcset], [poster], object[data]")]:
        for key in ("href", "src", "srcset", "poster", "data"):
            if _OUTSIDE.match(str(tag.get(key, ""))):
                yield f"<{tag.name}> loads {tag[key]} from outside"
    styles = [tag.get_text() for tag in soup.find_all("style")]
    for style in [*styles, *(str(tag["style"]) for tag in soup.select("[style]"))]:
        if match := _OUTSIDE_STYLE.search(style):
            yield f"a style loads from outside: {style[match.start() :][:60]}"


def _broken_links(
    top: Path, page: str, soup: BeautifulSoup, anchors: dict[str, set[str]]
) -> Iterator[str]:
    addresses = [str(tag["href"]) for tag in soup.select("a[href], link[href]")]
    addresses += [str(tag["src"]) for tag in soup.select("[src]")]
    for address in dict.fromkeys(addresses):
        parts = urlsplit(address.strip())
        if parts.scheme or parts.netloc:  # another site, mailto, javascript, data
            continue
        path = unquote(parts.path)  # absolute ones fail: the site is read from disk, too
        target = ((top / page).parent / path).resolve() if path else top / page
        if not target.is_relative_to(top) or not target.is_file():
            yield f"link {address} leads nowhere"
            continue
        known = anchors.get(target.relative_to(top).as_posix(), set())
        if target.suffix == ".html" and parts.fragment and unquote(parts.fragment) not in known:
            yield f"link {address} leads to an anchor that does not exist"


def _lost_figures(notebooks: Path, anchors: dict[str, set[str]]) -> Iterator[str]:
    pages = {Path(page).stem: page for page in anchors}
    for source in sorted(notebooks.glob("[0-9][0-9]_*.md")):
        page = pages.get(source.stem, source.name)
        if page not in anchors:
            yield f"{page}: has no page"
        for cell in jupytext.read(source).cells if page in anchors else []:
            name = _nested(cell, "mystnb", "figure", "name")
            if name and name not in anchors[page]:
                yield f"{page}: the figure {name} of the source is missing"


def check_sources(notebooks: Path) -> list[str]:
    """Find where chapters (`NN_*.md`) break the rules that all chapters share.

    Args:
        notebooks: folder of the chapters.

    Returns:
        Problems as `chapter: what`.
    """
    sources = sorted(notebooks.glob("[0-9][0-9]_*.md"))
    problems = [] if sources else [f"{notebooks.name}: has no chapters"]
    owners: dict[str, str] = {}
    for source in sources:
        cells = jupytext.read(source).cells
        code = [cell for cell in cells if cell.cell_type == "code"]
        found = [*_check_exercises(cells), *_check_parameters(code)]
        for cell in code:
            name = _nested(cell, "mystnb", "figure", "name")
            found += [f"cell `{cell.source.strip()[:30]}`: {what}" for what in _check_cell(cell)]
            if name in owners:
                found.append(f"the figure name {name} is taken in {owners[name]}")
            elif name:
                owners[name] = source.name
        problems += [f"{source.name}: {what}" for what in found]
    return problems


def _nested(cell: Any, *keys: str) -> Any:
    """A nested entry of a cell's metadata; None where a level is missing or not a mapping."""
    value = cell.metadata
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _tags(cell: Any) -> set[str]:
    return set(cell.metadata.get("tags", []))


def _check_parameters(code: list[Any]) -> Iterator[str]:
    if [at for at, cell in enumerate(code) if "parameters" in _tags(cell)] != [0]:
        yield "not exactly one cell is tagged parameters, or it is not the first code cell"
        return
    names = set()
    for statement in getattr(_parse(code[0]), "body", []):
        what = ast.unparse(statement)
        try:
            (target,) = getattr(statement, "targets", None) or [statement.target]
            names.add(target.id)
            ast.literal_eval(statement.value)
        except (AttributeError, ValueError, TypeError):
            yield f"the parameters cell has more than plain assignments: {what}"
        line = code[0].source.split("\n")[statement.end_lineno - 1].encode()
        if not line[statement.end_col_offset :].strip().startswith(b"#"):
            yield f"the parameter `{what}` has no comment beside it"
    yield from (f"the parameter {name} is missing" for name in sorted({"profile", "seed"} - names))


def _parse(cell: Any) -> ast.Module | None:
    try:
        return ast.parse(re.sub(r"(?m)^\s*[%!].*$", "", cell.source))  # magics are not Python
    except SyntaxError:
        return None


def _check_cell(cell: Any) -> Iterator[str]:
    tree = _parse(cell)
    if tree is None:
        yield "is not Python"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            length = node.end_lineno - node.lineno + 1
            if length > LONGEST_DEFINITION:
                yield f"defines {node.name} in {length} lines: move it to the package"
    if {"remove-cell", "solution"} & _tags(cell):
        return
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = {getattr(call, "attr", getattr(call, "id", "")) for call in calls}
    draws = any(name in DRAWING_CALLS or name.startswith("draw_") for name in called)
    if not draws and _nested(cell, "mystnb", "figure") is None:
        return
    name = _nested(cell, "mystnb", "figure", "name")
    if not re.fullmatch(r"(fig|tab)(-[a-z0-9]+)+", str(name)):
        yield f"mystnb.figure.name must be like fig-chapter-what or tab-chapter-what, not {name}"
    if not str(_nested(cell, "mystnb", "figure", "caption") or "").strip():
        yield "has no mystnb.figure.caption"
    # A table is text already; only pictures need a description.
    if draws and (what := _bad_alt(_nested(cell, "mystnb", "image", "alt"))):
        yield f"{what} (mystnb.image.alt)"


def _gates(text: str) -> Iterator[tuple[str, str, int, int]]:
    """Kind, label and span of each start and end; not of those shown inside another fence."""
    for fence in _FENCE.finditer(text):
        if gate := _GATE.match(fence[2].strip()):
            option = re.search(r"^:?label:\s*(\S+)", fence[3], re.MULTILINE)
            label = gate[2] if gate[1] == "solution-start" else option[1] if option else ""
            yield gate[1], label, *fence.span()


def _check_exercises(cells: list[Any]) -> Iterator[str]:
    gates = [gate for cell in cells if cell.cell_type == "markdown" for gate in _gates(cell.source)]
    exercises = [label for kind, label, *_ in gates if kind == "exercise-start"]
    solutions = [label for kind, label, *_ in gates if kind == "solution-start"]
    for label in sorted({*exercises, *solutions}):
        if not label or exercises.count(label) != 1 or solutions.count(label) != 1:
            yield f"the label {label!r} is not that of one exercise and one solution"
    kinds = [kind for kind, *_ in gates]
    if kinds[1::2] != [kind.replace("start", "end") for kind in kinds[::2]]:
        yield "an exercise or solution is not closed by its own end before the next begins"
    inside = _inside_gates(cells)
    checked = [label for label in exercises
               if "exercises.check_" in inside.get(("solution-start", label), "")]  # fmt: skip
    if len(checked) < FEWEST_EXERCISES:
        yield f"has fewer than {FEWEST_EXERCISES} exercises whose solutions call their check"
    for label in exercises:
        text = inside["exercise-start", label]
        if not _EFFORT.search(text):
            yield f"the exercise {label} does not say (difficulty 2 of 5, 10 minutes)"
        if (label in checked) == (_NO_CHECK in text):
            yield f"the exercise {label} must have a check, or say that {_NO_CHECK}; not both"


def _inside_gates(cells: list[Any]) -> dict[tuple[str, str], str]:
    """Text and code between each start and the next start or end, by the start's kind and label."""
    inside, opened = {}, ("", "")
    for cell in cells:
        place = 0
        for kind, label, first, after in (
            _gates(cell.source) if cell.cell_type == "markdown" else ()
        ):
            inside[opened] = inside.get(opened, "") + cell.source[place:first]
            opened, place = (kind, label) if kind.endswith("start") else ("", ""), after
            inside.setdefault(opened, "")
        inside[opened] = inside.get(opened, "") + cell.source[place:]
    return inside


def learner_notebook(source: Path) -> nbformat.NotebookNode:
    """Read a chapter without its solutions; the exercises and their stubs stay.

    Args:
        source: a chapter in MyST Markdown.

    Returns:
        A notebook without outputs.

    Raises:
        ValueError: a solution does not end, so that what follows it would be lost.
    """
    notebook = jupytext.read(source)
    kept, inside = [], False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text, start = "", 0
            for kind, _, first, after in _gates(cell.source):
                if kind.startswith("solution"):
                    text += "" if inside else cell.source[start:first]
                    inside, start = kind == "solution-start", after
            text += "" if inside else cell.source[start:]
            cell.source = text.strip("\n")
            kept += [cell] if cell.source else []
        elif not inside and "solution" not in _tags(cell):
            kept.append(cell)
    if inside:
        raise ValueError(f"{source.name}: the last solution-start has no solution-end")
    notebook.cells = kept
    return notebook
