"""Four years of daily highs in Seattle."""

import csv
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Shaped

from casebook.data.store import load_text


@dataclass(frozen=True, eq=False, repr=False)
class DailyHighs:
    """The highest temperature of each day, with no day missing."""

    place: str
    """Where it was measured."""
    dates: Shaped[np.ndarray, " days"]
    """The days in order, as `datetime64[D]`."""
    highs: Float32[np.ndarray, " days"]
    """The highest temperature of each day, in degrees Celsius."""

    def __repr__(self) -> str:
        return (
            f"DailyHighs({len(self.dates):,} days in {self.place}, "
            f"{self.dates[0]} to {self.dates[-1]})"
        )


def weather() -> DailyHighs:
    """Daily highs in Seattle from 1 January 2012 to 31 December 2015: 1,461 days in a row.

    Measured to a tenth of a degree Celsius, from -1.6 to 35.6. From NOAA's public-domain records
    by way of the vega_datasets collection.

    Raises DataError if the bundled file is missing or damaged.
    """
    rows = list(csv.DictReader(load_text("weather").splitlines()))
    return DailyHighs(
        place="Seattle",
        dates=np.array([row["date"] for row in rows], dtype="datetime64[D]"),
        highs=np.array([row["high"] for row in rows], dtype=np.float32),
    )
