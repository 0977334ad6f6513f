"""The Colab edition: its builder, the notebooks that it makes, and how they run in Colab.

Three kinds of test, from quick to slow:

- the builder, on a small book that has every kind of markup (colab_pages/);
- every chapter's notebook, read but not run;
- a fixed small set of notebooks and the chapters changed against the main branch (all of them
  with CASEBOOK_COLAB=all), run in a virtual environment that has Colab's own versions of the
  packages concerned (colab-packages.txt), with casebook installed by the notebook's setup cell
  from a commit of this working tree.
"""

import ast
import base64
import fcntl
import hashlib
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from casebook_book import colab, keys, plain_markdown
from docutils import nodes
from markdown_it import MarkdownIt

from casebook.ledger import MIME

ROOT = Path(__file__).parents[2]
PAGES = Path(__file__).parent / "colab_pages"
PACKAGES = Path(__file__).parent / "colab-packages.txt"
BUILD = ROOT / "_build"

ALWAYS_RUN = ("book/vision/alexnet",)
# Colab has none of them.
ADDED_BY_SETUP = {"casebook", "jaxtyping", "wadler-lindig", "jedi"} | {
    "sacrebleu",
    "portalocker",
    "colorama",
}
IMPORT_NAMES = {
    "ipython": "IPython",
    "pillow": "PIL",
    "python-dateutil": "dateutil",
    "scikit-learn": "sklearn",
}


def chapters() -> list[str]:
    """The names of all pages that have a notebook: "book/vision/alexnet"."""
    pages = (path for path in (ROOT / "book").rglob("*.md") if "_ext" not in path.parts)
    texts = {path: path.read_text(encoding="utf-8") for path in pages}
    return sorted(
        path.relative_to(ROOT).with_suffix("").as_posix()
        for path, text in texts.items()
        if keys.is_notebook(text) and keys.code_cells(text)
    )


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep the other processes of a parallel test run waiting."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of a parallel test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def call(
    *command: str | Path, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command and return what it prints. Fails the test, with all of it, if it fails."""
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    if result.returncode:
        pytest.fail(f"{' '.join(map(str, command))}\n{result.stdout}\n{result.stderr}", False)
    return result.stdout


def with_extension() -> dict[str, str]:
    """This process's environment, in which the book's own Sphinx extension is found."""
    path = [str(ROOT / "book" / "_ext"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


# ---------------------------------------------------------------------------------------------
# The builder, on a small book


def sphinx(builder: str, out: Path, **variables: str) -> None:
    """Build the small book strictly. Its doctrees are kept beside the output."""
    environment = with_extension()
    environment.pop("CASEBOOK_REPOSITORY", None)
    environment.pop("CASEBOOK_REVISION", None)
    call(
        *(sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going", "-b", builder),
        *("-d", out.parent / "doctrees", PAGES, out),
        environment=environment | variables,
    )


@pytest.fixture(scope="module")
def small_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small book's notebooks in `colab/` and its pages in `html/`."""
    folder = tmp_path_factory.mktemp("small_book")
    sphinx("colab", folder / "colab")
    sphinx("html", folder / "html")
    return folder


@pytest.fixture(scope="module")
def features(small_book: Path) -> nbformat.NotebookNode:
    return nbformat.read(small_book / "colab" / "features.ipynb", as_version=4)


def prose(notebook: nbformat.NotebookNode) -> str:
    """All text cells as one text; of embedded pictures only that they are there."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return re.sub(r"(;base64,)[\w+/=]+", r"\1...", "\n\n".join(cells))


SITE = "https://example.org/small/"


@pytest.mark.parametrize(
    "markdown",
    [
        # headings, escapes, roles
        "# Every kind of markup\n",
        r"costs \$5 at least",
        r"snake\_case",
        "<sub>2</sub>, `Ctrl`",
        '<abbr title="reinforcement learning">RL</abbr>',
        r"1986\. A year",
        # citations and references
        f"by Turing [[1950]({SITE}features.html#id",
        "- Alan\xa0M. Turing. Computing machinery and intelligence. *Mind*, 1950.",
        f"[Only prose]({SITE}prose.html), [its title]({SITE}prose.html)",
        f"[Every kind of markup]({SITE}features.html#sec-features)",
        f"[Fig. 1]({SITE}features.html#fig-square), "
        f"[(1)]({SITE}features.html#equation-eq-parabola) and [Fig. 2]({SITE}features.html#fig-",
        f"[Table 1]({SITE}features.html#tab-one)",
        f"[Theorem 1]({SITE}features.html#thm-one)",
        f"[`The source`]({SITE}_downloads/",
        "and a note.<sup>[1]</sup>",
        "<sup>[1]</sup> A footnote, with *stress*.",
        # formulas
        r"$a \lt b$",
        "$$\nf(x) = x^2 \\tag{1}\n$$",
        "$$\n\\begin{aligned}\na &= b \\\\\nc &= d \\lt e\n\\end{aligned} \\tag{2}\n$$",
        "$$\n\\begin{aligned}\nu &= v \\\\\nw &= z\n\\end{aligned} \\tag{3}\n$$",
        "$$\n\\begin{aligned} p &= q \\\\ r &= s \\end{aligned}\n$$",
        # boxes
        "> A **margin** note with $x^2$.",
        "> **Key *idea***\n>\n> Mind [(1)](",
        ").\n>\n> - one point\n>\n> $$1 + 1 = 2$$\n",
        "> **Note**\n>\n> A plain note.",
        "<details><summary>More to see</summary>\n\nHidden text.\n\n</details>",
        "**Tab A**\n\nFirst.\n\n**Tab B**\n\nSecond.",
        "> **Theorem 1 (Pythagoras)**\n>\n> $a^2 + b^2 = c^2$.",
        "> Quoted, twice.",
        # pictures
        '<img src="data:image/png;base64,..." alt="A square" width="20">\n\n'
        "**Fig. 1.** A square, with $W$ and [a link](https://example.org/a_%28b%29).",
        "![A dot](data:image/png;base64,...)",
        '<img src="data:image/png;base64,..." alt="A line &amp; its end" width="40">',
        "**Fig. 2.** What the cell **drew**, $y = x$.",
        # lists and tables
        "1. one\n2. two\n   - nested $n_1$\n   - more\n\n3. third",
        "- loose\n\n  with a second paragraph\n",
        "- **Term**: What it means.",
        "- **A word**: Explained.",
        "| left | centre | right |\n| --- | :---: | ---: |\n"
        r"| `a` | $\vert{}y\vert{}$ | 1 \| 2 |",
        "**Table 1.** A caption.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |",
        # code that does not run, and numbers from code that does
        '```python\nprint(f"{{static}}")  # {code}`block`\n```',
        '**Listing 1.** From the package\n\n```python\ndef double(x):\n    """Twice x."""\n',
        "The root is 1.414.",
        # exercises
        "### Exercise 1 (Sums)\n\nWhat is $1+1$?\n\n"
        "<details><summary>Solution to Exercise 1 (Sums)</summary>\n\nEasy: $2$.\n\n</details>",
        "### Exercise 2\n\nRun it.",
        "### Solution to Exercise 2\n\nFirst this.",
        f"And then [Exercise 1]({SITE}features.html#ex-sum).\n\n---\n\nAfter the solution.",
    ],
)
def test_markup(features: nbformat.NotebookNode, markdown: str) -> None:
    assert markdown in prose(features)


def test_hidden_markup_is_left_out(features: nbformat.NotebookNode) -> None:
    assert "A comment" not in prose(features)
    assert "aria-hidden" not in prose(features)


def test_code_cells_stay_in_place(features: nbformat.NotebookNode) -> None:
    def first_line(cell: nbformat.NotebookNode) -> str:
        return cell.source.splitlines()[0]

    code = [cell for cell in features.cells if cell.cell_type == "code"]
    assert list(map(first_line, code[1:])) == [
        "import math",
        "from IPython.display import HTML",
        "unseen = 3",
        "answer = unseen + 1",
        "answer / 0",
    ]
    folded = [cell.metadata.get("cellView") == "form" for cell in code[1:]]
    assert folded == [True, False, True, True, False]  # hidden, shown, removed, in a dropdown
    assert code[-1].metadata.tags == ["raises-exception"]

    order = [first_line(cell) for cell in features.cells]
    caption = "**Fig. 2.** What the cell **drew**, $y = x$."
    assert order.index(caption) == order.index("from IPython.display import HTML") + 1
    solution = order.index("### Solution to Exercise 2")
    assert order[solution + 1] == "answer = unseen + 1"
    assert order[solution + 2].startswith("And then")


def test_first_cells(features: nbformat.NotebookNode) -> None:
    about, setup, *_ = features.cells
    assert f"[Every kind of markup]({SITE}features.html)" in about.source
    assert "%pip install -q git+https://github.com/someone/small\n" in setup.source


def test_a_heading_begins_a_cell(features: nbformat.NotebookNode) -> None:
    for cell in features.cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```", "", cell.source, flags=re.S)
            assert not re.search(r"\n#+ ", text)


def test_drawings_are_pictures_that_colab_shows(features: nbformat.NotebookNode) -> None:
    pictures = [
        base64.b64decode(match[1])
        for cell in features.cells
        for match in re.finditer(r"data:image/png;base64,([\w+/=]+)", cell.source)
    ]
    assert len(pictures) == 3
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert not any("svg" in cell.source for cell in features.cells if cell.cell_type == "markdown")


def test_only_pages_with_cells_have_a_notebook_and_a_button(small_book: Path) -> None:
    notebooks = [path.name for path in (small_book / "colab").rglob("*.ipynb")]
    assert notebooks == ["features.ipynb"]
    button = "https://colab.research.google.com/github/someone/small/blob/notebooks/features.ipynb"
    pages = {path.stem: path.read_text() for path in (small_book / "html").glob("*.html")}
    assert f'href="{button}"' in pages["features"]
    assert "colab.research.google.com" not in pages["prose"]
    assert "download-notebook-button" not in pages["features"]  # it would be raw MyST


def test_the_same_page_gives_the_same_notebook(small_book: Path) -> None:
    sphinx("colab", small_book / "again")
    first, second = (small_book / name / "features.ipynb" for name in ("colab", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_the_deploy_workflow_names_the_repository_and_the_commit(small_book: Path) -> None:
    deployed = {"CASEBOOK_REPOSITORY": "an-owner/the-book", "CASEBOOK_REVISION": "0123abc"}
    for builder in ("colab", "html"):
        sphinx(builder, small_book / "deployed" / builder, **deployed)
    setup = nbformat.read(small_book / "deployed" / "colab" / "features.ipynb", 4).cells[1]
    assert "git+https://github.com/an-owner/the-book@0123abc\n" in setup.source
    page = (small_book / "deployed" / "html" / "features.html").read_text()
    assert "/github/an-owner/the-book/blob/notebooks/features.ipynb" in page
    assert 'href="https://github.com/an-owner/the-book"' in page


def test_a_notebook_whose_page_is_gone_is_removed(small_book: Path) -> None:
    left_over = small_book / "again" / "part" / "old.ipynb"
    left_over.parent.mkdir(parents=True)
    left_over.write_text("{}")
    sphinx("colab", small_book / "again")
    assert not left_over.exists()


# ---------------------------------------------------------------------------------------------
# Its parts


def translator(**attributes: Any) -> plain_markdown.Translator:
    config = SimpleNamespace(numfig_format={}, html_secnumber_suffix=". ")
    builder = SimpleNamespace(config=config, secnumbers={}, fignumbers={}, **attributes)
    return plain_markdown.Translator(builder, "book/part/page")


def test_an_unknown_kind_of_node_is_an_error_that_names_it_and_the_page() -> None:
    class Oddity(nodes.General, nodes.Element):
        pass

    paragraph = nodes.paragraph()
    paragraph.line = 7
    paragraph += Oddity()
    with pytest.raises(plain_markdown.NoMarkdown, match=r"book/part/page:7: .*'Oddity'"):
        translator().block(paragraph)


def test_a_link_that_leads_nowhere_is_an_error() -> None:
    link = nodes.reference("", "there", refuri="../there.md")
    with pytest.raises(plain_markdown.NoMarkdown, match=r"\.\./there\.md"):
        translator().inline(link)


@pytest.mark.parametrize(
    "written", ["<script>x</script>", '<a href="there.html">x</a>', '<img src="/x.png">']
)
def test_html_that_cannot_work_in_colab_is_an_error(written: str) -> None:
    with pytest.raises(plain_markdown.NoMarkdown, match="book/part/page"):
        translator().inline(nodes.raw("", written, format="html"))


@pytest.mark.parametrize(
    "text",
    [
        "2*3*4 and _this_ and snake_case",
        "`ticks`, a \\ and $5 or $6",
        "[a](b) and [c]",
        "<b> & &lt; a<b",
        "~~not struck~~",
    ],
)
def test_escaped_text_reads_as_written(text: str) -> None:
    tokens = MarkdownIt("commonmark").enable("strikethrough").parse(plain_markdown.escape(text))
    kinds = {child.type for child in tokens[1].children}
    assert kinds <= {"text", "text_special"}
    assert "".join(child.content for child in tokens[1].children) == text


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("x = y", "x = y"),
        ("x \\\\\ny", "\\begin{aligned}\nx \\\\\ny\n\\end{aligned}"),
        ("\\begin{cases} 1 \\\\ 2 \\end{cases}", "\\begin{cases} 1 \\\\ 2 \\end{cases}"),
        ("\\begin{equation*}x\\end{equation*}", "x"),
        ("\\begin{gather}x\\\\y\\end{gather}", "\\begin{gathered}x\\\\y\\end{gathered}"),
        ("x\n\ny", "\\begin{aligned}\nx \\\\\ny\n\\end{aligned}"),
        ("a<b \\le c", "a \\lt b \\le c"),
    ],
)
def test_display_math(written: str, shown: str) -> None:
    assert plain_markdown.display_math(written) == shown


def test_a_colour_that_only_the_site_knows_is_an_error() -> None:
    svg = '<svg viewBox="0 0 9 9" aria-label="A line"><path d="M0 0H9" stroke="{}"/></svg>'
    assert "data:image/png" in plain_markdown.drawing(svg.format("var(--ink, rgb(1, 2, 3))"))
    with pytest.raises(plain_markdown.NoMarkdown, match="--ink"):
        plain_markdown.drawing(svg.format("var(--ink)"))


def test_a_malformed_drawing_is_an_error_that_names_it() -> None:
    with pytest.raises(plain_markdown.NoMarkdown, match="A line"):
        plain_markdown.drawing('<svg viewBox="0 0 9 9" aria-label="A line"><path></svg>')


def addresses(url: str, site: str = SITE) -> colab.Addresses:
    options = {"repository_url": url}
    return colab.Addresses.of(SimpleNamespace(html_theme_options=options, html_baseurl=site))


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CASEBOOK_REVISION", raising=False)
    found = addresses("https://github.com/an-owner/the.book.git")
    assert found.repository == "https://github.com/an-owner/the.book"
    assert found.page("book/a/b") == f"{SITE}book/a/b.html"
    assert found.notebook("book/a/b").endswith("/github/an-owner/the.book/blob/notebooks/a/b.ipynb")
    assert "git+https://github.com/an-owner/the.book\n" in found.setup_cell()
    assert addresses("an-owner/the.book") == addresses("https://github.com/an-owner/the.book/")


@pytest.mark.parametrize("url", ["", "https://gitlab.com/a/b", "https://github.com/only-an-owner"])
def test_an_address_that_colab_cannot_open_is_an_error(url: str) -> None:
    with pytest.raises(colab.ColabError, match="repository: url"):
        addresses(url)


# ---------------------------------------------------------------------------------------------
# Every notebook, read


@pytest.fixture(scope="session")
def edition(shared: Path) -> Path:
    """The folder with all notebooks, written anew once in a test run."""
    with locked("notebooks"):
        done = shared / "notebooks-written"
        if not done.exists():
            command = (sys.executable, "-m", "casebook_book", "notebooks")
            call(*command, environment=with_extension())
            done.touch()
    return BUILD / "colab"


def read(edition: Path, chapter: str) -> nbformat.NotebookNode:
    path = edition / colab.notebook_path(chapter)
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def without_code(markdown: str) -> str:
    """Text without what may look like anything: code, formulas and embedded pictures."""
    text = re.sub(r"^([> ]*)(`{3,})(?!\{).*?^\1\2[ ]*$", "", markdown, flags=re.S | re.M)
    text = re.sub(r"(?<!\\)\$\$.*?\$\$|(?<![\\$])\$[^$]+\$", "", text, flags=re.S)
    text = re.sub(r"(?<!\})(?<![`\\])(`+)(?!`).+?(?<!`)\1(?!`)", "", text)
    return re.sub(r";base64,[\w+/=]+", "", text)


RAW_MYST = {
    "a directive": r"^[> ]*(?:`{3,}|~{3,}|:{3,})\s*\{",
    "a colon fence": r"^[> ]*:{3,}",
    "a role": r"\{[a-zA-Z][\w:.+-]*\}`",
    "a label": r"^[> ]*\([^()\s]+\)=\s*$",
    "a substitution": r"\{\{|\}\}",
    "an attribute list": r"\{[.#][\w-]+",
    "a comment": r"^[> ]*%",
    "a block break": r"^\+\+\+",
    "a definition list": r"^: ",
    "a footnote": r"\[\^",
    "an empty link": r"\[\]\(",
}


@pytest.mark.parametrize(
    ("kind", "example"),
    [
        ("a directive", "> ```{note}"),
        ("a colon fence", ":::{tip}"),
        ("a role", "see {eq}`one`"),
        ("a label", "(sec:one)="),
        ("a substitution", "about {{ name }}"),
        ("an attribute list", "![](x){#fig}"),
        ("a comment", "% nobody sees this"),
        ("a footnote", "a note[^one]"),
    ],
)
def test_raw_myst_would_be_found(kind: str, example: str) -> None:
    assert re.search(RAW_MYST[kind], without_code(f"Text.\n\n{example}\n"), re.M)


@pytest.mark.parametrize("chapter", chapters())
def test_plain_markdown(edition: Path, chapter: str) -> None:
    for cell in read(edition, chapter).cells:
        if cell.cell_type == "markdown":
            text = without_code(cell.source)
            for kind, pattern in RAW_MYST.items():
                match = re.search(pattern, text, re.M)
                assert not match, f"{kind} in a text cell: {text[max(match.start() - 60, 0) :]}"


@pytest.mark.parametrize("chapter", chapters())
def test_well_formed(edition: Path, chapter: str) -> None:
    notebook = read(edition, chapter)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.source.strip()
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
            ast.parse(without_magics(cell.source))


@pytest.mark.parametrize("chapter", chapters())
def test_begins_with_the_link_and_the_setup_cell(edition: Path, chapter: str) -> None:
    about, setup, *rest = read(edition, chapter).cells
    assert about.cell_type == "markdown" and setup.cell_type == "code"
    assert re.search(rf"\]\(https?://\S+/{chapter}\.html\)", about.source)
    assert "\n" not in about.source
    install = r"    %pip install -q git\+https://github\.com/[\w.-]+/[\w.-]+(@\w+)?\n"
    assert re.search(install, setup.source)
    assert "OMP_NUM_THREADS" in setup.source and "import torch" not in setup.source
    for cell in rest:
        if cell.cell_type == "code":
            assert "pip install" not in cell.source
            assert not re.search(r"^\s*[!%]", cell.source, re.M)


@pytest.mark.parametrize("chapter", chapters())
def test_no_path_of_this_machine(edition: Path, chapter: str) -> None:
    for cell in read(edition, chapter).cells:
        assert str(ROOT) not in cell.source and "file://" not in cell.source
        if cell.cell_type == "markdown":
            text = without_code(cell.source)
            targets = re.findall(r"\]\(([^)\s]*)|\b(?:src|href)=[\"']([^\"']*)", text)
            for target in ("".join(pair) for pair in targets):
                assert re.match(r"https?://|mailto:|data:image/", target), target


def without_magics(source: str) -> str:
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)


def imported(source: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The modules that code imports, each with the names taken from it."""
    for node in ast.walk(ast.parse(without_magics(source))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", tuple(alias.name for alias in node.names)


def in_colab() -> set[str]:
    """The top-level modules of Colab's packages."""
    lines = PACKAGES.read_text(encoding="utf-8").splitlines()
    names = [line.split("==")[0].lower() for line in lines if not line.startswith("#")]
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names} | {"torch"}


@pytest.mark.parametrize("chapter", chapters())
def test_every_import_can_be_resolved(edition: Path, chapter: str) -> None:
    for cell in read(edition, chapter).cells:
        if cell.cell_type == "code":
            for module, names in imported(cell.source):
                top = module.split(".")[0]
                if top == "casebook":
                    found = importlib.import_module(module)
                    for name in names:
                        if not hasattr(found, name):
                            importlib.import_module(f"{module}.{name}")
                else:
                    assert top in sys.stdlib_module_names | in_colab() | ADDED_BY_SETUP, module


# ---------------------------------------------------------------------------------------------
# Some notebooks, run as in Colab


@dataclass(frozen=True)
class Environment:
    """A virtual environment with Colab's packages."""

    python: Path

    def versions(self) -> dict[str, str]:
        """What is installed: name (normalised) to version."""
        code = (
            "import importlib.metadata as m, json, re\n"
            "print(json.dumps({re.sub(r'[-_.]+', '-', d.name).lower(): d.version"
            " for d in m.distributions()}))"
        )
        return json.loads(call(self.python, "-c", code))

    def run(self, notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
        """Execute a notebook in a folder. Fails the test, with the traceback, if a cell fails."""
        kernel = folder / "jupyter" / "kernels" / "colab"
        kernel.mkdir(parents=True)
        arguments = [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": arguments, "display_name": "Colab", "language": "python"}
        (kernel / "kernel.json").write_text(json.dumps(spec))
        path = folder / "notebook.ipynb"
        nbformat.write(notebook, path)
        ours = re.compile(r"CASEBOOK_|OMP_|PYTHONPATH|TQDM_|VIRTUAL_ENV|MPLBACKEND")
        environment = {k: v for k, v in os.environ.items() if not ours.match(k)}
        call(
            *(sys.executable, "-c", "from nbclient.cli import main; main()"),
            *("--kernel_name=colab", "--timeout=900", "--inplace", path),
            cwd=folder,
            environment=environment | {"JUPYTER_PATH": str(folder / "jupyter")},
        )
        return nbformat.read(path, as_version=4)


def interpreter(torch: str) -> str:
    """The Python for the environment: Colab's 3.13, if torch can be had for it without CUDA.

    Else the next lower version of which that holds, and at last the one that runs the tests.
    """
    for minor in range(13, sys.version_info.minor, -1):
        python = shutil.which(f"python3.{minor}")
        ask = ("-m", "pip", "install", "-q", "--dry-run", "--no-deps", "--report", "-", torch)
        result = python and subprocess.run([python, *ask], capture_output=True, text=True)
        if result and result.returncode == 0:
            needs = json.loads(result.stdout)["install"][0]["metadata"]["requires_dist"]
            if not any(need.startswith(("nvidia-", "cuda-", "triton")) for need in needs):
                return python
    return sys.executable


@pytest.fixture(scope="session")
def environment() -> Environment:
    """Colab's packages without casebook. Kept in _build, and made anew when the list changes."""
    torch = f"torch=={importlib.metadata.version('torch').split('+')[0]}"
    text = f"{PACKAGES.read_text(encoding='utf-8')}\n{torch}\n{sys.version}\n{sys.prefix}"
    folder = BUILD / "colab-environment" / hashlib.sha256(text.encode()).hexdigest()[:16]
    found = Environment(folder / "bin" / "python")
    with locked("colab-environment"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder.parent, ignore_errors=True)
            call(interpreter(torch), "-m", "venv", folder)
            # The list is complete, so there is nothing to resolve; torch wants a newer setuptools
            # than Colab has.
            install = (found.python, "-m", "pip", "install", "-q", "--no-deps", "--no-compile")
            call(*install, "-r", PACKAGES, torch, "setuptools>=77.0.3")
            (folder / "complete").touch()
    return found


@pytest.fixture(scope="session")
def checkout(shared: Path) -> str:
    """The address of a git repository whose one commit is this working tree."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository here: clone the book instead of unpacking it")
    copy = shared / "checkout"
    with locked("checkout"):
        if not (copy / ".git").exists():
            names = call("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
            for name in filter(None, names.split("\0")):
                if (ROOT / name).is_file():
                    (copy / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(ROOT / name, copy / name)
            call("git", "init", "-q", cwd=copy)
            call("git", "add", "-A", "-f", cwd=copy)
            author = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
            call("git", *author, "commit", "-q", "-m", "The working tree", cwd=copy)
    return f"file://{copy}"


def from_checkout(notebook: nbformat.NotebookNode, checkout: str) -> nbformat.NotebookNode:
    """A notebook whose setup cell installs from the checkout."""
    setup = notebook.cells[1]
    setup.source, changes = re.subn(r"(?<=git\+)https://\S+", checkout, setup.source)
    assert changes == 1
    return notebook


@dataclass(frozen=True)
class Installation:
    """What the setup cell did to the environment."""

    before: dict[str, str]
    after: dict[str, str]
    printed: str
    threads: int
    package: str


@pytest.fixture(scope="session")
def installation(
    edition: Path, environment: Environment, checkout: str, shared: Path
) -> Installation:
    """Run a setup cell, once in a test run, in an environment that has no casebook."""
    done = shared / "installation.json"
    with locked("colab-environment"):
        if not done.exists():
            pip = (environment.python, "-m", "pip")
            call(*pip, "uninstall", "-q", "-y", *sorted(ADDED_BY_SETUP))
            before = environment.versions()
            notebook = from_checkout(read(edition, chapters()[0]), checkout)
            probe = "import casebook, torch; print(torch.get_num_threads(), casebook.__file__)"
            notebook.cells = [*notebook.cells[:2], nbformat.v4.new_code_cell(probe)]
            folder = shared / "installation"
            folder.mkdir()
            *_, setup, probed = environment.run(notebook, folder).cells
            printed = "".join(output.get("text", "") for output in setup.outputs)
            threads, package = probed.outputs[0].text.split()
            found = Installation(before, environment.versions(), printed, int(threads), package)
            done.write_text(json.dumps(found.__dict__))
    return Installation(**json.loads(done.read_text()))


def test_setup_installs_casebook_and_changes_nothing_else(
    installation: Installation, environment: Environment
) -> None:
    before, after = installation.before, installation.after
    changed = {name: (version, after.get(name)) for name, version in before.items()}
    assert {name: pair for name, pair in changed.items() if pair[0] != pair[1]} == {}
    assert set(after) - set(before) <= ADDED_BY_SETUP
    assert "casebook" in after
    assert Path(installation.package).is_relative_to(environment.python.parents[1])
    assert "ERROR" not in installation.printed


def test_setup_asks_for_one_thread(installation: Installation) -> None:
    assert installation.threads == 1


def git(*arguments: str) -> str | None:
    """What a git command prints, or None if it fails."""
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else None


def changed_files() -> set[str]:
    """The files changed against the main branch or, on that branch, by its last commit.

    Changes that are not committed count. Empty where there is no history to compare with.
    """
    head = git("rev-parse", "HEAD")
    bases = [git("merge-base", "HEAD", branch) for branch in ("origin/main", "main")]
    base = next((b for b in bases if b and b != head), None) or git("rev-parse", "HEAD~1")
    committed = git("diff", "--name-only", base, "HEAD") if base else None
    pending = git("status", "--porcelain", "--no-renames", "--untracked-files=all")
    names = [*(committed or "").splitlines(), *(line[3:] for line in (pending or "").splitlines())]
    return set(names)


def own_files(chapter: str) -> set[str]:
    """The files that are this chapter's alone."""
    stem = chapter.removeprefix("book/")
    package = "code/casebook"
    return {f"{chapter}.md", f"{package}/{stem}.py", f"{package}/claims/{Path(stem).name}.toml"}


def chapters_to_run() -> Iterable[str]:
    if os.environ.get("CASEBOOK_COLAB") == "all":
        return chapters()
    changed = changed_files()
    return [name for name in chapters() if name in ALWAYS_RUN or own_files(name) & changed]


def test_the_chapters_that_always_run_exist() -> None:
    assert set(ALWAYS_RUN) <= set(chapters())


@pytest.mark.parametrize("chapter", chapters_to_run())
def test_runs_as_in_colab(
    installation: Installation,
    environment: Environment,
    edition: Path,
    checkout: str,
    chapter: str,
    tmp_path: Path,
) -> None:
    notebook = environment.run(from_checkout(read(edition, chapter), checkout), tmp_path)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    claims = [o["data"][MIME] for o in outputs if MIME in o.get("data", {})]
    assert {claim["id"]: claim["verdict"] for claim in claims} == {
        claim["id"]: claim["expected"] for claim in claims
    }
    has_claims = (ROOT / "code/casebook/claims" / f"{Path(chapter).name}.toml").exists()
    assert bool(claims) == has_claims
