"""ResNet: Deep Residual Learning for Image Recognition (2015).

He, Zhang, Ren and Sun's networks for ImageNet (18 to 152 layers, Table 1) and for CIFAR-10 (20 to
1202 layers, §4.2), and the plain networks they are compared with: the same layers without the
shortcuts. Sections (§), tables and equations are those of arXiv 1512.03385.

Where this departs from the paper, and why:

* The paper says of its initial weights only "as in [13]", He et al.'s paper of the same year on
  rectifiers, which derives two scales that differ where a layer changes the number of channels.
  Here every convolution takes the one from its inputs, with variance 2 / fan-in; the last layer
  takes 1 / fan-in, which is this book's choice.
* The 3 x 3 max pooling behind the first convolution is padded by one pixel on each side. The
  paper does not say how its 112 pixels become 56; the authors' Caffe files do not pad and round
  up.
* A projection shortcut (options B and C) is followed by batch normalisation. So it is in the
  authors' Caffe files; the paper's "right after each convolution" (§3.4) may be read that way.
* No convolution has a bias, which batch normalisation would subtract again. In the authors' file
  for ResNet-50 the first one has.
* A trained network is tested with the averages of means and variances that PyTorch keeps while
  training. The authors computed theirs from a large batch afterwards.
* Weight decay pulls on the scales and offsets of batch normalisation as on all other parameters;
  the paper does not say whether its does.
* `train` warms up for a number of steps. The paper does so until the training error is below 80 %.
* The plane of `loss_on_plane` is Li et al.'s (2018), but batch normalisation takes its means and
  variances from the images given, as in training; their code takes the averages kept for the test.

Where the paper leaves a choice: which convolution of a bottleneck halves the maps. Here it is the
first, as in the authors' files. `stride_on="3x3"` moves the stride to the second, as torchvision
and others have it ("V1.5"), which costs 6 % more in ResNet-50.

`narrow` makes the networks of this book's experiments, which the paper does not have, and `train`
trains them as §4.2 does, but on far fewer steps and smaller batches, and without augmentation.
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from casebook.training import History, classification_loss, fit, minibatches

SHORTCUTS = ("A", "B", "C")
"""How a shortcut changes its shape: zeros, a projection, or a projection everywhere (§4.1)."""


@dataclass(frozen=True)
class ResNetConfig:
    """The layers of a residual network, or of its plain counterpart.

    blocks: number of blocks in each stage; every stage but the first halves the maps.
    channels: of the 3x3 convolutions of each stage.
    block: "basic", two 3x3 convolutions, or "bottleneck", 1x1, 3x3 and 1x1 (Figure 5).
    shortcut: "A", zeros for new channels; "B", projections where the shape changes; "C",
        projections everywhere.
    residual: False leaves the shortcuts out.
    stem: "imagenet", a 7x7 convolution and a pooling that quarter the maps; or "cifar", a 3x3.
    stride_on: the convolution of a bottleneck that halves the maps, "1x1" (the first one, as in
        the authors' files) or "3x3".

    Raises ValueError if the fields do not fit together.
    """

    blocks: tuple[int, ...]
    channels: tuple[int, ...] = (64, 128, 256, 512)
    block: str = "basic"
    shortcut: str = "B"
    residual: bool = True
    stem: str = "imagenet"
    stride_on: str = "1x1"
    input_channels: int = 3
    classes: int = 1000

    def __post_init__(self) -> None:
        if len(self.blocks) != len(self.channels) or not self.blocks:
            raise ValueError(
                f"blocks={self.blocks} and channels={self.channels}: give one number per stage to "
                "each, and at least one stage"
            )
        if min(self.blocks) < 1 or min(self.channels) < 1:
            raise ValueError(
                f"blocks={self.blocks} and channels={self.channels}: all must be at least 1"
            )
        for name, value, allowed in (
            ("block", self.block, tuple(BLOCKS)),
            ("shortcut", self.shortcut, SHORTCUTS),
            ("stem", self.stem, ("imagenet", "cifar")),
            ("stride_on", self.stride_on, ("1x1", "3x3")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; choose one of {allowed}")

    @property
    def depth(self) -> int:
        """Layers with weights as the paper counts them: without the projections."""
        return 2 + sum(self.blocks) * BLOCKS[self.block].layers


class ZeroPadding(nn.Module):
    """Option A: every `stride`-th pixel of every `stride`-th row, and new channels of zeros."""

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels, self.stride = new_channels, stride

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        x = x[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(x, (0, 0, 0, 0, 0, self.new_channels))


def shortcut(option: str, channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """What the input of a block passes through on its way around the block (§3.3, §4.1)."""
    same_shape = channels_in == channels_out and stride == 1
    if same_shape and option != "C":
        return nn.Identity()
    if option == "A":
        return ZeroPadding(channels_out - channels_in, stride)
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
    )


class Block(nn.Module):
    """relu(F(x) + shortcut(x)), equations (1) and (2); in a plain network, relu(F(x)).

    Its subclasses say what F is.
    """

    layers: int  # in F
    expansion: int  # channels of the output per channel of the 3x3 convolutions

    def __init__(self, channels_in: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        out = channels * self.expansion
        self.f = self.residual_function(channels_in, channels, stride, config)
        self.shortcut = (
            shortcut(config.shortcut, channels_in, out, stride) if config.residual else None
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        y = self.f(x)
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return torch.relu(y)


class BasicBlock(Block):
    """Two 3x3 convolutions (Figure 5, left)."""

    layers, expansion = 2, 1

    @staticmethod
    def residual_function(
        channels_in: int, channels: int, stride: int, config: ResNetConfig
    ) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )


class Bottleneck(Block):
    """A 1x1 convolution to fewer channels, a 3x3, and a 1x1 to more (Figure 5, right)."""

    layers, expansion = 3, 4

    @staticmethod
    def residual_function(
        channels_in: int, channels: int, stride: int, config: ResNetConfig
    ) -> nn.Sequential:
        first, second = (stride, 1) if config.stride_on == "1x1" else (1, stride)
        return nn.Sequential(
            nn.Conv2d(channels_in, channels, 1, first, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, second, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 4 * channels, 1, bias=False),
            nn.BatchNorm2d(4 * channels),
        )


BLOCKS: dict[str, type[Block]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


def cifar(depth: int) -> ResNetConfig:
    """The network of §4.2 with 6n + 2 layers, n blocks in each of three stages.

    Raises ValueError for any other depth.
    """
    n, rest = divmod(depth - 2, 6)
    if n < 1 or rest:
        raise ValueError(f"depth is {depth}; choose 6n + 2 for some n from 1: 8, 14, 20, ...")
    return ResNetConfig(
        blocks=(n, n, n), channels=(16, 32, 64), shortcut="A", stem="cifar", classes=10
    )


def narrow(depth: int, residual: bool = True) -> ResNetConfig:
    """This book's: the same with half the channels, for small grey images."""
    return replace(cifar(depth), channels=(8, 16, 32), input_channels=1, residual=residual)


SIZES = {
    # Table 1. The paper's 18- and 34-layer networks of Table 2 have option A.
    "resnet18": ResNetConfig(blocks=(2, 2, 2, 2), shortcut="A"),
    "resnet34": ResNetConfig(blocks=(3, 4, 6, 3), shortcut="A"),
    "resnet50": ResNetConfig(blocks=(3, 4, 6, 3), block="bottleneck"),
    "resnet101": ResNetConfig(blocks=(3, 4, 23, 3), block="bottleneck"),
    "resnet152": ResNetConfig(blocks=(3, 8, 36, 3), block="bottleneck"),
    # Table 6.
    **{f"cifar{depth}": cifar(depth) for depth in (20, 32, 44, 56, 110, 1202)},
}


class ResNet(nn.Module):
    """From images to logits: a stem, stages of blocks, the mean of each map, one linear layer."""

    def __init__(self, config: ResNetConfig = SIZES["resnet50"]) -> None:
        super().__init__()
        self.config = c = config
        width = c.channels[0]
        if c.stem == "imagenet":
            self.stem = nn.Sequential(
                nn.Conv2d(c.input_channels, width, 7, stride=2, padding=3, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(3, stride=2, padding=1),
            )
        else:
            self.stem = nn.Sequential(
                nn.Conv2d(c.input_channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
        block, stages = BLOCKS[c.block], []
        for i, (count, channels) in enumerate(zip(c.blocks, c.channels, strict=True)):
            stage = []
            for j in range(count):
                stage.append(block(width, channels, 2 if i > 0 and j == 0 else 1, c))
                width = channels * block.expansion
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.classify = nn.Linear(width, c.classes)
        initialise(self)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
        """Logits of the classes. Raises ValueError for images with another number of channels."""
        if images.ndim != 4 or images.shape[1] != self.config.input_channels:
            raise ValueError(
                f"images have shape {tuple(images.shape)}; this network takes "
                f"(batch, {self.config.input_channels}, height, width)"
            )
        return self.classify(self.stages(self.stem(images)).mean((2, 3)))

    def blocks(self) -> Iterator[Block]:
        """All blocks, first to last."""
        return itertools.chain.from_iterable(self.stages)


def initialise(net: nn.Module) -> None:
    """He et al.'s initial weights, in place.

    Every convolution gets the variance 2 / fan-in, also those that the addition stands behind
    before the next ReLU; the last layer 1 / fan-in, which is this book's choice.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.zeros_(layer.bias)


def train(
    net: nn.Module,
    images: Float[Tensor, "N C H W"],
    labels: Int[Tensor, " N"],
    *,
    seed: int,
    steps: int = 300,
    rate: float = 0.1,
    warm_up: int = 0,
    look: int = 25,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    max_steps: int | None = None,
) -> History:
    """Train `net` in place as in §4.2, on fewer steps and smaller batches.

    Stochastic gradient descent with the paper's momentum, weight decay and, unless told otherwise,
    learning `rate`, which is divided by 10 after a half and after three quarters of the `steps`,
    and also during the first `warm_up` steps, as the paper does with 110 layers. Batches have 64
    images in an order that depends on `seed` alone; there is no augmentation. `evaluate` is called
    every `look` steps. With `max_steps` the run is cut off early, and until then the same.
    Raises what `fit` raises.
    """
    net.to(memory_format=torch.channels_last)  # in which CPUs convolve fastest
    batches = minibatches(images, labels, batch_size=64, seed=seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)

    def factor(step: int) -> float:
        if step < warm_up:
            return 0.1
        return 1.0 if step < steps // 2 else 0.1 if step < steps * 3 // 4 else 0.01

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    stream = itertools.chain.from_iterable(itertools.repeat(batches))  # without end
    history, total = History(), max_steps or steps
    while left := total - len(history.loss):
        part = fit(
            net,
            list(itertools.islice(stream, min(look, left))),
            classification_loss,
            optimizer,
            scheduler=scheduler,
            evaluate=evaluate,
        )
        history.loss += part.loss
        for scores in part.evaluations:
            history.evaluations.append({**scores, "step": float(len(history.loss))})
    return history


# ---------------------------------------------------------------------------------------------
# Looking inside. What sends images through the network does so on a copy of it, which normalises
# over the images it is given, as in training.


def layer_responses(net: ResNet, images: Float[Tensor, "B C H W"]) -> list[float]:
    """Standard deviation of what each layer of each block answers, first layer first (Figure 7).

    The answer is taken behind batch normalisation and before the rectifier or the addition;
    projections are left out.
    """
    probe = copy.deepcopy(net).train()
    norms = [layer for block in probe.blocks() for layer in block.f if _is_norm(layer)]
    responses: list[float] = []
    for norm in norms:
        norm.register_forward_hook(lambda *call: responses.append(call[2].std().item()))
    with torch.no_grad():
        probe(images)
    return responses


def signal_gradients(
    net: ResNet, images: Float[Tensor, "B C H W"], labels: Int[Tensor, " B"]
) -> list[float]:
    """Norm of the loss's gradient by the output of the stem, and of each block, first to last."""
    probe = copy.deepcopy(net).train()
    signals: list[Tensor] = []
    for layer in (probe.stem, *probe.blocks()):
        layer.register_forward_hook(lambda *call: signals.append(call[2]))
    loss = classification_loss(probe, images, labels)
    return [gradient.norm().item() for gradient in torch.autograd.grad(loss, signals)]


def random_direction(net: nn.Module, generator: Generator) -> list[Tensor]:
    """A random direction in the space of the parameters, one tensor per parameter.

    Each filter of it is Gaussian, scaled to the norm of the network's own filter; the entries of
    biases and of batch normalisation are zero (Li et al. 2018).
    """
    direction = []
    for parameter in net.parameters():
        if parameter.ndim < 2:
            direction.append(torch.zeros_like(parameter))
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        norms = parameter.detach().flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
        direction.append(noise * norms.reshape(-1, *[1] * (parameter.ndim - 1)))
    return direction


def loss_on_plane(
    net: ResNet,
    images: Float[Tensor, "B C H W"],
    labels: Int[Tensor, " B"],
    directions: tuple[list[Tensor], list[Tensor]],
    steps: Sequence[float],
) -> Float[Tensor, "rows columns"]:
    """The loss at net + a · first direction + b · second direction; row a, column b."""
    probe = copy.deepcopy(net).train()
    losses = torch.empty(len(steps), len(steps))
    with torch.no_grad():
        for i, j in itertools.product(range(len(steps)), repeat=2):
            for moved, own, first, second in zip(
                probe.parameters(), net.parameters(), *directions, strict=True
            ):
                moved.copy_(own + steps[i] * first + steps[j] * second)
            losses[i, j] = classification_loss(probe, images, labels)
    return losses


def _is_norm(layer: nn.Module) -> bool:
    return isinstance(layer, nn.BatchNorm2d)
