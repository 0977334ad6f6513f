"""Recordings: made, read back, refused when broken; and every recording of the book replayed."""

import shutil
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch

from casebook import record

RECIPE = """
import torch
from casebook.record import Run

RUNS = ("a", "b")

def run(name, max_steps=None):
    if name == "b" and FAIL:
        raise RuntimeError("b broke")
    slope = {"a": 1.0, "b": 2.0}[name]
    loss = [slope / (1 + step) for step in range(max_steps or 5)]
    weights = {"w": torch.full((2,), slope, dtype=torch.float16)} if name == "a" else {}
    return Run({"loss": loss, "rate": [0.123456789]}, {"accuracy": 0.5}, weights)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recordings folder of the test's own with one recipe, `toy`, that trains nothing."""
    home = tmp_path / "toy"
    home.mkdir()
    (home / "recipe.py").write_text("FAIL = False\n" + RECIPE)
    monkeypatch.setattr(record, "FOLDER", tmp_path)
    monkeypatch.setattr(record, "ProcessPoolExecutor", Here)
    yield tmp_path
    sys.modules.pop("casebook.recordings.toy.recipe", None)


class Here:
    """Does a pool's work in this process, where the test's folder is known."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, function: object, *arguments: object) -> object:
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


def test_what_is_recorded_is_read_back(folder: Path) -> None:
    record.record("toy", workers=2)
    toy = record.load_recording("toy")
    assert list(toy.runs) == ["a", "b"]
    assert toy.runs["b"].history["loss"] == pytest.approx([2.0, 1.0, 2 / 3, 0.5, 0.4], rel=1e-5)
    assert toy.runs["a"].history["rate"] == [0.123457]
    assert toy.runs["a"].metrics == {"accuracy": 0.5}
    assert toy.about["command"] == "python -m casebook.record toy --workers 2"
    assert toy.about["versions"]["torch"] == torch.__version__
    weights = toy.weights("a")
    assert weights["w"].dtype == torch.float32
    assert weights["w"].tolist() == [1.0, 1.0]
    with pytest.raises(record.RecordingError, match=r"no weights of 'b', only those of \['a'\]"):
        toy.weights("b")


def test_replay_compares_the_first_steps(folder: Path) -> None:
    record.record("toy")
    recorded, replayed = record.replay("toy", "b", 3)
    assert len(recorded) == 3
    assert replayed == pytest.approx(recorded, rel=1e-5)


def test_a_failed_recording_leaves_the_old_one(folder: Path) -> None:
    record.record("toy")
    before = (folder / "toy" / "history.json").read_bytes()
    (folder / "toy" / "recipe.py").write_text("FAIL = True\n" + RECIPE)
    with pytest.raises(RuntimeError, match="b broke"):
        record.record("toy")
    assert (folder / "toy" / "history.json").read_bytes() == before


def test_a_run_needs_its_losses(folder: Path) -> None:
    recipe = folder / "toy" / "recipe.py"
    recipe.write_text(recipe.read_text().replace('"loss": loss', '"losses": loss'))
    with pytest.raises(record.RecordingError, match="no `loss` in its history"):
        record.record("toy")


def test_unknown_and_unmade_recordings(folder: Path) -> None:
    with pytest.raises(record.RecordingError, match=r"no recording 'tou'; the recordings are"):
        record.load_recording("tou")
    with pytest.raises(
        record.RecordingError, match=r"lacks run.toml and history.json.*casebook\.record toy"
    ):
        record.load_recording("toy")


def test_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert record.main([]) == 0
    assert capsys.readouterr().out == "toy\n"
    shutil.rmtree(folder / "toy")
    assert record.main(["toy"]) == 2
    assert "there is no recording 'toy'" in capsys.readouterr().err


# ---- the book's own recordings

REPLAYED_STEPS = 3


def recorded_runs() -> list[tuple[str, str]]:
    return [(name, run) for name in record.names() for run in record.load_recipe(name).RUNS]


@pytest.mark.parametrize(("name", "run"), recorded_runs())
def test_replay(name: str, run: str) -> None:
    """A recording made up, or overtaken by a change of the code, does not survive this.

    Sums are rounded differently on another processor, hence the tolerance.
    """
    recorded, replayed = record.replay(name, run, REPLAYED_STEPS)
    assert replayed == pytest.approx(recorded, rel=2e-3)


def test_recordings_hold_what_their_recipes_run() -> None:
    for name in record.names():
        assert list(record.load_recording(name).runs) == list(record.load_recipe(name).RUNS)


def test_recordings_stay_small() -> None:
    files = [path for path in record.FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25e6
