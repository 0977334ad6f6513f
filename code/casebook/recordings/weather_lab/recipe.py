"""The weather lab's network with other inputs, other sizes and other targets, ten seeds each.

Runs are called "KIND-seedN". `season`: the highs and the season of each day. `oneday`: yesterday's
high alone, so that there is nothing to remember. `scrambled`: the fourteen highs in an order drawn
once from the seed. `hidden2` and the like: other numbers of hidden units. `direct`: fourteen days
ahead at once, with the season.

Trained on 2012 and 2013, like the network in the lab. Metrics: `train`, `validation` (2014) and
`test` (2015), the root mean square error in degrees Celsius, for `direct` over all fourteen days.
The weights of `season` and `direct` are kept, because the lab goes on to forecast with them.
"""

import numpy as np
import torch

from casebook.data import weather
from casebook.record import Run
from casebook.sequence.weather_lab import ForecastRNN, Scale, examples, season, train
from casebook.training import predict, seed_everything

YEARS = {"train": (2012, 2013), "validation": (2014, 2014), "test": (2015, 2015)}
SEEDS = range(10)
HIDDEN = (1, 2, 4, 8, 32)
KINDS = ("season", "oneday", "scrambled", *(f"hidden{size}" for size in HIDDEN), "direct")
RUNS = tuple(f"{kind}-seed{seed}" for kind in KINDS for seed in SEEDS)


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps` only its first steps, without metrics."""
    kind, seed = name.split("-seed")
    seed = int(seed)
    record = weather()
    highs = torch.tensor(record.highs)
    scale = Scale.fit(highs[record.dates < np.datetime64("2014")])
    days = scale.to_units(highs)[:, None]
    if kind in ("season", "direct"):
        days = torch.cat([days, season(record.dates)], 1)
    lengths = {"past": 1} if kind == "oneday" else {"ahead": 14} if kind == "direct" else {}
    parts = {part: examples(record.dates, days, years, **lengths) for part, years in YEARS.items()}
    generator = seed_everything(seed)
    order = torch.arange(parts["train"].inputs.shape[1])
    if kind == "scrambled":
        order = torch.randperm(len(order), generator=generator)
    hidden = int(kind.removeprefix("hidden")) if kind.startswith("hidden") else 16
    model = ForecastRNN(days.shape[1], hidden, lengths.get("ahead", 1))
    learn = parts["train"]
    history = train(model, learn.inputs[:, order], learn.targets, seed=seed, max_steps=max_steps)
    if max_steps:
        return Run({"loss": history.loss})
    metrics = {}
    for part, given in parts.items():
        error = predict(model, given.inputs[:, order]) - given.targets
        metrics[part] = scale.deviation * error.square().mean().sqrt().item()
    kept = model.state_dict() if kind in ("season", "direct") else {}
    return Run({"loss": history.loss}, metrics, kept)
