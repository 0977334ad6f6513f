"""The ledger's book side: what the build gathers, refuses, shows and publishes."""

import json
import sys
from pathlib import Path

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from casebook_book.ledger import LedgerError, problems  # noqa: E402

from casebook import ledger  # noqa: E402

CLAIMS = """
paper = "someone2020"
[[claim]]
id = "small.count"
statement = "Two and two are <four>."
value = 4
unit = "apples"
where = "section 1"
source = "paper"
compare = "exact"
expected = "reproduced"
[[claim]]
id = "small.faster"
statement = "A is faster than B."
value = "A before B"
where = "section 2"
source = "memory"
compare = "direction"
relation = "<"
scale = "toy"
expected = "reproduced at toy scale"
note = "Over three seeds."
"""

NOTEBOOK = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  name: python3
  display_name: Python 3
---
# A small chapter

## Measured

```{code-cell} ipython3
from casebook.ledger import claim
claim("small.count", measured=2 + 2)
```

```{code-cell} ipython3
claim("small.faster", measured=(10, 20), spread=(1, 2))
```
"""

INDEX = """# Start

```{toctree}
part/small
ledger
```

```{ledger-picture}
```
"""

LEDGER = """# The ledger

```{ledger-table}
```
"""


def record(**changes: object) -> dict[str, object]:
    plain = {
        "id": "small.count",
        "chapter": "small",
        "says": 4,
        "measured": 4,
        "spread": None,
        "unit": "",
        "compare": "exact",
        "verdict": "reproduced",
        "expected": "reproduced",
    }
    return {**plain, **changes}


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "claims"
    folder.mkdir()
    (folder / "small.toml").write_text(CLAIMS)
    monkeypatch.setenv("CASEBOOK_CLAIMS", str(folder))
    return folder


SOUND = [("part/small", record()), ("part/small", record(id="small.faster"))]


def test_a_sound_ledger_has_no_problems(claims: Path) -> None:
    assert problems(SOUND) == []


@pytest.mark.parametrize(
    ("claimed", "problem"),
    [
        (
            [("part/small", record(verdict="differs", measured=5)), SOUND[1]],
            "part/small: claim small.count is expected to be 'reproduced' but 5 against 4",
        ),
        ([("part/other", record()), SOUND[1]], "part/other: claim small.count belongs to"),
        ([*SOUND, SOUND[0]], "claim small.count is made 2 times"),
        (SOUND[:1], "claim small.faster is made by no chapter"),
    ],
)
def test_problems_name_the_claim(claims: Path, claimed: list, problem: str) -> None:
    (found,) = problems(claimed)
    assert found.startswith(problem)


@pytest.fixture
def book(tmp_path: Path, claims: Path) -> Path:
    source = tmp_path / "source"
    (source / "part").mkdir(parents=True)
    (source / "part" / "small.md").write_text(NOTEBOOK)
    (source / "index.md").write_text(INDEX)
    (source / "ledger.md").write_text(LEDGER)
    return source


def build(source: Path) -> Path:
    """Build the little book; Sphinx's own extension machinery, without a theme."""
    out = source.parent / "build" / "html"
    options = {"extensions": ["myst_nb", "casebook_book.ledger"], "nb_execution_mode": "cache"}
    with docutils_namespace():
        Sphinx(source, None, out, out.parent / "doctrees", "html", options, status=None).build()
    return out


@pytest.mark.filterwarnings("default")
def test_the_ledger_is_drawn_and_published(book: Path, claims: Path) -> None:
    out = build(book)
    published = json.loads((out / "ledger.json").read_text())
    assert [r["id"] for r in published] == ["small.count", "small.faster"]
    count, faster = published
    assert (count["says"], count["measured"], count["verdict"]) == (4, 4, "reproduced")
    assert (faster["measured"], faster["spread"]) == ([10, 20], [1, 2])

    page = (out / "ledger.html").read_text()
    assert page.count("<tr id=") == 2
    assert 'data-part="part" data-verdict="reproduced at toy scale"' in page
    assert "Two and two are &lt;four&gt;." in page
    assert "10.0 ± 1.0 vs 20.0 ± 2.0" in page
    assert "(section 2, not verified)" in page
    assert "Over three seeds." in page
    assert '<a href="part/small.html">A small chapter</a>' in page

    start = (out / "index.html").read_text()
    assert start.count('class="mark verdict-') == 2
    assert 'href="ledger.html#claim-small-count"' in start

    (claims / "small.toml").write_text(CLAIMS.replace("value = 4", "value = 5"))
    ledger._claims.cache_clear()
    chapter = book / "part" / "small.md"
    chapter.write_text(NOTEBOOK.replace("2 + 2)", "2 + 2)  # again"))
    for _ in range(2):  # a build that failed fails again
        with pytest.raises(LedgerError, match=r"claim small\.count is expected"):
            build(book)
