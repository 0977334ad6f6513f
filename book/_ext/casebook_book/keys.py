"""What a page's outputs depend on besides its cells, as one key.

jupyter-cache recognises a notebook by the source of its code cells and by its `kernelspec`
metadata. The key is written into that metadata (while Sphinx reads the page, so that
`jupyter-book build .` and `make book` agree), and so a page runs again when, and only when, one
of these changes:

- a cell;
- a module of the package that the cells import, directly or not;
- a data set, recording or claims file that they, or those modules, name;
- the version of Python or of a library that computes or draws (`LIBRARIES`).

Prose, captions and the tags that only concern the display are not part of it.
"""

import ast
import hashlib
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from IPython.core.inputtransformer2 import TransformerManager
from myst_nb.core.read import (
    MystMetadataParsingError,
    is_myst_markdown_notebook,
    read_myst_markdown_notebook,
)
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError

PACKAGE = "casebook"
LIBRARIES = ("torch", "numpy", "matplotlib", "altair")
EXECUTION_TAGS = {"raises-exception", "skip-execution"}

# Calls whose first argument names a file, and what kind of file it is.
READERS = {"load_recording": "recording", "claim": "claims", "chapter_ledger": "claims"}
RECORDING_FILES = ("run.toml", "history.json", "weights.safetensors")

FRONT_MATTER = re.compile(r"---\n.*?\n(?:---|\.\.\.)[ \t]*\n", re.S)
KERNELSPEC = re.compile(r"^kernelspec:[ \t]*\n(?:[ \t]+.*\n)+", re.M)
CELL_MAGIC = re.compile(r"\A\s*%%.*\n")


class PageError(SphinxError):
    """A page from which no key can be made."""

    category = "Page error"


@dataclass(frozen=True)
class Source:
    """What a piece of Python says it imports and reads."""

    modules: frozenset[str]  # dotted names, `from a import b` giving both a and a.b
    names: frozenset[str]  # imported names and attributes: among them the data loaders
    recordings: frozenset[str]
    claims: frozenset[str]  # stems of claims files
    unnamed: tuple[str, ...]  # calls of READERS whose argument is not a string literal


def is_notebook(text: str) -> bool:
    """Whether a page's text is a MyST notebook (and not plain Markdown)."""
    return is_myst_markdown_notebook(text)


def parse(code: str, package: str = "") -> Source:
    """Read the imports and the named files out of Python code.

    package: what relative imports are relative to ("" in a page).

    Code that even IPython cannot read yields nothing: running it will fail.
    """
    try:
        tree = ast.parse(code)
    except SyntaxError:
        try:
            tree = ast.parse(TransformerManager().transform_cell(CELL_MAGIC.sub("", code, count=1)))
        except SyntaxError:
            tree = ast.Module([], [])
    modules, names, unnamed = set(), set(), []
    named: dict[str, set[str]] = {"recording": set(), "claims": set()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            modules.add(base)
            modules.update(f"{base}.{alias.name}" for alias in node.names)
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Call) and (kind := READERS.get(_called(node))):
            argument = node.args[0] if node.args else None
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                named[kind].add(argument.value.split(".")[0])
            else:
                unnamed.append(ast.unparse(node))
    return Source(
        frozenset(modules),
        frozenset(names),
        frozenset(named["recording"]),
        frozenset(named["claims"]),
        tuple(unnamed),
    )


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that a `from ... import` names, relative ones resolved as Python does."""
    if not node.level:
        return node.module or ""
    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])


def _called(node: ast.Call) -> str:
    """The last part of a called name: both `claim(...)` and `ledger.claim(...)` give "claim"."""
    function = node.func
    return getattr(function, "attr", None) or getattr(function, "id", "")


class Keys:
    """Makes the keys of pages. Sources and files are read once: make one per build.

    package: folder of the package that the chapters import (.../casebook).
    claims: folder of the claims files; the package's own unless CASEBOOK_CLAIMS names another.
    """

    def __init__(self, package: Path | None = None, claims: Path | None = None) -> None:
        self.package = package or installed_package()
        own = self.package / "claims"
        self.claims = claims or Path(os.environ.get("CASEBOOK_CLAIMS", own))
        self._source = cache(self._read_source)
        self._digest = cache(_digest)
        self._loaders = cache(self._read_loaders)

    def page(self, name: str, text: str) -> str:
        """The key of a page. Raises PageError if a file that it reads is not named literally."""
        try:
            cells = code_cells(text)
        except MystMetadataParsingError as error:
            raise PageError(
                f"{name}: {error}\nA cell's options are YAML: a text with a colon needs quotes"
            ) from error
        source = merge(parse(cell.source) for cell in cells)
        if source.unnamed:
            raise PageError(
                f"{name}: {source.unnamed[0]}: write the name as a string literal, first of the "
                "arguments; the build looks there to know which file the page depends on"
            )
        tags = [sorted(EXECUTION_TAGS.intersection(c.metadata.get("tags") or ())) for c in cells]
        lines = [*_versions(), json.dumps(tags), *sorted(self.depends(source))]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:20]

    def depends(self, source: Source) -> Iterator[str]:
        """One line for each file that code depends on: its name in the package and its digest."""
        modules = self.closure(source)
        for path in modules:
            yield f"{path.relative_to(self.package)} {self._digest(path)}"
        reading = merge([source, *(self._source(path) for path in modules)])
        for name in reading.recordings:
            for file in RECORDING_FILES:
                path = self.package / "recordings" / name / file
                yield f"recording {name}/{file} {self._digest(path)}"
        for stem in reading.claims:
            yield f"claims {stem} {self._digest(self.claims / f'{stem}.toml')}"
        for loader in self._loaded(source, modules):
            entry = self._loaders()[loader]
            digest = self._digest(self.package / "data" / entry["file"])
            yield f"data {loader} {entry['file']} {entry['sha256']} {digest}"

    def closure(self, source: Source) -> set[Path]:
        """The files of the package that importing what `source` imports runs."""
        found: set[Path] = set()
        waiting = [source]
        while waiting:
            for module in waiting.pop().modules:
                for path in self._files(module):
                    if path not in found:
                        found.add(path)
                        waiting.append(self._source(path))
        return found

    def _files(self, module: str) -> Iterator[Path]:
        """The files that `import module` runs: its own, and the __init__ of each package above."""
        first, *rest = module.split(".")
        if first != PACKAGE:
            return
        place = self.package
        yield place / "__init__.py"
        for part in rest:
            place = place / part
            if (place / "__init__.py").is_file():
                yield place / "__init__.py"
            elif place.with_suffix(".py").is_file():
                yield place.with_suffix(".py")
                return
            elif not place.is_dir():
                return

    def _read_source(self, path: Path) -> Source:
        package = ".".join([PACKAGE, *path.parent.relative_to(self.package).parts])
        return parse(path.read_text(encoding="utf-8"), package)

    def _loaded(self, source: Source, modules: Iterable[Path]) -> set[str]:
        """The data loaders named in code that imports `casebook.data`, outside of it."""
        data = self.package / "data"
        users = [source, *(self._source(p) for p in modules if data not in p.parents)]
        names: set[str] = set()
        for user in users:
            if any(f"{m}.".startswith(f"{PACKAGE}.data.") for m in user.modules):
                names |= user.names
        return set(self._loaders()) if "*" in names else names & set(self._loaders())

    def _read_loaders(self) -> dict[str, dict[str, Any]]:
        """The entries of the data registry, by the loader that reads them."""
        registry = self.package / "data" / "registry.toml"
        if not registry.is_file():
            return {}
        entries = tomllib.loads(registry.read_text(encoding="utf-8"))["dataset"]
        return {entry["loader"]: entry for entry in entries}


def merge(sources: Iterable[Source]) -> Source:
    """All that several pieces of code import and read."""
    sources = list(sources)
    return Source(
        frozenset().union(*(s.modules for s in sources)),
        frozenset().union(*(s.names for s in sources)),
        frozenset().union(*(s.recordings for s in sources)),
        frozenset().union(*(s.claims for s in sources)),
        tuple(call for s in sources for call in s.unnamed),
    )


def installed_package() -> Path:
    """The folder that `import casebook` would import from, without importing it."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise PageError(f"{PACKAGE} is not installed: run `pip install -r requirements.txt`")
    return Path(spec.origin).parent


def code_cells(text: str) -> list[NotebookNode]:
    """The code cells of a page, as MyST-NB reads them."""
    return [c for c in read_myst_markdown_notebook(text).cells if c.cell_type == "code"]


def stamp(name: str, text: str, key: str) -> str:
    """A notebook's text with its key among the `kernelspec` metadata; no line moves."""
    front = FRONT_MATTER.match(text)
    block = KERNELSPEC.search(front[0]) if front else None
    if block is None:
        raise PageError(f"{name}: a notebook's front matter needs a `kernelspec:` block")
    spec = yaml.safe_load(block[0])["kernelspec"] | {PACKAGE: key}
    line = f"kernelspec: {json.dumps(spec)}" + "\n" * block[0].count("\n")
    return text[: block.start()] + line + text[block.end() :]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"


@cache
def _versions() -> Sequence[str]:
    """The versions that outputs depend on, one line each."""
    lines = [f"python {sys.version_info.major}.{sys.version_info.minor}"]
    for name in LIBRARIES:
        try:
            lines.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{name} absent")
    return lines


# ---------------------------------------------------------------------------------------------
# In Sphinx


def _begin(app: Sphinx) -> None:
    app.casebook_keys = Keys()


def _stamp_page(app: Sphinx, docname: str, source: list[str]) -> None:
    if is_notebook(source[0]):
        source[0] = stamp(docname, source[0], app.casebook_keys.page(docname, source[0]))


def _outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Pages whose key is not that of their last reading: Sphinx sees only changes of the text."""
    before = getattr(env, "casebook_keys", {})
    env.casebook_keys = {}
    for docname in env.found_docs:
        text = Path(env.doc2path(docname)).read_text(encoding="utf-8")
        if is_notebook(text):
            env.casebook_keys[docname] = app.casebook_keys.page(docname, text)
    return [name for name, key in env.casebook_keys.items() if before.get(name) != key]


def setup(app: Sphinx) -> None:
    """Stamp pages as they are read, and read those again whose key has changed."""
    app.connect("builder-inited", _begin)
    app.connect("source-read", _stamp_page, priority=100)
    app.connect("env-get-outdated", _outdated)
