"""The book's side of the ledger: collect every claim, check them all, show and publish them.

Chapters make claims in their cells; each leaves a row that carries its own record. Here they are
gathered, checked against the claims files, drawn on the pages
that say `{ledger-table}` or `{ledger-picture}`, and written to `ledger.json`.
"""

import html
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError
from sphinx.util.docutils import SphinxDirective

from casebook import ledger

Record = dict[str, Any]

_RECORD = re.compile(r'<table class="casebook-claims" data-claim="([^"]*)"')


class LedgerError(SphinxError):
    category = "Ledger"


class ledger_table(nodes.General, nodes.Element):
    """Stands where the table of all claims will be."""


class ledger_picture(nodes.General, nodes.Element):
    """Stands where the picture of all claims will be."""


class _LedgerDirective(SphinxDirective):
    node: type[nodes.Element]

    def run(self) -> list[nodes.Node]:
        self.env.casebook_ledger_pages.add(self.env.docname)
        return [self.node()]


class LedgerTable(_LedgerDirective):
    """{ledger-table}: every claim of the book, one row each."""

    node = ledger_table


class LedgerPicture(_LedgerDirective):
    """{ledger-picture}: every claim of the book, one mark each, by chapter and verdict."""

    node = ledger_picture


# ---------------------------------------------------------------------------------------------
# Gathering


def records_in(doctree: nodes.document) -> list[Record]:
    """The claims made on a page, in the order of its cells.

    They are read off the rows that the page shows: of a notebook that comes from the cache,
    MyST-NB passes on nothing but the rendered outputs.
    """
    outputs = (node.astext() for node in doctree.findall(nodes.raw) if node["format"] == "html")
    found = (_RECORD.match(output) for output in outputs)
    return [json.loads(html.unescape(match[1])) for match in found if match]


def _accept_records(app: Sphinx, config: Config) -> None:
    """Records are read here, so MyST-NB need not warn that it does not know their type."""
    config.suppress_warnings = [*config.suppress_warnings, "mystnb.unknown_mime_type"]


def _prepare(app: Sphinx, env: BuildEnvironment, *_: Any) -> None:
    if not hasattr(env, "casebook_claims"):
        env.casebook_claims = {}
        env.casebook_ledger_pages = set()


def _collect(app: Sphinx, doctree: nodes.document) -> None:
    app.env.casebook_claims[app.env.docname] = records_in(doctree)


def _forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    env.casebook_claims.pop(docname, None)
    env.casebook_ledger_pages.discard(docname)


def _merge(
    app: Sphinx, env: BuildEnvironment, docnames: list[str], other: BuildEnvironment
) -> None:
    env.casebook_claims |= {d: other.casebook_claims[d] for d in docnames}
    env.casebook_ledger_pages |= other.casebook_ledger_pages & set(docnames)


def all_records(env: BuildEnvironment) -> list[tuple[str, Record]]:
    """(page, record) of every claim, pages in the order of the table of contents."""
    order = {docname: place for place, docname in enumerate(_reading_order(env))}
    pages = sorted(env.casebook_claims, key=lambda d: (order.get(d, len(order)), d))
    return [(page, record) for page in pages for record in env.casebook_claims[page]]


def _reading_order(env: BuildEnvironment) -> list[str]:
    order, waiting = [], [env.config.root_doc]
    while waiting:
        docname = waiting.pop(0)
        order.append(docname)
        waiting = env.toctree_includes.get(docname, []) + waiting
    return order


# ---------------------------------------------------------------------------------------------
# Checking


def problems(claimed: list[tuple[str, Record]]) -> list[str]:
    """What is wrong with the book's claims, a sentence each; nothing if the ledger is sound."""
    found = []
    for page, record in claimed:
        if record["verdict"] != record["expected"]:
            found.append(
                f"{page}: claim {record['id']} is expected to be '{record['expected']}' but "
                f"{ledger.measured_text(record)} against {ledger.says_text(record)} makes it "
                f"'{record['verdict']}'. Find out why, then mend the code or the claim's entry"
            )
        if Path(page).name != record["chapter"]:
            found.append(f"{page}: claim {record['id']} belongs to chapter {record['chapter']}")
    times = Counter(record["id"] for _, record in claimed)
    found += [f"claim {id} is made {n} times; make it once" for id, n in times.items() if n > 1]
    found += [
        f"claim {id} is made by no chapter; measure it in {chapter}, or remove its entry"
        for chapter in ledger.chapters()
        for id in ledger.claims_of(chapter)
        if id not in times
    ]
    return found


def _check(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Fail the build on any problem; otherwise name the pages to write anew.

    This runs at `env-updated`, which comes in every build and before the environment is saved, so
    that a build with a problem fails again when it is repeated.
    """
    found = problems(all_records(env))
    if found:
        raise LedgerError("\n".join(found))
    return sorted(env.casebook_ledger_pages)


# ---------------------------------------------------------------------------------------------
# Showing


def _resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for kind, draw in ((ledger_table, _table), (ledger_picture, _picture)):
        for node in list(doctree.findall(kind)):
            if app.builder.format == "html":
                node.replace_self(nodes.raw("", draw(app, docname), format="html"))
            else:
                node.parent.remove(node)


def _table(app: Sphinx, docname: str) -> str:
    heads = ("Chapter", "Claim", "Paper says", "We measured", "Verdict")
    head = "".join(f'<th scope="col">{title}</th>' for title in heads)
    rows = "".join(_table_row(app, docname, page, r) for page, r in all_records(app.env))
    return (
        '<div class="casebook-ledger"><table class="ledger casebook-claims">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _table_row(app: Sphinx, docname: str, page: str, record: Record) -> str:
    note = f'<p class="note">{html.escape(record["note"])}</p>' if record["note"] else ""
    where = html.escape(ledger.where_text(record))
    cells = (
        f'<td class="chapter">{_chapter_link(app, docname, page)}</td>'
        f'<td class="says">{html.escape(record["statement"])} '
        f'<span class="where">{where}</span>{note}</td>'
        f'<td class="value"{_sort_key(record["says"])}>{_text(ledger.says_text(record))}</td>'
        f'<td class="measured"{_sort_key(record["measured"])}>'
        f"{_text(ledger.measured_text(record))}</td>"
        f'<td class="verdict">{ledger.verdict_html(record["verdict"])}</td>'
    )
    part = html.escape(_part(page))
    return (
        f'<tr id="{_anchor(record)}" data-part="{part}" '
        f'data-verdict="{html.escape(record["verdict"])}">{cells}</tr>'
    )


def _picture(app: Sphinx, docname: str) -> str:
    claimed = all_records(app.env)
    pages = list(dict.fromkeys(page for page, _ in claimed))
    ledger_page = next((d for d in sorted(app.env.casebook_ledger_pages) if "ledger" in d), docname)
    base = "" if ledger_page == docname else app.builder.get_relative_uri(docname, ledger_page)
    rows = "".join(
        f'<li><span class="chapter">{_chapter_link(app, docname, page)}</span> '
        '<span class="marks">'
        + "".join(_mark(base, record) for where, record in claimed if where == page)
        + "</span></li>"
        for page in pages
    )
    counts = Counter(record["verdict"] for _, record in claimed)
    legend = "".join(
        f"<li>{ledger.verdict_html(verdict)} {counts[verdict]}</li>"
        for verdict in ledger.VERDICTS
        if counts[verdict]
    )
    return (
        f'<div class="ledger-picture"><ul class="chapters">{rows}</ul>'
        f'<ul class="legend" aria-label="Claims by verdict">{legend}</ul></div>'
    )


def _mark(base: str, record: Record) -> str:
    label = html.escape(
        f"{record['statement']} Paper: {ledger.says_text(record)}. "
        f"Measured: {ledger.measured_text(record)}. {record['verdict'].capitalize()}."
    )
    slug, sign = ledger.VERDICT_MARKS[record["verdict"]]
    return (
        f'<a class="mark verdict-{slug}" href="{base}#{_anchor(record)}" title="{label}" '
        f'aria-label="{label}"><span aria-hidden="true">{sign}</span></a>'
    )


def _chapter_link(app: Sphinx, docname: str, page: str) -> str:
    uri = app.builder.get_relative_uri(docname, page)
    return f'<a href="{uri}">{html.escape(app.env.titles[page].astext())}</a>'


def _part(page: str) -> str:
    return Path(page).parent.name


def _anchor(record: Record) -> str:
    return "claim-" + record["id"].replace(".", "-")


def _sort_key(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else value
    return f' data-sort="{first}"' if isinstance(first, int | float) else ""


def _text(text: str) -> str:
    return html.escape(text)


def _publish(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        records = [record for _, record in all_records(app.env)]
        path = Path(app.outdir) / "ledger.json"
        path.write_text(ledger.to_json(records), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(ledger_table)
    app.add_node(ledger_picture)
    app.add_directive("ledger-table", LedgerTable)
    app.add_directive("ledger-picture", LedgerPicture)
    app.connect("config-inited", _accept_records)
    app.connect("env-before-read-docs", _prepare)
    app.connect("env-purge-doc", _forget)
    app.connect("doctree-read", _collect)
    app.connect("env-merge-info", _merge)
    app.connect("env-updated", _check)
    app.connect("doctree-resolved", _resolve)
    app.connect("build-finished", _publish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
