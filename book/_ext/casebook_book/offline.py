"""Everything a page needs comes with the page: no third-party requests, over http or ``file://``.

Three things would otherwise come from the network. They are taken from packages on PyPI and laid
into the build's ``_static`` (nothing third-party is committed):

- **MathJax** from ``sphinx-mathjax-offline``: one script and its fonts, loaded by Sphinx on pages
  with formulas only.
- **Vega, Vega-Lite and vega-embed** from ``vl-convert-python``, as one script that ``charts.js``
  fetches when a chart comes near the screen.
- **The book's typeface** from ``font-source-serif-pro``, cut down to the characters that a book in
  English needs.

An Altair chart is executed, and saved in notebooks, with Altair's own renderer, so that it works
in Colab; that renderer loads Vega from a content delivery network. When a page is written here,
the chart becomes a still picture, drawn now, with its specification beside it: the page has its
final shape at once, it can be read without JavaScript and on paper, and ``charts.js`` brings the
picture to life. Finally, a page that still asks for something over the network is a warning.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from html import escape
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import vl_convert
from docutils import nodes
from fontTools import subset
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util import logging

logger = logging.getLogger(__name__)

CACHE = Path(__file__).resolve().parents[3] / "_build" / ".assets"
"""What was prepared once. It serves every build from this checkout, wherever it writes."""

VEGA_LITE = vl_convert.get_vegalite_versions()[-1]
"""The newest Vega-Lite that can be drawn here: the one that pages load, too."""

CONTROL_HEIGHT = 34
"""Pixels that one slider or menu takes below a chart."""

FONTS = {
    "Regular": "regular",
    "It": "italic",
    "Semibold": "semibold",
    "SemiboldIt": "semibold-italic",
}
"""The cuts of Source Serif Pro that the site uses, and the names of their files here."""

FONT_CHARACTERS = (
    *range(0x20, 0x180),  # Latin
    *range(0x370, 0x400),  # Greek
    *range(0x2010, 0x2040),  # dashes, quotation marks, dots
    *range(0x2070, 0x20A0),  # superscripts and subscripts
    0x20AC,  # euro
    *range(0x2190, 0x2300),  # arrows and operators
)

UNUSED = (
    "scripts/fontawesome.js",  # 1.5 MB: the icons draw from the style sheet's fonts
    "scripts/fontawesome.js.LICENSE.txt",
    "sphinx-thebe.js",  # fetches its library from a content delivery network
    "sphinx-thebe.css",
)
"""Files that the theme and its companions lay into ``_static`` and no page of ours loads."""

FROM_THE_NETWORK = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc(?:set)?\s*=\s*[\"']?"
    r"((?:https?:)?//[^\"'\s>]+)"
    r"|<link\b[^>]*?\bhref\s*=\s*[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|@import\s+(?:url\()?[\"']?((?:https?:)?//[^\"')\s]+)",
    re.IGNORECASE,
)


# The files that the site carries


def prepare(cache: Path) -> Path:
    """Make (or find) the folder of third-party files, and return it.

    The folder's name holds the versions of its sources and of this module, so an upgrade makes a
    new one and any other build is quick. Earlier folders are removed.
    """
    packages = ("sphinx-mathjax-offline", "vl-convert-python", "font-source-serif-pro", "fonttools")
    recipe = " ".join(map(_version, packages)) + Path(__file__).read_text("utf-8")
    folder = cache / f"static-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        # Made aside and moved into place, so a build that was interrupted leaves no half a folder.
        made = Path(mkdtemp(prefix="making-", dir=cache))
        _mathjax(made / "mathjax")
        _vega(made / "vega")
        _fonts(made / "fonts")
        made.chmod(0o755)
        for old in cache.glob("static-*"):
            shutil.rmtree(old)
        try:
            made.rename(folder)
        except OSError:  # another build was quicker
            shutil.rmtree(made)
    return folder


def _version(package: str) -> str:
    """Return the version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise ExtensionError(
            f"the package {package!r} is missing: run `pip install -r requirements.txt`"
        ) from error


def _package_folder(module: str) -> Path:
    """Return the folder of an installed module without importing it."""
    return Path(find_spec(module).submodule_search_locations[0])


def _mathjax(folder: Path) -> None:
    """Copy the one MathJax script that Sphinx loads, and its fonts."""
    source = _package_folder("sphinx-mathjax-offline") / "static" / "mathjax"
    fonts = Path("output/chtml/fonts/woff-v2")
    shutil.copytree(source / fonts, folder / fonts)
    shutil.copy(source / "tex-mml-chtml.js", folder)


def _vega(folder: Path) -> None:
    """Write Vega, Vega-Lite and vega-embed as one classic script.

    A classic script, not a module, because a browser refuses modules over ``file://``. Wrapped in
    a function, so its thousands of top-level names stay its own.
    """
    folder.mkdir()
    bundle = vl_convert.javascript_bundle(vl_version=VEGA_LITE)
    (folder / "vega.min.js").write_text(f"(function(){{{bundle}}})();\n", encoding="utf-8")


def _fonts(folder: Path) -> None:
    """Cut the typeface down to our characters.

    Its licence (SIL OFL 1.1) reserves the name "Source" for the original, so the cut-down fonts
    are called "Casebook Serif". The licence goes with them.
    """
    folder.mkdir()
    source = _package_folder("font_source_serif_pro") / "files"
    options = subset.Options(flavor="woff", hinting=False)
    options.layout_features += ["onum", "lnum", "tnum", "sups", "subs"]
    for cut, name in FONTS.items():
        with subset.load_font(str(source / f"SourceSerifPro-{cut}.ttf"), options) as font:
            subsetter = subset.Subsetter(options)
            subsetter.populate(unicodes=FONT_CHARACTERS)
            subsetter.subset(font)
            for record in font["name"].names:
                if record.nameID in (1, 3, 4, 6, 16):  # every name of the font itself
                    record.string = f"Casebook Serif {name}"
            subset.save_font(font, str(folder / f"serif-{name}.woff"), options)
    shutil.copy(source / "LICENSE.txt", folder / "LICENSE.txt")


# Charts


def charts_in(html: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the specification and the embedding options of every chart in Altair's HTML.

    Altair ends each chart with a call of a function: ``})(specification, options);``.
    """
    decoder = json.JSONDecoder()
    end = 0
    while (start := html.find("})({", end)) >= 0:
        spec, end = decoder.raw_decode(html, start + len("})("))
        options, end = decoder.raw_decode(html, html.index("{", end))
        yield spec, options


def draw(spec: dict[str, Any], cache: Path) -> dict[str, Any]:
    """Draw a Vega-Lite chart; return its ``svg``, ``width``, ``height`` and whether it ``flexes``.

    Width and height are in CSS pixels. A chart flexes if its width is a plain number, which a
    narrow screen can then lower; one made of several charts, or of bars of a fixed step, does not.
    Drawings are kept in ``cache``, by content.
    """
    text = json.dumps(spec, sort_keys=True)
    key = hashlib.sha256(f"{version('vl-convert-python')} {text}".encode()).hexdigest()[:24]
    kept = cache / f"{key}.json"
    if kept.is_file():
        return json.loads(kept.read_text("utf-8"))
    vega = vl_convert.vegalite_to_vega(spec, vl_version=VEGA_LITE)
    svg = vl_convert.vega_to_svg(vega, allowed_base_urls=[])
    width, height = re.search(r'width="([\d.]+)" height="([\d.]+)"', svg).groups()
    drawing = {
        "svg": svg,
        "width": float(width),
        "height": float(height),
        "flexes": isinstance(vega.get("width"), int | float),
    }
    cache.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(drawing), encoding="utf-8")
    return drawing


def chart_html(spec: dict[str, Any], options: dict[str, Any], name: str, cache: Path) -> str:
    """Return one chart as HTML: its still picture, and what ``charts.js`` needs to revive it."""
    # Of the two kinds of canvas only SVG follows the reader's colour scheme.
    options = {**options, "renderer": "svg", "actions": False}
    spec = {"background": "transparent", **spec}
    if spec.get("width") == "container":  # no container here: charts.js fits every width
        spec["width"] = 560
    drawing = draw(spec, cache)
    alt = escape(spec.get("description", ""))
    # The renderer numbers its clip paths from 0 in each picture: keep those of two charts apart.
    svg = re.sub(r'(\bid="|url\(#|href="#)(?=[\w-])', rf"\1{name}-", drawing["svg"])
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
    data = json.dumps({"spec": spec, "options": options}).replace("</", "<\\/")
    controls = sum(isinstance(p.get("bind"), dict) for p in spec.get("params", ()))
    height = round(drawing["height"]) + controls * CONTROL_HEIGHT
    return (
        f'<div class="chart" id="{name}" data-flexes="{str(drawing["flexes"]).lower()}"'
        f' style="--width: {drawing["width"]:g}px; --height: {height}px">'
        f'<div class="chart-picture">{svg}</div>'
        f'<script type="application/json">{data}</script></div>'
    )


def keep_charts_local(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace Altair's output, which loads Vega from the network, with charts of our own form."""
    if app.builder.format != "html":
        return
    number = 0
    for node in list(doctree.findall(nodes.raw)):
        html = node.astext()
        if "altair-viz-" not in html:
            continue
        charts = []
        for spec, options in charts_in(html):
            number += 1
            if not spec.get("description"):
                logger.warning(
                    "a chart without a description: show it with plotting.show(chart, alt=...)",
                    location=node,
                    type="casebook",
                    subtype="alt",
                )
            charts.append(chart_html(spec, options, f"chart-{number}", CACHE / "charts"))
        if not charts:
            raise ExtensionError(
                f"{docname}: an Altair chart whose HTML this version of Altair writes in an unknown"
                " way; teach book/_ext/casebook_book/offline.py to read it"
            )
        node.replace_self(nodes.raw("", "\n".join(charts), format="html", classes=node["classes"]))


# What pages load


def configure(app: Sphinx, config: Config) -> None:
    """Point Sphinx at the local MathJax, without the menu that makes every formula a tab stop.

    A notebook that has shown a progress bar holds the state of a Jupyter widget, for which MyST-NB
    would load two scripts from the network. Pages show no widgets: none is loaded.
    """
    config.mathjax_path = "mathjax/tex-mml-chtml.js"
    config.mathjax3_config = {"options": {"enableMenu": False}}
    config.nb_ipywidgets_js = {}


def add_assets(app: Sphinx) -> None:
    """Lay the third-party files and the templates where Sphinx looks for them."""
    if app.builder.format == "html":
        app.config.html_static_path.append(str(prepare(CACHE)))


def keep_page_local(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Load only what the page needs and the site has; warn of anything fetched over the network."""
    if app.builder.format != "html":
        return
    body = context.get("body", "")
    unwanted = ["thebe"]
    if 'class="math' not in body:  # Sphinx loads it on pages above those with formulas, too
        unwanted.append("mathjax")
    for kind in ("script_files", "css_files"):
        files = context.get(kind, [])  # changed in place: Sphinx keeps adding to this very list
        files[:] = [f for f in files if not any(word in _text_of(f) for word in unwanted)]
    context["without_fontawesome"] = _without_fontawesome
    if 'class="chart"' in body:
        app.add_js_file("charts.js", loading_method="defer")
    found = [next(filter(None, match.groups())) for match in FROM_THE_NETWORK.finditer(body)]
    files = (*context.get("script_files", ()), *context.get("css_files", ()))
    found += [str(f.filename) for f in files if "://" in str(getattr(f, "filename", None))]
    for address in found:
        logger.warning(
            "the page loads %s over the network: keep a copy in the book",
            address,
            location=pagename,
            type="casebook",
            subtype="offline",
        )


def _text_of(asset: Any) -> str:
    """Return a script's or style sheet's file name and inline text."""
    attributes = getattr(asset, "attributes", None) or {}
    return f"{getattr(asset, 'filename', asset)} {attributes.get('body', '')}".lower()


def _without_fontawesome(html: str) -> str:
    return re.sub(r"<script\b[^>]*fontawesome\.js[^>]*></script>", "", html)


def drop_unused(app: Sphinx, exception: Exception | None) -> None:
    """Remove the files that nothing loads, and the source maps that browsers' tools ask for."""
    if exception is None and app.builder.format == "html":
        static = Path(app.outdir) / "_static"
        for path in (*(static / name for name in UNUSED), *static.rglob("*.map")):
            path.unlink(missing_ok=True)


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.connect("config-inited", configure)
    app.connect("builder-inited", add_assets)
    app.connect("doctree-resolved", keep_charts_local)
    app.connect("html-page-context", keep_page_local, priority=900)
    app.connect("build-finished", drop_unused)
