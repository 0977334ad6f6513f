"""The weather lab: tomorrow's high from the last fourteen days, by a shallow recurrent network.

The recurrence is Elman's (1990): the hidden units of one step are an input of the next. Beside the
network stand the forecasts that it has to beat, none of which needs more than a linear equation:
the day before (persistence), the season's mean (climatology), the season's mean plus a fraction of
today's anomaly, and ridge regression on the same fourteen highs. `block_bootstrap` says how far a
difference between two of them can be trusted, given that neighbouring days resemble each other.

Where it departs from the papers:

- The hidden units are PyTorch's `nn.RNN`: a tanh, and two bias vectors where one would do.
- The network reads fourteen days from a state of zeros. Elman's read bits, letters and words, one
  long sequence; his units lie between 0 and 1, and his context units start at 0.5.
- Errors go back through all fourteen days. Elman copied the state with fixed weights; by later
  descriptions this means that the error went back one step only.
- Trained by AdamW with a one-cycle learning rate.
- Ridge regression penalises the weights of standardised highs, with the date also the season's, and
  never the constant.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn

from casebook.training import History, fit, minibatches, one_cycle

PAST = 14
"""Days that a forecast looks back."""

YEAR = 365.2425
"""Mean length of a calendar year, in days."""


def windows(
    days: Float[Tensor, "days F"], past: int = PAST, ahead: int = 1
) -> tuple[Float[Tensor, "n past F"], Float[Tensor, "n ahead"]]:
    """Every stretch of `past` days with the highs of the `ahead` days after it, in time's order.

    days: what is known of each day, its high first. Row i holds days i to i + past - 1, the oldest
        first, and its targets begin with day i + past.
    Raises ValueError if the series is too short for one row, or a length is below 1.
    """
    if past < 1 or ahead < 1 or len(days) < past + ahead:
        raise ValueError(
            f"{len(days)} days, past={past}, ahead={ahead}: both lengths must be at least 1, and "
            "the series at least as long as their sum"
        )
    stretches = days.unfold(0, past + ahead, 1).transpose(1, 2)
    return stretches[:, :past], stretches[:, past:, 0]


@dataclass(frozen=True, eq=False)
class Examples:
    """Windows whose targets all lie in the years asked for; they may look back before them.

    dates: the day of the first target of each row.
    """

    dates: Shaped[np.ndarray, " n"]
    inputs: Float[Tensor, "n past F"]
    targets: Float[Tensor, "n ahead"]


def examples(
    dates: Shaped[np.ndarray, " days"],
    days: Float[Tensor, "days F"],
    years: tuple[int, int],
    *,
    past: int = PAST,
    ahead: int = 1,
) -> Examples:
    """The windows to learn from or to be judged on in `years`, first and last, both included.

    Raises ValueError if no window has its targets in these years, and what `windows` raises.
    """
    inputs, targets = windows(days, past, ahead)
    first = dates[past : past + len(inputs)]
    last = first + (ahead - 1)
    start, end = (np.datetime64(f"{year}-01-01") for year in (years[0], years[1] + 1))
    chosen = np.flatnonzero((first >= start) & (last < end))
    if not len(chosen):
        raise ValueError(
            f"no window of {past} + {ahead} days has its targets in the years {years}; the series "
            f"goes from {dates[0]} to {dates[-1]}"
        )
    return Examples(first[chosen], inputs[chosen], targets[chosen])


def season(dates: Shaped[np.ndarray, " days"], order: int = 1) -> Float[Tensor, "days waves"]:
    """The time of year as a point on a circle: cosine and sine, and `order` - 1 overtones.

    dates: `datetime64[D]`. The columns are cos φ, sin φ, cos 2φ, sin 2φ, ..., where φ goes from 0
    on 1 January to 2π a year later.
    """
    since_january = (dates - dates.astype("datetime64[Y]")).astype(float)
    phase = torch.tensor(2 * np.pi * since_january / YEAR)
    waves = [wave(k * phase) for k in range(1, order + 1) for wave in (torch.cos, torch.sin)]
    return torch.stack(waves, 1).float()


@dataclass(frozen=True)
class Scale:
    """Standard units: a number of standard deviations above the mean."""

    mean: float
    deviation: float

    @classmethod
    def fit(cls, values: Float[Tensor, " days"]) -> "Scale":
        """The mean and standard deviation of `values`: the training years', and no others'."""
        return cls(values.mean().item(), values.std().item())

    def to_units(self, degrees: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Degrees to standard units."""
        return (degrees - self.mean) / self.deviation

    def to_degrees(self, units: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Standard units to degrees."""
        return units * self.deviation + self.mean


# ---------------------------------------------------------------------------------------------
# The forecasts to beat


def ridge(
    inputs: Float[Tensor, "n features"],
    targets: Float[Tensor, "n outputs"],
    strength: float = 0.0,
) -> nn.Linear:
    """The linear layer with the least squared error plus `strength` times its squared weights.

    The constant is not penalised. Solved in double precision; `strength` 0 is least squares.
    Raises ValueError for a negative strength.
    """
    if strength < 0:
        raise ValueError(f"strength is {strength}; choose 0 or more")
    x, y = inputs.double(), targets.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    penalty = strength * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(x.T @ x + penalty, x.T @ y)
    layer = nn.Linear(*weights.shape).requires_grad_(False)
    layer.weight.copy_(weights.T)
    layer.bias.copy_(y_mean - x_mean @ weights)
    return layer


class RidgeForecast(nn.Module):
    """A weight for each day's high, and for the season of the last day if it is given."""

    def __init__(
        self,
        inputs: Float[Tensor, "n T F"],
        targets: Float[Tensor, "n ahead"],
        strength: float,
    ) -> None:
        super().__init__()
        self.layer = ridge(self.flatten(inputs), targets, strength)

    @staticmethod
    def flatten(days: Float[Tensor, "n T F"]) -> Float[Tensor, "n T+F-1"]:
        """All the highs, then the other features of the last day."""
        return torch.cat([days[:, :, 0], days[:, -1, 1:]], 1)

    def forward(self, days: Float[Tensor, "n T F"]) -> Float[Tensor, "n ahead"]:
        return self.layer(self.flatten(days))


class Climatology:
    """What is usual at this time of year: a mean and `order` waves, fitted by least squares."""

    def __init__(
        self,
        dates: Shaped[np.ndarray, " days"],
        highs: Float[Tensor, " days"],
        order: int,
    ) -> None:
        self.order = order
        self.layer = ridge(season(dates, order), highs[:, None])

    def __call__(self, dates: Shaped[np.ndarray, " days"]) -> Float[Tensor, " days"]:
        """The usual high of each date."""
        return self.layer(season(dates, self.order))[:, 0]


# ---------------------------------------------------------------------------------------------
# The network


def unroll(
    inputs: Float[Tensor, "B T F"],
    w_in: Float[Tensor, "H F"],
    w_hidden: Float[Tensor, "H H"],
    bias: Float[Tensor, " H"],
) -> Float[Tensor, "B T H"]:
    """The hidden state after each step: tanh(W_in x + W_hidden h + b), starting from zeros."""
    state = inputs.new_zeros(len(inputs), len(bias))
    states = []
    for day in inputs.unbind(1):
        state = torch.tanh(day @ w_in.T + state @ w_hidden.T + bias)
        states.append(state)
    return torch.stack(states, 1)


class ForecastRNN(nn.Module):
    """Reads the days one after another and forecasts from the last hidden state.

    features: numbers that are given per day: the high alone, or with the season.
    hidden: size of the state.
    ahead: days that are forecast at once.
    """

    def __init__(self, features: int = 1, hidden: int = 16, ahead: int = 1) -> None:
        super().__init__()
        self.rnn = nn.RNN(features, hidden, batch_first=True)
        self.read_out = nn.Linear(hidden, ahead)

    def forward(self, days: Float[Tensor, "B T F"]) -> Float[Tensor, "B ahead"]:
        states, _ = self.rnn(days)
        return self.read_out(states[:, -1])


@dataclass(frozen=True)
class Schedule:
    """How the lab trains; the defaults were chosen on the year 2014.

    epochs: passes over the training years.
    batch_size: windows in a minibatch.
    learning_rate: the highest, reached after a quarter of all steps; from there it falls along a
        cosine to practically nothing.
    weight_decay: AdamW's.
    """

    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2


def squared_error(
    model: nn.Module, inputs: Tensor, targets: Float[Tensor, "B ahead"]
) -> Float[Tensor, ""]:
    """Mean squared error of `model(inputs)`."""
    return nn.functional.mse_loss(model(inputs), targets)


def train(
    model: nn.Module,
    inputs: Float[Tensor, "n T F"],
    targets: Float[Tensor, "n ahead"],
    *,
    seed: int,
    schedule: Schedule | None = None,
    max_steps: int | None = None,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    description: str = "training",
) -> History:
    """Train `model` in place by the squared error, in an order that depends on `seed` alone.

    With `max_steps` the run is cut off early, and is until then the same. Raises what `fit` raises.
    """
    schedule = schedule or Schedule()
    batches = minibatches(inputs, targets, batch_size=schedule.batch_size, seed=seed)
    optimizer, scheduler = one_cycle(
        model,
        learning_rate=schedule.learning_rate,
        steps=schedule.epochs * len(batches),
        weight_decay=schedule.weight_decay,
    )
    return fit(
        model,
        batches,
        squared_error,
        optimizer,
        epochs=schedule.epochs,
        max_steps=max_steps,
        scheduler=scheduler,
        evaluate=evaluate,
        description=description,
    )


def sensitivity(model: nn.Module, days: Float[Tensor, "n T F"]) -> Float[Tensor, "n T"]:
    """How much each forecast moves with the high of each day that it is made from.

    The derivative of the first forecast by the first feature, which for a linear model is its
    weights. Back-propagation through time gives all T of them in one sweep.
    """
    days = days.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(model(days)[:, 0].sum(), days)
    return slopes[:, :, 0]


# ---------------------------------------------------------------------------------------------
# More than one day ahead, and how far to trust a difference


@torch.no_grad()
def iterate(
    step: Callable[[Tensor], Tensor],
    days: Float[Tensor, "n T F"],
    seasons: Float[Tensor, "n ahead waves"],
) -> Float[Tensor, "n ahead"]:
    """Forecasts of several days by a model of one, each made from those before it.

    step: forecasts, of shape (n, 1), from days of shape (n, T, F).
    days: the first feature of a day is its high, the others are known in advance.
    seasons: these other features of the days to come, F - 1 of them (there may be none).
    """
    forecasts = []
    for ahead in range(seasons.shape[1]):
        forecasts.append(step(days))
        tomorrow = torch.cat([forecasts[-1], seasons[:, ahead]], 1)
        days = torch.cat([days[:, 1:], tomorrow[:, None]], 1)
    return torch.cat(forecasts, 1)


def block_bootstrap(
    differences: Float64[np.ndarray, " days"], *, block: int, repeats: int, seed: int
) -> Float64[np.ndarray, " repeats"]:
    """Means of as many days, drawn again and again in whole blocks of neighbouring days.

    differences: of the errors of two forecasts for the same days, in the order of time. The last
        days are followed by the first, so that every day is in equally many blocks (the circular
        variant).
    Raises ValueError unless the block fits into the days.
    """
    days = len(differences)
    if not 1 <= block <= days:
        raise ValueError(f"block is {block}; choose from 1 to the number of days, {days}")
    starts = np.random.default_rng(seed).integers(days, size=(repeats, -(-days // block), 1))
    drawn = (starts + np.arange(block)).reshape(repeats, -1)[:, :days] % days
    return differences[drawn].mean(1)
