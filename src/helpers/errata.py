"""The list of what is wrong in the post (data/published/errata.yml), and how a page shows it.

Texts may hold `${name}`: the page that shows them computes the number and hands it over, so that
no recomputed number is typed. Numbers of the post itself are typed; they do not change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from string import Template
from typing import Any

import pandas as pd

from helpers import paths
from helpers.files import BadFile, check_fields, read_entries

SHOWN_BY = {
    "recomputation": "shown by recomputation",
    "experiment": "shown by an experiment",
    "source": "shown by another source",
    "wording": "a matter of wording",
}
"""How a defect is shown: by arithmetic on the page, on the post's own numbers or on published
tables; by what a chapter measures; by a paper, released code or a report that says otherwise; or
not at all, because the post claims something without showing it."""
TOPICS = (
    "shares", "means", "entropy", "errors", "cost", "returns", "maps", "scores", "text"
)  # fmt: skip


class Numbering(Template):
    """`${some-name}`, with hyphens as in the names of glued numbers."""

    braceidpattern = r"[a-z][a-z0-9-]*"


@dataclass(frozen=True)
class Erratum:
    """One defect of the post."""

    number: int
    title: str
    section: str
    """Where in the post."""
    topic: str
    """One of TOPICS: where on the page it is shown."""
    shown_by: str
    """One of SHOWN_BY."""
    post: str
    """What the post shows or says, in our words."""
    wrong: str
    right: str
    holds: str = ""
    """What of the post stands where this defect touches it."""

    def markdown(self, numbers: Mapping[str, str]) -> str:
        """As MyST Markdown, with the target `defect-<number>`; `numbers` fill in `${name}`."""
        texts = {
            "The post.": self.post,
            "What is wrong.": self.wrong,
            "What holds.": self.holds,
            "What is right.": self.right,
        }
        lines = [
            f"(defect-{self.number})=",
            f"**{self.number}. {self.title}** ({self.section}; {SHOWN_BY[self.shown_by]})",
            "",
            *(f"- *{head}* {text}" for head, text in texts.items() if text),
        ]
        try:
            return Numbering("\n".join(lines)).substitute(numbers)
        except KeyError as error:
            raise KeyError(f"defect {self.number} needs the number {error}") from None


def errata() -> list[Erratum]:
    """All defects by number.

    Raises:
        BadFile: the file is no list, an entry lacks a field or has an unknown one or an empty one,
            a topic or kind is unknown, or the numbers are not 1, 2, 3 and so on; names the entry.
    """
    path = paths.DATA / "published" / "errata.yml"
    found = [_entry(f"{path}, entry {n}", entry) for n, entry in enumerate(read_entries(path), 1)]
    numbers = [erratum.number for erratum in found]
    if numbers != list(range(1, len(found) + 1)):
        raise BadFile(f"{path}: numbers are {numbers}; count from 1 without gaps")
    return found


def _entry(where: str, entry: Any) -> Erratum:
    check_fields(where, entry, Erratum)
    for name, value in entry.items():
        expected = int if name == "number" else str
        if not (isinstance(value, expected) and value):
            raise BadFile(f"{where}: {name} is {value!r}; write {expected.__name__}")
    for name, allowed in (("topic", TOPICS), ("shown_by", SHOWN_BY)):
        if entry[name] not in allowed:
            raise BadFile(f"{where}: {name} is {entry[name]!r}; choose one of {list(allowed)}")
    return Erratum(**entry)


def counts(entries: Collection[Erratum]) -> dict[str, int]:
    """How many are shown in which way, in the order of SHOWN_BY."""
    counted = Counter(erratum.shown_by for erratum in entries)
    return {kind: counted[kind] for kind in SHOWN_BY}


def overview(entries: Collection[Erratum]) -> str:
    """All of them as an HTML table that links to their places on the page."""
    rows = [
        {
            "No.": f'<a href="#defect-{erratum.number}">{erratum.number}</a>',
            "defect": erratum.title,
            "in the post": erratum.section,
            "shown by": erratum.shown_by,
        }
        for erratum in entries
    ]
    return pd.DataFrame(rows).to_html(index=False, border=0, escape=False)


def listing(entries: Collection[Erratum], topic: str, numbers: Mapping[str, str]) -> str:
    """Those of a topic as MyST Markdown."""
    if topic not in TOPICS:
        raise ValueError(f"topic is {topic!r}; choose one of {list(TOPICS)}")
    return "\n\n".join(e.markdown(numbers) for e in entries if e.topic == topic)
