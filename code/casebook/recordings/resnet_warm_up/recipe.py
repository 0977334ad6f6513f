"""Fifty-six layers once more, plain and residual, with a slow start.

"plain/SEED", "residual/SEED": as the runs "plain/56/SEED" and "residual/56/SEED" of the recording
`resnet_degradation`, but the learning rate is a tenth during the first `WARM_UP` steps. The paper
does so with 110 layers, until the training error is below 80 % (§4.2).

History: `loss` of every step; `step` and `error`, the share of the first 1,000 training images that
is wrong, every `LOOK` steps. Metrics: `train_error` and `test_error`, as shares.
"""

from torch import Tensor
from torch.nn.functional import avg_pool2d

from casebook.data import animals
from casebook.record import Run
from casebook.training import accuracy, seed_everything
from casebook.vision.resnet import ResNet, narrow, train

DEPTH, STEPS, WARM_UP, LOOK = 56, 300, 40, 25
RUNS = tuple(f"{kind}/{seed}" for seed in (0, 1, 2) for kind in ("residual", "plain"))


def images_of(split: str) -> tuple[Tensor, Tensor]:
    """Silhouettes at half their width and height, less the mean training image; labels."""
    mean = avg_pool2d(animals().tensors("train")[0], 2).mean(0)
    images, labels = animals().tensors(split)
    return avg_pool2d(images, 2) - mean, labels


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps`, its first steps and nothing else."""
    kind, seed = name.split("/")
    images, labels = images_of("train")
    seed_everything(int(seed))
    net = ResNet(narrow(DEPTH, residual=kind == "residual"))
    settings = {"seed": int(seed), "steps": STEPS, "warm_up": WARM_UP, "look": LOOK}
    if max_steps is not None:
        return Run({"loss": train(net, images, labels, **settings, max_steps=max_steps).loss})
    history = train(
        net,
        images,
        labels,
        **settings,
        evaluate=lambda net: {"error": 1 - accuracy(net, images[:1000], labels[:1000])},
    )
    series = {key: history.series(key) for key in ("step", "error")}
    metrics = {
        "train_error": 1 - accuracy(net, images, labels),
        "test_error": 1 - accuracy(net, *images_of("test")),
    }
    return Run({"loss": history.loss, **series}, metrics)
