"""What a strict build knows beyond Sphinx's own `-W`: that nothing was overlooked.

- A page that _toc.yml forgets, or lists though it is not there, is a warning.
- Sphinx warns about a page when it reads or writes it, and a second build skips what the first
  one has done. So a build may build on an earlier one's results only if that one was strict and
  clean, and the site's own code, styles and settings are the same; otherwise it starts anew.
  The cache of executed chapters is not touched.
"""

import hashlib
import json
import os
import shutil
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

# What the site is made from besides its pages. Sphinx sees to those.
SITE_FILES = ("_config.yml", "book/_static", "book/_ext")
SITE_VARIABLES = ("CASEBOOK_REPOSITORY", "CASEBOOK_SITE_URL", "CASEBOOK_CLAIMS")

log = logging.getLogger(__name__)


def start(root: Path, builder: str) -> set[str]:
    """Remove results that may hide a warning; return the builders whose results remain.

    To be called before a strict build, and `finish` after it if it was clean.
    """
    try:
        clean = json.loads(_record(root).read_text(encoding="utf-8"))
    except FileNotFoundError:
        clean = {}
    if clean.get("site") != _site(root):
        clean = {"builders": []}
        shutil.rmtree(root / "_build" / ".doctrees", ignore_errors=True)
    if builder not in clean["builders"]:
        shutil.rmtree(root / "_build" / builder, ignore_errors=True)
    return set(clean["builders"])


def finish(root: Path, builders: Iterable[str]) -> None:
    """Note that the results of these builders come from clean, strict builds."""
    clean = {"site": _site(root), "builders": sorted(builders)}
    _record(root).write_text(json.dumps(clean), encoding="utf-8")


def _record(root: Path) -> Path:
    return root / "_build" / "clean.json"


@cache
def _site(root: Path) -> str:
    """A digest of all that shapes the site, but for the pages and what they read."""
    digest = hashlib.sha256()
    for path in sorted(p for name in SITE_FILES for p in _files(root / name)):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    # Folders such as sphinx-7.4.7.dist-info: names and versions, without opening a file.
    installed = sorted(path.name for path in Path(sysconfig.get_path("purelib")).glob("*-info"))
    variables = [f"{name}={os.environ.get(name)}" for name in SITE_VARIABLES]
    digest.update("\n".join([*installed, *variables]).encode())
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for found in path.rglob("*"):
        if found.is_file() and "__pycache__" not in found.parts:
            yield found


# ---------------------------------------------------------------------------------------------
# In Sphinx


def _begin(app: Sphinx) -> None:
    """Forget that the results are clean (any build may change them); compare toc and pages."""
    _record(Path(app.srcdir)).unlink(missing_ok=True)
    listed = set(app.config.external_site_map)
    book = Path(app.srcdir, "book")
    present = {
        path.relative_to(app.srcdir).with_suffix("").as_posix()
        for path in book.rglob("*.md")
        if not any(part.startswith((".", "_")) for part in path.relative_to(book).parts)
    }
    for name in sorted(present - listed):
        log.warning("%s.md is not listed in _toc.yml", name)
    for name in sorted(listed - present):
        log.warning("_toc.yml lists %s, but there is no %s.md", name, name)


def setup(app: Sphinx) -> None:
    """Hook into the start of every build."""
    app.connect("builder-inited", _begin)
