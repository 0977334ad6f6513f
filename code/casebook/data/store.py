"""The bundled files: where they lie, what they must be, and the check made before each is read.

`registry.toml` is the one list of them: for every file its size and SHA-256, its licence, where
it comes from and the command that makes it again. A file that is not in the registry is never
read, and one whose bytes differ from the registry's is an error, so that a chapter's numbers
cannot silently rest on other data.
"""

import gzip
import hashlib
import io
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
"""The data folder: `registry.toml` lies in it, and the paths in the registry start from it."""


class DataError(ValueError):
    """A bundled file is missing or damaged, or something was asked for that a data set lacks."""


@dataclass(frozen=True)
class Entry:
    """One bundled data set: a `[[dataset]]` table of `registry.toml`."""

    name: str
    """What the data set is called."""
    loader: str
    """The function of `casebook.data` that reads it."""
    file: str
    """The file, relative to the data folder."""
    sha256: str
    """The SHA-256 of the file, in hexadecimal digits."""
    bytes: int
    """The size of the file."""
    licence: str
    """The terms it is given under, and by whom."""
    origin: str
    """Where the data come from."""
    made: str
    """The command that makes the file again."""

    @property
    def path(self) -> Path:
        """Where the file lies on this machine."""
        return FOLDER / self.file

    def verified_bytes(self) -> bytes:
        """Read the file and compare it with the registry.

        Raises DataError, naming the file and the remedy, if it is missing or differs.
        """
        remedy = (
            f"restore it from the repository (`git checkout -- {self.file}` in {FOLDER}), "
            f"reinstall casebook, or make it again with `{self.made}`"
        )
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            raise DataError(
                f"{self.path}, which {self.loader}() reads, is missing; {remedy}"
            ) from None
        if len(content) != self.bytes:
            difference = f"it has {len(content):,} bytes, where the registry has {self.bytes:,}"
        elif (found := hashlib.sha256(content).hexdigest()) != self.sha256:
            difference = f"its SHA-256 is {found}, where the registry has {self.sha256}"
        else:
            return content
        raise DataError(f"{self.path} is damaged: {difference}; {remedy}")


def registry() -> dict[str, Entry]:
    """The bundled data sets, keyed by the name of their loader."""
    tables = tomllib.loads((FOLDER / "registry.toml").read_text(encoding="utf-8"))["dataset"]
    return {table["loader"]: Entry(**table) for table in tables}


def load_arrays(loader: str) -> dict[str, np.ndarray]:
    """The arrays of the verified `.npz` file that `loader` reads; nothing is ever unpickled."""
    content = registry()[loader].verified_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def load_text(loader: str) -> str:
    """The text of the verified `.gz` file that `loader` reads."""
    return gzip.decompress(registry()[loader].verified_bytes()).decode("utf-8")
