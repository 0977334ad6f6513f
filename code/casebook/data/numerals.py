"""Numbers spelled out in three languages: sentence pairs with a real grammar."""

from dataclasses import dataclass

from casebook.data.store import DataError, load_text

LANGUAGES = ("english", "german", "french")


@dataclass(frozen=True, repr=False)
class NumberWords:
    """The numbers 0, 1, ..., 99,999 in words; the number is the index."""

    english: tuple[str, ...]
    """`english[42]` is "forty-two"."""
    german: tuple[str, ...]
    """`german[42]` is "zweiundvierzig": the unit goes before the ten."""
    french: tuple[str, ...]
    """`french[42]` is "quarante-deux", but `french[92]` is "quatre-vingt-douze"."""

    def language(self, name: str) -> tuple[str, ...]:
        """All numbers in the language `name`; raises DataError if it is not one of LANGUAGES."""
        if name not in LANGUAGES:
            raise DataError(f"there are no numbers in {name!r}; choose one of {LANGUAGES}")
        return getattr(self, name)

    def pairs(self, source: str, target: str) -> list[tuple[str, str]]:
        """Each number in the languages `source` and `target`, from 0 up.

        Raises DataError if one of them is not among LANGUAGES.
        """
        return list(zip(self.language(source), self.language(target), strict=True))

    def __repr__(self) -> str:
        return f"NumberWords({len(self.english):,} numbers in {', '.join(LANGUAGES)})"


def number_words() -> NumberWords:
    """The numbers from 0 to 99,999 spelled out in English, German and French.

    Lower case. English is British ("one hundred and one"), with a comma after the thousands
    ("one thousand, two hundred"). Spelled by num2words.

    Raises DataError if the bundled file is missing or damaged.
    """
    blocks = load_text("number_words").split("\n\n")
    return NumberWords(*(tuple(block.splitlines()) for block in blocks))
