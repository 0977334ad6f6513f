"""The Sphinx extension of the site, and the command that builds it (`python -m casebook_book`).

Each submodule does one thing and sets up its own part:

keys      what a chapter's outputs depend on: its cells, what they import and what they read
execute   runs the chapters whose outputs the cache lacks, two at a time (kernel: one of them)
strict    lets nothing wrong pass unnoticed
ledger    gathers and checks the claims, shows and publishes them
offline   makes every page do without third-party requests
card      the card at a chapter's head
pages     the frame around every page, and what only the first page shows (landing)
colab     the Colab edition and the button that opens it
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: "Sphinx") -> dict[str, Any]:
    """Set up every part of the extension."""
    # Imported here, because the workers that run the chapters need none of it.
    from casebook_book import card, colab, execute, keys, ledger, offline, pages, strict

    for part in (keys, execute, strict, ledger, offline, card, pages, colab):
        part.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
