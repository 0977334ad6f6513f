"""The weather lab: its windows and splits, the forecasts to beat, the network, the bootstrap."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from casebook.data import weather
from casebook.sequence.weather_lab import (
    Climatology,
    ForecastRNN,
    RidgeForecast,
    Scale,
    Schedule,
    block_bootstrap,
    examples,
    iterate,
    ridge,
    season,
    sensitivity,
    squared_error,
    train,
    unroll,
    windows,
)
from casebook.training import count_parameters, predict, seed_everything


def calendar(start: str, days: int) -> np.ndarray:
    return np.datetime64(start) + np.arange(days)


def standard_days(with_season: bool = False) -> tuple[np.ndarray, Tensor]:
    """Seattle's dates and features in standard units of 2012 and 2013."""
    record = weather()
    highs = torch.tensor(record.highs)
    scale = Scale.fit(highs[record.dates < np.datetime64("2014")])
    days = scale.to_units(highs)[:, None]
    return record.dates, torch.cat([days, season(record.dates)], 1) if with_season else days


# Windows and splits


def test_windows_equal_slicing() -> None:
    days = torch.randn(30, 3)
    inputs, targets = windows(days, past=5, ahead=2)
    assert inputs.shape == (24, 5, 3) and targets.shape == (24, 2)
    for i in range(24):
        torch.testing.assert_close(inputs[i], days[i : i + 5])
        torch.testing.assert_close(targets[i], days[i + 5 : i + 7, 0])


def test_a_series_of_just_one_window() -> None:
    inputs, targets = windows(torch.arange(15.0)[:, None])
    assert inputs[0, :, 0].tolist() == list(range(14)) and targets.tolist() == [[14.0]]


@pytest.mark.parametrize(("days", "past", "ahead"), [(14, 14, 1), (20, 0, 1), (20, 3, 0)])
def test_impossible_windows_are_errors(days: int, past: int, ahead: int) -> None:
    with pytest.raises(ValueError, match=f"{days} days, past={past}, ahead={ahead}"):
        windows(torch.zeros(days, 1), past, ahead)


@pytest.mark.parametrize("ahead", [1, 14])
def test_no_target_is_in_two_parts_and_none_in_another_year(ahead: int) -> None:
    dates, days = standard_days()
    seen = set()
    for years in ((2012, 2013), (2014, 2014), (2015, 2015)):
        part = examples(dates, days, years, ahead=ahead)
        covered = {
            date + step for date in part.dates for step in np.arange(ahead, dtype="timedelta64[D]")
        }
        assert {date.astype(object).year for date in covered} == set(range(years[0], years[1] + 1))
        assert not covered & seen
        seen |= covered
        place = np.searchsorted(dates, part.dates)
        torch.testing.assert_close(part.targets[:, 0], days[place, 0])
        torch.testing.assert_close(part.inputs[:, -1], days[place - 1])


def test_sizes_counted_by_hand() -> None:
    dates, days = standard_days()
    assert len(examples(dates, days, (2012, 2013)).dates) == 366 + 365 - 14
    assert len(examples(dates, days, (2015, 2015)).dates) == 365
    assert len(examples(dates, days, (2015, 2015), ahead=14).dates) == 365 - 13


def test_years_without_data_are_an_error() -> None:
    dates, days = standard_days()
    with pytest.raises(ValueError, match=r"\(2016, 2017\).*2012-01-01 to 2015-12-31"):
        examples(dates, days, (2016, 2017))


def test_scale_makes_standard_units_and_back() -> None:
    values = torch.tensor([1.0, 3.0, 5.0])
    scale = Scale.fit(values)
    assert (scale.mean, scale.deviation) == (3.0, 2.0)
    assert scale.to_units(values).tolist() == [-1.0, 0.0, 1.0]
    torch.testing.assert_close(scale.to_degrees(scale.to_units(values)), values)


def test_season_goes_once_around_a_year() -> None:
    waves = season(calendar("2013-01-01", 366), order=2)
    assert waves.shape == (366, 4)
    torch.testing.assert_close(waves[0], torch.tensor([1.0, 0.0, 1.0, 0.0]))
    torch.testing.assert_close(waves[365], waves[0])  # 1 January again
    torch.testing.assert_close(waves[:, 0] ** 2 + waves[:, 1] ** 2, torch.ones(366))
    assert waves[:, 0].argmin() in (182, 183)  # 2 or 3 July


# The forecasts to beat


@pytest.mark.parametrize("strength", [0.0, 3.0, 100.0])
def test_ridge_equals_scikit_learn(strength: float) -> None:
    seed_everything(0)
    x, y = torch.randn(50, 6) + 2, torch.randn(50, 3) - 1
    layer = ridge(x, y, strength)
    theirs = Ridge(alpha=strength).fit(x.double().numpy(), y.double().numpy())
    np.testing.assert_allclose(layer(x), theirs.predict(x.double().numpy()), atol=1e-5)


def test_ridge_on_one_feature_by_hand() -> None:
    """Points (0, 0), (1, 1), (2, 2): slope 2 / (2 + strength) around the mean (1, 1)."""
    x = torch.tensor([[0.0], [1.0], [2.0]])
    layer = ridge(x, x, strength=2.0)
    assert layer.weight.item() == pytest.approx(0.5)
    assert layer.bias.item() == pytest.approx(0.5)


def test_a_negative_penalty_is_an_error() -> None:
    with pytest.raises(ValueError, match="strength is -1"):
        ridge(torch.zeros(3, 1), torch.zeros(3, 1), -1.0)


def test_climatology_recovers_a_pure_year() -> None:
    dates = calendar("2012-01-01", 1461)
    highs = 15 + season(dates, 2) @ torch.tensor([-8.0, 1.0, 0.5, -2.0])
    usual = Climatology(dates[:731], highs[:731], order=2)
    torch.testing.assert_close(usual(dates), highs, atol=1e-4, rtol=0)


def test_ridge_forecast_takes_the_highs_and_the_last_days_season() -> None:
    days = torch.arange(12.0).reshape(1, 4, 3)
    assert RidgeForecast.flatten(days).tolist() == [[0, 3, 6, 9, 10, 11]]


def test_ridge_does_not_mind_a_shuffled_window() -> None:
    """Its penalty treats all days alike, so the weights merely move along."""
    dates, days = standard_days()
    learn = examples(dates, days, (2012, 2013))
    order = torch.randperm(14, generator=torch.Generator().manual_seed(0))
    straight = RidgeForecast(learn.inputs, learn.targets, 3.0)
    shuffled = RidgeForecast(learn.inputs[:, order], learn.targets, 3.0)
    torch.testing.assert_close(straight(learn.inputs), shuffled(learn.inputs[:, order]))


# The network


def test_unrolled_cell_equals_pytorchs() -> None:
    seed_everything(0)
    theirs = nn.RNN(3, 5, batch_first=True)
    inputs = torch.randn(4, 9, 3)
    bias = theirs.bias_ih_l0 + theirs.bias_hh_l0
    states = unroll(inputs, theirs.weight_ih_l0, theirs.weight_hh_l0, bias)
    torch.testing.assert_close(states, theirs(inputs)[0])


def test_two_steps_of_one_unit_by_hand() -> None:
    """tanh(0.5·2 + 1) and then tanh(0.5·(-1) + 3·tanh(2) + 1)."""
    one = torch.ones(1, 1)
    states = unroll(torch.tensor([[[2.0], [-1.0]]]), 0.5 * one, 3 * one, torch.ones(1))
    first = np.tanh(2.0)
    assert states.flatten().tolist() == pytest.approx([first, np.tanh(0.5 + 3 * first)])


@pytest.mark.parametrize(("features", "ahead"), [(1, 1), (3, 14)])
def test_output_is_finite_and_every_parameter_learns(features: int, ahead: int) -> None:
    seed_everything(0)
    model = ForecastRNN(features, hidden=6, ahead=ahead)
    days, targets = torch.randn(8, 14, features), torch.randn(8, ahead)
    assert model(days).shape == (8, ahead)
    squared_error(model, days, targets).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_parameters_counted_by_hand() -> None:
    cell = 16 * 1 + 16 * 16 + 2 * 16
    assert count_parameters(ForecastRNN()) == cell + 16 + 1 == 321


def test_same_seed_same_run_and_a_shorter_run_is_its_beginning() -> None:
    dates, days = standard_days()
    learn = examples(dates, days, (2012, 2012))

    def losses(seed: int, max_steps: int | None = None) -> list[float]:
        seed_everything(seed)
        schedule = Schedule(epochs=2, batch_size=100)
        model = ForecastRNN(hidden=4)
        kind = {"seed": seed, "schedule": schedule, "max_steps": max_steps}
        return train(model, learn.inputs, learn.targets, **kind).loss

    first = losses(0)
    assert len(first) == 8
    assert losses(0) == first and losses(0, max_steps=3) == first[:3] and losses(1) != first


def test_it_learns_to_remember_the_first_of_five_numbers() -> None:
    """No linear model of the last number could: only a memory solves this."""
    seed_everything(0)
    inputs = torch.rand(2000, 5, 1) * 2 - 1
    targets = inputs[:, 0]
    model = ForecastRNN(hidden=8)
    train(model, inputs[:1500], targets[:1500], seed=0, schedule=Schedule(epochs=12))
    error = (predict(model, inputs[1500:]) - targets[1500:]).square().mean()
    assert error < 0.01 * targets.var()


def test_it_comes_close_to_ridge_on_real_weather() -> None:
    dates, days = standard_days()
    learn, judge = (examples(dates, days, years) for years in ((2012, 2013), (2014, 2014)))
    seed_everything(0)
    model = ForecastRNN()
    train(model, learn.inputs, learn.targets, seed=0, schedule=Schedule(epochs=12))
    linear = RidgeForecast(learn.inputs, learn.targets, 3.0)
    ours, theirs = (squared_error(m, judge.inputs, judge.targets) for m in (model, linear))
    persistence = (judge.inputs[:, -1] - judge.targets).square().mean()
    assert ours < 0.95 * persistence and ours < 1.1 * theirs


# Slopes


def test_slopes_of_a_linear_model_are_its_weights() -> None:
    seed_everything(0)
    days, targets = torch.randn(40, 14, 1), torch.randn(40, 1)
    model = RidgeForecast(days, targets, 1.0)
    slopes = sensitivity(model, days)
    torch.testing.assert_close(slopes, model.layer.weight.expand(40, 14))


def test_slopes_equal_finite_differences() -> None:
    seed_everything(0)
    model = ForecastRNN(features=3, hidden=5).double()
    days = torch.randn(3, 6, 3, dtype=torch.float64)
    slopes = sensitivity(model, days)
    for day in range(6):
        nudge = torch.zeros_like(days)
        nudge[:, day, 0] = 1e-6
        with torch.no_grad():
            measured = (model(days + nudge) - model(days - nudge))[:, 0] / 2e-6
        torch.testing.assert_close(slopes[:, day], measured, atol=1e-8, rtol=1e-6)


# Several days ahead


def test_iterated_halving_halves_every_day() -> None:
    days = torch.tensor([[[3.0], [8.0]]])
    ahead = iterate(lambda window: window[:, -1] / 2, days, torch.zeros(1, 4, 0))
    assert ahead.tolist() == [[4.0, 2.0, 1.0, 0.5]]


def test_the_season_of_the_coming_days_moves_in() -> None:
    """A model that forecasts the season of its last day repeats it one day late."""
    days, seasons = torch.zeros(1, 3, 2), torch.tensor([[[1.0], [2.0], [3.0]]])
    ahead = iterate(lambda window: window[:, -1, 1:], days, seasons)
    assert ahead.tolist() == [[0.0, 1.0, 2.0]]


def test_the_first_iterated_day_is_the_models_own_forecast() -> None:
    dates, days = standard_days(with_season=True)
    part = examples(dates, days, (2014, 2014), ahead=3)
    model = RidgeForecast(part.inputs, part.targets[:, :1], 1.0)
    seasons = torch.zeros(len(part.inputs), 3, 2)
    torch.testing.assert_close(
        iterate(model, part.inputs, seasons)[:, :1], model(part.inputs), atol=0, rtol=0
    )


# The bootstrap


def test_blocks_of_all_days_repeat_the_mean() -> None:
    differences = np.random.default_rng(0).normal(size=50)
    means = block_bootstrap(differences, block=50, repeats=20, seed=0)
    np.testing.assert_allclose(means, differences.mean())


def test_single_days_give_the_textbook_error_of_a_mean() -> None:
    differences = np.random.default_rng(0).normal(size=400)
    means = block_bootstrap(differences, block=1, repeats=4000, seed=1)
    assert means.std() == pytest.approx(differences.std() / 20, rel=0.05)


def test_blocks_see_that_neighbours_resemble_each_other() -> None:
    """Each value twice in a row: half as many independent days, √2 the error."""
    differences = np.repeat(np.random.default_rng(0).normal(size=300), 2)
    single, pairs = (
        block_bootstrap(differences, block=block, repeats=4000, seed=1).std() for block in (1, 20)
    )
    assert pairs / single == pytest.approx(2**0.5, rel=0.12)


@pytest.mark.parametrize("block", [0, 11])
def test_a_block_that_does_not_fit_is_an_error(block: int) -> None:
    with pytest.raises(ValueError, match=f"block is {block}; choose from 1 to"):
        block_bootstrap(np.zeros(10), block=block, repeats=3, seed=0)
