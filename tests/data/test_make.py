"""The parts of the recipes that need no package: writing, and reading a play."""

import gzip
import io

import numpy as np

from casebook.data import make


def test_npz_is_readable_and_its_bytes_depend_on_the_arrays_alone() -> None:
    arrays = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": np.array([1.5])}
    content = make.npz(**arrays)
    assert content == make.npz(**arrays) != make.npz(a=arrays["a"], b=arrays["b"] + 1)
    with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
        assert loaded.files == ["a", "b"]
        for name, array in arrays.items():
            assert loaded[name].dtype == array.dtype and (loaded[name] == array).all()


def test_text_is_readable_and_its_bytes_depend_on_the_text_alone() -> None:
    content = make.text("zwölf\n")
    assert content[4:8] == bytes(4)  # where gzip keeps the time
    assert gzip.decompress(content).decode("utf-8") == "zwölf\n"


def test_speeches_keep_speakers_and_lines_only() -> None:
    play = """# A Play

## ACT I

### SCENE I. A heath; a fire
burning.

_Enter two Witches
and a cat_

**First Witch**  
When shall we
meet?

_Thunder_

Again?

**CAT**  
_\\[Aside]_  
'Soon,'\\--
"""
    assert make.speeches(play) == [
        "First Witch:\nWhen shall we\nmeet?\nAgain?",
        "CAT:\n'Soon,'--",
    ]
