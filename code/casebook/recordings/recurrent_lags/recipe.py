"""Who remembers the first symbol of a sequence until its end?

"KIND/LAG/SEED": a layer of 32 units learns for 400 steps which of two symbols a sequence began
with, and is asked LAG steps later. KIND is "tanh", or the LSTM with an initial forget bias of 1 or
of 5. Metric: the share of right answers on 2,000 new sequences; half are right by guessing.
"""

import torch

from casebook.record import Run
from casebook.sequence.recurrent import Rememberer, clip_before_step, first_symbols
from casebook.training import classification_loss, fit, seed_everything

KINDS = {"tanh": ("tanh", 0.0), "lstm, bias 1": ("lstm", 1.0), "lstm, bias 5": ("lstm", 5.0)}
LAGS = (10, 30, 100)
SEEDS = range(5)
STEPS, BATCH, RATE, CLIP = 400, 32, 5e-3, 1.0
RUNS = tuple(f"{kind}/{lag}/{seed}" for kind in KINDS for lag in LAGS for seed in SEEDS)


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps` only its first steps, without the metric."""
    kind, lag, seed = name.split("/")
    generator = seed_everything(int(seed))
    model = Rememberer(*KINDS[kind])
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    clip_before_step(optimizer, CLIP)
    steps = max_steps or STEPS
    batches = (first_symbols(int(lag), BATCH, generator) for _ in range(steps))
    history = fit(model, batches, classification_loss, optimizer, max_steps=steps, description=name)
    if max_steps:
        return Run({"loss": history.loss})
    sequences, first = first_symbols(int(lag), 2000, generator)
    right = (model(sequences).argmax(1) == first).double().mean().item()
    return Run({"loss": history.loss}, {"accuracy": right})
