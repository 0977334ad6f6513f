"""Do skip connections matter on MNIST? The lab's two networks over seeds, and deeper ones.

`plain-seed0`, `residual-seed0`, ...: the lab's network, trained as in the lab on the first 50,000
training digits. Besides the loss of every step the history has `validation`, the accuracy on the
last 10,000 training digits after each epoch, and `wrong` and `said`: which of the 10,000 test
digits the trained network gets wrong, and what it takes them for. Metrics: `validation_error` and
`test_error`, as shares.

`plain-depth9-seed0`, `residual-depth9-seed0`, ...: networks of 9 to 51 convolutions, half as wide,
trained on half an epoch. Metrics: `train_loss` and `train_error` on the first 10,000 training
digits. The training set is the criterion: these runs ask what can be optimised.
"""

import torch
from torch.nn.functional import cross_entropy

from casebook.data import mnist
from casebook.record import Run
from casebook.training import accuracy, predict, seed_everything
from casebook.vision.mnist_lab import MiniVGG, MiniVGGConfig, Schedule, centre_crop, train

TRAINING = 50_000
"""The lab trains on the first 50,000 training digits and chooses on the other 10,000."""

SWEEP_CHANNELS = (8, 16, 32)
SWEEP_DIGITS = 200 * 128
"""Two hundred steps of 128 digits."""

KINDS = ("plain", "residual")
SHOWN = ("residual", 0)
"""The run whose weights are kept, because the lab looks into its network."""

LAB = {f"{kind}-seed{seed}": (kind, seed) for kind in KINDS for seed in range(5)}
SWEEP = {
    f"{kind}-depth{3 + 6 * pairs}-seed{seed}": (kind, pairs, seed)
    for pairs in (1, 2, 4, 8)
    for kind in KINDS
    for seed in range(3)
}
RUNS = (*LAB, *SWEEP)


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps` only its first steps, without metrics."""
    return _lab(*LAB[name], max_steps) if name in LAB else _sweep(*SWEEP[name], max_steps)


def _lab(kind: str, seed: int, max_steps: int | None) -> Run:
    images, labels = mnist().tensors("train")
    unseen, answers = centre_crop(images[TRAINING:]), labels[TRAINING:]
    seed_everything(seed)
    model = MiniVGG(MiniVGGConfig(residual=kind == "residual"))
    history = train(
        model,
        images[:TRAINING],
        labels[:TRAINING],
        seed=seed,
        max_steps=max_steps,
        evaluate=None
        if max_steps
        else lambda model: {"validation": accuracy(model, unseen, answers)},
    )
    if max_steps:
        return Run({"loss": history.loss})
    images, labels = mnist().tensors("test")
    said = predict(model, centre_crop(images)).argmax(1)
    wrong = torch.nonzero(said != labels).flatten()
    return Run(
        {
            "loss": history.loss,
            "validation": history.series("validation"),
            "wrong": wrong.tolist(),
            "said": said[wrong].tolist(),
        },
        {
            "validation_error": 1 - history.series("validation")[-1],
            "test_error": len(wrong) / len(labels),
        },
        model.state_dict() if (kind, seed) == SHOWN else {},
    )


def _sweep(kind: str, pairs: int, seed: int, max_steps: int | None) -> Run:
    images, labels = mnist().tensors("train")
    seed_everything(seed)
    model = MiniVGG(MiniVGGConfig(SWEEP_CHANNELS, (pairs,) * 3, residual=kind == "residual"))
    history = train(
        model,
        images[:SWEEP_DIGITS],
        labels[:SWEEP_DIGITS],
        seed=seed,
        schedule=Schedule(epochs=1),
        max_steps=max_steps,
    )
    if max_steps:
        return Run({"loss": history.loss})
    logits, labels = predict(model, centre_crop(images[:10_000])), labels[:10_000]
    return Run(
        {"loss": history.loss},
        {
            "train_loss": cross_entropy(logits, labels).item(),
            "train_error": (logits.argmax(1) != labels).double().mean().item(),
        },
    )
