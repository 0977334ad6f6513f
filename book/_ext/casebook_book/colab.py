"""The Colab edition: one plain notebook per chapter, and the button that opens it.

The Sphinx builder `colab` writes an .ipynb for every page with code cells, as Markdown and LaTeX
(see plain_markdown.py). It starts from the resolved document tree, and so citations,
cross-references, equation and figure numbers and glued numbers read as on the site; links lead
there. Code cells keep their source and carry no outputs.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

import nbformat
from docutils import nodes
from myst_nb.core.read import read_myst_markdown_notebook
from sphinx.application import Sphinx
from sphinx.builders import Builder
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError

from casebook_book.keys import EXECUTION_TAGS, code_cells, is_notebook
from casebook_book.plain_markdown import (
    SVG,
    Block,
    Code,
    Translator,
    address_in_link,
    data_address,
    drawing,
    escape,
)

COLAB = "https://colab.research.google.com"
BRANCH = "notebooks"  # where the deploy workflow pushes the notebooks
PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}
EMBED_LIMIT = 512 * 1024  # bytes; a larger picture is linked instead
HIDDEN_TAGS = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
ON_GITHUB = re.compile(r"(?:https://github\.com/)?([\w.-]+/[\w.-]+?)(?:\.git)?/?")

SETUP = """\
# Set up: install the book's package where it is missing; what is there already keeps its version.
# For more threads than one, set CASEBOOK_THREADS before.
import importlib.util, os

os.environ["OMP_NUM_THREADS"] = os.environ.get("CASEBOOK_THREADS", "1")  # torch reads it at import
if importlib.util.find_spec("casebook") is None:
    %pip install -q git+{address}
    importlib.invalidate_caches()"""


class ColabError(SphinxError):
    """A setting with which no notebook can be made."""

    category = "Colab edition"


# ---------------------------------------------------------------------------------------------
# Addresses


@dataclass(frozen=True)
class Addresses:
    """Where the book stands on the web.

    repository: https://github.com/OWNER/REPO
    site: the website's root, with a slash at its end
    revision: the commit that the notebooks install, "" for the default branch's latest
    """

    repository: str
    site: str
    revision: str = ""

    @classmethod
    def of(cls, config: Config) -> "Addresses":
        """From the settings, which the environment (the deploy workflow) may have overridden.

        The site is `html: baseurl` of _config.yml, the repository is `repository: url` there or
        CASEBOOK_REPOSITORY, and the commit is CASEBOOK_REVISION.
        """
        return cls(
            repository=on_github(config.html_theme_options.get("repository_url", "")),
            site=config.html_baseurl.rstrip("/") + "/",
            revision=os.environ.get("CASEBOOK_REVISION", ""),
        )

    def page(self, docname: str) -> str:
        """A page of the website."""
        return f"{self.site}{docname}.html"

    def notebook(self, docname: str) -> str:
        """Where Colab opens a chapter's notebook."""
        slug = urlsplit(self.repository).path.strip("/")
        return f"{COLAB}/github/{slug}/blob/{BRANCH}/{notebook_path(docname)}"

    def setup_cell(self) -> str:
        """The source of a notebook's first code cell."""
        at = f"@{self.revision}" if self.revision else ""
        return SETUP.format(address=self.repository + at)


def on_github(repository: str) -> str:
    """The address of a repository, given as that or as OWNER/REPO.

    Raises ColabError if it is none on GitHub: Colab opens notebooks from no other address.
    """
    match = ON_GITHUB.fullmatch(repository)
    if match is None:
        raise ColabError(
            f"the repository is {repository!r}; Colab opens https://github.com/OWNER/REPO only: "
            "set `repository: url` in _config.yml, or CASEBOOK_REPOSITORY"
        )
    return f"https://github.com/{match[1]}"


def notebook_path(docname: str) -> str:
    """A chapter's notebook, relative to the edition's root: "vision/alexnet.ipynb"."""
    return docname.removeprefix("book/") + ".ipynb"


def has_notebook(env: BuildEnvironment, docname: str) -> bool:
    """Whether a page belongs to the Colab edition: whether it has code cells."""
    if docname not in env.found_docs:  # made by the theme: search, index
        return False
    return _runs_code(Path(env.doc2path(docname)).read_text(encoding="utf-8"))


@cache
def _runs_code(text: str) -> bool:
    return is_notebook(text) and bool(code_cells(text))


# ---------------------------------------------------------------------------------------------
# The builder


class ColabBuilder(Builder):
    """Writes `<outdir>/<part>/<chapter>.ipynb` for every page with code cells."""

    name = "colab"
    format = "ipynb"
    epilog = "The notebooks are in %(outdir)s."
    supported_image_types: ClassVar[list[str]] = [
        "image/svg+xml",
        "image/png",
        "image/jpeg",
        "image/gif",
    ]
    imagedir = "_images"

    addresses: Addresses
    fignumbers: dict[str, dict[str, tuple[int, ...]]]  # of the page being written
    secnumbers: dict[str, tuple[int, ...]]

    def init(self) -> None:
        self.addresses = Addresses.of(self.config)

    def get_outdated_docs(self) -> list[str]:
        """All chapters: writing them takes no time, and their links depend on all pages."""
        return self._chapters()

    def get_target_uri(self, docname: str, typ: str | None = None) -> str:
        return self.addresses.page(docname)

    def get_relative_uri(self, from_: str, to: str, typ: str | None = None) -> str:
        return self.addresses.page(to)

    def prepare_writing(self, docnames: set[str]) -> None:
        pass

    def write_doc(self, docname: str, doctree: nodes.document) -> None:
        if not has_notebook(self.env, docname):
            return
        self.post_process_images(doctree)
        self.fignumbers = self.env.toc_fignumbers.get(docname, {})
        self.secnumbers = self.env.toc_secnumbers.get(docname, {})
        blocks = Translator(self, docname).block(doctree)
        notebook = self._notebook(docname, blocks)
        nbformat.validate(notebook)
        path = Path(self.outdir, notebook_path(docname))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")

    def finish(self) -> None:
        """Remove the notebooks of chapters that are no more."""
        wanted = {Path(self.outdir, notebook_path(name)) for name in self._chapters()}
        for path in set(Path(self.outdir).rglob("*.ipynb")) - wanted:
            path.unlink()

    def _chapters(self) -> list[str]:
        return sorted(name for name in self.env.found_docs if has_notebook(self.env, name))

    def _notebook(self, docname: str, blocks: Sequence[Block]) -> nbformat.NotebookNode:
        text = Path(self.env.doc2path(docname)).read_text(encoding="utf-8")
        source = read_myst_markdown_notebook(text).cells
        book = escape(str(self.config.html_title or self.config.project))
        title = escape(self.env.titles[docname].astext())
        about = (
            f"The runnable edition of [{title}]({self.addresses.page(docname)}), "
            f"a chapter of *{book}*. Run the cell below first."
        )
        cells = [
            nbformat.v4.new_markdown_cell(about),
            nbformat.v4.new_code_cell(self.addresses.setup_cell()),
            *assemble(blocks, source),
        ]
        for number, cell in enumerate(cells):
            cell["id"] = f"cell-{number}"  # random otherwise
        return nbformat.v4.new_notebook(
            cells=cells,
            metadata={
                "colab": {"provenance": [], "toc_visible": True},
                "kernelspec": {"name": "python3", "display_name": "Python 3"},
                "language_info": {"name": "python"},
            },
        )

    def picture(self, uri: str, alt: str) -> str:
        """The Markdown of an image of the page: embedded if it is small, else on the site."""
        if re.match(r"https?:", uri):
            return f"![{escape(alt)}]({address_in_link(uri)})"
        path = Path(self.srcdir, uri)
        if path.suffix == ".svg":
            return drawing(SVG.search(path.read_text(encoding="utf-8"))[0], alt)
        if path.suffix not in PICTURES:
            raise ColabError(f"the picture {uri} is none of {', '.join(['.svg', *PICTURES])}")
        content = path.read_bytes()
        if len(content) <= EMBED_LIMIT:
            return f"![{escape(alt)}]({data_address(PICTURES[path.suffix], content)})"
        name = self.env.images[uri][1]  # Sphinx's own: unique among all pages
        return f"![{escape(alt)}]({self.addresses.site}{self.imagedir}/{quote(name)})"

    def downloaded(self, filename: str) -> str:
        """Where the site keeps a file that a page offers for download."""
        return f"{self.addresses.site}_downloads/{quote(filename)}"


def assemble(
    blocks: Sequence[Block], source: Sequence[nbformat.NotebookNode]
) -> list[nbformat.NotebookNode]:
    """The cells of a page: its text between its code cells, a new text cell at every heading.

    source: the page's own cells. A code cell that leaves no trace on the page (remove-cell) has
    no place among the blocks, and follows the code cell before it.
    """
    shown = {block.index for block in blocks if isinstance(block, Code)}
    cells: list[nbformat.NotebookNode] = []
    prose: list[str] = []

    def flush() -> None:
        if prose:
            cells.append(nbformat.v4.new_markdown_cell("\n\n".join(prose)))
            prose.clear()

    def unseen(start: int) -> None:
        for index in range(start, len(source)):
            if index in shown:
                return
            if source[index].cell_type == "code":
                cells.append(_code_cell(source[index]))

    unseen(0)
    for block in blocks:
        if isinstance(block, Code):
            flush()
            cells.append(_code_cell(source[block.index], hidden=block.hidden))
            if block.caption:
                cells.append(nbformat.v4.new_markdown_cell(block.caption))
            unseen(block.index + 1)
            continue
        pictured = ";base64," in block.markdown  # a very long line: not among prose
        if block.heading or pictured:
            flush()
        prose.append(block.markdown)
        if pictured:
            flush()
    flush()
    return cells


def _code_cell(cell: nbformat.NotebookNode, hidden: bool = False) -> nbformat.NotebookNode:
    """A code cell with those of its tags that concern running it, folded if the page hides it."""
    tags = set(cell.metadata.get("tags") or ())
    kept: dict[str, Any] = {}
    if tags & EXECUTION_TAGS:
        kept["tags"] = sorted(tags & EXECUTION_TAGS)
    if hidden or tags & HIDDEN_TAGS:
        kept |= {"cellView": "form", "jupyter": {"source_hidden": True}}
    return nbformat.v4.new_code_cell(cell.source, metadata=kept)


# ---------------------------------------------------------------------------------------------
# The launch button


def _launch_button(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Point the theme's buttons at the plain notebook; take them off pages that have none.

    The theme would open, and offer for download, the page's own source: MyST Markdown.
    """
    found = has_notebook(app.env, pagename)

    def kept(buttons: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for button in buttons:
            if button.get("type") == "group":
                if inside := list(kept(button["buttons"])):
                    yield button | {"buttons": inside}
            elif button.get("text") == "Colab":
                if found:
                    yield button | {"url": Addresses.of(app.config).notebook(pagename)}
            elif button.get("label") != "download-notebook-button":
                yield button

    context["header_buttons"] = list(kept(context.get("header_buttons", [])))


def _take_address(app: Sphinx, config: Config) -> None:
    """Let CASEBOOK_REPOSITORY override `repository: url`, here and in the theme's buttons."""
    if given := os.environ.get("CASEBOOK_REPOSITORY"):
        config.html_theme_options = config.html_theme_options | {"repository_url": on_github(given)}


def _prefer_text(app: Sphinx, config: Config) -> None:
    """Tell MyST-NB which form of a glued output the edition takes."""
    kinds = ("image/png", "image/jpeg", "text/markdown", "text/latex", "text/plain", "text/html")
    config.nb_mime_priority_overrides = [
        *config.nb_mime_priority_overrides,
        *((ColabBuilder.name, kind, rank) for rank, kind in enumerate(kinds)),
    ]


def setup(app: Sphinx) -> None:
    """Add the builder and the button."""
    app.add_builder(ColabBuilder)
    app.connect("config-inited", _take_address)
    app.connect("config-inited", _prefer_text)
    app.connect("html-page-context", _launch_button, priority=600)  # the theme's are at 501
