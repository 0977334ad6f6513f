"""What locality and what sharing are worth, on digits that may stand anywhere.

Runs are called "KIND/PIXELS/SEED". KIND is that of `digit_net`: "full", "local" or "shared".
PIXELS is "in place" or "shuffled": then one fixed permutation, the same for all images of all runs,
is applied to the pixels. Each seed draws the weights and has 2,000 digits of its own to learn from;
all runs are tested on the same 2,000 others. History: the test error after every pass. Metrics: the
errors on the training and on the test digits at the end, as shares.
"""

import torch
from torch import Tensor

from casebook.data import mnist
from casebook.record import Run
from casebook.training import accuracy, classification_loss, fit, minibatches, seed_everything
from casebook.vision.convolution import KINDS, digit_net, put_anywhere

SEEDS = (0, 1, 2)
DIGITS, EPOCHS, BATCH = 2000, 25, 50
RATES = {"full": 0.004, "local": 0.01, "shared": 0.01}  # chosen in short trials, pixels in place

RUNS = tuple(
    f"{kind}/{pixels}/{seed}"
    for kind in KINDS
    for pixels in ("in place", "shuffled")
    for seed in SEEDS
)


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps`, its first steps and no evaluation."""
    kind, pixels, seed_text = name.split("/")
    seed = int(seed_text)
    order = torch.randperm(16 * 16, generator=torch.Generator().manual_seed(0))
    (images, labels), (tests, test_labels) = boards("train", seed), boards("test", 0)
    if pixels == "shuffled":
        images, tests = shuffle(images, order), shuffle(tests, order)

    seed_everything(seed)
    net = digit_net(kind)
    batches = minibatches(images, labels, batch_size=BATCH, seed=seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATES[kind])
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(batches))
    history = fit(
        net,
        batches,
        classification_loss,
        optimizer,
        epochs=EPOCHS,
        max_steps=max_steps,
        scheduler=decay,
        evaluate=None
        if max_steps is not None
        else lambda net: {"error": 1 - accuracy(net, tests, test_labels)},
        description=name,
    )
    if max_steps is not None:
        return Run({"loss": history.loss})
    return Run(
        {"loss": history.loss, "error": history.series("error")},
        {
            "train_error": 1 - accuracy(net, images, labels),
            "test_error": history.series("error")[-1],
        },
    )


def boards(split: str, part: int) -> tuple[Tensor, Tensor]:
    """2,000 digits on their boards, with labels; `part` says which 2,000 of the split."""
    images, labels = mnist().tensors(split)
    chosen = slice(part * DIGITS, (part + 1) * DIGITS)
    generator = torch.Generator().manual_seed(part + (1000 if split == "test" else 0))
    return put_anywhere(images[chosen], generator), labels[chosen]


def shuffle(images: Tensor, order: Tensor) -> Tensor:
    """The same permutation of the pixels of every image."""
    return images.flatten(1)[:, order].reshape(images.shape)
