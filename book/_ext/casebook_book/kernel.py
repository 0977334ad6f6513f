"""Runs one notebook in a kernel of its own.

Every worker of a build loads this module, and so it imports no more than it needs.
"""

import re
import tempfile
import time
from dataclasses import dataclass

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

TRACEBACK_LINES = 15
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Failure:
    """The code cell that failed (counted from 1; 0: no kernel), and how its traceback ends."""

    cell: int
    source: str
    traceback: str

    def __str__(self) -> str:
        shown = [f"code cell {self.cell} failed" if self.cell else "the kernel did not start"]
        shown += [f"    > {line}" for line in self.source.splitlines()]
        shown += [f"    {line}" for line in self.traceback.splitlines()[-TRACEBACK_LINES:]]
        return "\n".join(shown)


def execute(notebook: str, folder: str, timeout: int) -> tuple[str, float, Failure | None]:
    """Run a notebook (as JSON) in a folder; return it with its outputs, and the seconds it took.

    timeout: seconds that one cell may take.
    """
    nb = nbformat.reads(notebook, as_version=4)
    begun: list[int] = []
    client = NotebookClient(
        nb,
        timeout=timeout,
        record_timing=False,
        resources={"metadata": {"path": folder}},
        on_cell_execute=lambda cell, cell_index: begun.append(cell_index),
    )
    start, failure = time.perf_counter(), None
    # What the kernel itself writes (not what its cells print) matters only if it dies.
    with tempfile.TemporaryFile("w+") as kernel_log:
        try:
            if any(cell.cell_type == "code" for cell in nb.cells):
                client.execute(stderr=kernel_log)
        except Exception as error:  # whatever it is, it is this page's and must bear its name
            kernel_log.seek(0)
            log = kernel_log.read() if isinstance(error, DeadKernelError) else ""
            failure = _failure(nb, begun[-1] if begun else None, log, error)
    return nbformat.writes(nb), time.perf_counter() - start, failure


def _failure(nb: NotebookNode, index: int | None, log: str, error: Exception) -> Failure:
    """What went wrong, in the cell with this index among all cells (None: before the first)."""
    text = f"{log}{type(error).__name__}: {error}"
    if isinstance(error, CellExecutionError):
        text = error.traceback
    if index is None:
        return Failure(0, "", text)
    number = sum(cell.cell_type == "code" for cell in nb.cells[: index + 1])
    return Failure(number, nb.cells[index].source, ANSI.sub("", text))
