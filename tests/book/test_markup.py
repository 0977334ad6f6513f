"""What the site's own directives and transforms make of a page: cards, figures, solutions."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from casebook_book import card, pages
from casebook_book.landing import Paper, timeline_html
from docutils import nodes
from docutils.utils import new_document
from pybtex.database import Person
from sphinx.errors import ConfigError
from tiny_book import FRONT_MATTER, Book

PAGES = sorted(
    page
    for page in (Path(__file__).parents[2] / "book").rglob("*.md")
    if "_ext" not in page.parts and not page.name.startswith(".")
)
LITERAL = re.compile(r"^(`{3,})(?:\{code-cell\}|\w).*?^\1$", re.M | re.S)

BIBLIOGRAPHY = """
@inproceedings{somebody2020,
  author = {Some, B{\\'o}dy and von Other, Ann Mary},
  title = {On {Things} \\& More},
  booktitle = {Conference of Things},
  year = {2020},
  doi = {10.1000/182},
  eprint = {2001.00001},
}
"""

PAGE = (
    FRONT_MATTER
    + """\
# Pictures

```{paper-card} somebody2020
Things can be drawn, with *some* care and $n$ pens.
```

## Figures

See {numref}`fig-drawn`, {numref}`fig-chart` and {cite:t}`somebody2020`.

```{code-cell} ipython3
---
mystnb:
  figure:
    name: fig-drawn
    caption: A **drawn** line, $y = x$, as in {cite}`somebody2020`.
---
from IPython.display import HTML

HTML('<svg class="casebook-figure" role="img" aria-label="A line" width="360pt" height="9pt">'
     '<g id="f-text_1"></g></svg>')
```

```{code-cell} ipython3
---
mystnb:
  figure:
    name: fig-chart
    caption: A chart.
---
import altair

values = altair.Data(values=[{"x": 1, "y": 2}])
altair.Chart(values, description="One point").mark_point().encode(x="x:Q", y="y:Q")
```

```{exercise} Draw
:label: draw
Draw a line.
```

```{solution} draw
:label: drawn
:class: dropdown
Use a pen.
```

## References

```{bibliography}
:filter: docname in docnames
```
"""
)


OPENER = (
    FRONT_MATTER
    + """\
# A part

```{opener-card}
What *everything* in this part is made of.
```

Some words to read, and a cell to run.

```{code-cell} ipython3
1 + 1
```
"""
)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """A tiny book with a page of pictures, built."""
    book = Book.new(tmp_path_factory.mktemp("pictures"))
    book.write("book/references.bib", BIBLIOGRAPHY)
    book.write("book/part/pictures.md", PAGE)
    book.write("book/part/opener.md", OPENER)
    book.edit("_toc.yml", "two\n", "two\n      - file: book/part/pictures\n")
    book.edit("_toc.yml", "pictures\n", "pictures\n      - file: book/part/opener\n")
    result = book.build()
    assert result.returncode == 0, result.output
    return book


@pytest.fixture(scope="module")
def html(book: Book) -> str:
    return (book.root / "_build" / "html" / "book" / "part" / "pictures.html").read_text("utf-8")


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", "", html).split())


def part(html: str, start: str, end: str) -> str:
    """What stands between two texts, the first one included."""
    assert start in html
    return html[html.index(start) :].split(end)[0]


# Lines that would vanish


def lost_lines(text: str) -> list[str]:
    """Lines outside of code that begin with a percent sign: MyST takes them for comments."""
    return re.findall(r"^[ >]*%.*", LITERAL.sub("", text), re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_line_of_a_page_is_taken_for_a_comment(page: Path) -> None:
    assert lost_lines(page.read_text(encoding="utf-8")) == []


def test_a_line_that_begins_with_a_percent_sign_is_found() -> None:
    cell = "```{code-cell} ipython3\n%%time\n1 % 2\n```\n"
    assert lost_lines(f"An error of 7\n% and more.\n\n{cell}\nThen 8 %.\n") == ["% and more."]


# Figures


@pytest.mark.parametrize(
    ("name", "number", "caption"),
    [
        ("fig-drawn", "Fig. 3.1", "A drawn line, \\(y = x\\), as in [Somebody"),
        ("fig-chart", "Fig. 3.2", "A chart."),
    ],
)
def test_a_cell_makes_a_numbered_figure(html: str, name: str, number: str, caption: str) -> None:
    figure = part(html, f'id="{name}"', "</figure>")
    assert number in text_of(figure)
    assert "<svg" in figure
    assert caption.replace("Somebody", "Some") in text_of(figure.split("<figcaption>")[1])
    reference = re.search(rf'<a class="reference internal" href="#{name}">.*?</a>', html)
    assert text_of(reference[0]) == number


def test_a_drawn_figure_knows_its_width(html: str) -> None:
    assert '<div class="figure-box" style="--width: 480px"><svg class="casebook-figure"' in html


def test_a_figure_without_words_is_told_apart() -> None:
    svg = re.match(".*", '<svg width="96px" height="9"></svg>')
    assert pages._framed(svg).startswith('<div class="figure-box wordless" style="--width: 96px">')


def test_equal_images_of_a_figure_share_no_id() -> None:
    svg = re.match(".*", '<svg width="9"><image id="a"/><image id="a"/><image id="b"/></svg>')
    assert pages._framed(svg).count('id="a"') == pages._framed(svg).count('id="b"') == 1


def test_altairs_html_is_replaced(html: str) -> None:
    assert 'aria-label="One point"' in part(html, 'id="chart-1"', "</div>")
    assert "altair-viz" not in html
    assert "cdn.jsdelivr.net" not in html


# Cards


def test_a_papers_card(html: str) -> None:
    said = part(html, '<div class="paper-card', "</section>").split("<h2>")[0]
    link = (
        '<a class="reference external" href="https://doi.org/10.1000/182">On Things &amp; More</a>'
    )
    assert link in said
    assert "Bódy Some and Ann Mary von Other" in said
    assert "Conference of Things, 2020 · doi:10.1000/182 · arXiv:2001.00001" in text_of(said)
    assert "Things can be drawn, with some care and \\(n\\) pens." in text_of(said)
    assert re.search(
        r"\d+ minutes? to read · (a second|[\d a-z]+ seconds?) to run, on one processor core",
        text_of(said),
    )


def test_the_card_of_an_opener(book: Book) -> None:
    page = (book.root / "_build" / "html" / "book" / "part" / "opener.html").read_text("utf-8")
    said = text_of(part(page, '<div class="opener-card', "Some words"))
    assert said.startswith("Where this part begins What everything in this part is made of.")
    assert "1 minute to read" in said
    assert "to run, on one processor core" in said
    description = re.search(r'<meta property="og:description" content="([^"]*)"', page)
    assert description[1].startswith("What everything in this part is made of.")


def test_the_claim_is_what_other_sites_show(html: str) -> None:
    description = re.search(r'<meta property="og:description" content="([^"]*)"', html)
    assert description[1].startswith("Things can be drawn, with some care")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "a second"),
        (1.4, "a second"),
        (59.4, "59 seconds"),
        (60, "1 minute"),
        (61, "1 minute 1 second"),
        (150, "2 minutes 30 seconds"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert card.in_words(seconds) == words


def test_minutes_count_prose_and_not_code() -> None:
    document = new_document("page")
    document += nodes.paragraph("", "word " * 660)
    document += nodes.literal_block("", "code " * 5000)
    solution = nodes.admonition(classes=["solution"])
    solution += nodes.paragraph("", "word " * 5000)
    document += solution
    assert card.reading_minutes(document) == 3
    document += [nodes.figure() for _ in range(4)]  # a quarter of a minute each
    assert card.reading_minutes(document) == 4


def test_many_authors_are_counted() -> None:
    people = [Person(f"Author{i}, A.") for i in range(40)]
    assert card.authors(people) == "A. Author0, A. Author1, A. Author2 and 37 others"
    assert card.authors(people[:1]) == "A. Author0"
    assert card.authors(people[:3]) == "A. Author0, A. Author1 and A. Author2"


# The rest of a page


def test_a_solution_unfolds_without_scripts(html: str) -> None:
    solution = part(html, '<span id="drawn"></span>', "</details>")
    assert '<details class="admonition solution">' in solution
    assert "<summary>Solution to Exercise 3.1 (Draw)</summary>" in solution
    assert "Use a pen." in solution


def test_the_address_stands_where_others_look_for_it(html: str, book: Book) -> None:
    site = "https://deep-learning-casebook.github.io/casebook/"
    address = f"{site}book/part/pictures.html"
    assert f'<link rel="canonical" href="{address}"' in html
    assert f'<meta property="og:url" content="{address}"' in html
    assert f'<meta property="og:image" content="{site}_static/social-card.png"' in html
    assert (book.root / "_build" / "html" / "_static" / "social-card.png").is_file()


@pytest.mark.parametrize("address", ["", "example.org/book", "ftp://example.org/"])
def test_an_address_that_is_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CASEBOOK_SITE_URL", raising=False)
    settings = SimpleNamespace(html_baseurl=address, templates_path=[])
    with pytest.raises(ConfigError, match=r"must begin with https:// or http://.*_config\.yml"):
        pages.configure(None, settings)


def test_the_deploy_workflow_names_the_real_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASEBOOK_SITE_URL", "https://reader.example.org/deep/book")
    settings = SimpleNamespace(
        html_baseurl="https://example.org/", html_title="T", root_doc="i", templates_path=[]
    )
    pages.configure(None, settings)
    assert settings.html_baseurl == settings.ogp_site_url == "https://reader.example.org/deep/book/"
    assert settings.notfound_urls_prefix == "/deep/book/"
    assert 'href="/deep/book/i.html"' in settings.notfound_context["body"]


def test_what_must_not_pass_fails_the_build(book: Book, tmp_path: Path) -> None:
    copy = book.copy(tmp_path / "copy")
    page = "book/part/pictures.md"
    copy.edit(page, "{paper-card} somebody2020", "{paper-card} nobody1066")
    copy.edit(page, "## Figures", "## Figures\n\n![Far](https://example.org/far.png)")
    copy.edit(page, ', description="One point"', "")
    copy.edit("book/part/opener.md", "What *everything* in this part is made of.\n", "")
    result = copy.build()
    assert result.returncode == 1
    for problem in (
        "no 'nobody1066' in the bibliography",
        "use one of: somebody2020",
        "https://example.org/far.png over the network: keep a copy in the book",
        "a chart without a description: show it with plotting.show",
        "opener-card: its body must say, in a sentence, what the part is about",
    ):
        assert problem in result.output, result.output


def test_the_timeline_links_the_chapters_that_exist() -> None:
    papers = [Paper(2015, "ResNet", "book/vision/resnet"), Paper(2012, "A & B", "book/vision/a_b")]
    html = timeline_html([("vision", papers)], {"book/vision/a_b": "vision/a_b.html"})
    assert '<a href="vision/a_b.html">A &amp; B <span class="year">2012</span></a>' in html
    assert html.index("A &amp; B") < html.index("ResNet")
    assert html.count("<a ") == 1
    assert "--columns: 20" in html  # 2012 to 2015, and a year's room for the last name
