"""The ledger: what a paper says next to what our code measured.

The paper's side is data, one file per chapter in `casebook/claims/`:

    paper = "krizhevsky2012"              # its key in the bibliography

    [[claim]]
    id = "alexnet.parameters"             # begins with the file's name
    statement = "The network has 60 million parameters."
    value = 60_000_000
    unit = "parameters"
    where = "abstract"
    source = "paper"                      # paper, code (the authors'), secondary or memory
    compare = "rounds"                    # and what that kind needs, here:
    to = 10_000_000
    expected = "reproduced"
    note = "Rounded to one significant digit."

The chapter's side is one line per claim, `claim("alexnet.parameters", measured=...)`, which
renders as a row and carries the same as data, for the ledger page and `ledger.json`. The build
fails where the verdict that comes out is not the one that the claim expects.

How claims compare, and when the two sides agree:

    exact         the measured value equals the paper's
    rounds        it equals the paper's once rounded to a multiple of `to`
    tolerance     it is within `tolerance` of the paper's, as a share of it
    direction     of two measured values the first is greater (`relation = ">"`) or smaller ("<"),
                  by at least `margin` (0 if not given)
    transcribed   never compared: a number that we only quote
"""

import html
import json
import math
import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from IPython.display import display

MIME = "application/vnd.casebook.claim+json"
FOLDER = Path(__file__).parent / "claims"

Verdict = Literal[
    "reproduced",
    "reproduced at toy scale",
    "differs",
    "differs, explained",
    "not reproducible here",
]
VERDICTS: tuple[Verdict, ...] = Verdict.__args__  # type: ignore[attr-defined]
VERDICT_MARKS: dict[str, tuple[str, str]] = {
    "reproduced": ("reproduced", "✓"),
    "reproduced at toy scale": ("toy", "≈"),
    "differs": ("differs", "✗"),
    "differs, explained": ("explained", "≠"),
    "not reproducible here": ("not-here", "–"),
}
"""Of each verdict the name of its CSS class, and a mark for readers who do not see its colour."""

SOURCES = {
    "paper": "read in the paper",
    "code": "read in the authors' code",
    "secondary": "quoted from a later text",
    "memory": "not verified",
}
COMPARISONS = ("exact", "rounds", "tolerance", "direction", "transcribed")


class ClaimError(ValueError):
    """A claim's entry is malformed, or what was measured does not fit it."""


class UnknownClaim(ClaimError):
    """No claims file has an entry of that name."""


@dataclass(frozen=True)
class Claim:
    """The paper's side of one row; see the module's text for the fields.

    value is a number, a text (for `direction`, what the paper says in words) or, for `exact`,
    a list of numbers. `explained` says that a difference is understood; the note then says how.
    """

    id: str
    paper: str
    statement: str
    where: str
    source: str
    compare: str
    expected: str
    value: Any = None
    unit: str = ""
    scale: str = "paper"
    to: float | None = None
    tolerance: float | None = None
    relation: str | None = None
    margin: float = 0.0
    explained: bool = False
    note: str = ""

    @property
    def chapter(self) -> str:
        """The stem of the chapter that measures it: what stands before the dot."""
        return self.id.split(".")[0]

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("compare", self.compare, COMPARISONS),
            ("source", self.source, tuple(SOURCES)),
            ("expected", self.expected, VERDICTS),
            ("scale", self.scale, ("paper", "toy")),
        ):
            if value not in allowed:
                raise ClaimError(f"claim {self.id}: {name} is {value!r}; choose from {allowed}")
        needs = {"rounds": "to", "tolerance": "tolerance", "direction": "relation"}
        needed = needs.get(self.compare)
        if needed and getattr(self, needed) is None:
            raise ClaimError(f"claim {self.id}: compare = {self.compare!r} needs `{needed}`")
        if self.relation not in (None, "<", ">"):
            raise ClaimError(f"claim {self.id}: relation is {self.relation!r}; choose '<' or '>'")
        if self.value is None:
            raise ClaimError(f"claim {self.id}: give the paper's `value`, a number or words")
        if self.explained and not self.note:
            raise ClaimError(f"claim {self.id}: an explained difference needs a `note`")


@dataclass(frozen=True)
class Row:
    """A claim with what was measured and the verdict. Shown as the last value of a cell."""

    claim: Claim
    measured: Any
    spread: Any
    verdict: Verdict

    def record(self) -> dict[str, Any]:
        """The row as plain data: what ledger.json and the ledger page are made of."""
        claim = self.claim
        return {
            "id": claim.id,
            "chapter": claim.chapter,
            "paper": claim.paper,
            "statement": claim.statement,
            "says": claim.value,
            "where": claim.where,
            "source": SOURCES[claim.source],
            "compare": claim.compare,
            "measured": self.measured,
            "spread": self.spread,
            "unit": claim.unit,
            "verdict": self.verdict,
            "expected": claim.expected,
            "note": claim.note,
        }

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        record = self.record()
        table = table_html([record], carry=record)
        return {MIME: record, "text/html": table, "text/plain": repr(self)}

    def __repr__(self) -> str:
        record = self.record()
        return (
            f"{self.claim.id}: paper says {says_text(record)}, "
            f"we measured {measured_text(record)}: {self.verdict}"
        )


@dataclass(frozen=True)
class Table:
    """Several rows as one table."""

    rows: tuple[Row, ...]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {
            "text/html": table_html([row.record() for row in self.rows]),
            "text/plain": repr(self),
        }

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.rows))


# ---------------------------------------------------------------------------------------------
# The paper's side


def folder() -> Path:
    """Where the claims files lie: the package's own, unless CASEBOOK_CLAIMS names another."""
    return Path(os.environ.get("CASEBOOK_CLAIMS", FOLDER))


@cache
def _claims(path: Path) -> dict[str, Claim]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        entries, paper = content["claim"], content["paper"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise ClaimError(
            f"{path.name} is not a claims file ({error}); it needs `paper` and [[claim]] entries"
        ) from error
    claims: dict[str, Claim] = {}
    for entry in entries:
        try:
            claim_ = Claim(**{"paper": paper, **entry})
        except TypeError as error:
            raise ClaimError(f"{path.name}, claim {entry.get('id')!r}: {error}") from error
        if claim_.chapter != path.stem or "." not in claim_.id:
            raise ClaimError(f"{path.name}: claim {claim_.id!r} must begin with '{path.stem}.'")
        if claim_.id in claims:
            raise ClaimError(f"{path.name}: claim {claim_.id!r} stands there twice")
        claims[claim_.id] = claim_
    return claims


def claims_of(chapter: str) -> dict[str, Claim]:
    """All claims of a chapter, by id. Raises UnknownClaim if the chapter has no claims file."""
    path = folder() / f"{chapter}.toml"
    if not path.exists():
        have = sorted(p.stem for p in folder().glob("*.toml"))
        raise UnknownClaim(f"there is no claims file {chapter}.toml; there are {have}")
    return _claims(path)


def chapters() -> list[str]:
    """The chapters that have a claims file."""
    return sorted(path.stem for path in folder().glob("*.toml"))


# ---------------------------------------------------------------------------------------------
# The chapter's side

_made: dict[str, Row] = {}


def claim(id: str, measured: Any = None, *, spread: Any = None) -> Row:
    """Set what was measured against a claim; shown as the last value of a cell.

    measured: a number; for `direction` a pair of numbers, in the order of the relation; for an
        `exact` list a list; for `transcribed` nothing, because nothing is measured.
    spread: half-width of the measured value's uncertainty (say which in the text: a standard
        deviation over seeds, for instance); for a pair, a pair.

    A verdict other than the expected one is shown as such and fails the book's build. Raises
    UnknownClaim if no entry has this id, and ClaimError if `measured` does not fit the claim.
    """
    entries = claims_of(id.split(".")[0])
    if id not in entries:
        raise UnknownClaim(f"there is no claim {id!r}; this chapter's are {sorted(entries)}")
    entry = entries[id]
    measured, spread = _plain(measured), _plain(spread)
    for number in _numbers([measured, spread]):
        if not math.isfinite(number):
            raise ClaimError(f"claim {id}: measured {measured}, spread {spread}: not finite")
    row = Row(entry, measured, spread, verdict(entry, measured))
    _made[id] = row
    return row


def chapter_ledger(chapter: str) -> Table:
    """The table "paper says / we measured": all claims of a chapter, in the file's order.

    Raises ClaimError if the notebook has not made one of them before.
    """
    entries = claims_of(chapter)
    missing = [id for id in entries if id not in _made]
    if missing:
        raise ClaimError(f"not measured above: {', '.join(missing)}; run the cells that make them")
    return Table(tuple(_made[id] for id in entries))


def verdict(entry: Claim, measured: Any) -> Verdict:
    """What follows from the measured value. Raises ClaimError if it does not fit the claim."""
    if entry.compare == "transcribed":
        if measured is not None:
            raise ClaimError(f"claim {entry.id} is transcribed; it takes no measured value")
        return "not reproducible here"
    if measured is None:
        raise ClaimError(f"claim {entry.id}: give the `measured` value")
    if _agrees(entry, measured):
        return "reproduced at toy scale" if entry.scale == "toy" else "reproduced"
    return "differs, explained" if entry.explained else "differs"


def _agrees(entry: Claim, measured: Any) -> bool:
    if entry.compare == "direction":
        if not (isinstance(measured, list) and len(measured) == 2):
            raise ClaimError(f"claim {entry.id} compares two values; give measured=(first, second)")
        first, second = measured
        lead = first - second if entry.relation == ">" else second - first
        return lead > 0 and lead >= entry.margin
    if entry.compare == "exact":
        return measured == entry.value
    if not isinstance(measured, int | float):
        raise ClaimError(f"claim {entry.id}: measured is {measured!r}; give a number")
    if entry.compare == "rounds":
        return math.isclose(math.floor(measured / entry.to + 0.5) * entry.to, entry.value)
    return abs(measured - entry.value) <= entry.tolerance * abs(entry.value)


def _plain(value: Any) -> Any:
    """Numbers of torch and NumPy as Python's own, tuples as lists: what JSON can hold."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value


def glue(name: str, value: Any) -> None:
    """Hand a number or a text to the page's prose, where {glue:text}`name` shows it.

    Shows nothing itself. A number is shown as `str` gives it: format it as the prose needs it.
    """
    prefix = "application/papermill.record/"
    display(
        {f"{prefix}text/plain": repr(str(value))},  # unquoted, "1,000" would be read as a tuple
        metadata={"scrapbook": {"name": name, "mime_prefix": prefix}},
        raw=True,
    )


# ---------------------------------------------------------------------------------------------
# Showing


def number_text(value: Any) -> str:
    """A value as a reader wants it: thousands set apart, at most four significant decimals."""
    if isinstance(value, bool) or value is None:
        return "" if value is None else ("yes" if value else "no")
    if isinstance(value, list):
        return ", ".join(map(number_text, value))
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value)


def says_text(record: dict[str, Any]) -> str:
    """The paper's side of a record, with its unit."""
    text = number_text(record["says"])
    return f"{text} {record['unit']}".strip() if not isinstance(record["says"], str) else text


def measured_text(record: dict[str, Any]) -> str:
    """Our side of a record: "–" if nothing was measured, two values joined by "vs", ± spread."""
    measured, spread = record["measured"], record["spread"]
    if measured is None:
        return "–"
    values = measured if isinstance(measured, list) else [measured]
    spreads = spread if isinstance(spread, list) else [spread] * len(values)
    texts = [_with_spread(value, around) for value, around in zip(values, spreads, strict=True)]
    joined = (" vs " if record["compare"] == "direction" else ", ").join(texts)
    return f"{joined} {record['unit']}".strip()


def _with_spread(value: Any, spread: float | None) -> str:
    """A value and its spread, both to the second significant digit of the spread."""
    if not spread:
        return number_text(value)
    decimals = max(0, 1 - math.floor(math.log10(abs(spread))))
    return f"{value:,.{decimals}f} ± {spread:,.{decimals}f}"


def verdict_html(name: str) -> str:
    """A verdict as a chip, with a mark as well as a colour."""
    slug, mark = VERDICT_MARKS[name]
    sign = f'<span aria-hidden="true">{mark}</span> '
    return f'<span class="verdict verdict-{slug}">{sign}{html.escape(name)}</span>'


def table_html(records: Iterable[dict[str, Any]], carry: dict[str, Any] | None = None) -> str:
    """A table "paper says / we measured" of records as `Row.record` gives them.

    carry: a record that the table takes along as data, for the book's build to read.
    """
    body = "".join(
        "<tr>"
        f'<td class="says">{_escape(record["statement"])} '
        f'<span class="where">{_escape(where_text(record))}</span></td>'
        f'<td class="value">{_escape(says_text(record))}</td>'
        f'<td class="measured">{_escape(measured_text(record))}</td>'
        f'<td class="verdict">{verdict_html(record["verdict"])}{_surprise(record)}</td>'
        "</tr>"
        + (
            f'<tr class="note"><td colspan="4">{_escape(record["note"])}</td></tr>'
            if record["note"]
            else ""
        )
        for record in records
    )
    head = "".join(
        f'<th scope="col">{title}</th>'
        for title in ("Claim", "Paper says", "We measured", "Verdict")
    )
    data = f' data-claim="{_escape(json.dumps(carry, ensure_ascii=False))}"' if carry else ""
    return (
        f'<table class="casebook-claims"{data}><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def where_text(record: dict[str, Any]) -> str:
    """Where in the paper the claim stands, and how firmly we know it."""
    read = "" if record["source"] == SOURCES["paper"] else f", {record['source']}"
    return f"({record['where']}{read})"


def _surprise(record: dict[str, Any]) -> str:
    if record["verdict"] == record["expected"]:
        return ""
    return f' <strong class="surprise">expected: {_escape(record["expected"])}</strong>'


def _escape(text: str) -> str:
    return html.escape(str(text))


def to_json(records: Iterable[dict[str, Any]]) -> str:
    """`ledger.json`: the records in the order of their ids."""
    ordered = sorted(records, key=lambda record: record["id"])
    return json.dumps(ordered, indent=1, ensure_ascii=False) + "\n"
