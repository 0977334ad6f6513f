"""Numbers in words, read back by a grammar written here, independently of what spelled them."""

import re

import pytest

from casebook.data import DataError, NumberWords, number_sentences, number_words

ENGLISH = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
ENGLISH_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
GERMAN = (
    "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn "
    "fünfzehn sechzehn siebzehn achtzehn neunzehn"
)
GERMAN_TENS = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig"
FRENCH = (
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize"
)
FRENCH_TENS = "vingt trente quarante cinquante soixante"


def values(units: str, tens: str) -> dict[str, int]:
    return {word: n for n, word in enumerate(units.split())} | {
        word: 10 * n for n, word in enumerate(tens.split(), start=2)
    }


def read_english(words: str) -> int:
    """one thousand, two hundred and forty-two: add, but "hundred" and "thousand" multiply."""
    value, total, below = values(ENGLISH, ENGLISH_TENS), 0, 0
    for word in re.split(r", | and | |-", words):
        if word == "thousand":
            total, below = 1000 * below, 0
        elif word == "hundred":
            below *= 100
        else:
            below += value[word]
    return total + below


def read_german(word: str) -> int:
    """zweiundvierzigtausenddreihundertvierundfünfzig: the unit goes before "und" and the ten."""
    value = values(GERMAN, GERMAN_TENS) | {"eins": 1, "": 0}

    def below_thousand(word: str) -> int:
        hundreds, _, rest = word.rpartition("hundert")
        unit, _, ten = rest.rpartition("und")
        return 100 * value[hundreds] + value[unit] + value[ten]

    thousands, _, rest = word.rpartition("tausend")
    return 1000 * below_thousand(thousands) + below_thousand(rest)


def read_french(words: str) -> int:
    """quatre-vingt-dix-sept mille deux cent un: 4 × 20 + 10 + 7 thousands, 2 hundreds, 1."""
    value, total, below = values(FRENCH, FRENCH_TENS), 0, 0
    for word in re.split(r" et | |-", words):
        if word == "mille":
            total, below = 1000 * (below or 1), 0
        elif word in ("cent", "cents"):
            below = 100 * (below or 1)
        elif word in ("vingt", "vingts") and below % 100 == 4:
            below += 80 - 4
        else:
            below += value[word]
    return total + below


READERS = {"english": read_english, "german": read_german, "french": read_french}


@pytest.fixture(scope="module")
def numbers() -> NumberWords:
    return number_words()


@pytest.mark.parametrize("language", READERS)
def test_words_read_back_give_the_number(numbers: NumberWords, language: str) -> None:
    words, read = numbers.language(language), READERS[language]
    assert len(words) == len(set(words)) == 100_000
    sample = [*range(1_000), *range(1_000, 100_000, 7)]  # 7 shares no factor with 10
    assert [read(words[n]) for n in sample] == sample


@pytest.mark.parametrize(
    ("number", "english", "german", "french"),
    [
        (0, "zero", "null", "zéro"),
        (1, "one", "eins", "un"),
        (42, "forty-two", "zweiundvierzig", "quarante-deux"),
        (71, "seventy-one", "einundsiebzig", "soixante et onze"),
        (80, "eighty", "achtzig", "quatre-vingts"),
        (92, "ninety-two", "zweiundneunzig", "quatre-vingt-douze"),
        (101, "one hundred and one", "einhunderteins", "cent un"),
        (1_100, "one thousand, one hundred", "eintausendeinhundert", "mille cent"),
        (21_000, "twenty-one thousand", "einundzwanzigtausend", "vingt et un mille"),
    ],
)
def test_spelling(
    numbers: NumberWords, number: int, english: str, german: str, french: str
) -> None:
    assert numbers.english[number] == english
    assert numbers.german[number] == german
    assert numbers.french[number] == french


def test_pairs(numbers: NumberWords) -> None:
    pairs = numbers.pairs("english", "german")
    assert len(pairs) == 100_000 and pairs[42] == ("forty-two", "zweiundvierzig")
    assert numbers.pairs("french", "english")[7] == ("sept", "seven")


def test_unknown_language_says_which_there_are(numbers: NumberWords) -> None:
    expected = r"no numbers in 'Latin'; choose one of \('english', 'german', 'french'\)"
    with pytest.raises(DataError, match=expected):
        numbers.language("Latin")
    for languages in (("english", "Latin"), ("Latin", "french")):
        with pytest.raises(DataError, match=expected):
            numbers.pairs(*languages)


def test_pieces_lose_nothing_but_spaces_and_hyphens(numbers: NumberWords) -> None:
    for language in READERS:
        words = numbers.language(language)
        for n in [*range(1_000), *range(1_000, 100_000, 7)]:
            assert "".join(numbers.pieces(language, n)) == re.sub("[ -]", "", words[n])
    assert numbers.pieces("english", 1_342)[2:] == (",", "three", "hundred", "and", "forty", "two")
    assert numbers.pieces("german", 21_017) == ("ein", "und", "zwanzig", "tausend", "siebzehn")
    assert numbers.pieces("french", 97, 3) == ("quatre", "vingt", "dix", "sept", ";", "trois")


def test_few_pieces_make_all_numbers(numbers: NumberWords) -> None:
    kinds = {piece for n in range(1_000) for piece in numbers.pieces("german", n)}
    assert len(kinds) == 31  # null, ein and eins, 2 to 12, 13 to 19, eight tens, hundert, und


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ((42,), (1, None, 0)),
        ((17,), (0,)),
        ((342,), (0, 1, 4, None, 3)),
        ((1_000,), (0, 1)),
        ((42, 5), (1, None, 0, 2, 3)),
        ((42_042, 1), (1, None, 0, 2, 5, None, 4, 6, 7)),
    ],
)
def test_alignment_by_hand(
    numbers: NumberWords, sentence: tuple[int, ...], expected: tuple[int | None, ...]
) -> None:
    assert numbers.alignment(*sentence) == expected


def test_aligned_pieces_mean_the_same(numbers: NumberWords) -> None:
    """A dictionary of pieces, made from small numbers, holds for all."""
    english_of = {"ein": {"one"}, "eins": {"one"}, "hundert": {"hundred"}, "tausend": {"thousand"}}
    for n in [*range(21), *range(30, 100, 10)]:
        english_of.setdefault(numbers.german[n], set()).add(numbers.english[n])
    english_of[";"] = {";"}
    for n in [*range(1_000), *range(1_000, 100_000, 7)]:
        sentence = (n, 99_999 - n)
        german, english = (numbers.pieces(name, *sentence) for name in ("german", "english"))
        alignment = numbers.alignment(*sentence)
        assert len(alignment) == len(german)
        for piece, place in zip(german, alignment, strict=True):
            if place is None:
                assert piece == "und"
            else:
                assert english[place] in english_of[piece]


def test_numbers_that_are_not_spelled_out(numbers: NumberWords) -> None:
    with pytest.raises(
        DataError, match=r"\[100000, -1\] are not spelled out; choose from 0 to 99,999"
    ):
        numbers.pieces("german", 5, 100_000, -1)


def test_sentences_keep_new_numbers_apart() -> None:
    seen = number_sentences(2_000, (1, 4), seed=0)
    new = number_sentences(2_000, (1, 4), seed=0, new=True)
    assert {len(s) for s in seen} == {len(s) for s in new} == {1, 2, 3, 4}
    numbers_seen, numbers_new = ({n for s in group for n in s} for group in (seen, new))
    assert not numbers_seen & numbers_new
    assert len(numbers_new) == 100 and max(numbers_seen | numbers_new) <= 999
    assert number_sentences(5, (1, 4), seed=3) == number_sentences(5, (1, 4), seed=3)
    assert number_sentences(5, (1, 4), seed=3) != number_sentences(5, (1, 4), seed=4)


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"lengths": (0, 2)}, {"lengths": (3, 2)}, {"below": 9}]
)
def test_sentences_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(DataError, match="draw at least one sentence"):
        number_sentences(**({"count": 5, "lengths": (1, 2), "seed": 0} | wrong))
