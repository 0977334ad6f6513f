"""Copying twelve letters, read forwards or backwards, by an LSTM or by a standard RNN.

Runs "UNIT RANGE/ORDER/SEED", one thread each: one layer of 128 units, whose weights begin uniform
between minus and plus RANGE, learns in 600 steps of 64 sequences to write down what it has read.
At 0.15 the recurrent weights of a standard RNN neither shrink nor stretch its state on average; at
0.1 they shrink it, at 0.28 they stretch it.

Metrics: `perplexity`, the exponential of the mean loss per symbol on 500 sequences never seen,
`exact`, the share of them that is copied without a fault, and `loss_1` to `loss_13`, the mean loss
of each symbol given those before it (the last is EOS).
"""

import math

import torch
from torch import Tensor, nn

from casebook.record import Run
from casebook.sequence.rnn_encoder_decoder import exact_match, greedy, train_translation
from casebook.sequence.seq2seq import Seq2Seq, Seq2SeqConfig
from casebook.text import EOS
from casebook.training import evaluation_mode, minibatches, seed_everything

SEEDS = {"lstm 0.28": (0, 1, 2), "tanh 0.1": (0, 1), "tanh 0.15": (0, 1), "tanh 0.28": (0, 1)}
RUNS = tuple(
    f"{unit}/{order}/{seed}"
    for unit, seeds in SEEDS.items()
    for order in ("forwards", "backwards")
    for seed in seeds
)
RATES = {"lstm": 6e-3, "tanh": 3e-3}  # each the better of two in short trials
LETTERS, LENGTH, STEPS = 20, 12, 600


def sequences(count: int, seed: int) -> Tensor:
    """Random letters, numbered from 3, and EOS: (count, LENGTH + 1)."""
    generator = torch.Generator().manual_seed(seed)
    letters = torch.randint(3, 3 + LETTERS, (count, LENGTH), generator=generator)
    return nn.functional.pad(letters, (0, 1), value=EOS)


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps`, its first steps and no metrics."""
    unit, order, seed = name.split("/")
    seed_everything(int(seed))
    unit, weight_range = unit.split()
    config = Seq2SeqConfig(
        3 + LETTERS,
        3 + LETTERS,
        embedding=32,
        hidden=128,
        layers=1,
        unit=unit,
        weight_range=float(weight_range),
        reverse_source=order == "backwards",
    )
    net, seen, unseen = Seq2Seq(config), sequences(64 * STEPS, 1), sequences(500, 2)
    history = train_translation(
        net,
        minibatches(seen, seen, batch_size=64, seed=int(seed)),
        learning_rate=RATES[unit],
        steps=STEPS,
        max_steps=max_steps,
        description=name,
    )
    if max_steps is not None:
        return Run({"loss": history.loss})
    with evaluation_mode(net):
        logits = net(unseen, unseen).transpose(1, 2)
        losses = nn.functional.cross_entropy(logits, unseen, reduction="none").mean(0)
        copied = exact_match(greedy(net, unseen, LENGTH + 5), unseen)
    metrics = {"perplexity": math.exp(losses.mean()), "exact": copied.double().mean().item()}
    metrics |= {f"loss_{i}": loss.item() for i, loss in enumerate(losses, start=1)}
    return Run({"loss": history.loss}, metrics)
