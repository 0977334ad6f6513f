"""Build and show the book; `make book`, `make serve` and their like call this.

    python -m casebook_book build       execute what the cache lacks, build the site strictly
    python -m casebook_book notebooks   write the Colab edition, one notebook per chapter
    python -m casebook_book serve       show the built site on this machine

Run in the repository's root, with book/_ext on PYTHONPATH.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SITE = Path("_build", "html", "index.html")

# They print their whole configuration at every start.
TALKATIVE = ("sphinx.myst_parser.sphinx_ext.main", "sphinx.myst_nb.sphinx_ext")


def build(root: Path, builder: str) -> int:
    """Build strictly: any warning fails, and fails again until it is mended. Return 0 or 1."""
    from jupyter_book.sphinx import build_sphinx
    from sphinx.util.console import nocolor

    from casebook_book import strict

    start = time.perf_counter()
    sys.stdout.reconfigure(line_buffering=True)  # else a log shows the warnings first
    if not sys.stdout.isatty():
        nocolor()
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    clean = strict.start(root, builder)
    result = build_sphinx(
        root,
        root / "_build" / builder,
        path_config=root / "_config.yml",
        noconfig=True,
        confoverrides={
            "external_toc_path": str(root / "_toc.yml"),
            "latex_individualpages": False,
            "nitpicky": True,
        },
        builder=builder,
        warningiserror=True,
        keep_going=True,
    )
    seconds = time.perf_counter() - start
    if result != 0:
        print(
            f"\nThe build failed after {seconds:.1f} s; what is wrong stands above.",
            file=sys.stderr,
        )
        return 1
    strict.finish(root, {*clean, builder})
    print(f"\nBuilt in {seconds:.1f} s.", flush=True)
    return 0


def serve(root: Path, port: int) -> int:
    """Serve the built site on this machine until interrupted."""
    if not (root / SITE).is_file():
        print("There is no built site: run `make book` first.", file=sys.stderr)
        return 1
    handler = partial(SimpleHTTPRequestHandler, directory=root / SITE.parent)
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        print(
            f"Port {port} cannot be used ({error.strerror}): choose another with `make serve "
            f"PORT={port + 1}`.",
            file=sys.stderr,
        )
        return 1
    print(f"The book is at http://localhost:{server.server_port}/ (Ctrl-C stops it)", flush=True)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do what it says; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m casebook_book",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("build", "notebooks"):
        command = commands.add_parser(name)
        command.add_argument("--jobs", help="chapters to run at a time (default: 2)")
    commands.add_parser("serve").add_argument("--port", type=int, default=8000)
    options = parser.parse_args(arguments)

    root = Path.cwd()
    if not (root / "_config.yml").is_file():
        print(f"{root} has no _config.yml: run this in the book's root.", file=sys.stderr)
        return 1
    if options.command == "serve":
        return serve(root, options.port)
    if options.jobs:
        os.environ["CASEBOOK_JOBS"] = options.jobs
    if options.command == "notebooks":
        return build(root, "colab")
    status = build(root, "html")
    if status == 0:
        print(f"Open {SITE}, or run `make serve` for http://localhost:8000/.")
    return status


if __name__ == "__main__":
    sys.exit(main())
