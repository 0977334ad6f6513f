"""AlexNet: ImageNet Classification with Deep Convolutional Neural Networks (2012).

Krizhevsky, Sutskever and Hinton's network for the ImageNet challenge: five convolutions, three of
them split in two halves that see only their own half of the layer before, and three fully
connected layers. Sections (§) are those of the NIPS 2012 paper; "the authors' code" is the 2012
source that the Computer History Museum published in 2025.

Where this departs from the paper, and why:

* The input is 227 pixels wide. The paper prints 224, from which its first convolution does not
  come out at the 55 x 55 of its Figure 2; the authors' code rounds up, which amounts to three
  more rows and columns of zeros.
* The two halves of a grouped convolution are one `nn.Conv2d` on one device, and response
  normalisation reaches across the border between them, as the formula of §3.3 says. In the
  authors' code each half is normalised on its own GPU.
* Dropout multiplies the surviving outputs by two while training, as PyTorch does; the paper
  multiplies all outputs by one half when testing. It is the same network with the weights of the
  next layer halved.
* The paper puts a ReLU behind every layer (§3.5). The last layer here has none: its outputs are
  the logits of the softmax.
* The learning rate is the caller's: the paper lowered its own by hand (§5).
* The sizes "small" and "four-layer" are this book's, with initial weights scaled to the number of
  inputs of each layer.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


@dataclass(frozen=True)
class Convolution:
    """One convolution and what follows it; `bias` is where its biases begin."""

    kernels: int
    window: int  # width and height of a kernel, in pixels
    stride: int = 1
    padding: int = 0
    groups: int = 1
    normalised: bool = False
    pooled: bool = False
    bias: float = 0.0


@dataclass(frozen=True)
class AlexNetConfig:
    """The layers and constants of an AlexNet.

    Every default is the paper's, with two exceptions: `input_size`, which the paper gives as 224,
    and the paddings, which the paper leaves out and the sizes in its Figure 2 imply.

    Raises ValueError if the fields do not fit together.
    """

    input_size: int = 227  # width and height, in pixels
    input_channels: int = 3  # red, green, blue
    convolutions: tuple[Convolution, ...] = (  # §3.5; groups: §3.2; biases: §5
        Convolution(96, 11, stride=4, normalised=True, pooled=True),
        Convolution(256, 5, padding=2, groups=2, normalised=True, pooled=True, bias=1.0),
        Convolution(384, 3, padding=1),
        Convolution(384, 3, padding=1, groups=2, bias=1.0),
        Convolution(256, 3, padding=1, groups=2, pooled=True, bias=1.0),
    )
    hidden: tuple[int, ...] = (4096, 4096)  # neurons of the hidden fully connected layers (§3.5)
    hidden_bias: float = 1.0  # where their biases begin (§5)
    classes: int = 1000
    activation: str = "relu"  # §3.1; "tanh" and "sigmoid" are there for comparison
    pool_window: int = 3  # z in §3.4; wider than the stride, so that the windows overlap
    pool_stride: int = 2  # s in §3.4
    norm_size: int = 5  # n in §3.3
    norm_alpha: float = 1e-4
    norm_beta: float = 0.75
    norm_k: float = 2.0
    dropout: float = 0.5  # after each hidden fully connected layer (§4.2)
    weight_std: float | None = 0.01  # of all initial weights (§5); None: gain / sqrt(fan-in)

    def __post_init__(self) -> None:
        before = self.input_channels
        for i, layer in enumerate(self.convolutions, start=1):
            if before % layer.groups or layer.kernels % layer.groups:
                raise ValueError(
                    f"convolution {i} has {layer.groups} groups, {before} input channels and "
                    f"{layer.kernels} kernels; choose groups that divide both"
                )
            before = layer.kernels
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation is {self.activation!r}; choose one of {list(ACTIVATIONS)}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; choose a probability from 0 to below 1")
        if min(self.map_sizes) < 1:
            raise ValueError(
                f"from input_size {self.input_size} the maps shrink to {self.map_sizes} pixels; "
                "begin larger, or pool less"
            )

    @property
    def map_sizes(self) -> tuple[int, ...]:
        """Widths of the maps that each convolution hands on, pooled where it is: 27, 13, ..."""
        sizes, size = [], self.input_size
        for layer in self.convolutions:
            size = (size + 2 * layer.padding - layer.window) // layer.stride + 1
            if layer.pooled:
                size = (size - self.pool_window) // self.pool_stride + 1
            sizes.append(size)
        return tuple(sizes)


SIZES = {
    # The network of the paper.
    "alexnet": AlexNetConfig(),
    # The one-GPU network that §3.2 compares it with: half the kernels, except in layer 5.
    "one-gpu": AlexNetConfig(
        convolutions=(
            Convolution(48, 11, stride=4, normalised=True, pooled=True),
            Convolution(128, 5, padding=2, normalised=True, pooled=True, bias=1.0),
            Convolution(192, 3, padding=1),
            Convolution(192, 3, padding=1, bias=1.0),
            Convolution(256, 3, padding=1, pooled=True, bias=1.0),
        )
    ),
    # This book's: the same eight layers for 25 x 25 crops of grey images of 28 x 28. The second
    # convolution is not pooled, because its maps are as small as AlexNet's last ones.
    "small": AlexNetConfig(
        input_size=25,
        input_channels=1,
        convolutions=(
            Convolution(16, 7, stride=2, padding=5, normalised=True, pooled=True),
            Convolution(32, 5, padding=2, groups=2, normalised=True),
            Convolution(32, 3, padding=1),
            Convolution(32, 3, padding=1, groups=2),
            Convolution(32, 3, padding=1, groups=2, pooled=True),
        ),
        hidden=(192, 192),
        hidden_bias=0.0,
        classes=10,
        weight_std=None,
    ),
    # This book's: four layers for the race of activations of §3.1, without any regularisation.
    "four-layer": AlexNetConfig(
        input_size=28,
        input_channels=1,
        convolutions=(
            Convolution(16, 5, stride=2, padding=2, pooled=True),
            Convolution(32, 5, padding=2, pooled=True),
            Convolution(32, 3, padding=1),
        ),
        hidden=(),
        classes=10,
        weight_std=None,
    ),
}


def local_response_norm(
    activity: Float[Tensor, "batch channels height width"],
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
) -> Float[Tensor, "batch channels height width"]:
    """Divide each activity by (k + alpha · sum of squares in `size` adjacent channels) ** beta.

    The formula of §3.3, at each position of the map; beyond the first and the last channel there
    is nothing to sum. PyTorch's function of that name, like the authors' code, divides alpha by
    `size`; the formula does not.

    Raises ValueError if `size` is even, because the window is centred on the channel.
    """
    if size % 2 == 0:
        raise ValueError(f"size is {size}; choose an odd one, with as many channels on each side")
    reach = size // 2
    squares = functional.pad(activity.square(), (0, 0, 0, 0, reach, reach))
    total = sum(squares[:, j : j + activity.shape[1]] for j in range(size))
    return activity / (k + alpha * total) ** beta


class LocalResponseNorm(nn.Module):
    """`local_response_norm` as a layer, without parameters."""

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(
        self, activity: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        return local_response_norm(activity, self.size, self.alpha, self.beta, self.k)


class AlexNet(nn.Module):
    """The network of §3.5, from images to logits, with the initial weights of §5."""

    def __init__(self, config: AlexNetConfig = SIZES["alexnet"]) -> None:
        super().__init__()
        self.config = c = config
        activation = ACTIVATIONS[c.activation]

        features, width = OrderedDict(), c.input_channels
        for i, layer in enumerate(c.convolutions, start=1):
            shape = (layer.kernels, layer.window, layer.stride, layer.padding)
            features[f"conv{i}"] = nn.Conv2d(width, *shape, groups=layer.groups)
            features[f"{c.activation}{i}"] = activation()
            if layer.normalised:
                features[f"norm{i}"] = LocalResponseNorm(
                    c.norm_size, c.norm_alpha, c.norm_beta, c.norm_k
                )
            if layer.pooled:
                features[f"pool{i}"] = nn.MaxPool2d(c.pool_window, c.pool_stride)
            width = layer.kernels
        self.features = nn.Sequential(features)

        classifier, width = OrderedDict(), width * c.map_sizes[-1] ** 2
        for i, neurons in enumerate(c.hidden, start=len(c.convolutions) + 1):
            classifier[f"fc{i}"] = nn.Linear(width, neurons)
            classifier[f"{c.activation}{i}"] = activation()
            classifier[f"drop{i}"] = nn.Dropout(c.dropout)
            width = neurons
        last = len(c.convolutions) + len(c.hidden) + 1
        classifier[f"fc{last}"] = nn.Linear(width, c.classes)
        self.classifier = nn.Sequential(classifier)
        initialise(self)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of the classes. Raises ValueError for images of another size or depth."""
        c = self.config
        expected = (c.input_channels, c.input_size, c.input_size)
        if tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"images have shape {tuple(images.shape)}; this network takes "
                f"(batch, {c.input_channels}, {c.input_size}, {c.input_size}): crop or resize them"
            )
        return self.classifier(self.features(images).flatten(1))


def initialise(net: AlexNet) -> None:
    """Draw the weights from a Gaussian around zero and set the biases, in place (§5)."""
    c = net.config
    gain = nn.init.calculate_gain(c.activation)
    biases = [layer.bias for layer in c.convolutions] + [c.hidden_bias] * len(c.hidden) + [0.0]
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer, bias in zip(layers, biases, strict=True):
        fan_in = layer.weight[0].numel()
        std = gain / math.sqrt(fan_in) if c.weight_std is None else c.weight_std
        nn.init.normal_(layer.weight, std=std)
        nn.init.constant_(layer.bias, bias)


def without_groups(config: AlexNetConfig) -> AlexNetConfig:
    """The same network in one piece: every kernel sees all channels of the layer before."""
    return replace(
        config, convolutions=tuple(replace(layer, groups=1) for layer in config.convolutions)
    )


def without_normalisation(config: AlexNetConfig) -> AlexNetConfig:
    """The same network without response normalisation."""
    return replace(
        config,
        convolutions=tuple(replace(layer, normalised=False) for layer in config.convolutions),
    )


# ---------------------------------------------------------------------------------------------
# Augmentation (§4.1)


def centre_crop(
    images: Float[Tensor, "batch channels height width"], size: int
) -> Float[Tensor, "batch channels {size} {size}"]:
    """The middle `size` x `size` pixels. Raises ValueError if the images are smaller."""
    _check_crop(images, size)
    top, left = (images.shape[2] - size) // 2, (images.shape[3] - size) // 2
    return images[:, :, top : top + size, left : left + size]


def random_crops(
    images: Float[Tensor, "batch channels height width"], size: int, generator: Generator
) -> Float[Tensor, "batch channels {size} {size}"]:
    """A `size` x `size` patch of each image, at a place drawn for that image.

    Raises ValueError if the images are smaller.
    """
    _check_crop(images, size)
    batch, _, height, width = images.shape
    top = torch.randint(height - size + 1, (batch, 1), generator=generator)
    left = torch.randint(width - size + 1, (batch, 1), generator=generator)
    rows = (top + torch.arange(size))[:, None, :, None]  # (batch, 1, size, 1)
    columns = (left + torch.arange(size))[:, None, None, :]  # (batch, 1, 1, size)
    example = torch.arange(batch)[:, None, None, None]
    channel = torch.arange(images.shape[1])[None, :, None, None]
    return images[example, channel, rows, columns]


def random_reflections(
    images: Float[Tensor, "batch channels height width"], generator: Generator
) -> Float[Tensor, "batch channels height width"]:
    """Each image as it is or, with probability one half, its mirror image."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, images.flip(3), images)


def ten_views(
    images: Float[Tensor, "batch channels height width"], size: int
) -> Float[Tensor, "10 batch channels {size} {size}"]:
    """The four corners and the middle of each image, and their mirror images.

    What the paper averages its predictions over (§4.1). Raises ValueError if the images are
    smaller than `size`.
    """
    _check_crop(images, size)
    views = [
        images[:, :, :size, :size],
        images[:, :, :size, -size:],
        images[:, :, -size:, :size],
        images[:, :, -size:, -size:],
        centre_crop(images, size),
    ]
    return torch.stack([*views, *(view.flip(3) for view in views)])


def colour_components(
    images: Float[Tensor, "batch 3 height width"],
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3 3"]]:
    """Eigenvalues, largest first, and eigenvectors of the covariance of the pixels' colours.

    The eigenvectors are the columns of the matrix, as p_1, p_2, p_3 in §4.1.
    """
    pixels = images.transpose(0, 1).flatten(1)  # (3, batch · height · width)
    eigenvalues, eigenvectors = torch.linalg.eigh(torch.cov(pixels))  # smallest first
    return eigenvalues.flip(0), eigenvectors.flip(1)


def jitter_colours(
    images: Float[Tensor, "batch 3 height width"],
    eigenvalues: Float[Tensor, "3"],
    eigenvectors: Float[Tensor, "3 3"],
    generator: Generator,
    std: float = 0.1,
) -> Float[Tensor, "batch 3 height width"]:
    """Add [p_1 p_2 p_3] [a_1 l_1, a_2 l_2, a_3 l_3]^T to all pixels of an image (§4.1).

    p and l are the eigenvectors and eigenvalues of `colour_components`; the three a are drawn
    once for each image, from a Gaussian around zero with standard deviation `std`.
    """
    draws = torch.randn(len(images), 3, generator=generator) * std
    shift = (draws * eigenvalues) @ eigenvectors.T  # (batch, 3)
    return images + shift[:, :, None, None]


def _check_crop(images: Tensor, size: int) -> None:
    if not 1 <= size <= min(images.shape[2:]):
        raise ValueError(
            f"a crop of {size} x {size} does not fit images of {images.shape[2]} x "
            f"{images.shape[3]}; choose a size from 1 to {min(images.shape[2:])}"
        )
