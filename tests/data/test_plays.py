"""The plays have tiny Shakespeare's size and form."""

import re

import pytest

from casebook.data import shakespeare


@pytest.fixture(scope="module")
def text() -> str:
    return shakespeare()


def test_size_and_characters(text: str) -> None:
    assert len(text) == 1_115_781
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert set(text) == set(letters + "\n !&',-.:;?")


def test_every_speech_has_a_speaker_and_at_least_one_line(text: str) -> None:
    assert text.endswith(".\n") and "\n\n\n" not in text
    speeches = text[:-1].split("\n\n")
    assert len(speeches) > 7_500
    for speech in speeches:
        speaker, *lines = speech.split("\n")
        assert re.fullmatch(r"[A-Z][A-Za-z' &-]*:", speaker), speech
        assert lines and all(line == line.strip() and line for line in lines), speech


def test_headings_and_stage_directions_are_gone(text: str) -> None:
    assert not re.search(r"^(ACT|SCENE|PROLOGUE|SONG|Exit|Exeunt|Re-enter)\b", text, re.MULTILINE)
    assert "Enter Ghost" not in text


@pytest.mark.parametrize(
    "passage",
    [
        "HAMLET:\nTo be, or not to be: that is the question:\n",
        "BERNARDO:\nWho's there?\n\nFRANCISCO:\nNay, answer me: stand, and unfold yourself.\n",
        "MALCOLM:\nThis is the sergeant\n",
        "As thou didst leave it.\n\nSergeant:\nDoubtful it stood;\n",
        "This way will I\ndisrobe the images,\n",
        "ANTIPHOLUS OF EPHESUS:\nDo you hear, you minion? you'll let us in, I hope?\n\nLUCE:\n",
        "Never, never, never, never, never!\n",
        "If music be the food of love, play on;\n",
        "The quality of mercy is not strain'd,\n",
    ],
)
def test_well_known_passages(text: str, passage: str) -> None:
    assert passage.lower() in text.lower()


def test_the_plays_stand_in_the_documented_order(text: str) -> None:
    speakers = ["HAMLET", "MACBETH", "KING LEAR", "OTHELLO", "ROMEO", "BRUTUS", "VIOLA", "SHYLOCK"]
    places = [text.index(f"\n{name}:\n") for name in [*speakers, "AEGEON"]]
    assert places == sorted(places)
