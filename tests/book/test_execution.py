"""What a chapter's outputs depend on, and that only a change of that runs it again."""

import re
from pathlib import Path

import nbformat
import pytest
from casebook_book import execute, kernel, keys
from casebook_book.keys import Keys, PageError, parse
from nbformat import v4
from tiny_book import EXTENSION, FILES, FRONT_MATTER, Book, executed

ONE, TWO = FILES["book/part/one.md"], FILES["book/part/two.md"]


def page(*cells: str) -> str:
    """A notebook's text."""
    return FRONT_MATTER + "".join(f"\n```{{code-cell}} ipython3\n{cell}\n```\n" for cell in cells)


@pytest.fixture
def tiny(tmp_path: Path) -> Book:
    """The tiny book's files, not built."""
    return Book.new(tmp_path)


def key(book: Book, text: str) -> str:
    return Keys(book.package).page("page", text)


def reads(book: Book, code: str) -> list[str]:
    """The files that code depends on, without their digests."""
    return sorted(line.rsplit(" ", 1)[0] for line in Keys(book.package).depends(parse(code)))


# ---------------------------------------------------------------------------------------------
# The key


@pytest.mark.parametrize(
    ("code", "files"),
    [
        ("import math, torch", []),
        ("import casebook", ["__init__.py"]),
        ("from casebook.shapes import area", ["__init__.py", "arithmetic.py", "shapes.py"]),
        ("from casebook import shapes", ["__init__.py", "arithmetic.py", "shapes.py"]),
        ("import casebook.shapes as s", ["__init__.py", "arithmetic.py", "shapes.py"]),
        ("def f():\n    import casebook.arithmetic", ["__init__.py", "arithmetic.py"]),
        ("import casebook.deep.deeper", ["__init__.py", "deep/__init__.py", "deep/deeper.py"]),
        (
            "from casebook.deep import relative",
            [
                "__init__.py",
                "arithmetic.py",
                "deep/__init__.py",
                "deep/deeper.py",
                "deep/relative.py",
            ],
        ),
    ],
)
def test_imports_are_followed_as_python_does(tiny: Book, code: str, files: list[str]) -> None:
    tiny.write("code/casebook/deep/__init__.py", "")
    tiny.write("code/casebook/deep/deeper.py", "")
    tiny.write(
        "code/casebook/deep/relative.py",
        "from . import deeper\nfrom ..arithmetic import times\nfrom .. import nothing\n",
    )
    assert reads(tiny, code) == files


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("from casebook.data import squares", {"squares"}),
        ("import casebook.data\ncasebook.data.cubes()", {"cubes"}),
        ("from casebook import data as d\nd.squares(), d.cubes()", {"squares", "cubes"}),
        ("from casebook.data import *", {"squares", "cubes"}),
        ("from casebook.data import other", set()),
        ("from elsewhere import squares", set()),
    ],
)
def test_only_the_data_that_is_loaded_counts(tiny: Book, code: str, data: set[str]) -> None:
    assert {line.split()[1] for line in reads(tiny, code) if line.startswith("data ")} == data


def test_data_loaded_by_an_imported_module_counts(tiny: Book) -> None:
    tiny.write("code/casebook/plots.py", "from casebook.data import squares\n")
    assert "data squares squares.txt 1" in reads(tiny, "import casebook.plots")


def test_recordings_and_claims_are_read(tiny: Book) -> None:
    code = "from casebook import record\nrecord.load_recording('walk'); claim('one.area')"
    files = reads(tiny, code)
    assert [f for f in files if " " in f] == [
        "claims one",
        "recording walk/history.json",
        "recording walk/run.toml",
        "recording walk/weights.safetensors",
    ]
    assert "record.py" in files


@pytest.mark.parametrize("call", ["load_recording(name)", "claim(f'one.{x}')", "chapter_ledger()"])
def test_a_name_that_is_no_literal_is_refused(tiny: Book, call: str) -> None:
    with pytest.raises(PageError, match=re.escape(f"part/page: {call.split('(')[0]}")):
        Keys(tiny.package).page("part/page", page(call))


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("code/casebook/arithmetic.py", "one"),
        ("code/casebook/shapes.py", "one"),
        ("code/casebook/claims/one.toml", "one"),
        ("code/casebook/data/numbers.py", "two"),
        ("code/casebook/data/squares.txt", "two"),
        ("code/casebook/data/cubes.txt", ""),
        ("code/casebook/record.py", "two"),
        ("code/casebook/recordings/walk/run.toml", "two"),
        ("code/casebook/recordings/walk/history.json", "two"),
        ("code/casebook/recordings/walk/recipe.py", ""),
    ],
)
def test_a_change_reaches_exactly_the_chapters_that_use_it(
    tiny: Book, file: str, changed: str
) -> None:
    chapters = {"one": ONE, "two": TWO}
    before = {name: key(tiny, text) for name, text in chapters.items()}
    tiny.write(file, FILES[file] + "\n# changed\n")
    after = {name: key(tiny, text) for name, text in chapters.items()}
    assert [name for name in chapters if before[name] != after[name]] == changed.split()


def test_claims_may_lie_elsewhere(tiny: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(tiny, ONE)
    monkeypatch.setenv("CASEBOOK_CLAIMS", str(tiny.root))
    assert key(tiny, ONE) != before


def test_prose_and_options_do_not_count(tiny: Book) -> None:
    assert key(tiny, ONE) == key(tiny, ONE.replace("Plain prose", "Better prose"))
    assert key(tiny, ONE) == key(tiny, ONE.replace("[hide-input]", "[remove-input]"))
    assert key(tiny, TWO) == key(tiny, TWO.replace("First caption", "Second caption"))


def test_tags_that_change_the_running_count(tiny: Book) -> None:
    assert key(tiny, ONE) != key(tiny, ONE.replace("[hide-input]", "[raises-exception]"))


def test_versions_count(tiny: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(tiny, ONE)
    monkeypatch.setattr(keys, "_versions", lambda: ["torch 99.0"])
    assert key(tiny, ONE) != before


def test_magics_do_not_hide_imports(tiny: Book) -> None:
    cell = '%matplotlib inline\n!ls\nfrom casebook.shapes import area\nprint("%d"\n % area(1, 2))'
    assert "shapes.py" in reads(tiny, cell)
    assert "shapes.py" in reads(tiny, "%%time\nimport casebook.shapes")


def test_the_stamp_moves_no_line() -> None:
    stamped = keys.stamp("page", ONE, "abc")
    assert '"casebook": "abc"' in stamped.splitlines()[5]
    assert stamped.splitlines()[9:] == ONE.splitlines()[9:]
    assert stamped.count("\n") == ONE.count("\n")


def test_a_notebook_without_kernelspec_is_refused() -> None:
    with pytest.raises(PageError, match=r"part/page: .* `kernelspec:` block"):
        keys.stamp("part/page", ONE.replace("kernelspec", "kernel"), "abc")


# ---------------------------------------------------------------------------------------------
# Running


def failure(cells: list[str], timeout: int = 60, name: str = "python3") -> str:
    """Run a notebook that fails, and return what is said about it."""
    nodes = [v4.new_markdown_cell("# Title"), *(v4.new_code_cell(cell) for cell in cells)]
    spec = {"kernelspec": {"name": name, "display_name": name}}
    notebook = v4.new_notebook(cells=nodes, metadata=spec)
    _, seconds, failure = kernel.execute(nbformat.writes(notebook), ".", timeout)
    assert failure is not None
    assert seconds > 0
    return str(failure)


def test_a_failing_cell_says_where_and_why() -> None:
    said = failure(["x = 1", "", "y = x\ny / 0", "print(y)"])
    assert said.startswith("code cell 3 failed\n    > y = x\n    > y / 0\n")
    assert said.endswith("ZeroDivisionError: division by zero")


def test_a_kernel_that_dies_does_too() -> None:
    said = failure(["x = 1", "import os; os._exit(1)"])
    assert said.startswith("code cell 2 failed\n    > import os; os._exit(1)\n")
    assert "DeadKernelError" in said


def test_a_cell_that_never_ends_is_stopped() -> None:
    said = failure(["import time; time.sleep(600)"], timeout=1)
    assert said.startswith("code cell 1 failed")
    assert "CellTimeoutError" in said


def test_a_kernel_that_does_not_start_is_a_failure_of_its_page() -> None:
    said = failure(["x = 1"], name="absent")
    assert said.startswith("the kernel did not start\n    NoSuchKernel")


@pytest.mark.parametrize("text", ["0", "-1", "two"])
def test_threads_and_jobs_are_positive(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASEBOOK_JOBS", text)
    with pytest.raises(execute.SphinxError, match=f"CASEBOOK_JOBS is '{text}'; set it to"):
        execute._positive("CASEBOOK_JOBS", 2)


def test_the_cache_of_a_build(built_book: Book) -> None:
    """One story, because each build takes seconds: the same book, changed step by step."""
    first = (built_book.root / "first_build.log").read_text()
    assert executed(first) == {"book/part/one", "book/part/two"}
    assert "chapters to run, 2 at a time:\n  book/part/one\n  book/part/two\n" in first
    assert re.search(r"^ +\d+\.\d  book/part/one$", first, re.M)
    assert re.search(r"Built in \d+\.\d s\.", first)
    assert "Open _build/html/index.html" in first

    again = built_book.build().output
    assert executed(again) == set()
    assert re.search(r"^ +\d+\.\d  book/part/one  \(cached\)$", again, re.M)
    assert "no targets are out of date" in again

    # Prose and options: nothing runs, and yet they show. A plain jupyter-book has the same cache.
    built_book.edit("book/part/one.md", "Plain prose", "Better prose")
    built_book.edit("book/part/two.md", "First caption", "Second caption")
    plain = built_book.run("jupyter-book", "build", ".")
    assert plain.returncode == 0, plain.output
    assert executed(plain.output) == set()
    assert "Executing notebook" not in plain.output  # MyST-NB did not run it either
    site = built_book.root / "_build" / "html" / "book" / "part"
    assert "Better prose" in (site / "one.html").read_text()
    assert "Second caption" in (site / "two.html").read_text()

    # A module: exactly the chapters that import it, and their new outputs show.
    built_book.edit("code/casebook/arithmetic.py", "a * b", "a * b * 1.0")
    changed = built_book.build()
    assert changed.returncode == 0, changed.output
    assert executed(changed.output) == {"book/part/one"}
    assert re.search(r"  book/part/one \(\d+\.\d s last time\)", changed.output)

    # Data: likewise, under a plain jupyter-book too.
    built_book.write("code/casebook/data/squares.txt", "1 4 9 16")
    plain = built_book.run("jupyter-book", "build", ".")
    assert executed(plain.output) == {"book/part/two"}

    # Back to an earlier state: its outputs are still there.
    built_book.write("code/casebook/data/squares.txt", "1 4 9")
    assert executed(built_book.build().output) == set()


def test_the_extension_is_the_projects_own() -> None:
    assert Path(keys.__file__).is_relative_to(EXTENSION)
