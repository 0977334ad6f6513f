"""The convolution: a linear map that shares its weights, and what a stack of them sees.

The opener of the part on vision has no paper of its own. It has the operation, its matrix,
and its like without sharing (`convolve`, `as_matrix`, `LocallyConnected`), computes what a stack of
windows sees (`receptive_field`) and measures the same (`measured_receptive_field`), and rebuilds an
early convolutional network that was trained as a whole by gradient descent, the zip code reader of
LeCun et al. (Backpropagation Applied to Handwritten Zip Code Recognition, 1989), to which the
sections (§) refer.

Where `ZipCodeNet` departs from that paper, and why:

* Which eight of the twelve maps of H1 a map of H2 sees is not in the paper. Here map i of H2 sees
  maps i to i + 7, counted around the circle.
* The outputs are logits for a cross-entropy. The paper's are squashed like all other units and
  compared with their targets by squared error.
* The constants of the scaled tanh, which take ±1 to ±1, are those of LeCun et al. 1998.
* H1 and H2 begin as the paper says, with weights from ±2.4 over the number of inputs, among which
  we count the bias; the layers behind them as PyTorch begins all linear layers.
* The fully connected network that `ConnectedNet` rebuilds is counted in the paper but not described
  further. Ours has the same scaled tanh, logits, and PyTorch's beginning.
* The optimiser is the caller's; the paper's was a diagonal approximation of Newton's method.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

# ---------------------------------------------------------------------------------------------
# Windows, and what a stack of them sees


@dataclass(frozen=True)
class Window:
    """A layer that looks through a moving window: a convolution or a pooling.

    kernel: width and height of the window, in pixels of its input.
    stride: by how many pixels it moves.
    padding: rows and columns of zeros around the input, on each side.

    Raises ValueError for a window or stride below 1, or a negative padding.
    """

    kernel: int
    stride: int = 1
    padding: int = 0

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.stride < 1 or self.padding < 0:
            raise ValueError(
                f"{self} cannot be moved over an image; kernel and stride must be at least 1, "
                "padding at least 0"
            )

    def output_size(self, size: int) -> int:
        """Width of the output for an input that is `size` pixels wide: floor((n + 2p - k)/s) + 1.

        Raises ValueError if the window does not fit into the padded input.
        """
        if size + 2 * self.padding < self.kernel:
            raise ValueError(
                f"a window of {self.kernel} pixels does not fit into {size} pixels with "
                f"{self.padding} of padding on each side; pad more, or take a smaller window"
            )
        return (size + 2 * self.padding - self.kernel) // self.stride + 1


@dataclass(frozen=True)
class ReceptiveField:
    """Which pixels of the image one output of a stack of windows can see.

    size: width of the field, in pixels.
    jump: by how many pixels the fields of two neighbouring outputs are apart.
    start: column of the first output's leftmost pixel; negative where that is padding.
    """

    size: int = 1
    jump: int = 1
    start: int = 0

    def columns(self, position: int) -> range:
        """The columns of the image that output number `position` (0, 1, ...) sees, unclipped."""
        left = self.start + position * self.jump
        return range(left, left + self.size)


def receptive_field(stack: Sequence[Window]) -> ReceptiveField:
    """The field of one output of the whole stack, first layer first.

    Each window widens the field by (kernel - 1) jumps and multiplies the jump by its stride.
    """
    size, jump, start = 1, 1, 0
    for window in stack:
        size += (window.kernel - 1) * jump
        start -= window.padding * jump
        jump *= window.stride
    return ReceptiveField(size, jump, start)


def count_paths(
    module: nn.Module, input_shape: tuple[int, int, int], row: int, column: int
) -> Float[Tensor, "height width"]:
    """On how many paths each pixel reaches one output: its gradient in a network of ones.

    Taken on a copy of the network whose weights are set to one, so that no two paths cancel;
    whose max poolings add, so that they let every pixel of their window through; and whose
    `POINTWISE` layers pass everything on.

    input_shape: channels, height and width of an image; the paths of all channels are added up.
    row, column: the output, in the first of the last layer's maps.

    Raises ValueError if the module does not end in maps, or if they have no such place.
    """
    counting = _counting(copy.deepcopy(module)).double()
    for name, parameter in counting.named_parameters():
        nn.init.constant_(parameter, 1.0 if name.endswith("weight") else 0.0)
    image = torch.zeros(1, *input_shape, dtype=torch.float64, requires_grad=True)
    maps = counting(image)
    if maps.ndim != 4 or not (0 <= row < maps.shape[2] and 0 <= column < maps.shape[3]):
        raise ValueError(
            f"there is no output ({row}, {column}): the module makes {tuple(maps.shape[1:])} of "
            f"an image of {input_shape}; it must end in maps, and the place lie within them"
        )
    (gradient,) = torch.autograd.grad(maps[0, 0, row, column], image)
    return gradient[0].sum(0)


POINTWISE = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.Dropout, nn.BatchNorm2d)
"""Layers that mix no two pixels: they leave a receptive field as it is."""


def _counting(module: nn.Module) -> nn.Module:
    """The module with summing poolings and without pointwise layers, changed in place."""
    if isinstance(module, POINTWISE):
        return nn.Identity()
    if isinstance(module, nn.MaxPool2d):
        window = (module.kernel_size, module.stride, module.padding, module.ceil_mode)
        return nn.AvgPool2d(*window, divisor_override=1)
    for name, child in module.named_children():
        setattr(module, name, _counting(child))
    return module


def measured_receptive_field(
    module: nn.Module, input_shape: tuple[int, int, int], row: int, column: int
) -> tuple[range, range]:
    """The rows and columns of the image that reach one output: where `count_paths` is not zero.

    Raises ValueError as `count_paths` does, and if the output sees nothing but padding.
    """
    seen = count_paths(module, input_shape, row, column) > 0
    rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
    if not len(rows):
        raise ValueError(f"output ({row}, {column}) sees nothing but padding; choose another")
    return tuple(range(int(seen[0]), int(seen[-1]) + 1) for seen in (rows, columns))


# ---------------------------------------------------------------------------------------------
# The operation


def convolve(
    images: Float[Tensor, "batch channels height width"],
    weight: Float[Tensor, "kernels channels k k"],
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "batch kernels out_height out_width"]:
    """A convolution by brute force: every kernel, laid on every window, multiplied and summed.

    As is usual in deep learning the kernel is not flipped, which makes this what mathematicians
    call a cross-correlation.

    Raises ValueError if the window does not fit into the padded images.
    """
    window = Window(weight.shape[-1], stride, padding)
    height, width = (window.output_size(size) for size in images.shape[2:])
    padded = functional.pad(images, (padding, padding, padding, padding))
    maps = images.new_zeros(len(images), len(weight), height, width)
    for row in range(height):
        for column in range(width):
            top, left = row * stride, column * stride
            patch = padded[:, :, top : top + window.kernel, left : left + window.kernel]
            maps[:, :, row, column] = torch.einsum("bchw,kchw->bk", patch, weight)
    return maps


def as_matrix(
    weight: Float[Tensor, "kernels channels k k"],
    size: int,
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "outputs inputs"]:
    """The convolution of images of `size` x `size` pixels as the matrix that it is.

    A row per output and a column per input, both in the order of `flatten`. Column j is what the
    convolution makes of the image whose pixel j is one and all others zero.
    """
    pixels = weight.shape[1] * size * size
    unit_images = torch.eye(pixels, dtype=weight.dtype).reshape(pixels, -1, size, size)
    return convolve(unit_images, weight, stride, padding).flatten(1).T


class LocallyConnected(nn.Module):
    """A convolution that shares nothing: the same windows, but weights and biases for each.

    channels, kernels: maps in its input and in its output.
    size: height and width of the input, which fixes how many windows there are.
    """

    def __init__(self, channels: int, kernels: int, size: int, window: Window) -> None:
        super().__init__()
        self.window, self.size = window, size
        self.out_size = window.output_size(size)
        fan_in = channels * window.kernel**2
        bound = 1 / math.sqrt(fan_in)  # as PyTorch begins its convolutions and linear layers
        places = self.out_size**2
        self.weight = nn.Parameter(torch.empty(places, kernels, fan_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(places, kernels).uniform_(-bound, bound))

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch kernels out_height out_width"]:
        """Raises ValueError for images of another size."""
        if images.shape[2:] != (self.size, self.size):
            raise ValueError(
                f"images are {images.shape[2]} x {images.shape[3]} pixels; this layer has weights "
                f"for the places of {self.size} x {self.size} only: resize them, or convolve"
            )
        w = self.window
        patches = functional.unfold(images, w.kernel, padding=w.padding, stride=w.stride)
        values = torch.einsum("bip,pki->bkp", patches, self.weight) + self.bias.T
        return values.unflatten(2, (self.out_size, self.out_size))


KINDS = ("full", "local", "shared")
"""What `digit_net` can be made of, each kind a special case of the one before."""


def digit_net(kind: str, maps: tuple[int, int] = (8, 16)) -> nn.Sequential:
    """A network for digits of 16 x 16 with two hidden layers: maps of 8 x 8, then of 4 x 4.

    kind: how a unit of the hidden layers is connected. "full": to every unit of the layer before;
        "local": to a window of 5 x 5 of it; "shared": likewise, with weights that all units of a
        map have in common, which is a convolution. The units are the same in all three.

    Raises ValueError for any other kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; choose one of {KINDS}")
    window = Window(5, stride=2, padding=2)
    layers: list[nn.Module] = []
    channels, size = 1, 16
    for kernels in maps:
        after = window.output_size(size)
        if kind == "shared":
            layers.append(nn.Conv2d(channels, kernels, 5, stride=2, padding=2))
        elif kind == "local":
            layers.append(LocallyConnected(channels, kernels, size, window))
        else:
            connected = nn.Linear(channels * size**2, kernels * after**2)
            layers += [nn.Flatten(), connected, nn.Unflatten(1, (kernels, after, after))]
        layers.append(nn.ReLU())
        channels, size = kernels, after
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * size**2, 10))


def put_anywhere(
    digits: Float[Tensor, "n 1 28 28"], generator: torch.Generator
) -> Float[Tensor, "n 1 16 16"]:
    """Each digit, shrunk to 10 x 10 pixels, somewhere on a board of 16 x 16 from -1 to 1.

    digits: from 0 to 1. What lies outside of the middle 20 x 20 pixels is cut off: in most of
        MNIST's digits the ends of a few strokes.
    """
    small = functional.interpolate(digits[:, :, 4:24, 4:24], size=10, mode="area")
    boards = torch.full((len(digits), 1, 16, 16), -1.0)
    places = torch.randint(16 - 10 + 1, (len(digits), 2), generator=generator).tolist()
    for board, digit, (top, left) in zip(boards, small, places, strict=True):
        board[:, top : top + 10, left : left + 10] = 2 * digit - 1
    return boards


# ---------------------------------------------------------------------------------------------
# The zip code reader of 1989


class SquashedMaps(nn.Module):
    """A hidden layer of the zip code reader: kernels shared within a map, biases not (§3.3).

    Windows of 5 x 5 that move by two pixels; beyond the border every unit of the layer before
    counts as -1, the value of the background.

    sources: for each map, the maps of the layer before that it sees.
    size: height and width of the maps; the layer before's are twice as high and wide.
    """

    def __init__(self, sources: Sequence[Sequence[int]], size: int) -> None:
        super().__init__()
        self.register_buffer("sources", torch.tensor(sources))  # (maps, seen)
        maps, seen = self.sources.shape
        bound = 2.4 / (25 * seen + 1)  # §4: ±2.4 / fan-in, the bias counted in
        self.weight = nn.Parameter(torch.empty(maps, seen, 5, 5).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(maps, size, size).uniform_(-bound, bound))

    def forward(
        self, maps: Float[Tensor, "batch before height width"]
    ) -> Float[Tensor, "batch after half_height half_width"]:
        kernels = self.weight.new_zeros(len(self.weight), maps.shape[1], 5, 5)
        kernels[torch.arange(len(kernels))[:, None], self.sources] = self.weight
        padded = functional.pad(maps, (2, 2, 2, 2), value=-1.0)
        return squash(functional.conv2d(padded, kernels, stride=2) + self.bias)


def squash(totals: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """A scaled tanh, as in 1989; its constants, which take ±1 to ±1, are from LeCun et al. 1998."""
    return 1.7159 * torch.tanh(2 / 3 * totals)


class ZipCodeNet(nn.Module):
    """The network of §3.3: 16 x 16 pixels from -1 to 1, twice twelve maps, 30 units, ten."""

    def __init__(self) -> None:
        super().__init__()
        self.h1 = SquashedMaps([[0]] * 12, size=8)
        self.h2 = SquashedMaps([[(i + j) % 12 for j in range(8)] for i in range(12)], size=4)
        self.h3 = nn.Linear(12 * 4 * 4, 30)
        self.output = nn.Linear(30, 10)

    def forward(self, images: Float[Tensor, "batch 1 16 16"]) -> Float[Tensor, "batch 10"]:
        """Logits of the ten digits."""
        return self.output(squash(self.h3(self.h2(self.h1(images)).flatten(1))))


class ConnectedNet(nn.Module):
    """What the paper names for comparison: one hidden layer of 40 units that see every pixel."""

    def __init__(self, hidden: int = 40) -> None:
        super().__init__()
        self.hidden = nn.Linear(16 * 16, hidden)
        self.output = nn.Linear(hidden, 10)

    def forward(self, images: Float[Tensor, "batch 1 16 16"]) -> Float[Tensor, "batch 10"]:
        """Logits of the ten digits."""
        return self.output(squash(self.hidden(images.flatten(1))))


@dataclass(frozen=True)
class LayerCount:
    """One layer, counted as in 1989.

    units: numbers in its output.
    connections: lines into its units, that of the bias included, and those from beyond the border.
    parameters: independent ones, however many connections share them.
    """

    name: str
    units: int
    connections: int
    parameters: int


def count_layers(net: nn.Module) -> list[LayerCount]:
    """The layers of a `ZipCodeNet` or a `ConnectedNet`, in their order."""
    rows = []
    for name, layer in net.named_children():
        units = layer.bias.numel()  # each unit has a bias of its own
        inputs = layer.weight[0].numel() + 1
        parameters = layer.weight.numel() + layer.bias.numel()
        rows.append(LayerCount(name, units, units * inputs, parameters))
    return rows
