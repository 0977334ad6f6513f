"""Text as numbers: there and back, and what stands in a batch."""

import pytest
import torch

from casebook.text import BOS, EOS, PAD, SPECIALS, UnknownSymbol, Vocabulary, pad, real, trim


def test_letters_there_and_back() -> None:
    letters = Vocabulary.of(["to be", "or not"], specials=())
    assert letters.symbols == (" ", "b", "e", "n", "o", "r", "t")
    assert letters.encode("bee") == [1, 2, 2]
    assert letters.decode(letters.encode("to be or not")) == tuple("to be or not")


def test_words_there_and_back_without_the_specials() -> None:
    words = Vocabulary.of([("zwei", "und"), ("und", "drei")])
    assert words.symbols == (*SPECIALS, "drei", "und", "zwei") and len(words) == 6
    assert (words.numbers["<pad>"], words.numbers["<bos>"], words.numbers["<eos>"]) == (
        PAD,
        BOS,
        EOS,
    )
    row = torch.tensor([BOS, *words.encode(("drei", "und")), EOS, *words.encode(("zwei",)), PAD])
    assert words.decode(row) == ("drei", "und")


def test_errors_say_what_to_do() -> None:
    with pytest.raises(UnknownSymbol, match="'x' is not among the 4 symbols"):
        Vocabulary.of(["a"]).encode("ax")
    with pytest.raises(ValueError, match=r"\['a'\] stand in the vocabulary more than once"):
        Vocabulary(("a", "b", "a"))
    with pytest.raises(ValueError, match="no sequence to pad"):
        pad([])


def test_rows_are_filled_on_the_right_and_cut_again() -> None:
    batch = pad([[5, 6, 7], [8], []])
    assert batch.tolist() == [[5, 6, 7], [8, PAD, PAD], [PAD, PAD, PAD]]
    assert real(batch).sum(1).tolist() == [3, 1, 0]
    assert trim(batch[1:]).tolist() == [[8], [PAD]]
    assert trim(batch[2:]).tolist() == [[PAD]]
