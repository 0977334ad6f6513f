"""How long a book takes to build: the casebook's extension beside stock Jupyter Book.

A book of a few chapters, each of which trains a small network, is built from the same pages with
the casebook's own settings, with its extension and without:

- cold: nothing was ever run. Stock Jupyter Book runs one chapter after another; the extension
  runs two at a time before the pages are read.
- warm: the prose of one chapter was edited since. Neither runs anything again.

The two take turns, and time is the clock's, so the machine should have nothing else to do.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import yaml

ROOT = Path(__file__).parents[1]

CHAPTER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  name: python3
---
# Chapter {number}

Prose.

```{{code-cell}} ipython3
import torch
from torch import nn
```

```{{code-cell}} ipython3
torch.manual_seed({number})
x = torch.randn(256, 256)
net = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 256))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range({steps}):
    loss = (net(x) - x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
loss.item()
```
"""


def write_book(root: Path, *, extension: bool, chapters: int, steps: int) -> None:
    """A book of `chapters` chapters, each of which trains for `steps` steps."""
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    extensions = {"casebook_book": str(ROOT / "book" / "_ext")}
    settings["sphinx"]["local_extensions"] = extensions if extension else {}
    files = {
        "_config.yml": yaml.safe_dump(settings),
        "_toc.yml": yaml.safe_dump(
            {
                "format": "jb-book",
                "root": "book/index",
                "chapters": [{"file": f"book/chapter{n}"} for n in range(1, chapters + 1)],
            }
        ),
        "book/references.bib": "",
        "book/index.md": "# A book to measure\n\nProse.\n",
    }
    for n in range(1, chapters + 1):
        files[f"book/chapter{n}.md"] = CHAPTER.format(number=n, steps=steps)
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    for name, text in files.items():
        (root / name).write_text(text, encoding="utf-8")


def build(root: Path) -> float:
    """Build the book as a reader does, with `jupyter-book build .`; the seconds it took."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CASEBOOK_")}
    environment["OMP_NUM_THREADS"] = "1"  # the extension sets this itself
    environment["CASEBOOK_CLAIMS"] = str(root)  # this book makes none of the package's claims
    start = time.perf_counter()
    result = subprocess.run(
        [Path(sys.executable).with_name("jupyter-book"), "build", "."],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    elapsed = time.perf_counter() - start
    if result.returncode != 0:
        raise SystemExit(f"{result.stdout}\njupyter-book failed; why stands above")
    return elapsed


def cold_and_warm(*, extension: bool, chapters: int, steps: int) -> tuple[float, float]:
    """Seconds of a new book's first build, and of a second one after an edit of prose."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_book(root, extension=extension, chapters=chapters, steps=steps)
        cold = build(root)
        page = root / "book" / "chapter1.md"
        page.write_text(page.read_text(encoding="utf-8") + "\nMore prose.\n", encoding="utf-8")
        return cold, build(root)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare how long a book takes to build.")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default: 3)")
    parser.add_argument("--chapters", type=int, default=4, help="of the book (default: 4)")
    parser.add_argument("--steps", type=int, default=2_000, help="of each chapter (2000)")
    options = parser.parse_args()

    # The extension prepares scripts and fonts once per checkout; that is not counted.
    cold_and_warm(extension=True, chapters=1, steps=1)
    stock, ours = [], []
    for turn in range(options.rounds):
        for extension, seconds in ((False, stock), (True, ours))[:: 1 - 2 * (turn % 2)]:
            seconds.append(
                cold_and_warm(extension=extension, chapters=options.chapters, steps=options.steps)
            )
        print(f"round {turn + 1} of {options.rounds}", flush=True)

    print(f"\n{options.chapters} chapters, {options.rounds} rounds, {os.cpu_count()} cores\n")
    print("| | stock, seconds | casebook, seconds | ratio | lowest | highest |")
    print("|---|---:|---:|---:|---:|---:|")
    for column, name in enumerate(("cold", "warm")):
        theirs, own = ([seconds[column] for seconds in turns] for turns in (stock, ours))
        ratios = [a / b for a, b in zip(theirs, own, strict=True)]
        print(
            f"| {name} | {median(theirs):.1f} | {median(own):.1f} | {median(ratios):.2f} "
            f"| {min(ratios):.2f} | {max(ratios):.2f} |"
        )


if __name__ == "__main__":
    main()
