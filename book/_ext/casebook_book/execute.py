"""Runs the chapters whose outputs the cache lacks, several at a time, before Sphinx reads them.

Hooked into Sphinx, so that `make book` and a plain `jupyter-book build .` do the same: MyST-NB
then finds every notebook in its cache. A failing chapter stops neither the others nor their way
into the cache; when all have run, the build ends and names what failed.

CASEBOOK_JOBS (2) chapters run at a time, on CASEBOOK_THREADS (1) threads each.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from jupyter_cache.cache.db import NbCacheRecord
from myst_nb.core.read import create_nb_reader
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError
from sphinx.util import logging

from casebook_book import keys
from casebook_book.kernel import Failure, execute

KEPT = 3  # results kept per page, so that going back to an earlier state of it costs nothing

log = logging.getLogger(__name__)


class ExecutionFailed(SphinxError):
    """At least one chapter has a failing cell."""

    category = "Failing cells"


def _before_reading(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Bring every notebook among the pages about to be read into the cache."""
    cache = get_cache(env.mystnb_config.execution_cache_path)
    missing: dict[str, NotebookNode] = {}
    for docname in docnames:
        notebook = _read(app, docname)
        if notebook is not None and not _cached(cache, docname, notebook):
            missing[docname] = notebook
    app.casebook_ran = set(missing)
    failures = dict(_run_all(app, cache, missing)) if missing else {}
    for docname, failure in sorted(failures.items()):
        log.error("%s: %s", docname, failure)
    if failures:
        raise ExecutionFailed(
            ", ".join(f"{name} (cell {failures[name].cell})" for name in failures)
        )


def _read(app: Sphinx, docname: str) -> NotebookNode | None:
    """A page as MyST-NB will read it, stamped with its key; None if it is no notebook."""
    path = app.env.doc2path(docname)
    text = Path(path).read_text(encoding="utf-8")
    if not keys.is_notebook(text):
        return None
    text = keys.stamp(docname, text, app.casebook_keys.page(docname, text))
    return create_nb_reader(path, app.env.myst_config, app.env.mystnb_config, text).read(text)


def _cached(cache: JupyterCacheAbstract, docname: str, notebook: NotebookNode) -> bool:
    """Whether the cache has a notebook's outputs.

    jupyter-cache compares the cells' options, too: captions, tags. Where only these differ, the
    outputs are stored again under the new options, and nothing runs.
    """
    with suppress(KeyError):
        cache.match_cache_notebook(notebook)
        return True
    signature = _signature(cache, notebook)
    for record in cache.list_cache_records():
        if record.data.get("signature") == signature:
            cached = cache.get_cache_bundle(record.pk).nb
            present = (cell for cell in notebook.cells if cell.cell_type == "code")
            for old, new in zip(cached.cells, present, strict=True):
                old.metadata = new.metadata
            _store(cache, docname, cached, record.data)
            return True
    return False


def _signature(cache: JupyterCacheAbstract, notebook: NotebookNode) -> str:
    """What outputs depend on: the cells' source and the key in the metadata, but no options."""
    return cache.create_hashed_notebook(notebook, cell_metadata=())[1]


def _run_all(
    app: Sphinx, cache: JupyterCacheAbstract, notebooks: dict[str, NotebookNode]
) -> Iterator[tuple[str, Failure]]:
    """Run notebooks, those that took longest before first, and cache them; yield the failures."""
    earlier = {r.uri: r.data["execution_seconds"] for r in _oldest_first(cache)}
    order = sorted(notebooks, key=lambda name: -earlier.get(name, float("inf")))
    jobs = min(_positive("CASEBOOK_JOBS", 2), len(order))
    log.info("chapters to run, %d at a time:", jobs)
    for name in order:
        log.info("  %s%s", name, f" ({earlier[name]:.1f} s last time)" if name in earlier else "")
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        try:
            waiting = {
                pool.submit(
                    execute,
                    nbformat.writes(notebooks[name]),
                    str(Path(app.env.doc2path(name)).parent),
                    app.config.nb_execution_timeout,
                ): name
                for name in order
            }
            for done, future in enumerate(as_completed(waiting), 1):
                name, (text, seconds, failure) = waiting[future], future.result()
                taken = f"FAILED after {seconds:.1f} s" if failure else f"{seconds:.1f} s"
                log.info("[%d/%d] %s ... %s", done, len(order), name, taken)
                if failure:
                    yield name, failure
                else:
                    signature = _signature(cache, notebooks[name])
                    data = {"execution_seconds": seconds, "signature": signature}
                    _store(cache, name, nbformat.reads(text, as_version=4), data)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _store(
    cache: JupyterCacheAbstract, docname: str, notebook: NotebookNode, data: dict[str, object]
) -> None:
    """Put an executed notebook into the cache, and drop the page's oldest results."""
    bundle = CacheBundleIn(notebook, docname, data=data)
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    for record in [r for r in _oldest_first(cache) if r.uri == docname][:-KEPT]:
        cache.remove_cache(record.pk)


def _oldest_first(cache: JupyterCacheAbstract) -> list[NbCacheRecord]:
    return sorted(cache.list_cache_records(), key=lambda record: record.accessed)


def _report(app: Sphinx, exception: Exception | None) -> None:
    """Say how long each chapter took, now or when it last ran."""
    if exception:
        return
    pages = sorted(app.env.nb_metadata.items())
    seconds = {name: data["exec_data"]["runtime"] for name, data in pages if "exec_data" in data}
    log.info("\nseconds to run each chapter")
    for name in seconds:
        note = "" if name in app.casebook_ran else "  (cached)"
        log.info("%8.1f  %s%s", seconds[name], name, note)
    log.info("%8.1f  together", sum(seconds.values()))


def _positive(variable: str, default: int) -> int:
    """An environment variable as a positive integer. Raises SphinxError if it is anything else."""
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise SphinxError(f"{variable} is {text!r}; set it to a positive integer")
    return int(text)


def setup(app: Sphinx) -> None:
    """Execute before reading; kernels inherit one thread and no progress bars."""
    threads = str(_positive("CASEBOOK_THREADS", 1))
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = threads
    os.environ["TQDM_DISABLE"] = "1"
    app.casebook_ran = set()
    app.connect("env-before-read-docs", _before_reading)
    app.connect("build-finished", _report)
