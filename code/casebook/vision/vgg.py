"""VGG: Very Deep Convolutional Networks for Large-Scale Image Recognition (2014).

Simonyan and Zisserman's networks A to E: blocks of small convolutions, five poolings that halve
the maps, three fully connected layers, and nothing else. Sections (§) and tables are those of
arXiv 1409.1556v6, the version of ICLR 2015.

Where this departs from the paper or reads it in its own way, and why:

* Random initial weights have a standard deviation of 0.01. The paper prints a *variance* of 10^-2
  (§3.1), which is a standard deviation of 0.1, with which we do not see how even network A
  could be trained: on a photograph its first loss is millions of times that of guessing.
  `weight_std` takes either.
* "The first four convolutional layers" that deeper networks take over from A (§3.1) are taken over
  by their place in the blocks, conv1_1, conv2_1, conv3_1 and conv3_2. The first four in a row would
  not fit: A's second convolution has 128 kernels, that of every deeper network 64.
* The sizes that begin with "small" are this book's: an eighth of the kernels, for grey images of
  32 x 32 pixels, which five poolings bring down to 1 x 1 where the paper has 7 x 7, and so smaller
  fully connected layers. Dropout is weaker, because they are trained for a few hundred steps, and
  the weights begin by the rule of He et al. (2015), which was not known yet.
* Training is the caller's: no rescaled training images ("scale jittering"), no colour shift, and a
  schedule of the learning rate where the authors watched the validation accuracy.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor, nn

from casebook.training import count_multiply_adds, meta_device
from casebook.vision.alexnet import LocalResponseNorm
from casebook.vision.convolution import Window

HEADS = ("flatten", "average")
INITIALISATIONS = ("gaussian", "glorot", "he")
NOTATION = re.compile(r"conv(\d+)-(\d+)")


@dataclass(frozen=True)
class VGGConfig:
    """The layers and constants of a VGG. Every default is the paper's but one, `weight_std`.

    blocks: what stands between the poolings, in the notation of Table 1, words apart by spaces:
        "conv3-64" is a convolution with 64 kernels of 3 x 3, "LRN" a response normalisation.
    head: "flatten" hands all maps to the first fully connected layer, "average" their means.
    initialisation: "gaussian" with `weight_std`, "glorot" or "he", see `initialise`.
    weight_std: standard deviation of the initial weights; the paper prints a variance, see above.

    Raises ValueError if the fields do not fit together.
    """

    blocks: tuple[str, ...]
    input_size: int = 224  # width and height, in pixels (§2.1)
    input_channels: int = 3  # red, green, blue
    hidden: tuple[int, ...] = (4096, 4096)  # neurons of the hidden fully connected layers (§2.1)
    classes: int = 1000
    dropout: float = 0.5  # after each hidden fully connected layer (§3.1)
    head: str = "flatten"
    initialisation: str = "gaussian"
    weight_std: float = 0.01

    def __post_init__(self) -> None:
        for word in " ".join(self.blocks).split():
            shape = NOTATION.fullmatch(word)
            if word != "LRN" and not (shape and int(shape[1]) % 2 and int(shape[2])):
                raise ValueError(
                    f"blocks has the word {word!r}; write convolutions like 'conv3-64', with an "
                    "odd window and at least one kernel, and response normalisation as 'LRN'"
                )
        for name, value, allowed in (
            ("head", self.head, HEADS),
            ("initialisation", self.initialisation, INITIALISATIONS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; choose one of {allowed}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; choose a probability from 0 to below 1")
        if self.input_size < self.smallest_input:
            raise ValueError(
                f"input_size is {self.input_size}; {len(self.blocks)} poolings need at least "
                f"{self.smallest_input} pixels"
            )

    @property
    def smallest_input(self) -> int:
        """Width of the smallest image of which something is left after the last pooling."""
        return 2 ** len(self.blocks)

    @property
    def map_size(self) -> int:
        """Width of the maps that the last pooling hands on: 7 for images of 224."""
        return self.input_size // self.smallest_input

    @property
    def convolutions(self) -> tuple[tuple[int, int], ...]:
        """(window, kernels) of each convolution, in order."""
        found = NOTATION.findall(" ".join(self.blocks))
        return tuple((int(window), int(kernels)) for window, kernels in found)

    @property
    def depth(self) -> int:
        """Number of layers with weights: what Table 1 calls "weight layers"."""
        return len(self.convolutions) + len(self.hidden) + 1

    @property
    def windows(self) -> tuple[Window, ...]:
        """The convolutions and poolings, for `casebook.vision.convolution.receptive_field`."""
        return tuple(
            window
            for block in self.blocks
            for window in (
                *(Window(int(k), 1, int(k) // 2) for k, _ in NOTATION.findall(block)),
                Window(2, 2),
            )
        )


SIZES = {
    # Table 1: one block per line, a pooling after each.
    "A": VGGConfig(
        (
            "conv3-64",
            "conv3-128",
            "conv3-256 conv3-256",
            "conv3-512 conv3-512",
            "conv3-512 conv3-512",
        )
    ),
    "A-LRN": VGGConfig(
        (
            "conv3-64 LRN",
            "conv3-128",
            "conv3-256 conv3-256",
            "conv3-512 conv3-512",
            "conv3-512 conv3-512",
        )
    ),
    "B": VGGConfig(
        (
            "conv3-64 conv3-64",
            "conv3-128 conv3-128",
            "conv3-256 conv3-256",
            "conv3-512 conv3-512",
            "conv3-512 conv3-512",
        )
    ),
    "C": VGGConfig(
        (
            "conv3-64 conv3-64",
            "conv3-128 conv3-128",
            "conv3-256 conv3-256 conv1-256",
            "conv3-512 conv3-512 conv1-512",
            "conv3-512 conv3-512 conv1-512",
        )
    ),
    "D": VGGConfig(
        (
            "conv3-64 conv3-64",
            "conv3-128 conv3-128",
            "conv3-256 conv3-256 conv3-256",
            "conv3-512 conv3-512 conv3-512",
            "conv3-512 conv3-512 conv3-512",
        )
    ),
    "E": VGGConfig(
        (
            "conv3-64 conv3-64",
            "conv3-128 conv3-128",
            "conv3-256 conv3-256 conv3-256 conv3-256",
            "conv3-512 conv3-512 conv3-512 conv3-512",
            "conv3-512 conv3-512 conv3-512 conv3-512",
        )
    ),
    # The shallow net of §4.1: each pair of B is one window of the same receptive field.
    "B-5x5": VGGConfig(("conv5-64", "conv5-128", "conv5-256", "conv5-512", "conv5-512")),
}


def narrowed(config: VGGConfig, divisor: int) -> VGGConfig:
    """The same layers with `divisor` times fewer kernels and hidden neurons.

    Raises ValueError if a width cannot be divided.
    """
    widths = [kernels for _, kernels in config.convolutions] + list(config.hidden)
    if divisor < 1 or any(width % divisor for width in widths):
        raise ValueError(f"divisor is {divisor}; choose one that divides all of {widths}")
    blocks = tuple(
        NOTATION.sub(lambda word: f"conv{word[1]}-{int(word[2]) // divisor}", block)
        for block in config.blocks
    )
    return replace(config, blocks=blocks, hidden=tuple(n // divisor for n in config.hidden))


SIZES |= {
    f"small-{name}": replace(
        narrowed(config, 8),
        input_size=32,
        input_channels=1,
        hidden=(128, 128),
        classes=10,
        dropout=0.2,
        initialisation="he",
    )
    for name, config in SIZES.items()
}


class VGG(nn.Module):
    """The networks of §2, from images to logits, with initial weights by `initialise`."""

    def __init__(self, config: VGGConfig = SIZES["D"]) -> None:
        super().__init__()
        self.config = config

        features, width = OrderedDict(), config.input_channels
        for b, block in enumerate(config.blocks, start=1):
            i = 0
            for word in block.split():
                if word == "LRN":
                    features[f"norm{b}_{i}"] = LocalResponseNorm()
                    continue
                i += 1
                window, kernels = map(int, NOTATION.fullmatch(word).groups())
                same = window // 2  # zeros around the maps, so that they keep their size
                features[f"conv{b}_{i}"] = nn.Conv2d(width, kernels, window, padding=same)
                features[f"relu{b}_{i}"] = nn.ReLU()
                width = kernels
            features[f"pool{b}"] = nn.MaxPool2d(2)
        self.features = nn.Sequential(features)

        classifier = OrderedDict()
        width *= config.map_size**2 if config.head == "flatten" else 1
        for i, neurons in enumerate(config.hidden, start=1):
            classifier[f"fc{i}"] = nn.Linear(width, neurons)
            classifier[f"relu{i}"] = nn.ReLU()
            classifier[f"drop{i}"] = nn.Dropout(config.dropout)
            width = neurons
        classifier[f"fc{len(config.hidden) + 1}"] = nn.Linear(width, config.classes)
        self.classifier = nn.Sequential(classifier)
        initialise(self)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of the classes.

        With the head "flatten" images have the size of the configuration, with "average" any size
        that survives the poolings. Raises ValueError for others.
        """
        self.check(images)
        maps = self.features(images)
        return self.classifier(
            maps.flatten(1) if self.config.head == "flatten" else maps.mean((2, 3))
        )

    def check(self, images: Tensor) -> None:
        """Raise ValueError if the network cannot take these images."""
        c = self.config
        size, fixed = tuple(images.shape[2:]), c.head == "flatten"
        fits = size == (c.input_size,) * 2 if fixed else min(size) >= c.smallest_input
        if images.shape[1] != c.input_channels or not fits:
            raise ValueError(
                f"images have shape {tuple(images.shape)}; this network takes {c.input_channels} "
                f"channels and {'exactly' if fixed else 'at least'} "
                f"{c.input_size if fixed else c.smallest_input} pixels each way: crop or resize "
                "them, or see as_fully_convolutional"
            )


def weight_layers(net: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """The layers that have weights, first to last."""
    return [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def initialise(net: VGG) -> None:
    """Draw the weights from a Gaussian around zero and set the biases to zero, in place (§3.1).

    With a kernel of k x k, C channels coming in and D going out, the standard deviation is
    `weight_std` for "gaussian"; sqrt(2 / (k² C + k² D)) for "glorot" (Glorot and Bengio, 2010); and
    sqrt(2 / (k² C)) for "he" (He et al., 2015), which makes up for what the ReLU takes away.
    """
    for layer in weight_layers(net):
        if net.config.initialisation == "gaussian":
            nn.init.normal_(layer.weight, std=net.config.weight_std)
        elif net.config.initialisation == "glorot":
            nn.init.xavier_normal_(layer.weight)
        else:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)


SHARED = ("conv1_1", "conv2_1", "conv3_1", "conv3_2")
"""The first four convolutions of network A: those that deeper networks begin with (§3.1)."""


def take_over(deep: VGG, shallow: VGG) -> list[str]:
    """Copy the first four convolutions and the fully connected layers of A into a deeper network.

    What §3.1 does before training B to E. Both keep learning afterwards. Returns the names of the
    layers that were copied. Raises ValueError if their shapes differ.
    """
    names = [f"features.{name}" for name in SHARED]
    names += [f"classifier.{name}" for name in shallow.classifier._modules if name.startswith("fc")]
    theirs, ours = shallow.state_dict(), deep.state_dict()
    for name in names:
        for key in (f"{name}.weight", f"{name}.bias"):
            if key not in theirs or key not in ours or theirs[key].shape != ours[key].shape:
                shapes = [
                    tuple(state[key].shape) if key in state else None for state in (ours, theirs)
                ]
                raise ValueError(
                    f"{key} has the shape {shapes[0]} in the deeper network and {shapes[1]} in the "
                    "other; a layer can only be taken over in the same shape"
                )
            ours[key].copy_(theirs[key])
    return names


# ---------------------------------------------------------------------------------------------
# Dense evaluation (§3.2)


class FullyConvolutional(nn.Module):
    """A VGG whose fully connected layers are convolutions: any image in, a map of scores out."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features, self.classifier = features, classifier

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Logits of the classes at every place that the first fully connected layer fits in."""
        return self.classifier(self.features(images))


def as_fully_convolutional(net: VGG) -> FullyConvolutional:
    """The same weights, with the fully connected layers turned into convolutions (§3.2).

    The first becomes one with windows as large as the maps it was trained on, 7 x 7, the others
    1 x 1. The convolutions before them are shared with `net`, not copied.

    Raises ValueError for the head "average", which takes images of any size as it is.
    """
    if net.config.head != "flatten":
        raise ValueError("this network averages its maps; it takes images of any size as it is")
    layers, window = OrderedDict(), net.config.map_size
    for name, layer in net.classifier.named_children():
        if isinstance(layer, nn.Linear):
            channels = layer.in_features // window**2
            weight = layer.weight.detach().unflatten(1, (channels, window, window))
            layer = nn.Conv2d(channels, len(weight), window, device="meta")
            layer.weight = nn.Parameter(weight.clone())
            layer.bias = nn.Parameter(net.classifier.get_submodule(name).bias.detach().clone())
            window = 1
        elif isinstance(layer, nn.Dropout):
            layer = nn.Dropout(layer.p)
        layers[name] = layer
    return FullyConvolutional(net.features, nn.Sequential(layers)).train(net.training)


# ---------------------------------------------------------------------------------------------
# Counting


def multiply_adds(config: VGGConfig) -> tuple[int, int]:
    """Multiply-adds for one image: of the convolutions alone, and of the whole network.

    Papers print either. Nothing is computed, and no memory is used.
    """
    shape = (1, config.input_channels, config.input_size, config.input_size)
    with meta_device():
        net = VGG(config)
    return count_multiply_adds(net.features, shape), count_multiply_adds(net, shape)
