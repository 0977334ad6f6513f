"""What a training step costs: `casebook.training.fit` beside a hand-written loop and two trainers.

Everyone trains the same small convolutional network for one epoch on the same MNIST digits, on
one thread, with the same optimiser. The contestants take turns, in another order each round. Time
is the processor's (`time.process_time`), so that other programs on the machine disturb little.

Three of them also get the very same batches, `casebook.training.minibatches`, and must therefore
end with the very same weights, which is checked: what differs there is the loop alone. The others
get their batches from PyTorch's stock `DataLoader`, as their documentation shows.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", TQDM_DISABLE="1")  # no progress bars, for anyone

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from statistics import median

import torch
from lightning.pytorch import LightningModule, Trainer
from skorch import NeuralNetClassifier
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from casebook.data import mnist
from casebook.training import accuracy, classification_loss, fit, minibatches

BATCH_SIZE = 64
RATE, MOMENTUM = 0.05, 0.9


def network() -> nn.Module:
    """Two convolutions and a linear layer: small, so that the loop around it shows."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 7 * 7, 10),
    )  # fmt: skip


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)


def same_batches(images: Tensor, labels: Tensor) -> DataLoader:
    return minibatches(images, labels, batch_size=BATCH_SIZE, seed=0)


def stock_batches(images: Tensor, labels: Tensor) -> DataLoader:
    return DataLoader(TensorDataset(images, labels), batch_size=BATCH_SIZE, shuffle=True)


def casebook_fit(model: nn.Module, batches: DataLoader) -> None:
    fit(model, batches, classification_loss, sgd(model))


def by_hand(model: nn.Module, batches: DataLoader) -> None:
    optimizer = sgd(model)
    model.train()
    for inputs, targets in batches:
        loss = nn.functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Lit(LightningModule):
    """The network as Lightning wants it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        inputs, targets = batch
        return nn.functional.cross_entropy(self.model(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return sgd(self.model)


def lightning(model: nn.Module, batches: DataLoader) -> None:
    Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Lit(model), batches)


def skorch(model: nn.Module, batches: DataLoader) -> None:
    """skorch builds its own stock DataLoader from arrays."""
    images, labels = batches.dataset.tensors
    NeuralNetClassifier(
        model,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        lr=RATE,
        optimizer__momentum=MOMENTUM,
        batch_size=BATCH_SIZE,
        max_epochs=1,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    ).fit(images, labels)


Loader = Callable[[Tensor, Tensor], DataLoader]
CONTESTANTS: dict[str, tuple[Callable[[nn.Module, DataLoader], None], Loader]] = {
    "casebook `fit`, `minibatches`": (casebook_fit, same_batches),
    "by hand, `minibatches`": (by_hand, same_batches),
    "Lightning, `minibatches`": (lightning, same_batches),
    "by hand, stock `DataLoader`": (by_hand, stock_batches),
    "Lightning, stock `DataLoader`": (lightning, stock_batches),
    "skorch, stock `DataLoader`": (skorch, stock_batches),
}
REFERENCE = next(iter(CONTESTANTS))


def weights(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare what a training step costs.")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: 7)")
    parser.add_argument("--images", type=int, default=12_800, help="in the epoch (12800)")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # Lightning's advice to use more workers
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)

    digits = mnist()
    images, labels = (tensor[: options.images] for tensor in digits.tensors("train"))
    test = digits.tensors("test")
    steps = -(-len(images) // BATCH_SIZE)

    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    scores, ends = {}, {}
    names = list(CONTESTANTS)
    for turn in range(options.rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            train, loader = CONTESTANTS[name]
            model, batches = network(), loader(images, labels)
            start = time.process_time()
            train(model, batches)
            elapsed = time.process_time() - start
            if turn == 0:  # to warm up, and to see that all of them do the work
                scores[name], ends[name] = accuracy(model, *test), weights(model)
            else:
                seconds[name].append(elapsed)
        print(f"round {turn} of {options.rounds}", flush=True)

    for name, (_, loader) in CONTESTANTS.items():
        if loader is same_batches and not torch.equal(ends[name], ends[REFERENCE]):
            raise SystemExit(f"{name} and {REFERENCE} got the same batches but differ in the end")

    print(f"\n{steps} steps of {BATCH_SIZE} digits, {options.rounds} rounds, one thread\n")
    print("| | ms per step | ratio | lowest | highest | test accuracy |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, times in seconds.items():
        ratios = [own / first for own, first in zip(times, seconds[REFERENCE], strict=True)]
        print(
            f"| {name} | {1000 * median(times) / steps:.2f} | {median(ratios):.2f} "
            f"| {min(ratios):.2f} | {max(ratios):.2f} | {scores[name]:.1%} |"
        )


if __name__ == "__main__":
    main()
