"""A tiny book for the tests of the build: two chapters and a package of a few lines.

It is built by the site's own extension, with its own settings and styles; only the chapters, and
the package `casebook` that they import, are small ones that run in a moment.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
EXTENSION = ROOT / "book" / "_ext"

FRONT_MATTER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  name: python3
---
"""

FILES = {
    "_toc.yml": """\
format: jb-book
root: book/index
parts:
  - caption: Part
    numbered: 1
    chapters:
      - file: book/part/one
      - file: book/part/two
""",
    "book/references.bib": "",
    "book/index.md": """\
# A tiny book

## Start

It begins with {doc}`part/one`.
""",
    "book/part/one.md": FRONT_MATTER
    + """\
# One

## An area

Plain prose.

```{code-cell} ipython3
:tags: [hide-input]
from casebook.ledger import claim
from casebook.shapes import area

claim("one.area", measured=area(2, 3))
```
""",
    "book/part/two.md": FRONT_MATTER
    + """\
# Two

## Something read

```{code-cell} ipython3
---
mystnb:
  figure:
    caption: First caption
    name: fig-squares
---
from casebook.data import squares
from IPython.display import SVG

SVG(f'<svg xmlns="http://www.w3.org/2000/svg"><title>{squares()}</title></svg>')
```

```{code-cell} ipython3
from casebook.record import load_recording

load_recording("walk")
```
""",
    "code/casebook/__init__.py": "",
    "code/casebook/arithmetic.py": "def times(a, b):\n    return a * b\n",
    "code/casebook/shapes.py": """\
from casebook.arithmetic import times

def area(width, height):
    return times(width, height)
""",
    "code/casebook/claims/one.toml": """\
paper = "nobody2020"

[[claim]]
id = "one.area"
statement = "A rectangle of 2 by 3 has an area of 6."
value = 6
where = "section 1"
source = "paper"
compare = "exact"
expected = "reproduced"
""",
    "code/casebook/data/__init__.py": "from .numbers import cubes, squares\n",
    "code/casebook/data/numbers.py": """\
from pathlib import Path

def squares():
    return (Path(__file__).parent / "squares.txt").read_text()

def cubes():
    return (Path(__file__).parent / "cubes.txt").read_text()
""",
    "code/casebook/data/squares.txt": "1 4 9",
    "code/casebook/data/cubes.txt": "1 8 27",
    "code/casebook/data/registry.toml": """\
[[dataset]]
loader = "squares"
file = "squares.txt"
sha256 = "1"

[[dataset]]
loader = "cubes"
file = "cubes.txt"
sha256 = "2"
""",
    "code/casebook/record.py": """\
from pathlib import Path

def load_recording(name):
    return (Path(__file__).parent / "recordings" / name / "history.json").read_text()
""",
    "code/casebook/recordings/walk/recipe.py": "RUNS = ('walk',)\n",
    "code/casebook/recordings/walk/run.toml": "command = 'walk'\n",
    "code/casebook/recordings/walk/history.json": "[1, 2]",
}


# Forks processes from one that has imported what takes Sphinx seconds to import.
loaded = get_context("forkserver")
loaded.set_forkserver_preload(
    [
        "jupyter_book.sphinx",
        "myst_nb.sphinx_ext",
        "sphinx.builders.html",
        "sphinx_book_theme",
        "sphinx_design",
        "sphinx_exercise",
        "sphinxcontrib.bibtex",
        "sphinxext.opengraph",
    ]
)


class Result(NamedTuple):
    """How a program ended, and what it printed."""

    returncode: int | None
    output: str


@dataclass(frozen=True)
class Book:
    """A book in a folder of its own."""

    root: Path

    @classmethod
    def new(cls, root: Path) -> "Book":
        """The tiny book's files in a new folder, nothing built."""
        book = cls(root)
        for file, text in FILES.items():
            book.write(file, text)
        shutil.copy(ROOT / "code" / "casebook" / "ledger.py", book.package)
        shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
        settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
        settings["sphinx"]["local_extensions"] = {"casebook_book": str(EXTENSION)}
        book.write("_config.yml", yaml.safe_dump(settings))
        return book

    @property
    def package(self) -> Path:
        return self.root / "code" / "casebook"

    def write(self, file: str, text: str) -> None:
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def edit(self, file: str, old: str, new: str) -> None:
        text = (self.root / file).read_text(encoding="utf-8")
        assert old in text
        self.write(file, text.replace(old, new))

    def run(self, *command: str) -> Result:
        """Run a program of this Python's environment in the book, on the book's own package."""
        program = str(Path(sys.executable).with_name(command[0]))
        done = subprocess.run(
            [program, *command[1:]],
            cwd=self.root,
            env=_environment(self.root),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Result(done.returncode, done.stdout)

    def make(self) -> Result:
        """What `make book` does once everything is installed."""
        return self.run("python", "-m", "casebook_book", "build")

    def build(self) -> Result:
        """The same in a process that has Sphinx loaded already, which saves most of the time."""
        with tempfile.NamedTemporaryFile("r") as output:
            process = loaded.Process(target=_build, args=(self.root, output.name))
            process.start()
            process.join()
            return Result(process.exitcode, output.read())

    def copy(self, root: Path) -> "Book":
        """The same book elsewhere, its chapters already executed."""
        shutil.copytree(self.root, root, ignore=shutil.ignore_patterns("_build"))
        cache = Path("_build", ".jupyter_cache")
        shutil.copytree(self.root / cache, root / cache)
        return Book(root)


def _environment(root: Path) -> dict[str, str]:
    """The environment of a build whose chapters import the book's own package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CASEBOOK_")}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(EXTENSION), str(root / "code")])}


def _build(root: Path, output: str) -> None:
    """Be a process that builds the book in `root`, and that prints into the file `output`."""
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(root)
    environment = _environment(root)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    from casebook_book.__main__ import main

    sys.exit(main(["build"]))


def executed(output: str) -> set[str]:
    """The chapters that a build says it ran."""
    return set(re.findall(r"^\[\d+/\d+\] (\S+) \.\.\. ", output, re.M))
