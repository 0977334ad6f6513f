"""Seattle's highs: every day of four years."""

import numpy as np
import pytest

from casebook.data import weather


def test_no_day_is_missing() -> None:
    days = weather()
    assert days.dates.dtype == np.dtype("datetime64[D]") and len(days.dates) == 1_461
    assert str(days.dates[0]) == "2012-01-01" and str(days.dates[-1]) == "2015-12-31"
    assert (np.diff(days.dates) == np.timedelta64(1, "D")).all()


def test_highs_are_degrees_celsius_to_a_tenth() -> None:
    days = weather()
    assert days.place == "Seattle"
    assert days.highs.dtype == np.float32 and days.highs.shape == (1_461,)
    assert days.highs[:4].tolist() == pytest.approx([12.8, 10.6, 11.7, 12.2])
    assert days.highs.min() == pytest.approx(-1.6) and days.highs.max() == pytest.approx(35.6)
    assert np.allclose(days.highs * 10, np.round(days.highs * 10), atol=1e-4)


def test_summers_are_warm() -> None:
    days = weather()
    month = days.dates.astype("datetime64[M]").astype(int) % 12 + 1
    means = [days.highs[month == m].mean() for m in range(1, 13)]
    assert np.argmax(means) + 1 in (7, 8) and np.argmin(means) + 1 in (12, 1)
    assert means[6] - means[0] > 15
