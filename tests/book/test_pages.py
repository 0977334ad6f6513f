"""Every page of the built site, as a browser sees it.

A page is visited on a wide screen, on a phone, in dark mode, and from the disk. It must draw all
of its formulas and charts, ask for nothing but what lies beside it, say nothing on the console,
fit the screen, and be usable by keyboard and screen reader.

The tests drive the Chromium of the machine. Where there is none they are skipped, unless
CASEBOOK_REQUIRE_BROWSER=1.
"""

import functools
import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import TimeoutError as BrowserTimeout

SITE = Path(__file__).parents[2] / "_build" / "html"
NOT_BUILT = "there is no site in _build/html: run `make book` first"
NO_CHROMIUM = "no Chromium on this machine; on Debian or Ubuntu: apt-get install chromium"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    "--no-sandbox",  # so that it starts in a container, as root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 180_000  # milliseconds: for the slowest of machines, no measure of speed


def pages_of(site: Path) -> list[str]:
    """The built pages; not the front door, which only leads to the first one."""
    found = (path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    return sorted(p for p in found if not p.startswith("_") and p not in ("index.html", "404.html"))


PAGES = pages_of(SITE)


# The site and the browser


class Handler(SimpleHTTPRequestHandler):
    """A server like those of Pages: the site under a prefix, 404.html for what is not there."""

    def __init__(self, *args: object, prefix: str, **kwargs: object) -> None:
        self.prefix = prefix
        super().__init__(*args, directory=str(SITE), **kwargs)

    def translate_path(self, path: str) -> str:
        if not path.startswith(self.prefix):
            return str(SITE / "nowhere")
        return super().translate_path(path.removeprefix(self.prefix.rstrip("/")))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        body = (SITE / "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the site, served under the prefix that it was built for."""
    if not PAGES:
        pytest.fail(NOT_BUILT)
    page = (SITE / PAGES[0]).read_text(encoding="utf-8")
    canonical = re.search(r'<link rel="canonical" href="([^"]+)"', page)
    prefix = urlsplit(canonical[1]).path.removesuffix(PAGES[0])
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, prefix=prefix))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}{prefix}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The machine's Chromium, started once."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        if os.environ.get("CASEBOOK_REQUIRE_BROWSER") == "1":
            pytest.fail(NO_CHROMIUM)
        pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page, what it asked for, and what went wrong on it."""

    page: Page
    home: str
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE)
        self.page.on("request", self._requested)
        self.page.on("requestfailed", lambda r: self._say(f"request failed: {r.url}"))
        self.page.on("pageerror", lambda error: self._say(f"error on the page: {error}"))
        self.page.on(
            "console",
            lambda m: self._say(f"console: {m.text}") if m.type in ("error", "warning") else None,
        )

    def _say(self, problem: str) -> None:
        self.problems.append(problem)

    def _requested(self, request: Request) -> None:
        url = unquote(request.url)
        self.requests.append(url)
        if not url.startswith((self.home, "data:", "blob:")):
            self._say(f"a request that leaves the site: {url}")

    def go(self, path: str) -> "Visit":
        self.page.goto(urljoin(self.home, path), wait_until="load")
        return self

    def evaluate(self, script: str) -> object:
        return self.page.evaluate(script)


@pytest.fixture
def visit(browser: Browser, request: pytest.FixtureRequest) -> Iterator:
    """A function that opens a page in a browser of a given size, colour scheme and so on."""
    contexts = []

    def open_page(path: str, home: str, width: int = 1280, **options: object) -> Visit:
        options = {"viewport": {"width": width, "height": 900}, **options}
        context = browser.new_context(**options)
        contexts.append(context)
        return Visit(context.new_page(), home).go(path)

    yield open_page
    for context in contexts:
        context.close()


def with_text(text: str) -> list[str]:
    """The pages whose source holds a text."""
    return [page for page in PAGES if text in (SITE / page).read_text(encoding="utf-8")]


# What a page must be like

DRAW_EVERYTHING = """async (patience) => {
  if (window.MathJax) await window.MathJax.startup?.promise;
  for (const details of document.querySelectorAll("details")) details.open = true;
  const end = performance.now() + patience;
  for (const chart of document.querySelectorAll(".chart")) {
    chart.scrollIntoView({block: "center", behavior: "instant"});
    while (!chart.dataset.state && performance.now() < end)
      await new Promise((resolve) => setTimeout(resolve, 20));
  }
  scrollTo(0, 0);
  await document.fonts.ready;
}"""

PROBLEMS = """() => {
  const problems = [];
  const article = document.querySelector("article");
  const where = (element) => element.outerHTML.replace(/\\s+/g, " ").slice(0, 120);
  const shown = (element) => element.getClientRects().length > 0;
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const say = (text, element) => problems.push(element ? `${text}: ${where(element)}` : text);
  const text = (element) => element.textContent.trim();
  const labelled = (element) =>
    (element.getAttribute("aria-label") || "").trim() ||
    (element.getAttribute("aria-labelledby") || "").split(/\\s+/)
      .some((id) => id && document.getElementById(id));

  // Formulas and charts
  for (const formula of all(".math:not(.amsmath .math)"))
    if (!formula.querySelector("mjx-container")) say("an undrawn formula", formula);
  for (const error of all("mjx-merror")) say("a formula with an error", error);
  for (const chart of all(".chart"))
    if (chart.dataset.state !== "live" || !chart.querySelector("svg.marks .role-frame"))
      say("an undrawn chart", chart);

  // Images and their text alternatives
  for (const image of all("img").filter(shown)) {
    if (image.loading !== "lazy" && !image.naturalWidth) say("an image that is not there", image);
    if (!image.hasAttribute("alt") || (article?.contains(image) && !image.alt.trim()))
      say("an image without text alternative", image);
  }
  for (const svg of all("svg[role=img], article svg:not(svg svg)").filter(shown)) {
    if (svg.closest("[aria-hidden=true], mjx-container, button, summary")) continue;
    const chart = svg.closest(".vega-embed");
    const title = svg.querySelector(":scope > title");
    if (!labelled(chart || svg) && !(title && text(title)))
      say("a figure without text alternative", chart || svg);
  }

  // Layout
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth)
    say(`the page is ${root.scrollWidth - root.clientWidth} pixels wider than the screen`);
  for (const element of all("*", article || root)) {
    if (element.scrollWidth <= element.clientWidth + 1 || !shown(element)) continue;
    const scrolls = ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
    if (scrolls && element.tabIndex < 0) say("it scrolls, but not by keyboard", element);
  }

  // Structure
  if (!root.lang) say("no language on <html>");
  if (!document.title) say("no title");
  const headings = all("h1, h2, h3, h4, h5, h6", article || root).filter(shown);
  const first = headings.filter((heading) => heading.tagName === "H1");
  if (first.length !== 1) say(`${first.length} headings of the first level`);
  headings.reduce((above, heading) => {
    const level = Number(heading.tagName[1]);
    if (level > above + 1) say("a heading that skips a level", heading);
    return level;
  }, 0);
  const ids = all("[id]").filter((element) => !element.closest("mjx-container")).map((e) => e.id);
  for (const id of new Set(ids.filter((id, place) => ids.indexOf(id) !== place)))
    say(`the id ${id} stands more than once`);
  for (const link of all("article a[href^='#']"))
    if (link.hash && !document.getElementById(decodeURIComponent(link.hash.slice(1))))
      say("a link to nothing on this page", link);

  // Names
  for (const element of all("a[href], button, summary").filter(shown)) {
    const pictured = all("img", element).some((image) => image.alt.trim());
    if (!text(element) && !labelled(element) && !element.title && !pictured)
      say("a link or button without a name", element);
  }
  for (const element of all("input:not([type=hidden]), select, textarea").filter(shown))
    if (!labelled(element) && !element.labels.length && !element.placeholder && !element.title)
      say("a field without a label", element);
  for (const heading of all("article th").filter(shown))
    if (!text(heading) && !labelled(heading))
      say("an empty heading of a table", heading);
  return problems;
}"""

LINKS = "() => [...document.links].map((link) => link.href)"


def inspect(visit: Visit) -> list[str]:
    """All that is wrong with a page, once everything on it had the time to settle."""
    visit.evaluate(f"({DRAW_EVERYTHING})({PATIENCE})")
    try:
        visit.page.wait_for_function(f"({PROBLEMS})().length === 0", timeout=PATIENCE / 6)
        return visit.problems
    except BrowserTimeout:
        return visit.problems + visit.evaluate(PROBLEMS)


def missing_targets(visit: Visit) -> list[str]:
    """The links to pages and files of the site that are not there."""
    missing = []
    here = visit.page.url.split("#")[0]
    for url in visit.evaluate(LINKS):
        if url.startswith(visit.home) and url.split("#")[0] != here:
            path = unquote(urlsplit(url[len(visit.home) :]).path)
            if not (SITE / path).exists():
                missing.append(f"a link to a page that is not there: {url}")
    return missing


def test_the_site_is_built() -> None:
    assert PAGES, NOT_BUILT
    assert "book/index.html" in PAGES


@pytest.mark.parametrize("path", PAGES)
def test_on_a_wide_screen(path: str, site: str, visit) -> None:
    seen = visit(path, site, color_scheme="light")
    assert inspect(seen) + missing_targets(seen) == []
    assert seen.evaluate("document.documentElement.dataset.theme") == "light"
    loaded = {name: any(f"_static/{name}/" in url for url in seen.requests) for name in LIBRARIES}
    needed = {
        name: seen.evaluate(f"!!document.querySelector('{selector}')")
        for name, selector in LIBRARIES.items()
    }
    assert loaded == needed


LIBRARIES = {"mathjax": ".math", "vega": ".chart"}
"""What a page loads only where it is needed, and what it is needed for."""


@pytest.mark.parametrize("path", PAGES)
def test_on_a_phone_in_the_dark(path: str, site: str, visit) -> None:
    seen = visit(path, site, width=390, color_scheme="dark", has_touch=True)
    assert inspect(seen) == []
    assert seen.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize("path", PAGES)
def test_from_the_disk(path: str, visit) -> None:
    seen = visit(path, f"{SITE.as_uri()}/")
    assert inspect(seen) == []


@pytest.mark.parametrize(
    "path", sorted({*with_text('class="chart"'), *with_text('class="figure-box')})
)
def test_figures_can_be_seen_without_scripts(path: str, site: str, visit) -> None:
    seen = visit(path, site, java_script_enabled=False)
    figures = seen.page.locator(".chart svg, .figure-box svg")
    assert figures.count()
    for figure in figures.all():
        if figure.is_visible():  # some wait in a solution that is folded away
            box = figure.bounding_box()
            assert box["width"] > 20 and box["height"] > 20


# The front door and the wrong door


def test_the_front_door_leads_to_the_first_page(site: str, visit) -> None:
    seen = visit("", site)
    seen.page.wait_for_url(f"{site}book/index.html", timeout=PATIENCE)


def test_a_wrong_address_of_any_depth(site: str, visit) -> None:
    seen = visit("no/such/place/page.html", site)
    problems = [p for p in inspect(seen) if "status of 404" not in p]
    assert problems + missing_targets(seen) == []
    assert seen.page.locator("h1:visible").inner_text().startswith("No such page")
    assert len([url for url in seen.requests if url.endswith(".css") or ".css?" in url]) >= 3
    seen.page.locator("article a").first.click()
    seen.page.wait_for_url(f"{site}book/index.html", timeout=PATIENCE)


def test_searching_finds_a_page_from_the_disk(site: str, visit) -> None:
    seen = visit("search.html?q=notation", f"{SITE.as_uri()}/")
    seen.page.wait_for_selector("#search-results li a, .search li a", timeout=PATIENCE)
    links = seen.page.locator("#search-results li a, .search li a").all()
    assert any("notation.html" in link.get_attribute("href") for link in links)


# Citations


@pytest.fixture
def citing() -> str:
    """A page with citations."""
    pages = with_text("bibtex-citation")
    assert pages, "no page of the book cites anything"
    return pages[0]


CITATION = ".bibtex-citation a >> nth=0"
CARD = "#citation-card"


def test_pointing_at_a_citation_shows_its_reference(citing: str, site: str, visit) -> None:
    page = visit(citing, site).page
    entry = page.locator(page.locator(CITATION).get_attribute("href").replace("/", "\\/"))
    page.hover(CITATION)
    page.wait_for_selector(CARD, state="visible")
    assert page.locator(CARD).inner_text().strip() in entry.inner_text()
    assert page.locator(CITATION).get_attribute("aria-describedby") == "citation-card"

    page.hover(CARD)  # the card can be reached: it has links
    page.wait_for_timeout(400)  # longer than it waits before it closes
    assert page.locator(CARD).is_visible()
    page.keyboard.press("Escape")
    page.wait_for_selector(CARD, state="hidden")


def test_a_citation_reached_by_keyboard_shows_its_reference(citing: str, site: str, visit) -> None:
    page = visit(citing, site).page
    page.focus(CITATION)
    page.wait_for_selector(CARD, state="visible")
    page.keyboard.press("Escape")
    page.wait_for_selector(CARD, state="hidden")
    page.keyboard.press("Enter")
    page.wait_for_url("**#*")


def test_tapping_a_citation_shows_its_reference(citing: str, site: str, visit) -> None:
    page = visit(citing, site, width=390, has_touch=True).page
    page.tap(CITATION)
    page.wait_for_selector(CARD, state="visible")
    box = page.locator(CARD).bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert "#" not in page.url
    page.tap(f"{CARD} .to-references")
    page.wait_for_url("**#*")


# Notes in the margin


@pytest.mark.parametrize("path", with_text("margin-toggle")[:1])
def test_side_notes_open_by_keyboard_on_a_phone(path: str, site: str, visit) -> None:
    page = visit(path, site, width=390).page
    note = page.locator("span.sidenote").first
    assert not note.is_visible()
    page.locator("input.margin-toggle").first.press("Space")
    note.wait_for(state="visible")


# The ledger

LEDGER = "book/ledger.html"
COLUMN = """(column) => [...document.querySelectorAll("table.ledger tbody tr")]
    .filter((row) => !row.hidden).map((row) => row.cells[column].textContent.trim())"""


def test_the_ledger_sorts(site: str, visit) -> None:
    seen = visit(LEDGER, site)
    page = seen.page
    before = page.evaluate(COLUMN, 1)
    heading = page.locator("table.ledger th", has_text="Claim")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    ascending = page.evaluate(COLUMN, 1)
    assert ascending == sorted(before, key=str.lower) or ascending != before
    assert sorted(ascending) == sorted(before)

    heading.get_by_role("button").press("Enter")  # by keyboard, and the other way round
    assert heading.get_attribute("aria-sort") == "descending"
    assert page.evaluate(COLUMN, 1) == ascending[::-1]
    assert page.locator("th[aria-sort]").count() == 1


def test_the_ledger_sorts_numbers_as_numbers(site: str, visit) -> None:
    page = visit(LEDGER, site).page
    page.locator("table.ledger th", has_text="We measured").get_by_role("button").click()
    numbers = page.evaluate(
        """() => [...document.querySelectorAll("table.ledger td.measured")]
            .map((cell) => parseFloat(cell.dataset.sort)).filter((number) => !isNaN(number))"""
    )
    assert len(numbers) > 1
    assert numbers == sorted(numbers)


def test_the_ledger_filters(site: str, visit) -> None:
    page = visit(LEDGER, site).page
    form = page.get_by_role("search", name="Filter the ledger")
    everything = page.evaluate(COLUMN, 1)
    verdict = page.locator("table.ledger tbody tr").first.get_attribute("data-verdict")

    form.get_by_label("Verdict").select_option(verdict)
    chosen = page.evaluate(COLUMN, 4)
    assert chosen and all(verdict in text for text in chosen)
    assert f"{len(chosen)} of {len(everything)}" in form.locator("output").inner_text()

    form.get_by_label("Verdict").select_option("")
    form.get_by_label("Search").fill(everything[-1].split("(")[0].strip())
    found = page.evaluate(COLUMN, 1)
    assert everything[-1] in found and len(found) < len(everything)

    form.get_by_label("Search").fill("no claim says this")
    assert page.evaluate(COLUMN, 1) == []
    form.get_by_label("Search").fill("")
    form.get_by_label("Part").select_option(index=1)
    assert page.evaluate(COLUMN, 1)


def test_the_ledger_is_a_plain_table_without_scripts(site: str, visit) -> None:
    page = visit(LEDGER, site, java_script_enabled=False).page
    rows = page.locator("table.ledger tbody tr")
    assert rows.count() >= 8
    assert all(row.is_visible() for row in rows.all())
    assert not page.locator(".ledger-controls, table.ledger th button").count()
    # Even then the page has its colours: the theme leaves them to a script.
    assert page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor") not in (
        "rgba(0, 0, 0, 0)",
        "transparent",
    )


def test_a_mark_of_the_picture_leads_to_its_claim(site: str, visit) -> None:
    page = visit("book/index.html", site).page
    mark = page.locator(".ledger-picture a.mark").last
    anchor = mark.get_attribute("href").split("#")[1]
    mark.click()
    page.wait_for_url(f"**/ledger.html#{anchor}")
    assert page.locator(f"tr[id='{anchor}']").is_visible()


# These tests themselves


def test_problems_are_seen(browser: Browser, tmp_path: Path) -> None:
    """A page with every fault: none of them must pass unnoticed."""
    (tmp_path / "bad.html").write_text(
        """<!doctype html><title>Bad</title><article><h1>One</h1><h1>Two</h1><h4>Four</h4>
        <p id="a"></p><p id="a"></p><span class="math">x</span><div class="chart"></div>
        <img src="gone.png" alt="not there" width="9" height="9"><img src="data:," width="9">
        <svg role="img" width="9" height="9"></svg><a href="#nowhere">lost</a><a href="x.html"
        style="display:inline-block;width:9px;height:9px"></a><input>
        <div style="width:50px;overflow-x:auto" tabindex="-1"><p style="width:90px">wide</p></div>
        <table><tr><th>&nbsp;</th></tr></table><p style="width:3000px">too wide</p></article>
        <script src="https://example.org/a.js"></script><script>console.error("hm"); oops()</script>
        """,
        encoding="utf-8",
    )
    context = browser.new_context()
    seen = Visit(context.new_page(), f"{tmp_path.as_uri()}/")
    context.route("https://**", lambda route: route.abort())
    seen.go("bad.html")
    said = "\n".join(seen.problems + seen.evaluate(PROBLEMS))
    context.close()
    for fault in (
        "leaves the site: https://example.org/a.js",
        "request failed: https://example.org/a.js",
        "console: hm",
        "error on the page: oops is not defined",
        "an undrawn formula",
        "an undrawn chart",
        "an image that is not there",
        "an image without text alternative",
        "a figure without text alternative",
        "pixels wider than the screen",
        "it scrolls, but not by keyboard",
        "no language",
        "2 headings of the first level",
        "skips a level",
        "the id a stands more than once",
        "a link to nothing",
        "a link or button without a name",
        "a field without a label",
        "an empty heading of a table",
    ):
        assert fault in said, said


def test_a_visit_outside_is_an_error(browser: Browser) -> None:
    """The browser itself stays at home: were a page to leave, its visit would fail."""
    context = browser.new_context(offline=True)
    with pytest.raises(BrowserError):
        context.new_page().goto("https://example.org")
    context.close()
