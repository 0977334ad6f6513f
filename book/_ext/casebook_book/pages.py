"""The frame around every page: the site's address, its style, its 404 page, figures and lists.

- The site's address stands once in `_config.yml` (`html: baseurl:`). The deploy workflow knows the
  real one and says so in CASEBOOK_SITE_URL. From it follow the canonical links, the previews that
  other sites show of a page (Open Graph), and where the 404 page, which a server may send for an
  address of any depth, finds its styles.
- Figures drawn by matplotlib get a box of their own, which on a narrow screen scrolls before the
  labels become too small to read.
- Worked solutions fold away without JavaScript.
- Where the theme or an extension says something that a screen reader would stumble over, it is
  put right.
"""

import os
import re
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError
from sphinx.util.fileutil import copy_asset

from casebook_book import landing

HERE = Path(__file__).parent
STATIC = HERE.parent.parent / "_static"

SOCIAL_CARD = "_static/social-card.png"
SOCIAL_CARD_ALT = (
    "The Deep Learning Casebook: an open book, the paper's text on its left page and a measured"
    " curve on its right one"
)

NOT_FOUND = """\
<h1>No such page</h1>
<p>The address leads nowhere: the page may have moved, or the link was mistyped.</p>
<h2>Where to go instead</h2>
<ul>
<li><a href="{home}">The first page of the book</a>, with every chapter</li>
<li><a href="{ledger}">The ledger</a>, with every claim of every chapter</li>
<li>the search: press <kbd>Ctrl</kbd>&nbsp;<kbd>K</kbd></li>
</ul>
"""

MENDED = {
    # A bibliography's list has no items, and the role of its entries is deprecated.
    'role="list" class="citation-list"': 'class="citation-list"',
    ' role="doc-biblioentry"': "",
    # The same id in every exercise and every solution.
    '<section id="exercise-content">': "<section>",
    '<section id="solution-content">': "<section>",
    # The corner of a data frame heads nothing.
    "<th></th>": "<td></td>",
}
"""Markup that a screen reader stumbles over, and what it should be."""

PIXELS = {"pt": 96 / 72, "px": 1.0, "": 1.0}
"""CSS pixels per unit in which an SVG gives its size."""


def configure(app: Sphinx, config: Config) -> None:
    """Derive from the site's address all that depends on it. ConfigError if it is no address."""
    config.templates_path.append(str(HERE / "templates"))
    site = os.environ.get("CASEBOOK_SITE_URL") or config.html_baseurl
    parts = urlsplit(site)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(
            f"the site's address is {site!r}; it must begin with https:// or http://"
            " (html: baseurl: in _config.yml, or CASEBOOK_SITE_URL)"
        )
    site = site.rstrip("/") + "/"
    prefix = urlsplit(site).path
    config.html_baseurl = site
    config.ogp_site_url = site
    config.ogp_site_name = config.html_title
    config.ogp_image = site + SOCIAL_CARD
    config.ogp_image_alt = SOCIAL_CARD_ALT
    config.ogp_social_cards = {"enable": False}
    config.ogp_type = "article"
    config.ogp_custom_meta_tags = ('<meta name="twitter:card" content="summary_large_image" />',)
    config.notfound_urls_prefix = prefix
    config.notfound_context = {
        "title": "No such page",
        "body": NOT_FOUND.format(
            home=f"{prefix}{config.root_doc}.html", ledger=f"{prefix}book/ledger.html"
        ),
    }


def frame_figures(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put every drawn figure into a box that knows how wide the figure wants to be."""
    if app.builder.format != "html":
        return
    for node in list(doctree.findall(nodes.raw)):
        html = node.astext()
        if 'class="casebook-figure"' in html:
            framed = re.sub(r"<svg\b[^>]*>.*?</svg>\s*", _framed, html, flags=re.DOTALL)
            node.replace_self(nodes.raw("", framed, format="html", classes=node["classes"]))


def _framed(svg: re.Match[str]) -> str:
    seen: set[str] = set()

    def once(attribute: re.Match[str]) -> str:
        """Keep an id where it stands first: matplotlib repeats that of equal images."""
        repeated = attribute[0] in seen
        seen.add(attribute[0])
        return "" if repeated else attribute[0]

    size = re.search(r'\bwidth="([\d.]+)([a-z]*)"', svg[0])
    width = float(size[1]) * PIXELS[size[2]]
    words = "" if re.search(r'\bid="[^"]*\btext_\d', svg[0]) else " wordless"
    drawn = re.sub(r' id="[^"]+"', once, svg[0])
    return f'<div class="figure-box{words}" style="--width: {width:.0f}px">{drawn}</div>'


def fold(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Make every admonition of class "dropdown" a <details>: it opens by keyboard, without scripts.

    Its title, a link in the case of a solution, becomes plain text, since all of it is the switch.
    """
    if app.builder.format != "html":
        return
    for node in list(doctree.findall(nodes.Admonition)):
        if "dropdown" not in node["classes"] or not isinstance(node.children[0], nodes.title):
            continue
        title, *body = node.children
        names = [name for name in node["classes"] if name != "dropdown"]
        classes = escape(" ".join(dict.fromkeys(["admonition", *names])))
        anchors = "".join(f'<span id="{escape(anchor)}"></span>' for anchor in node["ids"])
        summary = escape(" ".join(title.astext().split()))
        opening = f'{anchors}<details class="{classes}"><summary>{summary}</summary>'
        parts = [nodes.raw("", html, format="html") for html in (opening, "</details>")]
        parts[1:1] = body
        place = node.parent.index(node)  # replace_self would wrap the first part in the old classes
        node.parent[place : place + 1] = parts


def mend(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Load what only some pages need, and put the markup of others right."""
    if app.builder.format != "html":
        return
    body = context.get("body", "")
    if 'class="casebook-ledger"' in body:
        app.add_js_file("ledger.js", loading_method="defer")
        # The wide table has more use for the room of the right sidebar.
        context["meta"] = {**(context["meta"] or {}), "html_theme.sidebar_secondary.remove": True}
    context["body"] = re.sub("|".join(MENDED), lambda found: MENDED[found[0]], body)


def copy_static(app: Sphinx, exception: Exception | None) -> None:
    """Copy our own style sheets and scripts, which Sphinx does only when a page has changed too."""
    if exception is None and app.builder.format == "html":
        copy_asset(STATIC, Path(app.outdir) / "_static")


def setup(app: Sphinx) -> None:
    """Connect to Sphinx, and set up the directives of the first page."""
    landing.setup(app)
    app.add_css_file("book.css", priority=900)
    app.add_js_file("book.js", loading_method="defer")
    app.connect("config-inited", configure, priority=100)
    app.connect("builder-inited", lambda app: app.config.html_static_path.append(str(STATIC)))
    app.connect("doctree-resolved", frame_figures)
    app.connect("doctree-resolved", fold)
    app.connect("html-page-context", mend)
    app.connect("build-finished", copy_static)
