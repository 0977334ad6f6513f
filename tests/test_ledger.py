"""Verdicts by hand, malformed claims refused, and the claims of the book itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from casebook import ledger

ENTRY = {
    "id": "toy.size",
    "paper": "someone2020",
    "statement": "It has 60 million <parameters>.",
    "value": 60,
    "unit": "M",
    "where": "abstract",
    "source": "paper",
    "compare": "exact",
    "expected": "reproduced",
}


def entry(**changes: Any) -> ledger.Claim:
    return ledger.Claim(**{**ENTRY, **changes})


@pytest.mark.parametrize(
    ("changes", "measured", "verdict"),
    [
        ({}, 60, "reproduced"),
        ({}, 61, "differs"),
        ({"explained": True, "note": "why"}, 61, "differs, explained"),
        ({"scale": "toy"}, 60, "reproduced at toy scale"),
        ({"scale": "toy"}, 59, "differs"),
        ({"value": [1, 2]}, [1, 2], "reproduced"),
        ({"value": [1, 2]}, [1, 3], "differs"),
        ({"compare": "rounds", "to": 10}, 60.9, "reproduced"),
        ({"compare": "rounds", "to": 1}, 60.9, "differs"),
        ({"compare": "rounds", "to": 1}, 59.5, "reproduced"),
        ({"compare": "rounds", "to": 1}, 60.5, "differs"),
        ({"compare": "rounds", "to": 0.1, "value": 0.3}, 0.2999, "reproduced"),
        ({"compare": "tolerance", "tolerance": 0.1}, 54.0, "reproduced"),
        ({"compare": "tolerance", "tolerance": 0.1}, 53.9, "differs"),
        ({"compare": "direction", "relation": ">", "value": "A beats B"}, [2, 1], "reproduced"),
        ({"compare": "direction", "relation": ">", "value": "A beats B"}, [1, 1], "differs"),
        ({"compare": "direction", "relation": "<", "value": "A below B"}, [1, 2], "reproduced"),
        ({"compare": "direction", "relation": "<", "value": "w", "margin": 2}, [1, 2], "differs"),
        ({"compare": "transcribed"}, None, "not reproducible here"),
    ],
)
def test_verdicts(changes: dict[str, Any], measured: Any, verdict: str) -> None:
    assert ledger.verdict(entry(**changes), measured) == verdict


@pytest.mark.parametrize(
    ("changes", "measured", "message"),
    [
        ({}, None, "give the `measured` value"),
        ({"compare": "transcribed"}, 3, "takes no measured value"),
        ({"compare": "direction", "relation": ">"}, 3, r"measured=\(first, second\)"),
        ({"compare": "tolerance", "tolerance": 0.1}, "sixty", "give a number"),
    ],
)
def test_a_measurement_that_does_not_fit(
    changes: dict[str, Any], measured: Any, message: str
) -> None:
    with pytest.raises(ledger.ClaimError, match=message):
        ledger.verdict(entry(**changes), measured)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compare": "about"}, "compare is 'about'; choose from"),
        ({"source": "rumour"}, "source is 'rumour'"),
        ({"expected": "fine"}, "expected is 'fine'"),
        ({"compare": "rounds"}, "needs `to`"),
        ({"compare": "tolerance"}, "needs `tolerance`"),
        ({"compare": "direction"}, "needs `relation`"),
        ({"compare": "direction", "relation": "="}, "relation is '='"),
        ({"value": None}, "paper's `value`"),
        ({"explained": True}, "needs a `note`"),
    ],
)
def test_a_malformed_entry(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ledger.ClaimError, match=message):
        entry(**changes)


# ---- claims files


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the claims of one chapter, `toy`, in use for the test."""
    monkeypatch.setenv("CASEBOOK_CLAIMS", str(tmp_path))
    monkeypatch.setattr(ledger, "_made", {})
    lines = ['paper = "someone2020"']
    for id, value in (("toy.a", 1), ("toy.b", 2)):
        fields = {**ENTRY, "id": id, "value": value}
        del fields["paper"]
        lines += ["[[claim]]", *(f"{key} = {json.dumps(v)}" for key, v in fields.items())]
    (tmp_path / "toy.toml").write_text("\n".join(lines))
    return tmp_path


def test_a_claim_becomes_a_row_and_a_record(claims: Path) -> None:
    row = ledger.claim("toy.a", measured=np.int64(1), spread=torch.tensor(0.5))
    bundle = row._repr_mimebundle_()
    record = bundle[ledger.MIME]
    assert json.loads(json.dumps(record)) == record
    assert record["measured"] == 1
    assert record["spread"] == 0.5
    assert record["verdict"] == record["expected"] == "reproduced"
    assert record["paper"] == "someone2020"
    assert "&lt;parameters&gt;" in bundle["text/html"]
    assert "1.00 ± 0.50 M" in bundle["text/html"]
    assert "surprise" not in bundle["text/html"]


def test_a_claim_may_name_a_paper_of_its_own(claims: Path) -> None:
    """As the opener of a part does, which draws on several."""
    path = claims / "toy.toml"
    path.write_text(path.read_text().replace('id = "toy.b"', 'id = "toy.b"\npaper = "other1989"'))
    assert ledger.claim("toy.a", 1).record()["paper"] == "someone2020"
    assert ledger.claim("toy.b", 2).record()["paper"] == "other1989"


def test_a_surprise_is_shown(claims: Path) -> None:
    assert "expected: reproduced" in ledger.claim("toy.a", 7)._repr_mimebundle_()["text/html"]


def test_chapter_ledger_needs_every_claim(claims: Path) -> None:
    ledger.claim("toy.b", 2)
    with pytest.raises(ledger.ClaimError, match=r"not measured above: toy\.a"):
        ledger.chapter_ledger("toy")
    ledger.claim("toy.a", 1)
    assert [row.claim.id for row in ledger.chapter_ledger("toy").rows] == ["toy.a", "toy.b"]


def test_unknown_claims(claims: Path) -> None:
    with pytest.raises(ledger.UnknownClaim, match=r"no claim 'toy\.c'.*'toy\.a', 'toy\.b'"):
        ledger.claim("toy.c", 1)
    with pytest.raises(ledger.UnknownClaim, match=r"no claims file other\.toml; there are"):
        ledger.claim("other.c", 1)


def test_a_measurement_must_be_finite(claims: Path) -> None:
    with pytest.raises(ledger.ClaimError, match="not finite"):
        ledger.claim("toy.a", float("nan"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("paper =", "papers =", 1), "needs `paper`"),
        (lambda text: text + '\nbogus = "x"', "bogus"),
        (lambda text: text.replace("toy.b", "toy.a"), "stands there twice"),
        (lambda text: text.replace("toy.b", "tony.b"), r"must begin with 'toy\.'"),
        (lambda text: text.replace("=", ":"), "is not a claims file"),
    ],
)
def test_a_malformed_claims_file(claims: Path, change: Any, message: str) -> None:
    path = claims / "toy.toml"
    path.write_text(change(path.read_text()))
    with pytest.raises(ledger.ClaimError, match=message):
        ledger.claims_of("toy")


# ---- text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (60965224, "60,965,224"),
        (3.0, "3"),
        (0.0151234, "0.01512"),
        (12345.678, "12,346"),
        ([1, 2.5], "1, 2.5"),
        ("six times", "six times"),
        (True, "yes"),
    ],
)
def test_numbers_as_text(value: Any, text: str) -> None:
    assert ledger.number_text(value) == text


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (1.2461, 0.02445, "1.246 ± 0.024"),
        (60.4, 7.07, "60.4 ± 7.1"),
        (1234, 210.0, "1,234 ± 210"),
        (3, 0, "3"),
        (3, None, "3"),
    ],
)
def test_a_value_is_given_to_the_digits_of_its_spread(
    value: float, spread: float | None, text: str
) -> None:
    record = {"measured": value, "spread": spread, "unit": "", "compare": "tolerance"}
    assert ledger.measured_text(record) == text


def test_glue_is_what_myst_nb_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(ledger, "display", lambda data, **rest: shown.append((data, rest)))
    ledger.glue("share", 0.5)
    ((data, rest),) = shown
    assert data == {"application/papermill.record/text/plain": "'0.5'"}
    assert rest["raw"]
    assert rest["metadata"]["scrapbook"]["name"] == "share"


# ---- the book's own claims


def test_the_books_claims_are_well_formed() -> None:
    assert ledger.chapters()
    for chapter in ledger.chapters():
        claims = ledger.claims_of(chapter)
        assert len(claims) >= 4, f"chapter {chapter} has fewer than four claims"
        assert all(claim.statement.endswith(".") for claim in claims.values())


def test_every_cited_paper_is_in_the_bibliography() -> None:
    bibliography = Path(__file__).parents[1] / "book" / "references.bib"
    keys = {
        line.split("{")[1].strip(" ,\n")
        for line in bibliography.read_text().splitlines()
        if line.startswith("@")
    }
    papers = {c.paper for stem in ledger.chapters() for c in ledger.claims_of(stem).values()}
    assert papers <= keys
