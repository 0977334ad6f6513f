"""Plain and residual networks of growing depth, on silhouettes of animals at 14 × 14 pixels.

"plain/DEPTH/SEED", "residual/DEPTH/SEED": the network `narrow(DEPTH)` is trained by
`casebook.vision.resnet.train` on the 8,000 training images, all with the same settings; runs with
the same depth and seed begin from the same weights and see the same batches. "plain at RATE/...":
the same with another learning rate. The history has

    loss         of every step
    step, error  the share of the first 1,000 training images that is wrong, every `LOOK` steps
    gradients    `signal_gradients` of the first 256 training images before the first step
    responses    `layer_responses` to the same images after the last

and, of the runs in `LOOKED_INTO`, `surface`: the loss on a random plane through the trained
network, row by row, for the offsets `OFFSETS` in both directions. Metrics: `train_error` on all
training images and `test_error` on the 2,000 test images, as shares. The weights of the runs
`LOOKED_INTO` are kept.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from casebook.data import animals
from casebook.record import Run
from casebook.training import accuracy, seed_everything
from casebook.vision.resnet import (
    ResNet,
    layer_responses,
    loss_on_plane,
    narrow,
    random_direction,
    signal_gradients,
    train,
)

KINDS, DEPTHS, SEEDS = ("plain", "residual"), (8, 14, 20, 32, 56), (0, 1, 2)
RATE, OTHER_RATES = 0.1, (0.03, 0.01)
STEPS, LOOK = 300, 25
LOOKED_INTO = ("plain/56/0", "residual/56/0")
OFFSETS = torch.linspace(-1, 1, 15).tolist()
SURFACE_IMAGES = 128

# The longest first, so that two workers finish together.
RUNS = (
    *LOOKED_INTO,
    *(f"plain at {rate}/{max(DEPTHS)}/{seed}" for rate in OTHER_RATES for seed in SEEDS),
    *(
        f"{kind}/{depth}/{seed}"
        for depth in reversed(DEPTHS)
        for seed in SEEDS
        for kind in KINDS
        if f"{kind}/{depth}/{seed}" not in LOOKED_INTO
    ),
)


def images_of(split: str) -> tuple[Tensor, Tensor]:
    """Silhouettes at half their width and height, less the mean training image; labels."""
    mean = avg_pool2d(animals().tensors("train")[0], 2).mean(0)
    images, labels = animals().tensors(split)
    return avg_pool2d(images, 2) - mean, labels


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps`, its first steps and nothing else."""
    kind, depth, seed = name.split("/")
    kind, _, other = kind.partition(" at ")
    rate = float(other) if other else RATE
    images, labels = images_of("train")
    seed_everything(int(seed))
    net = ResNet(narrow(int(depth), residual=kind == "residual"))
    settings = {"seed": int(seed), "steps": STEPS, "rate": rate, "look": LOOK}
    if max_steps is not None:
        return Run({"loss": train(net, images, labels, **settings, max_steps=max_steps).loss})
    gradients = signal_gradients(net, images[:256], labels[:256])
    history = train(
        net,
        images,
        labels,
        **settings,
        evaluate=lambda net: {"error": 1 - accuracy(net, images[:1000], labels[:1000])},
    )
    series = {
        "loss": history.loss,
        "step": history.series("step"),
        "error": history.series("error"),
        "gradients": gradients,
        "responses": layer_responses(net, images[:256]),
    }
    weights: dict[str, Tensor] = {}
    if name in LOOKED_INTO:
        generator = torch.Generator().manual_seed(0)
        directions = random_direction(net, generator), random_direction(net, generator)
        few = images[:SURFACE_IMAGES], labels[:SURFACE_IMAGES]
        series["surface"] = loss_on_plane(net, *few, directions, OFFSETS).flatten().tolist()
        weights = {
            key: value.half() if value.is_floating_point() else value
            for key, value in net.state_dict().items()
        }
    metrics = {
        "train_error": 1 - accuracy(net, images, labels),
        "test_error": 1 - accuracy(net, *images_of("test")),
    }
    return Run(series, metrics, weights)
