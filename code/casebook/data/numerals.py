"""Numbers spelled out in three languages: sentence pairs with a real grammar."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from casebook.data.store import DataError, load_text

LANGUAGES = ("english", "german", "french")

SEPARATOR = ";"
"""The piece between two numbers of a sentence."""

# What German compounds are made of; "eins" is "one" at the end of a number, "ein" before it.
# Longer pieces first, or "dreizehn" would be read as "drei".
_GERMAN = re.compile(
    "dreizehn|vierzehn|fünfzehn|sechzehn|siebzehn|achtzehn|neunzehn|zwanzig|dreißig|vierzig|"
    "fünfzig|sechzig|siebzig|achtzig|neunzig|hundert|tausend|eins|null|zwei|drei|vier|fünf|sechs|"
    "sieben|acht|neun|zehn|zwölf|elf|ein|und"
)
_TENS = re.compile("(twen|thir|for|fif|six|seven|eigh|nine)ty|.*(zig|ßig)")


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

    def pieces(self, name: str, *numbers: int) -> tuple[str, ...]:
        """Numbers in the language `name` cut into the words they are made of.

        42 is ("forty", "two") and ("zwei", "und", "vierzig"): hyphens are dropped, German compounds
        are cut. Several numbers make a sentence, with SEPARATOR between them.
        Raises DataError for an unknown language, and for a number outside 0, ..., 99,999.
        """
        words = self.language(name)
        outside = [number for number in numbers if not 0 <= number < len(words)]
        if outside:
            raise DataError(f"{outside} are not spelled out; choose from 0 to {len(words) - 1:,}")
        split = _GERMAN.findall if name == "german" else re.compile(r"[^\s,-]+|,").findall
        sentence: list[str] = []
        for number in numbers:
            sentence += [SEPARATOR, *split(words[number])]
        return tuple(sentence[1:])

    def alignment(self, *numbers: int) -> tuple[int | None, ...]:
        """Which English piece each German piece translates: positions in `pieces`, from 0.

        In "zwei und vierzig" these are (1, None, 0) of "forty two": the unit comes first, and "und"
        translates nothing. Raises DataError as `pieces` does.
        """
        places = {
            tag: place
            for place, tag in enumerate(_meanings(self.pieces("english", *numbers)))
            if tag is not None
        }
        german = _meanings(self.pieces("german", *numbers))
        return tuple(None if tag is None else places[tag] for tag in german)

    def __repr__(self) -> str:
        return f"NumberWords({len(self.english):,} numbers in {', '.join(LANGUAGES)})"


def _meanings(pieces: Sequence[str]) -> list[tuple[int, str, str] | None]:
    """What each English or German piece says: of which number, of its thousands or the rest, what.

    None for a piece that stands there for grammar alone.
    """
    found: list[tuple[int, str, str] | None] = []
    which = 0
    rest = list(pieces)
    while rest:
        end = rest.index(SEPARATOR) if SEPARATOR in rest else len(rest)
        number, group = rest[:end], "thousands"
        if not {"thousand", "tausend"} & set(number):
            group = "ones"
        for piece, following in zip(number, [*number[1:], ""], strict=True):
            if piece in ("and", "und", ","):
                found.append(None)
            elif piece in ("thousand", "tausend"):
                found.append((which, group, "thousand"))
                group = "ones"
            elif piece in ("hundred", "hundert"):
                found.append((which, group, "hundred"))
            elif following in ("hundred", "hundert"):
                found.append((which, group, "hundreds"))
            else:
                found.append((which, group, "tens" if _TENS.fullmatch(piece) else "units"))
        if end < len(rest):
            found.append((which, "end", SEPARATOR))
        which, rest = which + 1, rest[end + 1 :]
    return found


def number_sentences(
    count: int, lengths: tuple[int, int], *, seed: int, new: bool = False, below: int = 1000
) -> list[tuple[int, ...]]:
    """Sentences to translate: lists of numbers, for `NumberWords.pieces` to spell out.

    Of all numbers below `below` a tenth, always the same, is held out: sentences are made of the
    other nine tenths, or, with `new`, of the held-out tenth alone, which no training ever sees.

    count: sentences to draw. The same seed gives the same sentences.
    lengths: the fewest and the most numbers in a sentence; every length is as likely.
    Raises DataError if `count` or a length is below 1, the lengths are in the wrong order, or
    `below` is not between 10 and 100,000.
    """
    if count < 1 or not 1 <= lengths[0] <= lengths[1] or not 10 <= below <= 100_000:
        raise DataError(
            f"count={count}, lengths={lengths}, below={below}: draw at least one sentence, of one "
            "number or more, shortest length first, of numbers below something from 10 to 100,000"
        )
    held_out = set(random.Random(0).sample(range(below), below // 10))
    allowed = [number for number in range(below) if (number in held_out) == new]
    draw = random.Random(seed)
    return [tuple(draw.choices(allowed, k=draw.randint(*lengths))) for _ in range(count)]


def number_words() -> NumberWords:
    """The numbers from 0 to 99,999 spelled out in English, German and French.

    Lower case. English is British ("one hundred and one"), with a comma after the thousands
    ("one thousand, two hundred"). Spelled by num2words.

    Raises DataError if the bundled file is missing or damaged.
    """
    blocks = load_text("number_words").split("\n\n")
    return NumberWords(*(tuple(block.splitlines()) for block in blocks))
