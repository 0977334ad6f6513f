"""The MNIST lab: a miniature VGG for handwritten digits, and the same with skip connections.

The network follows the habits of Simonyan and Zisserman (2014): 3×3 convolutions throughout, max
pooling that halves the maps, and twice the channels after each halving. With `residual=True` the
input of every pair of convolutions is added to the pair's output, as He et al. (2015) do; nothing
else changes, so that whatever differs between two runs is due to the skip connections.

Where it departs from the papers:

- Images are 24×24 crops of MNIST's 28×28 and three stages suffice; VGG has five for 224×224.
- Each convolution is followed by batch normalisation, as in He et al.; VGG had none.
- Pooling comes right after the first convolution of a stage, before its normalisation, which so
  works on a quarter of the numbers. ResNet has no pooling between stages: it strides.
- A stage's first convolution changes the number of channels and has no skip connection. He et al.
  put one there as well, and pad it with zeros or project it.
- The head is one average over each map and one linear layer, as in ResNet, not VGG's three.
- Trained by AdamW with a one-cycle learning rate; both papers used SGD with momentum and steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from casebook.training import History, classification_loss, fit, minibatches, one_cycle

CROP = 24
"""Height and width of the network's input, in pixels."""


@dataclass(frozen=True)
class MiniVGGConfig:
    """Size of a `MiniVGG`; the defaults are the lab's.

    channels: width of each stage. Every stage halves height and width.
    pairs: pairs of convolutions after the first convolution of each stage.
    residual: add the input of every pair to its output.
    classes: number of classes.

    Raises ValueError for a stage without channels, a negative number of pairs, or lists of
    different length.
    """

    channels: tuple[int, ...] = (16, 32, 64)
    pairs: tuple[int, ...] = (0, 1, 1)
    residual: bool = False
    classes: int = 10

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.pairs) or not self.channels:
            raise ValueError(
                f"channels={self.channels} and pairs={self.pairs}: give one number per stage to "
                "each, and at least one stage"
            )
        if min(self.channels) < 1 or min(self.pairs) < 0:
            raise ValueError(
                f"channels={self.channels} and pairs={self.pairs}: channels must be at least 1, "
                "pairs at least 0"
            )

    @property
    def depth(self) -> int:
        """Number of convolutions: one at the start of each stage and two for each pair."""
        return len(self.channels) + 2 * sum(self.pairs)


class ConvPair(nn.Module):
    """Two 3×3 convolutions at constant shape, plain or with a skip around them.

    Plain: relu(F(x)). Residual: relu(F(x) + x), He et al.'s equation (1), where F is
    convolution, normalisation, relu, convolution, normalisation.
    """

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        y = torch.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return torch.relu(x + y if self.residual else y)


class Stage(nn.Sequential):
    """A convolution that sets the width, pooling, then pairs of convolutions.

    (B, channels_in, H, W) -> (B, channels, H // 2, W // 2)
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        pairs: int,
        residual: bool,
    ) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            *(ConvPair(channels, residual) for _ in range(pairs)),
        )


class MiniVGG(nn.Module):
    """A small VGG: stages of 3×3 convolutions, the mean of each map, a linear layer."""

    def __init__(self, config: MiniVGGConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MiniVGGConfig()
        widths = (1, *config.channels)
        self.stages = nn.Sequential(
            *(
                Stage(widths[i], widths[i + 1], config.pairs[i], config.residual)
                for i in range(len(config.channels))
            )
        )
        self.classify = nn.Linear(config.channels[-1], config.classes)
        self.to(memory_format=torch.channels_last)  # in which CPUs convolve fastest

    def features(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B C"]:
        """Averages of the last stage's maps: what the linear layer sees of an image."""
        return self.stages(images).mean((2, 3))

    def forward(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B classes"]:
        return self.classify(self.features(images))


def crop(
    images: Float[Tensor, "B C H W"],
    rows: Int[Tensor, " B"],
    columns: Int[Tensor, " B"],
    size: int = CROP,
) -> Float[Tensor, "B C size size"]:
    """A square of `size` pixels from each image, with its upper left corner at (row, column).

    Raises ValueError if a square would reach over the edge.
    """
    height, width = images.shape[2:]
    inside = (rows >= 0) & (rows <= height - size) & (columns >= 0) & (columns <= width - size)
    if not inside.all():
        raise ValueError(
            f"a crop of {size} pixels does not fit into images of {height}×{width} at every corner "
            f"given; rows may go from 0 to {height - size}, columns from 0 to {width - size}"
        )
    steps = torch.arange(size, device=images.device)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    cut = images[image, :, (rows[:, None] + steps)[:, :, None], (columns[:, None] + steps)[:, None]]
    return cut.movedim(-1, 1)  # (B, size, size, C) -> (B, C, size, size), in channels-last layout


def random_crop(
    images: Float[Tensor, "B C H W"], generator: torch.Generator, size: int = CROP
) -> Float[Tensor, "B C size size"]:
    """A crop of each image at a place of its own: the digit shifted by a few pixels.

    Raises ValueError if the images are smaller than `size`.
    """
    rows, columns = (
        torch.randint(max(length - size, 0) + 1, (len(images),), generator=generator)
        for length in images.shape[2:]
    )
    return crop(images, rows, columns, size)


def centre_crop(
    images: Float[Tensor, "B C H W"], size: int = CROP
) -> Float[Tensor, "B C size size"]:
    """The middle of each image: what the network sees when it is not being trained.

    Raises ValueError if the images are smaller than `size`.
    """
    middle = [torch.full((len(images),), (length - size) // 2) for length in images.shape[2:]]
    return crop(images, *middle, size)


@dataclass(frozen=True)
class Schedule:
    """How the lab trains; the defaults were chosen on the last 10,000 training digits.

    epochs: passes over the data.
    batch_size: digits in a minibatch.
    learning_rate: the highest, which is reached after `warm_up` of all steps (a share); from
        there it falls along a cosine to practically nothing.
    weight_decay: AdamW's.
    """

    epochs: int = 3
    batch_size: int = 128
    learning_rate: float = 3e-3
    warm_up: float = 0.25
    weight_decay: float = 1e-2


def train(
    model: nn.Module,
    images: Float[Tensor, "N 1 H W"],
    labels: Int[Tensor, " N"],
    *,
    seed: int,
    schedule: Schedule | None = None,
    max_steps: int | None = None,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    description: str = "training",
) -> History:
    """Train `model` in place on random crops of the images.

    The order of the digits and the crops depend on `seed` alone. With `max_steps` the
    run is cut off early, and is until then the same. Raises what `fit` raises.
    """
    schedule = schedule or Schedule()
    generator = torch.Generator().manual_seed(seed)
    batches = minibatches(images, labels, batch_size=schedule.batch_size, seed=seed)
    optimizer, scheduler = one_cycle(
        model,
        learning_rate=schedule.learning_rate,
        steps=schedule.epochs * len(batches),
        weight_decay=schedule.weight_decay,
        warm_up=schedule.warm_up,
    )

    def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return classification_loss(model, random_crop(images, generator), labels)

    return fit(
        model,
        batches,
        loss,
        optimizer,
        epochs=schedule.epochs,
        max_steps=max_steps,
        scheduler=scheduler,
        evaluate=evaluate,
        description=description,
    )
