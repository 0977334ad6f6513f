"""Text as numbers: a vocabulary, and batches of sequences of unequal length.

A text is any sequence of strings: a `str` is one of letters, a tuple of words one of words. Three
symbols stand for no text at all: PAD fills a row up to the length of the longest one, BOS begins
a sentence and EOS ends it. In a vocabulary that has them they are the numbers 0, 1 and 2.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

PAD, BOS, EOS = 0, 1, 2
SPECIALS = ("<pad>", "<bos>", "<eos>")


class UnknownSymbol(ValueError):
    """A symbol that the vocabulary does not have."""


@dataclass(frozen=True, repr=False)
class Vocabulary:
    """All symbols that can occur; a symbol's number is its place.

    symbols: each once. Raises ValueError if one of them stands twice.
    """

    symbols: tuple[str, ...]
    numbers: dict[str, int] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        numbers = {symbol: number for number, symbol in enumerate(self.symbols)}
        if len(numbers) < len(self.symbols):
            twice = sorted({s for s in self.symbols if self.symbols.count(s) > 1})
            raise ValueError(f"{twice} stand in the vocabulary more than once; give each once")
        object.__setattr__(self, "numbers", numbers)

    @classmethod
    def of(
        cls, texts: Iterable[Sequence[str]], specials: tuple[str, ...] = SPECIALS
    ) -> "Vocabulary":
        """The specials in their order, then every symbol of the texts in alphabetical order."""
        found = {symbol for text in texts for symbol in text}
        return cls(specials + tuple(sorted(found - set(specials))))

    def encode(self, text: Sequence[str]) -> list[int]:
        """The numbers of the text's symbols. Raises UnknownSymbol for one that is not known."""
        try:
            return [self.numbers[symbol] for symbol in text]
        except KeyError as error:
            raise UnknownSymbol(
                f"{error.args[0]!r} is not among the {len(self)} symbols of this vocabulary; make "
                "the vocabulary of all texts that it is to encode"
            ) from None

    def decode(self, numbers: Iterable[int] | Int[Tensor, " time"]) -> tuple[str, ...]:
        """The symbols up to the first EOS, without PAD and BOS.

        In a vocabulary without the specials: all symbols. `numbers` may be a tensor's row.
        """
        special = self.symbols[: len(SPECIALS)] == SPECIALS
        symbols = []
        for number in map(int, numbers):
            if special and number == EOS:
                break
            if not special or number not in (PAD, BOS):
                symbols.append(self.symbols[number])
        return tuple(symbols)

    def __len__(self) -> int:
        return len(self.symbols)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} symbols, from {self.symbols[0]!r} to {self.symbols[-1]!r})"


def pad(sequences: Sequence[Sequence[int]]) -> Int[Tensor, "n time"]:
    """The sequences as rows of one tensor, filled up with PAD on the right.

    Raises ValueError if there is no sequence.
    """
    if not sequences:
        raise ValueError("there is no sequence to pad; give at least one")
    rows = [torch.tensor(sequence, dtype=torch.long) for sequence in sequences]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


def trim(batch: Int[Tensor, "n time"]) -> Int[Tensor, "n shorter"]:
    """Without the columns on the right that hold nothing but PAD; at least one column stays."""
    return batch[:, : max(1, int(real(batch).sum(1).max()))]


def real(batch: Int[Tensor, "n time"]) -> Bool[Tensor, "n time"]:
    """True where there is a symbol, False where there is only PAD."""
    return batch != PAD
