"""Each check of the site and of the sources accepts a good fixture and finds one fault in it."""

import json
import textwrap

import pytest

from helpers import paths
from helpers.site import check_site, check_sources, learner_notebook

HEAD = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Title

"""
PARAMETERS = """\
```{code-cell} ipython3
:tags: [parameters]

profile = "book"  # smoke, book or full
seed = 0  # of everything
```
"""
FIGURE = """\
```{code-cell} ipython3
---
mystnb:
  figure:
    name: fig-one
    caption: |
      A line.
  image:
    alt: A line that rises from left to right.
---
figure, (ax,) = new_axes()
plt.show()
```
"""
EXERCISES = """\
```{exercise-start} First
:label: ex-one
```
**First** (difficulty 2 of 5, 10 minutes). Do it.
```{exercise-end}
```

```{code-cell} ipython3
def stub():
    ...
```

````{solution-start} ex-one
:class: dropdown
````
SECRET before.

```{code-cell} ipython3
:tags: [solution]

secret = 1
plt.show()
```

SECRET between.

```{code-cell} ipython3
:tags: [solution]

secret = 2
exercises.check_one(secret)
```

SECRET after.

````{solution-end}
````

````{exercise-start}
:label: ex-two
````
**Second** (difficulty 4 of 5, 30 minutes). Do more; there is no check.
````{exercise-end}
````

````{solution-start} ex-two
````
SECRET, with code:

```python
secret = 3
```
````{solution-end}
````
"""
CHECKED = """\

```{exercise-start}
:label: ex-NAME
```
**Another** (difficulty 1 of 5, 5 minutes). Do NAME.
```{exercise-end}
```

````{solution-start} ex-NAME
````
```{code-cell} ipython3
:tags: [solution]

exercises.check_NAME("secret")
```
````{solution-end}
````
"""
EXERCISES += CHECKED.replace("NAME", "three") + CHECKED.replace("NAME", "four") + "\nThe end.\n"
CHAPTER = HEAD + PARAMETERS + "\nText.\n\n" + FIGURE + "\n" + EXERCISES


@pytest.fixture
def chapters(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()

    def write(text, name="01_one.md"):
        (folder / name).write_text(text)
        return folder

    return write


def replaced(text, old, new):
    assert old in text
    return text.replace(old, new)


def cell(body, options=""):
    return f"```{{code-cell}} ipython3\n{options}\n{textwrap.dedent(body)}\n```\n"


LONG = "def long():\n" + "\n".join(f"    x{line} = {line}" for line in range(15))
NO_FIGURE_CELLS = {
    "show": "plt.show()",
    "subplots": "figure, ax = plt.subplots()",
    "own axes": "figure, (ax,) = plotting.new_axes()",
    "diagram": "figure = diagrams.draw_something()",
}


def test_good_chapter_passes(chapters):
    assert check_sources(chapters(CHAPTER)) == []


def test_real_chapters_pass():
    notebooks = paths.ROOT / "notebooks"
    assert sorted(notebooks.glob("[0-9][0-9]_*.md"))
    assert check_sources(notebooks) == []


def test_folder_without_chapters_is_a_problem(chapters):
    assert check_sources(chapters(CHAPTER, "notes.md")) == ["notebooks: has no chapters"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        pytest.param(":tags: [parameters]", ":tags: [other]", "tagged parameters", id="no tag"),
        pytest.param(PARAMETERS, PARAMETERS * 2, "tagged parameters", id="two tags"),
        pytest.param(PARAMETERS, cell("a = 1") + PARAMETERS, "first code cell", id="not first"),
        pytest.param("seed = 0 ", "seed = max(0, 1) ", "plain assignments", id="computed"),
        pytest.param("seed = 0 ", "seed, b = 0, 1 ", "plain assignments", id="two targets"),
        pytest.param("seed = 0 ", "import os ", "plain assignments", id="import"),
        pytest.param("seed = 0 ", "sed = 0 ", "seed is missing", id="no seed"),
        pytest.param("profile = ", "profil = ", "profile is missing", id="no profile"),
        pytest.param("seed = 0  # of everything", "seed = 0", "no comment", id="no comment"),
        pytest.param("seed = 0 ", "seed = (0 ", "not Python", id="syntax"),
        pytest.param("name: fig-one", "nam: fig-one", "must be like", id="no name"),
        pytest.param("name: fig-one", "name: figure-one", "must be like", id="wrong name"),
        pytest.param("name: fig-one", "name: fig-One", "must be like", id="capital in name"),
        pytest.param("      A line.\n", "", "figure.caption", id="no caption"),
        pytest.param("    alt:", "    alternative:", "no alternative text", id="no alt"),
        pytest.param("A line that rises from left to right.", "line.svg", "file name", id="alt"),
        pytest.param("  figure:", "  figures:", "must be like", id="misspelt"),
        pytest.param(FIGURE, FIGURE + "\n" + FIGURE, "fig-one is taken", id="name twice"),
        pytest.param("\nText.\n", "\n" + cell(LONG), "defines long in 16", id="long function"),
        pytest.param("secret = 2", LONG, "defines long in 16", id="long in a solution"),
        pytest.param(":label: ex-two\n", "", "''", id="no label"),
        pytest.param(":label: ex-two", ":label: ex-one", "'ex-one'", id="label twice"),
        pytest.param("{solution-start} ex-two", "{solution-start} ex-2", "'ex-two'", id="mismatch"),
        pytest.param("{solution-end}", "{solution-stop}", "not closed", id="open solution"),
        pytest.param("{exercise-end}", "{solution-end}", "not closed", id="wrong end"),
        pytest.param(
            "(difficulty 1 of 5, 5 minutes). Do four", "Do four", "four does not say", id="effort"
        ),
        pytest.param(
            "2 of 5, 10 min", "2 of 5, ten min", "one does not say", id="minutes in words"
        ),
        pytest.param("difficulty 4 of", "difficulty 9 of", "two does not say", id="difficulty"),
        pytest.param("exercises.check_four", "print", "four must have a check", id="no check"),
        pytest.param("; there is no check", "", "two must have a check", id="nothing said"),
        pytest.param("Do four.", "There: there is no check.", "not both", id="check and none"),
    ],
)
def test_source_faults_are_found(chapters, old, new, problem):
    problems = check_sources(chapters(replaced(CHAPTER, old, new)))
    assert any(problem in what for what in problems), problems
    assert all(what.startswith("01_one.md: ") for what in problems)


FEW = "01_one.md: has fewer than 3 exercises whose solutions call their check"


def test_fewer_than_three_checked_exercises_are_a_problem(chapters):
    only = CHAPTER[: CHAPTER.index("````{exercise-start}")]
    assert check_sources(chapters(only)) == [FEW]
    # A fourth without a check does not make up for one of the three.
    said = replaced(CHAPTER, 'exercises.check_four("secret")', "print()")
    assert check_sources(chapters(replaced(said, "Do four.", "Here there is no check."))) == [FEW]


def test_a_check_outside_the_solution_does_not_count(chapters):
    call = 'exercises.check_four("secret")'
    moved = replaced(CHAPTER, call, "secret = 4") + cell(call)
    assert FEW in check_sources(chapters(moved))


@pytest.mark.parametrize("body", NO_FIGURE_CELLS.values(), ids=NO_FIGURE_CELLS)
def test_drawing_cells_need_figure_metadata(chapters, body):
    assert len(check_sources(chapters(CHAPTER + cell(body)))) == 3
    assert check_sources(chapters(CHAPTER + cell(body, ":tags: [remove-cell]\n"))) == []
    assert check_sources(chapters(CHAPTER + cell(body, ":tags: [solution]\n"))) == []


def test_option_lines_and_yaml_block_mean_the_same(chapters):
    block = FIGURE.split("---\n")[1]
    lines = FIGURE.replace(f"---\n{block}---\n", textwrap.indent(block, ":") + "\n")
    assert lines != FIGURE
    assert check_sources(chapters(replaced(CHAPTER, FIGURE, lines))) == []


def test_flat_option_keys_are_not_figure_metadata(chapters):
    flat = ":mystnb.figure.name: fig-one\n:mystnb.figure.caption: A line.\n"
    assert len(check_sources(chapters(CHAPTER + cell("plt.show()", flat)))) == 3


def test_tables_need_no_alternative_text(chapters):
    table = cell("rows", ":mystnb:\n:  figure:\n:    name: tab-one\n:    caption: Rows.\n")
    assert check_sources(chapters(CHAPTER + table)) == []


def test_figure_names_are_unique_across_chapters(chapters):
    chapters(CHAPTER)
    problems = check_sources(chapters(CHAPTER, "02_two.md"))
    assert problems == ["02_two.md: the figure name fig-one is taken in 01_one.md"]


def test_directives_shown_in_a_longer_fence_do_not_count(chapters):
    shown = "`````markdown\n````{exercise-start}\n:label: ex-shown\n````\n`````\n"
    assert check_sources(chapters(CHAPTER + shown)) == []


def test_learner_notebook_has_stubs_and_no_solutions(chapters):
    notebook = learner_notebook(chapters(CHAPTER) / "01_one.md")
    text = json.dumps(notebook)
    assert "secret" not in text.lower() and "solution" not in text
    sources = [cell.source for cell in notebook.cells]
    assert "def stub():\n    ..." in sources and "The end." in sources[-1]
    assert sum(source.count("{exercise-start}") for source in sources) == 4
    assert all(sources)


def test_learner_notebook_drops_untagged_code_of_solutions(chapters):
    untagged = replaced(CHAPTER, ":tags: [solution]\n", "")
    assert "secret" not in json.dumps(learner_notebook(chapters(untagged) / "01_one.md"))


def test_learner_notebook_refuses_an_open_solution(chapters):
    text = CHAPTER[: CHAPTER.rindex("````{solution-end}")]
    with pytest.raises(ValueError, match="01_one.md"):
        learner_notebook(chapters(text) / "01_one.md")


@pytest.mark.parametrize("source", sorted((paths.ROOT / "notebooks").glob("[0-9][0-9]_*.md")))
def test_real_learner_notebooks_have_no_solutions(source):
    notebook = learner_notebook(source)
    assert "solution" not in json.dumps([[c.source, c.metadata] for c in notebook.cells])
    assert source.read_text().count("{exercise-start}") == sum(
        cell.source.count("{exercise-start}") for cell in notebook.cells
    )


TOC = """\
format: jb-book
root: book/index
parts:
  - caption: Chapters
    chapters:
      - file: book/01_one.md
        sections:
          - file: book/more
"""
PAGE = """\
<html><head>
<link rel="stylesheet" href="../_static/book.css?v=1"><link rel="icon" href="../_static/logo.svg">
<link rel="index" href="../genindex.html"><style>p { color: red }</style></head><body>
<a href="#main">Skip</a> <a href="https://example.org">out</a> <a href="mailto:a@b.c">mail</a>
<a href="javascript:f()">print</a> <a href="#">top</a> <img src="../_static/logo.svg">
<article class="bd-article" id="main"><h1>One</h1><h2>Two</h2><h3 id="three">Three</h3><h2>4</h2>
<figure id="fig-one"><img src="../_images/a1.svg" alt="A rising line.">
<figcaption><p>Fig. 1 A line.</p></figcaption></figure>
<table><tr><th>n</th></tr><tr><td>1</td></tr></table>
<a href="more.html#caf%C3%A9">more</a> <a href="../_sources/book/01_one.ipynb">download</a>
</article><script src="../_static/a.js"></script></body></html>
"""
SIMPLE = (
    '<html><body><article class="bd-article"><h1>{0}</h1><p id="{0}"></p></article></body></html>'
)


@pytest.fixture
def site(tmp_path, chapters):
    html, toc = tmp_path / "html", tmp_path / "_toc.yml"
    toc.write_text(TOC)
    notebooks = chapters(CHAPTER)
    files = {
        "index.html": '<meta http-equiv="Refresh" content="0; url=book/index.html" />',
        "genindex.html": "<html><body><img src='https://e.org/a.png'></body></html>",
        "search.html": "<html></html>",
        "book/index.html": SIMPLE.format("start"),
        "book/01_one.html": PAGE,
        "book/more.html": SIMPLE.format("café"),
        "_static/webpack.html": "<img>",
    }
    assets = ("_static/book.css", "_static/logo.svg", "_static/a.js", "_images/a1.svg",
              "_sources/book/01_one.ipynb")  # fmt: skip
    for name, text in {**files, **dict.fromkeys(assets, "")}.items():
        (html / name).parent.mkdir(parents=True, exist_ok=True)
        (html / name).write_text(text)
    return html, toc, notebooks


def test_good_site_passes(site):
    assert check_site(*site) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('alt="A rising line."', "", "no alternative text"),
        ('alt="A rising line."', 'alt=" "', "no alternative text"),
        ('alt="A rising line."', 'alt="../_images/a1"', "file name"),
        ('alt="A rising line."', 'alt="A line.PNG"', "file name"),
        ("<p>Fig. 1 A line.</p>", " ", "no caption"),
        ("figcaption", "div", "no caption"),
        ('src="../_static/a.js"', 'src="https://cdn.org/a.js"', "<script>"),
        ('src="../_static/a.js"', 'src="//cdn.org/a.js"', "<script>"),
        ('href="../_static/book.css?v=1"', 'href="http://cdn.org/a.css"', "<link>"),
        ('href="../_static/logo.svg"', 'href="https://cdn.org/a.svg"', "<link>"),
        ('rel="icon" href="../_', 'rel="preload" href="//cdn.org/', "<link>"),
        ('src="../_images/a1.svg"', 'src="https://cdn.org/a.svg"', "<img>"),
        ('src="../_images/a1.svg"', 'src="../_images/no.svg"', "leads nowhere"),
        ("<table>", '<iframe src="https://cdn.org"></iframe><table>', "<iframe>"),
        ("color: red", "src: url( 'https://cdn.org/f.woff2')", "a style"),
        ("p { color", "@import '//cdn.org/a.css'; p { color", "a style"),
        ("<table>", '<table style="background: url(//cdn.org/a.png)">', "a style"),
        ('"more.html', '"less.html', "leads nowhere"),
        ('"more.html#caf%C3%A9"', '"/book/more.html"', "leads nowhere"),
        ('"more.html#caf%C3%A9"', '"../../_toc.yml"', "leads nowhere"),
        ('"more.html#caf%C3%A9"', '".."', "leads nowhere"),
        ("caf%C3%A9", "tea", "anchor"),
        ('id="main"', "", "anchor"),
        (".ipynb", ".md", "leads nowhere"),
        ("h1>", "h2>", "0 headings of level 1"),
        ("<h2>4</h2>", "<h1>4</h1>", "2 headings of level 1"),
        ("<h1>One</h1><h2>Two</h2>", "<h2>Two</h2><h1>One</h1><h2>2</h2>", "not one at its start"),
        ("<h2>Two</h2>", "", "level 3 follows one of level 1"),
        ("th>", "td>", "header cells"),
        ("<th>n</th>", "<th></th>", "header cells"),
        ("<table>", "<pre>Traceback (most recent call last)</pre><table>", "traceback"),
        ("<table>", '<span class="problematic">x</span><table>', "could not resolve 'x'"),
        ('id="fig-one"', 'id="id1"', "fig-one of the source is missing"),
    ],
)
def test_page_faults_are_found(site, old, new, problem):
    page = site[0] / "book" / "01_one.html"
    page.write_text(replaced(PAGE, old, new))
    problems = check_site(*site)
    assert len(problems) == 1 and problem in problems[0], problems
    assert problems[0].startswith("book/01_one.html: ")


def test_body_stands_in_for_a_missing_article(site):
    (site[0] / "book" / "more.html").write_text("<body><p id='café'><h1>a</h1><img alt=''></body>")
    assert check_site(*site) == ["book/more.html: image None has no alternative text"]


def test_every_entry_has_a_page(site):
    site[1].write_text(TOC + "      - file: book/02_two\n")
    assert check_site(*site) == ["book/02_two.html: was not built"]


def test_stale_pages_are_found(site):
    (site[0] / "old.html").write_text(SIMPLE.format("old"))
    assert check_site(*site) == ["old.html: is not in the table of contents"]


def test_chapters_outside_the_table_of_contents_are_found(site):
    (site[2] / "02_two.md").write_text(CHAPTER)
    assert check_site(*site) == ["02_two.md: has no page"]
