"""What each of AlexNet's ideas does to a small AlexNet, and how fast three activations learn.

Two kinds of runs, all on the silhouettes of `casebook.data.animals`, one thread each:

* "ablation/VARIANT/SEED": the small AlexNet, with one of its ideas taken away or changed, learns
  from 1,000 images, some 100 of each animal. Metrics: top-1 errors on the training images and on
  the 2,000 test images, from the centre crop alone and averaged over ten views.
* "race/RECIPE/ACTIVATION/RATE/SEED": a four-layer network without regularisation learns from
  2,000 images, some 200 of each animal, until 25 % of (half of) these are wrong. Metric: the steps
  that took, or `inf` where it did not get there within the limit.

The recipe "scaled" is today's: pixels from 0 to 1, initial weights scaled to the number of inputs.
The recipe "raw" is nearer to 2012: pixels from 0 to 255, all weights from one Gaussian. In both,
the mean of the training images is subtracted.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from casebook.data import animals
from casebook.record import Run
from casebook.training import (
    History,
    TrainingDiverged,
    accuracy,
    classification_loss,
    fit,
    minibatches,
    predict,
    seed_everything,
)
from casebook.vision.alexnet import (
    SIZES,
    AlexNet,
    AlexNetConfig,
    centre_crop,
    random_crops,
    random_reflections,
    ten_views,
    without_groups,
    without_normalisation,
)

SMALL = SIZES["small"]
ONE_COLUMN = replace(
    without_groups(SMALL),
    convolutions=tuple(
        replace(layer, kernels=kernels, groups=1)
        for layer, kernels in zip(SMALL.convolutions, (8, 16, 16, 16, 32), strict=True)
    ),
)

VARIANTS: dict[str, AlexNetConfig] = {
    "everything": SMALL,
    "tanh for ReLU": replace(SMALL, activation="tanh"),
    "no dropout": replace(SMALL, dropout=0.0),
    "no overlap": replace(SMALL, pool_window=2),
    "no augmentation": SMALL,
    "no normalisation": without_normalisation(SMALL),
    "one column": ONE_COLUMN,
    "no groups": without_groups(SMALL),
}
SEEDS = (0, 1, 2)
IMAGES, EPOCHS, BATCH, RATE = 1000, 40, 64, 0.03
EPOCHS_PER_EVALUATION = 5

RATES: dict[str, dict[str, tuple[float, ...]]] = {
    "scaled": {
        "relu": (0.01, 0.03, 0.1),
        "tanh": (0.01, 0.03, 0.1, 0.3),
        "sigmoid": (0.03, 0.1, 0.3),
    },
    "raw": {
        "relu": (0.0003, 0.001, 0.003),
        "tanh": (0.03, 0.1, 0.3),
        "sigmoid": (0.03, 0.1, 0.3),
    },
}
RACE_IMAGES, TARGET, LIMIT, STEPS_PER_LOOK = 2000, 0.25, 400, 8
RAW_STD = 0.05  # of all initial weights in the recipe "raw"

RUNS = (
    *(f"ablation/{variant}/{seed}" for variant in VARIANTS for seed in SEEDS),
    *(
        f"race/{recipe}/{activation}/{rate:g}/{seed}"
        for recipe, activations in RATES.items()
        for activation, rates in activations.items()
        for rate in rates
        for seed in SEEDS
    ),
)


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps`, its first steps and no evaluation of the test images."""
    kind, *rest = name.split("/")
    if kind == "race":
        recipe, activation, rate, seed = rest
        return race(recipe, activation, float(rate), int(seed), max_steps)
    variant, seed = rest
    net, history = train(
        VARIANTS[variant],
        int(seed),
        augment=variant != "no augmentation",
        max_steps=max_steps,
    )
    if max_steps is not None:
        return Run({"loss": history.loss})
    images, labels = centred("train", IMAGES)
    test_images, test_labels = centred("test", IMAGES)
    metrics = {
        "train_error": 1 - accuracy(net, centre_crop(images, 25), labels),
        "test_error": 1 - accuracy(net, centre_crop(test_images, 25), test_labels),
        "test_error_ten_views": 1 - accuracy_of_ten_views(net, test_images, test_labels),
    }
    series = {
        "loss": history.loss,
        **{key: history.series(key) for key in ("step", "train_error", "test_error")},
    }
    keep = name == "ablation/everything/0"
    weights = {key: value.half() for key, value in net.state_dict().items()} if keep else {}
    return Run(series, metrics, weights)


def centred(split: str, training_images: int) -> tuple[Tensor, Tensor]:
    """The first `training_images` training images, or all test images, less the former's mean."""
    images, labels = animals().tensors("train")
    mean = images[:training_images].mean(0)
    if split == "test":
        images, labels = animals().tensors("test")
        return images - mean, labels
    return images[:training_images] - mean, labels[:training_images]


def train(
    config: AlexNetConfig, seed: int, *, augment: bool = True, max_steps: int | None = None
) -> tuple[AlexNet, History]:
    """Train as in §5: momentum 0.9, weight decay 0.0005, a rate that is divided by ten.

    The rate falls after 70 % and after 90 % of the steps. The history's evaluations, one every
    five epochs, hold the errors on the training images and on the first 500 test images.
    """
    generator = seed_everything(seed)
    net = AlexNet(config)
    images, labels = centred("train", IMAGES)
    test_images, test_labels = (part[:500] for part in centred("test", IMAGES))

    def loss(net: AlexNet, images: Tensor, labels: Tensor) -> Tensor:
        if augment:
            crops = random_reflections(random_crops(images, 25, generator), generator)
        else:
            crops = centre_crop(images, 25)
        return classification_loss(net, crops, labels)

    batches = minibatches(images, labels, batch_size=BATCH, seed=seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4)
    steps = EPOCHS * len(batches)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, [round(0.7 * steps), round(0.9 * steps)]
    )
    history = History()
    for _ in range(EPOCHS // EPOCHS_PER_EVALUATION):
        left = None if max_steps is None else max_steps - len(history.loss)
        if left == 0:
            break
        part = fit(
            net,
            batches,
            loss,
            optimizer,
            epochs=EPOCHS_PER_EVALUATION,
            max_steps=left,
            scheduler=scheduler,
            description=f"epochs, {EPOCHS_PER_EVALUATION} at a time",
        )
        history.loss += part.loss
        if max_steps is None:
            errors = {
                "train_error": 1 - accuracy(net, centre_crop(images, 25), labels),
                "test_error": 1 - accuracy(net, centre_crop(test_images, 25), test_labels),
            }
            history.evaluations.append({**errors, "step": float(len(history.loss))})
    return net, history


def accuracy_of_ten_views(net: AlexNet, images: Tensor, labels: Tensor) -> float:
    """Accuracy of the mean of the softmax outputs over `ten_views` (§4.1)."""
    views = ten_views(images, net.config.input_size)
    probabilities = torch.stack([predict(net, view).softmax(1) for view in views]).mean(0)
    return (probabilities.argmax(1) == labels).double().mean().item()


def race(recipe: str, activation: str, rate: float, seed: int, max_steps: int | None = None) -> Run:
    """Train until `TARGET` of the first 1,000 training images are wrong, or `LIMIT` steps."""
    seed_everything(seed)
    config = replace(SIZES["four-layer"], activation=activation)
    images, labels = centred("train", RACE_IMAGES)
    if recipe == "raw":
        config, images = replace(config, weight_std=RAW_STD), images * 255
    net = AlexNet(config)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    batches = minibatches(images, labels, batch_size=BATCH, seed=seed)
    history: dict[str, list[float]] = {"loss": [], "step": [], "train_error": []}
    reached = math.inf

    def look() -> float:
        history["train_error"].append(1 - accuracy(net, images[:1000], labels[:1000]))
        history["step"].append(len(history["loss"]))
        return history["train_error"][-1]

    limit = LIMIT if max_steps is None else max_steps
    while len(history["loss"]) < limit and math.isinf(reached):
        for batch in batches:
            try:
                history["loss"] += fit(net, [batch], classification_loss, optimizer).loss
            except TrainingDiverged:
                return Run(history, {"steps": math.inf})
            steps = len(history["loss"])
            if steps % STEPS_PER_LOOK == 0 and look() <= TARGET:
                reached = steps
                break
            if steps == limit:
                break
    return Run(history, {"steps": reached})
