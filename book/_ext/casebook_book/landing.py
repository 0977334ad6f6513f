"""What only the first page shows: a claim as the book's emblem, and the papers along the years.

``ledger-sample`` takes the ids of claims and shows each one large, what the paper says on the left
page and what we measured on the right. ``timeline`` takes one line per part of the book::

    ```{timeline}
    vision: 2012 AlexNet (alexnet), 2014 VGG (vgg), 2015 ResNet (resnet)
    ```

and draws every paper at its year. A paper whose chapter exists (``book/vision/alexnet``) is a link
to it, and so the timeline grows with the book.
"""

import re
from dataclasses import dataclass
from html import escape
from math import ceil

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from casebook import ledger
from casebook_book.ledger import all_records

logger = logging.getLogger(__name__)

COLUMNS_PER_YEAR = 4
LETTERS_PER_COLUMN = 1.9
"""How much of a paper's name fits into a column of the grid, where that is at its narrowest."""

PAPER = re.compile(r"(?P<year>\d{4}) (?P<name>.+?) \((?P<stem>\w+)\)")


class ledger_sample(nodes.General, nodes.Element):
    """Stands where the claims will be shown, once all pages have been read."""


class timeline(nodes.General, nodes.Element):
    """Stands where the papers will be shown, once it is known which chapters exist."""


@dataclass(frozen=True)
class Paper:
    """A paper on the timeline, and the page that is about it."""

    year: int
    name: str
    page: str


class LedgerSample(SphinxDirective):
    """``ledger-sample ID...``: claims shown large."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder, and have the page written anew whenever the claims change."""
        self.env.casebook_ledger_pages.add(self.env.docname)
        node = ledger_sample(claims=self.arguments[0].split())
        self.set_source_info(node)
        return [node]


class Timeline(SphinxDirective):
    """``timeline``: papers by part and year."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Read the lines. A line that cannot be read is an error that quotes it."""
        self.assert_has_content()
        return [timeline(parts=[self.part(line) for line in self.content if line.strip()])]

    def part(self, line: str) -> tuple[str, list[Paper]]:
        """Return the part's name and its papers."""
        name, _, rest = line.partition(":")
        papers = []
        for text in rest.split(","):
            match = PAPER.fullmatch(text.strip())
            if not match:
                raise self.error(f"{text.strip()!r} is not of the form: 2012 AlexNet (alexnet)")
            page = f"book/{name.strip()}/{match['stem']}"
            papers.append(Paper(int(match["year"]), match["name"], page))
        return name.strip(), papers


def sample_html(record: dict, address: str) -> str:
    """Return one claim as an open book."""
    return (
        f'<a class="sample" href="{escape(address)}">'
        '<span class="sample-page sample-says"><span class="sample-label">The paper says</span>'
        f'<span class="sample-statement">{escape(record["statement"])}</span>'
        f'<span class="sample-where">{escape(ledger.where_text(record))}</span></span>'
        '<span class="sample-page sample-measured"><span class="sample-label">We measured</span>'
        f'<span class="sample-value">{escape(ledger.measured_text(record))}</span>'
        f"{ledger.verdict_html(record['verdict'])}</span></a>"
    )


def timeline_html(parts: list[tuple[str, list[Paper]]], addresses: dict[str, str]) -> str:
    """Return the papers as one list per part; the style sheet lays them out along the years."""
    years = [paper.year for _, papers in parts for paper in papers]
    first, last = min(years), max(years)
    axis = "".join(
        f'<span style="--start: {COLUMNS_PER_YEAR * (year - first) + 1}">{year}</span>'
        for year in range(first, last + 1)
    )
    rows = []
    for name, papers in parts:
        items = []
        for paper in sorted(papers, key=lambda paper: paper.year):
            start = COLUMNS_PER_YEAR * (paper.year - first) + 1
            span = ceil((len(paper.name) + 3) / LETTERS_PER_COLUMN)
            label = f'{escape(paper.name)} <span class="year">{paper.year}</span>'
            if address := addresses.get(paper.page):
                label = f'<a href="{escape(address)}">{label}</a>'
            items.append(f'<li style="--start: {start}; --span: {span}">{label}</li>')
        rows.append(
            f'<li class="part"><span class="name">{escape(name)}</span>'
            f"<ul>{''.join(items)}</ul></li>"
        )
    columns = COLUMNS_PER_YEAR * (last - first + 2)
    return (
        f'<div class="timeline" style="--columns: {columns}">'
        f'<div class="years" aria-hidden="true">{axis}</div><ul class="parts">{"".join(rows)}</ul>'
        "</div>"
    )


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put HTML in the places of the placeholders; other formats have no use for them."""
    html = app.builder.format == "html"
    records = {record["id"]: (page, record) for page, record in all_records(app.env)}
    for node in list(doctree.findall(ledger_sample)):
        shown = []
        for name in node["claims"] if html else ():
            if name not in records:
                logger.warning("ledger-sample: no chapter makes the claim %r", name, location=node)
                continue
            page, record = records[name]
            shown.append(sample_html(record, app.builder.get_relative_uri(docname, page)))
        _replace(node, f'<div class="samples">{"".join(shown)}</div>' if html else None)
    for node in list(doctree.findall(timeline)):
        pages = {paper.page for _, papers in node["parts"] for paper in papers}
        addresses = {
            page: app.builder.get_relative_uri(docname, page) for page in pages & app.env.found_docs
        }
        _replace(node, timeline_html(node["parts"], addresses) if html else None)


def _replace(node: nodes.Element, html: str | None) -> None:
    place = node.parent.index(node)
    node.parent[place : place + 1] = [nodes.raw("", html, format="html")] if html else []


def setup(app: Sphinx) -> None:
    """Add the directives."""
    for node in (ledger_sample, timeline):
        app.add_node(node)
    app.add_directive("ledger-sample", LedgerSample)
    app.add_directive("timeline", Timeline)
    app.connect("doctree-resolved", resolve)
