"""Bundled data sets, one function each; nothing is downloaded.

- `mnist`: 70,000 handwritten digits
- `animals`: 10,000 silhouettes of ten animals
- `shakespeare`: nine plays as one text
- `weather`: four years of daily highs in Seattle
- `number_words`: the numbers to 99,999 spelled out in English, German and French;
  `number_sentences` draws lists of them to translate

`registry` lists the files with their origin and licence, which `python -m casebook.data` prints.
Every file is compared with its SHA-256 before it is read; a difference is a `DataError`.
"""

from casebook.data.digits import mnist
from casebook.data.images import LabelledImages
from casebook.data.numerals import NumberWords, number_sentences, number_words
from casebook.data.plays import shakespeare
from casebook.data.silhouettes import animals
from casebook.data.store import DataError, Entry, registry
from casebook.data.temperatures import DailyHighs, weather

__all__ = [
    "DailyHighs",
    "DataError",
    "Entry",
    "LabelledImages",
    "NumberWords",
    "animals",
    "mnist",
    "number_sentences",
    "number_words",
    "registry",
    "shakespeare",
    "weather",
]
