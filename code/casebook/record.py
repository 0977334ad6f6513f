"""Recordings: runs that are too long for a build, done once and kept with the book.

    python -m casebook.record              lists the recordings
    python -m casebook.record NAME         redoes one

A recording is a folder `casebook/recordings/NAME/` that holds

    recipe.py            what was run
    run.toml             how: command, versions, hardware, date, seconds and metrics of each run
    history.json         series of numbers of each run, the loss of every step among them
    weights.safetensors  the weights that chapters show, if any

A recipe defines `RUNS`, the names of its runs (one per variant and seed, say), and
`run(name, max_steps=None) -> Run`, which seeds itself and does one of them. With `max_steps` it
must do exactly the first steps of the same run: the test suite replays them and compares the
losses, so that a recording can neither be made up nor fall behind the code.
"""

import argparse
import json
import os
import platform
import sys
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import date
from importlib import metadata
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from casebook.training import set_threads

FOLDER = Path(__file__).parent / "recordings"


class RecordingError(ValueError):
    """A recording is unknown, incomplete, or its recipe does not do what a recipe must."""


@dataclass
class Run:
    """What a recipe returns for one run.

    history: series of numbers; `loss` must be there, with one value per optimisation step.
    metrics: final numbers, such as the accuracy on the test set.
    weights: tensors to keep, by name; empty for most runs, because all recordings of the book
        share 25 MB.
    """

    history: dict[str, list[float]]
    metrics: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class RecordedRun:
    """One run as it was recorded: its series, its final numbers and its duration."""

    history: dict[str, list[float]]
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Recording:
    """All runs of one recording. `about` is run.toml without the runs."""

    name: str
    about: dict[str, object]
    runs: dict[str, RecordedRun]

    def weights(self, run: str) -> dict[str, Tensor]:
        """The weights that were kept of `run`, as float32, by parameter name.

        Raises RecordingError if none were kept of it.
        """
        path = FOLDER / self.name / "weights.safetensors"
        everything = load_file(path) if path.exists() else {}
        prefix = f"{run}/"
        kept = {
            key.removeprefix(prefix): tensor.float() if tensor.is_floating_point() else tensor
            for key, tensor in everything.items()
            if key.startswith(prefix)
        }
        if not kept:
            others = sorted({key.split("/")[0] for key in everything})
            raise RecordingError(
                f"recording {self.name!r} keeps no weights of {run!r}, only those of {others}"
            )
        return kept


def names() -> list[str]:
    """The names of all recordings, whether already recorded or not."""
    return sorted(path.parent.name for path in FOLDER.glob("*/recipe.py"))


def _check_known(name: str) -> None:
    if name not in names():
        raise RecordingError(f"there is no recording {name!r}; the recordings are {names()}")


def load_recipe(name: str) -> ModuleType:
    """The recipe module of a recording. Raises RecordingError if there is none of that name."""
    _check_known(name)
    path = FOLDER / name / "recipe.py"
    spec = spec_from_file_location(f"casebook.recordings.{name}.recipe", path)
    recipe = module_from_spec(spec)
    sys.modules[spec.name] = recipe  # dataclasses and pickles look their module up there
    spec.loader.exec_module(recipe)
    return recipe


def load_recording(name: str) -> Recording:
    """A recording as it lies on disk. Raises RecordingError if it is unknown or not yet made."""
    _check_known(name)
    folder = FOLDER / name
    missing = [f for f in ("run.toml", "history.json") if not (folder / f).exists()]
    if missing:
        raise RecordingError(
            f"recording {name!r} lacks {' and '.join(missing)}; make it with "
            f"`python -m casebook.record {name}`"
        )
    about = tomllib.loads((folder / "run.toml").read_text())
    history = json.loads((folder / "history.json").read_text())
    runs = {
        run: RecordedRun(history[run], entry["metrics"], entry["seconds"])
        for run, entry in about.pop("runs").items()
    }
    return Recording(name, about, runs)


def replay(name: str, run: str, steps: int) -> tuple[list[float], list[float]]:
    """Do the first `steps` steps of a recorded run again; return (recorded, replayed) losses."""
    recorded = load_recording(name).runs[run].history["loss"][:steps]
    set_threads()
    return recorded, load_recipe(name).run(run, max_steps=steps).history["loss"]


# ---------------------------------------------------------------------------------------------
# Making one


def record(name: str, *, workers: int = 1) -> Path:
    """Do all runs of a recipe, `workers` at a time, and write the recording. Returns its folder.

    Nothing is written before every run has ended, so a failure leaves the old recording as it was.
    Raises RecordingError for an unknown name, or a run without a `loss` in its history.
    """
    recipe = load_recipe(name)
    done: dict[str, tuple[Run, float]] = {}
    start = time.perf_counter()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_one, name, run): run for run in recipe.RUNS}
        for future in tqdm(as_completed(waiting), total=len(waiting), desc=name, unit="run"):
            done[waiting[future]] = future.result()
    seconds = time.perf_counter() - start
    runs = {run: done[run] for run in recipe.RUNS}
    folder = FOLDER / name
    command = f"python -m casebook.record {name}" + (f" --workers {workers}" if workers > 1 else "")
    (folder / "run.toml").write_text(_toml(command, seconds, runs))
    history = {run: _rounded(result.history) for run, (result, _) in runs.items()}
    (folder / "history.json").write_text(json.dumps(history, separators=(",", ":")) + "\n")
    weights = {
        f"{run}/{key}": tensor.detach().cpu().contiguous()
        for run, (result, _) in runs.items()
        for key, tensor in result.weights.items()
    }
    path = folder / "weights.safetensors"
    if weights:
        save_file(weights, path)
    else:
        path.unlink(missing_ok=True)
    return folder


def _one(name: str, run: str) -> tuple[Run, float]:
    set_threads()
    start = time.perf_counter()
    result = load_recipe(name).run(run)
    if not result.history.get("loss"):
        raise RecordingError(
            f"run {run!r} of recording {name!r} returned no `loss` in its history; a replay needs "
            "the loss of every optimisation step"
        )
    return result, time.perf_counter() - start


def _rounded(history: dict[str, list[float]]) -> dict[str, list[float]]:
    """Six significant digits: what a plot or a replay needs, at a third of the size."""
    return {key: [float(f"{value:.6g}") for value in series] for key, series in history.items()}


def _toml(command: str, seconds: float, runs: dict[str, tuple[Run, float]]) -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    lines = [
        f"command = {json.dumps(command)}",
        f"date = {date.today().isoformat()}",
        f"hardware = {json.dumps(f'{device}, {platform.machine()}, {os.cpu_count()} cores')}",
        f"threads = {set_threads()}",
        f"seconds = {seconds:.1f}",
        "",
        "[versions]",
        f"python = {json.dumps(platform.python_version())}",
        *(f"{p} = {json.dumps(metadata.version(p))}" for p in ("casebook", "torch", "numpy")),
    ]
    for run, (result, run_seconds) in runs.items():
        lines += ["", f"[runs.{json.dumps(run)}]", f"seconds = {run_seconds:.1f}"]
        lines += [f"[runs.{json.dumps(run)}.metrics]"]
        lines += [f"{json.dumps(key)} = {float(value)!r}" for key, value in result.metrics.items()]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status: 0, or 2 for a recording that cannot be made."""
    parser = argparse.ArgumentParser(
        prog="python -m casebook.record", description="List the recordings, or redo one."
    )
    parser.add_argument("name", nargs="?", help="the recording to redo; none: list them")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (default: 1)")
    options = parser.parse_args(arguments)
    if options.name is None:
        for name in names():
            print(name)
        return 0
    try:
        print(record(options.name, workers=options.workers))
    except RecordingError as error:
        print(f"casebook.record: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
