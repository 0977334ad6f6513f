"""Does depth help, and what must it begin from? Small VGGs on silhouettes, over seeds.

* "depth/NAME/SEED": the small versions of A, A-LRN, B, C, D, E and of the shallow net with 5 x 5
  windows, all trained alike from weights by the rule of He et al. Metrics: `train_error` on the
  first 2,000 training images and `test_error` on all 2,000 test images, as shares.
* "start/HOW/SEED": how A and E begin to learn from the random weights of the paper and from others.
  "A gaussian" and "E gaussian" begin from one Gaussian; "E taken over" takes four convolutions and
  the fully connected layers from an A trained in the same way for 100 steps; "E glorot" begins by
  Glorot's rule. Metrics as above.

The Gaussian's standard deviation is sqrt(8) times 0.01: a kernel here has an eighth of the inputs
(in the first convolution a third), and so the signal shrinks from layer to layer as it does in the
networks of full width.

Images are padded with zeros from 28 x 28 to 32 x 32 pixels, and the mean of the training pixels is
subtracted. In "start" pixels go up to 255, as the paper's must have; in "depth" they are divided
by their standard deviation.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from casebook.data import animals
from casebook.record import Run
from casebook.training import (
    History,
    accuracy,
    classification_loss,
    fit,
    minibatches,
    seed_everything,
)
from casebook.vision.vgg import SIZES, VGG, take_over

NAMES = ("A", "A-LRN", "B", "C", "D", "E", "B-5x5")
STARTS = ("A gaussian", "E gaussian", "E taken over", "E glorot")
SEEDS = (0, 1, 2)
STEPS = {"depth": 400, "start": 200}
SHALLOW_STEPS = 100  # of network A, before its layers are taken over
BATCH, RATE = 64, 0.001
STEPS_PER_LOOK = 50
GAUSSIAN = 0.01 * 8**0.5

RUNS = (
    *(f"depth/{name}/{seed}" for name in NAMES for seed in SEEDS),
    *(f"start/{how}/{seed}" for how in STARTS for seed in SEEDS),
)
SHOWN = "depth/D/0"
"""The run whose weights are kept: the chapter slides its network over larger images."""


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps`, its first steps and no errors."""
    kind, which, seed = name.split("/")
    seed_everything(int(seed))
    if kind == "depth":
        net = VGG(SIZES[f"small-{which}"])
    else:
        net = begin(*which.split(" ", 1), int(seed))
    raw = kind == "start"
    history = train(net, int(seed), STEPS[kind], raw, max_steps)
    if max_steps is not None:
        return Run({"loss": history.loss})
    images, labels = prepared("train", raw)
    test_images, test_labels = prepared("test", raw)
    metrics = {
        "train_error": 1 - accuracy(net, images[:2000], labels[:2000]),
        "test_error": 1 - accuracy(net, test_images, test_labels),
    }
    series = {"loss": history.loss} | {
        key: history.series(key) for key in ("step", "train_error", "test_error")
    }
    keep = name == SHOWN
    weights = {key: value.half() for key, value in net.state_dict().items()} if keep else {}
    return Run(series, metrics, weights)


def begin(name: str, how: str, seed: int) -> VGG:
    """A network that has learned nothing yet, unless it takes over layers of one that has."""
    rule = "glorot" if how == "glorot" else "gaussian"
    net = VGG(replace(SIZES[f"small-{name}"], initialisation=rule, weight_std=GAUSSIAN))
    if how == "taken over":
        shallow = begin("A", "gaussian", seed)
        train(shallow, seed, SHALLOW_STEPS, raw=True)
        take_over(net, shallow)
    return net


def train(net: VGG, seed: int, steps: int, raw: bool, max_steps: int | None = None) -> History:
    """Adam at a rate that is divided by ten after 60 % and after 85 % of the steps.

    Errors, every 50 steps, are those on 500 training and 500 test images.
    """
    net.to(memory_format=torch.channels_last)
    images, labels = prepared("train", raw)
    test_images, test_labels = prepared("test", raw)
    batches = minibatches(images, labels, batch_size=BATCH, seed=seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, [round(0.6 * steps), round(0.85 * steps)]
    )
    history, wanted = History(), steps if max_steps is None else max_steps
    order = forever(batches)
    while len(history.loss) < wanted:
        some = [next(order) for _ in range(min(STEPS_PER_LOOK, wanted - len(history.loss)))]
        history.loss += fit(net, some, classification_loss, optimizer, scheduler=scheduler).loss
        if max_steps is None:
            history.evaluations.append(
                {
                    "train_error": 1 - accuracy(net, images[:500], labels[:500]),
                    "test_error": 1 - accuracy(net, test_images[:500], test_labels[:500]),
                    "step": float(len(history.loss)),
                }
            )
    return history


def forever(batches: Iterable[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
    """One epoch after the other."""
    while True:
        yield from batches


@cache
def prepared(split: str, raw: bool) -> tuple[Tensor, Tensor]:
    """Images of a split as the networks take them, (n, 1, 32, 32), and their labels."""
    whole = pad(animals().tensors("train")[0], (2, 2, 2, 2))
    images, labels = animals().tensors(split)
    images = (pad(images, (2, 2, 2, 2)) - whole.mean()) * (255 if raw else 1 / whole.std())
    return images.contiguous(memory_format=torch.channels_last), labels
