"""The registry, and what happens when a file is not what the registry says."""

import io
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from casebook import data
from casebook.data import DataError, registry, store
from casebook.data.__main__ import main
from casebook.data.make import RECIPES

LOADERS = {
    "mnist": data.mnist,
    "animals": data.animals,
    "shakespeare": data.shakespeare,
    "weather": data.weather,
    "number_words": data.number_words,
}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the data folder, from which the loaders read during the test."""
    shutil.copy(store.FOLDER / "registry.toml", tmp_path)
    shutil.copytree(store.FOLDER / "files", tmp_path / "files")
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    return tmp_path


def test_registry_lists_every_loader_once_and_each_can_be_made_again() -> None:
    tables = tomllib.loads((store.FOLDER / "registry.toml").read_text(encoding="utf-8"))["dataset"]
    assert [table["loader"] for table in tables] == list(LOADERS) == list(RECIPES)
    for name, entry in registry().items():
        assert getattr(data, name) is LOADERS[name]
        assert entry.made == f"python -m casebook.data.make {name}"
        assert entry.name and entry.licence and entry.origin


def test_registry_lists_exactly_the_files_there_are() -> None:
    listed = sorted(entry.path for entry in registry().values())
    assert listed == sorted((store.FOLDER / "files").iterdir())


def test_every_file_is_as_registered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    assert capsys.readouterr().out.count("bytes: verified") == len(LOADERS)


@pytest.mark.parametrize("name", LOADERS)
def test_missing_file_is_named_with_the_remedy(name: str, copy: Path) -> None:
    file = copy / registry()[name].file
    file.unlink()
    with pytest.raises(DataError) as error:
        LOADERS[name]()
    message = str(error.value)
    assert message.startswith(f"{file}, which {name}() reads, is missing; restore it")
    assert f"python -m casebook.data.make {name}" in message


@pytest.mark.parametrize("name", LOADERS)
def test_one_changed_byte_is_an_error_that_names_file_and_remedy(name: str, copy: Path) -> None:
    file = copy / registry()[name].file
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError) as error:
        LOADERS[name]()
    message = str(error.value)
    assert message.startswith(f"{file} is damaged: its SHA-256 is ")
    assert registry()[name].sha256 in message and "git checkout" in message


def test_truncated_file_is_an_error_that_gives_both_sizes(copy: Path) -> None:
    file = copy / "files" / "weather.csv.gz"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"it has 1,000 bytes, where the registry has 5,099"):
        data.weather()


def test_listing_reports_damage_and_goes_on(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "files" / "mnist.npz").unlink()
    assert main() == 1
    listing = capsys.readouterr().out
    assert listing.count("ERROR") == 1 and listing.count("bytes: verified") == len(LOADERS) - 1


def test_arrays_are_never_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = io.BytesIO()
    np.savez(pickled, train_images=np.array([{}], dtype=object))
    monkeypatch.setattr(store.Entry, "verified_bytes", lambda entry: pickled.getvalue())
    with pytest.raises(ValueError, match="allow_pickle=False"):
        data.mnist()
