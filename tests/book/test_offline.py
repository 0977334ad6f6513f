"""What comes from other packages, and how an Altair chart becomes one that needs no network."""

import json
import re
from pathlib import Path

import altair
import pytest
from casebook_book import offline
from fontTools.ttLib import TTFont

VALUES = [{"step": i, "loss": 1 / (i + 1), "name": "})({ </script>"} for i in range(5)]


def line(**properties: object) -> altair.Chart:
    chart = altair.Chart(altair.Data(values=VALUES)).mark_line(clip=True)
    return chart.encode(x="step:Q", y="loss:Q").properties(description="A line", **properties)


def html_of(chart: altair.TopLevelMixin) -> str:
    """The HTML that a notebook's output holds."""
    with altair.renderers.enable("html"):
        bundle = chart._repr_mimebundle_()
    return bundle["text/html"]


def chart_html(chart: altair.TopLevelMixin, name: str, cache: Path) -> str:
    ((spec, options),) = offline.charts_in(html_of(chart))
    return offline.chart_html(spec, options, name, cache)


def data_of(html: str) -> dict:
    """What charts.js reads."""
    return json.loads(re.search(r"<script type=\"application/json\">(.*?)</script>", html)[1])


# The files


def test_the_folder_holds_what_pages_load_and_no_more() -> None:
    folder = offline.prepare(offline.CACHE)
    top = {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}
    assert top == {
        "mathjax/output",
        "mathjax/tex-mml-chtml.js",
        "vega/vega.min.js",
        "fonts/LICENSE.txt",
        *(f"fonts/serif-{name}.woff" for name in offline.FONTS.values()),
    }
    fonts = list(folder.glob("mathjax/output/chtml/fonts/woff-v2/*"))
    assert fonts and all(path.suffix == ".woff" for path in fonts)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 4_000_000


def test_the_folder_is_made_once() -> None:
    folder = offline.prepare(offline.CACHE)
    before = folder.stat().st_mtime_ns
    assert offline.prepare(offline.CACHE) == folder
    assert folder.stat().st_mtime_ns == before


def test_a_new_version_replaces_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("_mathjax", "_vega", "_fonts"):
        monkeypatch.setattr(offline, part, lambda folder: folder.mkdir())
    versions = {"vl-convert-python": "1"}
    monkeypatch.setattr(offline, "version", lambda name: versions.get(name, "0"))
    old = offline.prepare(tmp_path)
    versions["vl-convert-python"] = "2"
    new = offline.prepare(tmp_path)
    assert old != new
    assert list(tmp_path.iterdir()) == [new]


def test_a_missing_package_is_named() -> None:
    with pytest.raises(offline.ExtensionError, match=r"'no_such_package' is missing.*pip install"):
        offline._version("no_such_package")


def test_fonts_keep_to_their_licence_and_have_the_letters_we_print() -> None:
    folder = offline.prepare(offline.CACHE) / "fonts"
    for name in offline.FONTS.values():
        with TTFont(folder / f"serif-{name}.woff") as font:
            assert not [
                r
                for r in font["name"].names
                if r.nameID < 7 and r.nameID not in (0, 2, 5) and "Source" in r.toUnicode()
            ]
            letters = font.getBestCmap()
        assert all(ord(letter) in letters for letter in "Aé–“”×±≈…")


# Charts


def test_charts_are_read_from_what_altair_writes() -> None:
    ((spec, options),) = offline.charts_in(html_of(line(title="})({ once")))
    assert spec["title"] == "})({ once"
    assert spec["description"] == "A line"
    assert options["mode"] == "vega-lite"
    (values,) = spec["datasets"].values() if "datasets" in spec else [spec["data"]["values"]]
    assert values == VALUES


def test_a_chart_asks_nothing_of_the_network(tmp_path: Path) -> None:
    html = chart_html(line(), "chart-1", tmp_path)
    addresses = set(re.findall(r"https?://[^\"'\s<>\\]+", html))
    assert {address.split("/")[2] for address in addresses} <= {"www.w3.org", "vega.github.io"}
    assert not offline.FROM_THE_NETWORK.search(html)
    assert html.count("</script>") == 1  # the one in the data is masked
    assert data_of(html)["spec"]["description"] == "A line"
    assert data_of(html)["options"]["renderer"] == "svg"


def test_a_chart_can_be_seen_before_any_script_runs(tmp_path: Path) -> None:
    html = chart_html(line(width=300, height=100), "chart-1", tmp_path)
    assert '<svg role="img" aria-label="A line"' in html
    assert 'fill="white"' not in html  # no ground of its own
    size = re.search(r"--width: ([\d.]+)px; --height: ([\d.]+)px", html)
    assert 300 < float(size[1]) < 400
    assert 100 < float(size[2]) < 200
    assert 'data-flexes="true"' in html


def test_controls_are_given_their_room(tmp_path: Path) -> None:
    slider = altair.param(value=0, bind=altair.binding_range(min=0, max=9))
    heights = [
        int(re.search(r"--height: (\d+)px", chart_html(chart, "chart-1", tmp_path))[1])
        for chart in (line(), line().add_params(slider))
    ]
    assert heights[1] - heights[0] == offline.CONTROL_HEIGHT


def test_only_plots_of_plain_width_flex(tmp_path: Path) -> None:
    assert 'data-flexes="true"' in chart_html(line(width="container"), "c", tmp_path)
    assert 'data-flexes="false"' in chart_html(line() | line(), "c", tmp_path)
    steps = line(width=altair.Step(20)).encode(x="step:N")
    assert 'data-flexes="false"' in chart_html(steps, "c", tmp_path)


def test_pictures_on_one_page_share_no_ids(tmp_path: Path) -> None:
    pages = [chart_html(line(), f"chart-{i}", tmp_path) for i in (1, 2)]
    first, second = (set(re.findall(r'\bid="([^"]+)"', html)) for html in pages)
    assert len(first) > 1  # the chart's own and that of its clip path
    assert not first & second
    for html in pages:
        used = set(re.findall(r"url\(#([^)]+)\)", html))
        assert used and used <= set(re.findall(r'\bid="([^"]+)"', html))


def test_a_drawing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = chart_html(line(), "chart-1", tmp_path)
    monkeypatch.delattr(offline.vl_convert, "vega_to_svg")
    assert chart_html(line(), "chart-1", tmp_path) == first


# The watch on pages


@pytest.mark.parametrize(
    ("html", "address"),
    [
        ('<img alt="" src="https://example.org/a.png">', "https://example.org/a.png"),
        ("<script async src=//example.org/a.js></script>", "//example.org/a.js"),
        ('<link rel="stylesheet" href="http://example.org/a.css">', "http://example.org/a.css"),
        ("<style>@import url(https://example.org/a.css)</style>", "https://example.org/a.css"),
        ('<iframe title="t" src="https://example.org"></iframe>', "https://example.org"),
    ],
)
def test_what_a_page_would_fetch_is_seen(html: str, address: str) -> None:
    found = offline.FROM_THE_NETWORK.search(html)
    assert next(filter(None, found.groups())) == address


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://example.org/">a link is no request</a>',
        '<img alt="" src="../_images/a.png">',
        '<script src="../_static/book.js"></script>',
        '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
    ],
)
def test_what_a_page_has_is_let_be(html: str) -> None:
    assert not offline.FROM_THE_NETWORK.search(html)
