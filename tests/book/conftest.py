"""Fixtures of the site's tests, which find the site's extension and the tiny book by import."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "book" / "_ext")]

from tiny_book import Book  # noqa: E402


@pytest.fixture(scope="module")
def built_book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """A tiny book after its first build; `first_build.log` has what that printed."""
    book = Book.new(tmp_path_factory.mktemp("tiny"))
    result = book.make()
    assert result.returncode == 0, result.output
    book.write("first_build.log", result.output)
    return book
