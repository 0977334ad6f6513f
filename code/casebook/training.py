"""What every chapter needs to train a network, and to count what it is made of.

One short supervised loop, `fit`, a function: it takes the model, the batches, the loss and the
optimiser, and returns the history of the run. Adversarial games, reinforcement learning and
self-play do not use it, because there the loop is the lesson.

Counting is done on PyTorch's meta device, where a tensor has a shape and no memory, so that the
largest network of the book is counted on a laptop in a moment.
"""

import math
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python's, NumPy's and PyTorch's global generators.

    Returns a separate `torch.Generator` with the same seed, for code that takes one.
    Raises ValueError if `seed` is not between 0 and 2**32 - 1, the range that NumPy accepts.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; choose an integer from 0 to 2**32 - 1")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def set_threads() -> int:
    """Let PyTorch use `CASEBOOK_THREADS` threads, one if it is unset, and return the number.

    Sums are rounded differently when they are split over a different number of threads, so
    results only repeat to the last digit where the number of threads is fixed.
    Raises ValueError if the variable is not a positive integer.
    """
    text = os.environ.get("CASEBOOK_THREADS", "1")
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"CASEBOOK_THREADS is {text!r}; set it to a positive integer")
    torch.set_num_threads(int(text))
    return int(text)


# ---------------------------------------------------------------------------------------------
# Training


def minibatches(*tensors: Tensor, batch_size: int, seed: int = 0) -> DataLoader:
    """Minibatches of tensors that share their first dimension, shuffled anew each epoch.

    Iterating yields tuples with one slice of up to `batch_size` rows per tensor; the last batch
    of an epoch may be smaller. The order depends on `seed` alone. A batch is cut out with one
    indexing operation, not row by row, which is what makes small networks train quickly.

    Raises ValueError if no tensor is given, if the first dimensions differ, or if `batch_size`
    is less than 1.
    """
    if not tensors:
        raise ValueError("minibatches needs at least one tensor")
    lengths = [len(tensor) for tensor in tensors]
    if len(set(lengths)) != 1:
        raise ValueError(
            f"the tensors have {lengths} rows; give tensors of equal length, one row per example"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; choose 1 or more")
    rows = TensorDataset(*tensors)
    order = RandomSampler(rows, generator=torch.Generator().manual_seed(seed))
    return DataLoader(
        rows,
        sampler=BatchSampler(order, batch_size, drop_last=False),
        batch_size=None,
        collate_fn=tuple,  # the default would make lists of the tuples
    )


@dataclass
class History:
    """What happened during `fit`.

    loss: the loss of every optimisation step, in order.
    evaluations: one dictionary per epoch, what `evaluate` returned plus `step` (optimisation
        steps so far) and `seconds` (since the start, evaluation included).
    seconds: duration of the whole run.
    """

    loss: list[float] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    def series(self, key: str) -> list[float]:
        """The values of one entry of the evaluations, one per epoch.

        Raises ValueError if the entry was never evaluated.
        """
        if not self.evaluations or key not in self.evaluations[0]:
            known = sorted(self.evaluations[0]) if self.evaluations else []
            raise ValueError(f"no evaluation is called {key!r}; this history has {known}")
        return [evaluation[key] for evaluation in self.evaluations]


class TrainingDiverged(ValueError):
    """The loss became infinite or NaN. `history` holds the run up to that step."""

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message)
        self.history = history


def classification_loss(
    model: nn.Module, inputs: Tensor, labels: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, of `model(inputs)` taken as logits of shape (batch, classes)."""
    return nn.functional.cross_entropy(model(inputs), labels)


def one_cycle(
    model: nn.Module,
    *,
    learning_rate: float,
    steps: int,
    weight_decay: float = 1e-2,
    warm_up: float = 0.25,
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW for all parameters, and a learning rate that rises and falls once in `steps` steps.

    It rises to `learning_rate` during `warm_up` of the steps (a share), and falls from there along
    a cosine to practically nothing. Both are made for `fit`. Raises ValueError if `steps` is below
    1 or `warm_up` is not between 0 and 1.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), learning_rate, weight_decay=weight_decay, fused=True
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, pct_start=warm_up, cycle_momentum=False
    )
    return optimizer, scheduler


def fit(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    loss: Callable[..., Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int = 1,
    max_steps: int | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    clip_norm: float | None = None,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    description: str = "training",
) -> History:
    """Train `model` in place and return the history of the run.

    batches: iterated once per epoch; each batch is a tuple of tensors.
    loss: called as `loss(model, *batch)`, returns a scalar tensor to be minimised.
    epochs, max_steps: training ends after `epochs` passes, or after `max_steps` optimisation
        steps if that is sooner.
    scheduler: stepped once per optimisation step, not per epoch.
    clip_norm: a gradient longer than this, all parameters taken as one vector, is scaled down to
        this length before the step (Pascanu et al. 2013); None leaves it as it is.
    evaluate: called as `evaluate(model)` after each epoch, with the model in evaluation mode and
        without gradients; returns numbers for the history.
    description: what the progress bar says.

    Batches are moved to the device on which the model's parameters are. The model is in training
    mode when `fit` returns. Raises ValueError for `epochs` or `max_steps` below 1, a `clip_norm`
    that is not positive, or batches that are empty, and TrainingDiverged, which carries the
    history, at a loss that is not finite.
    """
    if epochs < 1 or (max_steps is not None and max_steps < 1):
        raise ValueError(f"epochs={epochs}, max_steps={max_steps}: both must be at least 1")
    if clip_norm is not None and clip_norm <= 0:
        raise ValueError(f"clip_norm is {clip_norm}; choose a positive number, or None not to clip")
    device = next(model.parameters()).device
    history, start = History(), time.perf_counter()
    total = epochs * len(batches) if hasattr(batches, "__len__") else None
    if max_steps is not None:
        total = max_steps if total is None else min(total, max_steps)
    # The widget that tqdm draws in a notebook does not heed this variable by itself.
    hidden = bool(os.environ.get("TQDM_DISABLE"))
    with tqdm(total=total, desc=description, unit="step", leave=False, disable=hidden) as bar:
        for _ in range(epochs):
            before_epoch = len(history.loss)
            model.train()
            for batch in batches:
                value = loss(model, *(tensor.to(device) for tensor in batch))
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                history.loss.append(value.item())
                if not math.isfinite(history.loss[-1]):
                    raise _diverged(history, optimizer)
                if clip_norm is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                bar.update()
                if len(history.loss) == max_steps:
                    break
            if len(history.loss) == before_epoch:
                raise ValueError("batches is empty; it must yield batches again in every epoch")
            history.seconds = time.perf_counter() - start
            if evaluate is not None:
                with evaluation_mode(model):
                    scores = evaluate(model)
                history.seconds = time.perf_counter() - start
                position = {"step": float(len(history.loss)), "seconds": history.seconds}
                history.evaluations.append({**scores, **position})
                bar.set_postfix({key: f"{score:.3g}" for key, score in scores.items()})
            if len(history.loss) == max_steps:
                break
    model.train()
    return history


def _diverged(history: History, optimizer: torch.optim.Optimizer) -> TrainingDiverged:
    rate = max(group["lr"] for group in optimizer.param_groups)
    return TrainingDiverged(
        f"the loss was {history.loss[-1]} at step {len(history.loss)} with learning rate "
        f"{rate:g}, and training stopped there. Lower the learning rate, clip the gradient, or "
        "look for a division by zero or a logarithm of zero in the loss; the error's `history` "
        "holds the steps before",
        history,
    )


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Within the block: no gradients, dropout off, batch normalisation on running statistics."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def predict(model: nn.Module, inputs: Tensor, batch_size: int = 1000) -> Tensor:
    """Outputs of `model` in evaluation mode, without gradients, for all rows of `inputs`.

    Works through `inputs` in slices of `batch_size` rows, so that memory stays small.
    """
    device = next(model.parameters()).device
    with evaluation_mode(model):
        return torch.cat([model(part.to(device)) for part in inputs.split(batch_size)])


def accuracy(
    model: nn.Module, inputs: Tensor, labels: Int[Tensor, " n"], batch_size: int = 1000
) -> float:
    """Share of the rows, from 0 to 1, whose largest logit is the one of their label."""
    predicted = predict(model, inputs, batch_size).argmax(1)
    return (predicted == labels.to(predicted.device)).double().mean().item()


# ---------------------------------------------------------------------------------------------
# Counting


@contextmanager
def meta_device() -> Iterator[None]:
    """Within the block, modules and tensors are made with a shape and no memory."""
    with torch.device("meta"):
        yield


@dataclass(frozen=True)
class LayerRow:
    """One layer of a network as it was called: a row of `layer_table`.

    neurons: numbers in its output for one example; output_shape leaves the batch out.
    multiply_adds: of matrix products and convolutions, for one example. Papers of the time of
        AlexNet and ResNet call these "FLOPs"; counted as operations they are twice as many.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    neurons: int
    parameters: int
    multiply_adds: int


def count_parameters(module: nn.Module) -> int:
    """Number of trainable scalars; a parameter that is used twice counts once."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def count_multiply_adds(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-adds of matrix products and convolutions in one forward pass.

    input_shape: with the batch dimension first; the count is for the whole batch.
    The module may live on any device; on the meta device nothing is computed.
    """
    counter = FlopCounterMode(display=False)
    with counter:
        _forward(module, input_shape)
    return counter.get_total_flops() // 2  # PyTorch counts a multiply-add as two operations


def layer_table(module: nn.Module, input_shape: tuple[int, ...]) -> list[LayerRow]:
    """One row per call of a layer (a module without children), in the order of the calls.

    A product that a parent computes itself, outside any layer, is counted with the next layer.

    input_shape: with the batch dimension, which must be 1, first.
    Raises ValueError for another batch dimension.
    """
    if input_shape[0] != 1:
        raise ValueError(
            f"input_shape is {input_shape}; layer_table describes one example, so its first "
            "number must be 1"
        )
    rows: list[LayerRow] = []
    counter = FlopCounterMode(display=False)
    counted = 0

    def watch(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            nonlocal counted
            if not isinstance(output, Tensor):
                return
            since, counted = counter.get_total_flops() - counted, counter.get_total_flops()
            shape = tuple(output.shape[1:])
            rows.append(
                LayerRow(
                    name=name,
                    kind=type(layer).__name__,
                    output_shape=shape,
                    neurons=math.prod(shape),
                    parameters=count_parameters(layer),
                    multiply_adds=since // 2,
                )
            )

        return layer.register_forward_hook(note)

    hooks = [watch(n, m) for n, m in module.named_modules() if not any(m.children())]
    try:
        with counter:
            _forward(module, input_shape)
    finally:
        for hook in hooks:
            hook.remove()
    return rows


def _forward(module: nn.Module, input_shape: tuple[int, ...]) -> None:
    device = next(module.parameters()).device
    with evaluation_mode(module):
        module(torch.zeros(input_shape, device=device))
