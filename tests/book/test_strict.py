"""Whatever is wrong with the book fails its build, and the output names the page and the fault."""

import json
import re
from pathlib import Path

import pytest
from casebook_book import strict
from tiny_book import FRONT_MATTER, Book, executed


@pytest.fixture
def copied(built_book: Book, tmp_path: Path) -> Book:
    """The tiny book once more, to be broken. Its chapters need not run again."""
    return built_book.copy(tmp_path / "copy")


def fails(book: Book, *said: str) -> str:
    """Build, which must fail and say all this; return the output."""
    result = book.build()
    assert result.returncode == 1, result.output
    for text in said:
        assert text in result.output
    assert "The build failed after" in result.output
    assert "Open _build" not in result.output
    return result.output


def test_a_failing_cell(copied: Book) -> None:
    copied.edit("book/part/one.md", "from casebook.shapes import area", "1 / 0")
    copied.edit("book/part/two.md", 'load_recording("walk")', 'len(load_recording("walk"))')
    output = fails(copied, "book/part/one: code cell 1 failed", "ZeroDivisionError")
    assert "[2/2]" in output

    # The other chapter ran all the same, and is not run again.
    output = fails(copied, "book/part/one: code cell 1 failed")
    assert executed(output) == {"book/part/one"}


def test_a_warning_of_sphinx_and_a_page_that_goes_missing(copied: Book) -> None:
    copied.edit("book/part/one.md", "Plain prose", "![A figure](lost.png)")
    for _ in range(2):  # a page that was read with a warning warns again
        assert re.search(r"book/part/one\.md:\d+: WARNING: .*lost\.png", fails(copied))

    # Mended, it passes. Sphinx itself would not notice now that a page is gone.
    copied.edit("book/part/one.md", "![A figure](lost.png)", "Plain prose")
    assert copied.build().returncode == 0
    (copied.root / "book/part/two.md").unlink()
    fails(copied, "WARNING: _toc.yml lists book/part/two, but there is no book/part/two.md")


def test_a_page_that_the_contents_forget(copied: Book) -> None:
    copied.write("book/part/four.md", FRONT_MATTER + "# Four\n")
    fails(copied, "WARNING: book/part/four.md is not listed in _toc.yml")


def test_a_warning_that_a_lenient_build_has_passed_over(copied: Book) -> None:
    copied.edit("book/index.md", "It begins", "{ref}`nowhere` It begins")
    assert copied.run("jupyter-book", "build", ".").returncode == 0
    assert re.search(r"book/index\.md:\d+: WARNING: .*nowhere", fails(copied))


def test_a_broken_reference_and_a_broken_citation(copied: Book) -> None:
    copied.edit("book/part/one.md", "Plain prose", "{eq}`lost-equation` {py:func}`lost.function`")
    copied.edit("book/part/two.md", "## Something read", "{cite}`lost2020`\n\n## Something read")
    output = fails(copied)
    assert re.search(r"book/part/one\.md:\d+: WARNING: .*lost-equation", output)
    assert re.search(r"book/part/one\.md:\d+: WARNING: .*lost\.function", output)
    assert re.search(r"book/part/two\.md:\d+: WARNING: .*lost2020", output)


def test_stray_output_on_stderr(copied: Book) -> None:
    cell = "\n```{code-cell} ipython3\nimport sys\nprint('debris', file=sys.stderr)\n```\n"
    copied.write("book/part/two.md", (copied.root / "book/part/two.md").read_text() + cell)
    assert re.search(r"book/part/two\.md:\d+: WARNING: stderr was found", fails(copied))


def test_an_unknown_claim(copied: Book) -> None:
    copied.edit("book/part/one.md", '"one.area"', '"one.volume"')
    fails(copied, "book/part/one: code cell 1 failed", "UnknownClaim", "one.volume")


def test_a_claim_outside_its_verdict(copied: Book) -> None:
    copied.edit("book/part/one.md", "area(2, 3)", "area(2, 4)")
    fails(copied, "book/part/one: claim one.area is expected to be 'reproduced'", "8 against 6")


def test_a_name_that_the_key_cannot_see(copied: Book) -> None:
    copied.edit("book/part/two.md", 'load_recording("walk")', 'load_recording("wa" + "lk")')
    fails(copied, "book/part/two: load_recording('wa' + 'lk'): write the name as a string literal")


def test_results_are_kept_only_for_the_site_they_belong_to(tmp_path: Path) -> None:
    def results() -> list[str]:
        return sorted(path.name for path in (tmp_path / "_build").iterdir() if path.is_dir())

    def begin(builder: str) -> set[str]:
        strict._site.cache_clear()
        return strict.start(tmp_path, builder)

    for name in (".doctrees", ".jupyter_cache", "html", "colab"):
        (tmp_path / "_build" / name).mkdir(parents=True)
    (tmp_path / "_config.yml").write_text("title: A book\n")
    assert begin("html") == set()
    assert results() == [".jupyter_cache", "colab"]

    (tmp_path / "_build" / ".doctrees").mkdir()
    (tmp_path / "_build" / "html").mkdir()
    strict.finish(tmp_path, {"html"})
    assert begin("html") == {"html"}
    assert results() == [".doctrees", ".jupyter_cache", "colab", "html"]
    assert begin("colab") == {"html"}  # colab's own were not clean, the pages as read were
    assert results() == [".doctrees", ".jupyter_cache", "html"]

    (tmp_path / "_config.yml").write_text("title: Another book\n")
    assert begin("html") == set()
    assert results() == [".jupyter_cache"]
    assert json.loads((tmp_path / "_build" / "clean.json").read_text())["builders"] == ["html"]
