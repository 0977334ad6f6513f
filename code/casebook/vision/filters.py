"""What filters see: looking into a convolutional network, and measuring what one sees.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), look at a trained
network from the side of the image: which patches excite a feature map most (§4, Figure 2), how the
answer changes while a grey square moves over the image (§4.2, Figure 7), how far the features move
when the image does (Figure 5). Erhan et al. (2009) climb the gradient to the image that excites a
unit most. Olshausen and Field (1996) learn a sparse code of natural images and find in it the
edges that first layers have. The functions here do all this for any network and any patches, and
`fit_gabor` puts a number to what such pictures suggest. Numbers of Zeiler and Fergus' sections,
figures and tables are those of the arXiv version.

Where this departs from the papers, and why:

* `top_patches` cuts patches out of the images, which is one half of Figure 2. The other half
  projects each activation back to the pixels with a "deconvnet"; we leave it out for length.
* `maximise_activation` keeps the norm of the image fixed, as Erhan et al. do; moving the
  image while it climbs and smoothing its gradient came later.
* `sparse_code` penalises the absolute value of a coefficient; Olshausen and Field's Figure 4 was
  made with log(1 + x²). Their codes come from conjugate gradients, ours from FISTA (Beck and
  Teboulle, 2009); the dictionary is updated as by Mairal et al. (2009).
* `PatchNet` and its tasks are this book's.
"""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from casebook.vision.convolution import ReceptiveField, Window

# ---------------------------------------------------------------------------------------------
# Looking into a network


def windows(network: nn.Module) -> list[Window]:
    """The windows of a network's convolutions and poolings, in the order in which they stand.

    That is the order of `network.modules()`: right for networks without branches, and for residual
    ones whose skip connections only add; a convolution on a skip connection would be counted too.

    Raises ValueError for windows that are not square or are dilated.
    """
    found = []
    for layer in network.modules():
        if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            continue
        shape = [layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", 1)]
        sides = [side if isinstance(side, tuple) else (side, side) for side in shape]
        if any(height != width for height, width in sides) or sides[3] != (1, 1):
            raise ValueError(f"{layer} does not move a plain square window; cut it out by hand")
        found.append(Window(*(height for height, _ in sides[:3])))
    return found


def maximise_activation(
    score: Callable[[Tensor], Tensor],
    start: Float[Tensor, "batch channels height width"],
    *,
    norm: float,
    steps: int = 100,
    rate: float = 0.1,
    jitter: int = 0,
    blur: float = 0.0,
    generator: Generator | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """Images of a given norm that climb the gradient of a unit's activation (Erhan et al. 2009).

    score: maps images to one activation each; all of them climb at once, each on its own.
    start: where they start, any images but zero.
    norm: the length that every image is brought back to after each step, as a vector.
    rate: length of a step, as a share of `norm`; it falls to zero along a line.
    jitter: move the image at random by up to so many pixels before each look, so that no single
        pixel can be tuned; needs `generator`.
    blur: standard deviation, in pixels, of a Gaussian that smooths the gradient.

    Raises ValueError for a norm that is not positive, a start of zero, jitter without generator, or
    an image of `start` on which its score does not depend: behind a ReLU that is silent there the
    gradient is zero, and the image would stay where it is. Climb the value before the ReLU.
    """
    if norm <= 0 or not start.flatten(1).norm(dim=1).all():
        raise ValueError(f"norm is {norm}; it must be positive, and no image of `start` all zero")
    if jitter and generator is None:
        raise ValueError(f"jitter is {jitter}: give a `generator` to draw the moves from")

    def to_norm(images: Tensor) -> Tensor:
        return images * (norm / images.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)

    images = to_norm(start.clone())
    for step in range(steps):
        move = (0, 0)
        if jitter:
            move = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
        seen = images.roll(move, (2, 3)).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(score(seen).sum(), seen)
        gradient = gradient.roll([-shift for shift in move], (2, 3))
        if blur:
            gradient = gaussian_blur(gradient, blur)
        length = gradient.flatten(1).norm(dim=1)
        if step == 0 and not length.all():
            stuck = torch.nonzero(length == 0).flatten().tolist()
            raise ValueError(f"no gradient at the start of images {stuck}: is a ReLU silent there?")
        length = length.clamp_min(1e-12).view(-1, 1, 1, 1)
        images = to_norm(images + norm * rate * (1 - step / steps) * gradient / length)
    return images


def gaussian_blur(
    images: Float[Tensor, "batch channels height width"], std: float
) -> Float[Tensor, "batch channels height width"]:
    """Each channel smoothed by a Gaussian of `std` pixels, cut off at three of them."""
    reach = max(1, math.ceil(3 * std))
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / std) ** 2)
    bell = (bell / bell.sum()).repeat(images.shape[1], 1, 1, 1)  # (channels, 1, 1, width)
    groups = images.shape[1]
    smooth = functional.conv2d(images, bell, padding=(0, reach), groups=groups)
    return functional.conv2d(smooth, bell.transpose(2, 3), padding=(reach, 0), groups=groups)


@torch.no_grad()
def occlusion_map(
    score: Callable[[Tensor], Tensor],
    image: Float[Tensor, "channels height width"],
    *,
    size: int,
    stride: int = 1,
    value: float = 0.5,
) -> Float[Tensor, "rows columns"]:
    """How much the score falls while a square of `size` pixels covers the image, by place (§4.2).

    score: maps a batch of images to one number each, the probability of the true class, say.
    stride: pixels from one place to the next; the first is the upper left corner.
    value: what the square is filled with; 0.5 is grey, where pixels go from 0 to 1.

    Raises ValueError for a square that does not fit, or a stride below 1.
    """
    _, height, width = image.shape
    if not 1 <= size <= min(height, width) or stride < 1:
        raise ValueError(
            f"a square of {size} pixels, moved by {stride}, over an image of {height}×{width}: "
            f"choose a size from 1 to {min(height, width)} and a stride of at least 1"
        )
    tops, lefts = range(0, height - size + 1, stride), range(0, width - size + 1, stride)
    covered = image.repeat(len(tops) * len(lefts), 1, 1, 1)
    for number, (top, left) in enumerate(product(tops, lefts)):
        covered[number, :, top : top + size, left : left + size] = value
    return (score(image[None]) - score(covered)).view(len(tops), len(lefts))


def top_patches(
    activity: Float[Tensor, "images rows columns"],
    images: Float[Tensor, "images channels height width"],
    field: ReceptiveField,
    count: int,
) -> tuple[Float[Tensor, "count channels size size"], Float[Tensor, " count"]]:
    """The patches that excite one channel most, one per image, and how much they do (§4).

    activity: that channel's maps. field: what one of its outputs sees, from `receptive_field`.
    What lies outside of an image counts as zero, as it does for the network. Only the strongest
    place of an image is taken: its neighbours would show the same thing again.

    Raises ValueError if there are fewer images than patches asked for.
    """
    if count > len(images):
        raise ValueError(f"count is {count}, but there are {len(images)} images with a patch each")
    strongest, place = activity.flatten(1).max(1)
    chosen = strongest.topk(count)
    cut = []
    for index in chosen.indices.tolist():
        row, column = divmod(place[index].item(), activity.shape[2])
        cut.append(_cut(images[index], field.columns(row), field.columns(column)))
    return torch.stack(cut), chosen.values


def _cut(image: Tensor, rows: range, columns: range) -> Tensor:
    """A window of the image, zero where it reaches over the edge."""
    _, height, width = image.shape
    frame = max(0, -rows.start, -columns.start, rows.stop - height, columns.stop - width)
    framed = functional.pad(image, (frame,) * 4)
    return framed[
        :,
        rows.start + frame : rows.stop + frame,
        columns.start + frame : columns.stop + frame,
    ]


@torch.no_grad()
def randomised(
    network: nn.Module, seed: int, images: Float[Tensor, "batch channels height width"]
) -> nn.Module:
    """A copy of the network with weights that have learned nothing (Adebayo et al. 2018).

    Every layer draws its initial weights anew, as PyTorch does by default; with the seed from
    which a network was built, that can give back its own beginning. Batch normalisation then takes
    its means and variances from `images`, so that the copy's activities have the usual size.
    """
    copied = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in copied.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
    norms = [layer for layer in copied.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = None  # a plain mean over the batches seen, here the only one
    copied.train()
    copied(images)
    return copied.eval()


# ---------------------------------------------------------------------------------------------
# Patches of natural images


def whiten(
    images: Float[Tensor, "images height width"], cutoff: float = 0.3
) -> Float[Tensor, "images height width"]:
    """Grey images with the 1/f fall of natural amplitudes undone, and a standard deviation of 1.

    The amplitudes of natural images fall about as 1/f. Olshausen and Field multiply them by
    f · exp(-(f / cutoff)⁴), which levels that and removes what is finest: noise and pixel grid.
    The filter is fixed: of an image whose amplitudes fall faster, some of the slow changes stay.
    `cutoff` is in cycles per pixel; theirs, of 200 cycles in 512 pixels, is 0.39.
    """
    height, width = images.shape[1:]
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None])
    response = frequency * torch.exp(-((frequency / cutoff) ** 4))
    white = torch.fft.ifft2(torch.fft.fft2(images) * response).real
    return white / white.std((1, 2), keepdim=True)


def scramble(
    images: Float[Tensor, "images *channels height width"], generator: Generator
) -> Float[Tensor, "images *channels height width"]:
    """Each image with its amplitudes kept and its phases drawn at random.

    The result is as correlated as the image, from pixel to pixel and from colour to colour (the
    phases are shifted alike in all channels), but has no edges.
    """
    shape = (len(images), *[1] * (images.ndim - 3), *images.shape[-2:])
    noise = torch.fft.fft2(torch.randn(shape, generator=generator))
    turned = torch.fft.fft2(images) * noise / noise.abs()
    return torch.fft.ifft2(turned).real


def sample_patches(
    images: Float[Tensor, "images channels height width"],
    size: int,
    count: int,
    generator: Generator,
) -> Float[Tensor, "count channels size size"]:
    """Square patches from random places of images drawn at random.

    Raises ValueError if the images are smaller than `size`.
    """
    height, width = images.shape[2:]
    if size > min(height, width):
        raise ValueError(f"patches of {size} pixels do not fit into images of {height}×{width}")
    image = torch.randint(len(images), (count,), generator=generator)
    top = torch.randint(height - size + 1, (count,), generator=generator)
    left = torch.randint(width - size + 1, (count,), generator=generator)
    steps = torch.arange(size)
    rows, columns = (top[:, None] + steps)[:, :, None], (left[:, None] + steps)[:, None]
    return images[image[:, None, None], :, rows, columns].movedim(-1, 1)


def principal_components(patches: Float[Tensor, "n pixels"]) -> Float[Tensor, "pixels pixels"]:
    """The axes of the patches' covariance, as rows, the one of the largest variance first."""
    _, vectors = torch.linalg.eigh(torch.cov(patches.T))
    return vectors.flip(1).T


# ---------------------------------------------------------------------------------------------
# Sparse coding (Olshausen and Field 1996)


def sparse_code(
    patches: Float[Tensor, "n pixels"],
    atoms: Float[Tensor, "k pixels"],
    penalty: float,
    steps: int = 50,
) -> Float[Tensor, "n k"]:
    """The coefficients a that minimise ½‖patch - a·atoms‖² + penalty·Σ|a|, by FISTA.

    After `steps` steps they are near the minimum, not at it.
    """
    overlaps, wanted = atoms @ atoms.T, patches @ atoms.T
    curvature = torch.linalg.matrix_norm(overlaps, 2).item()
    code = ahead = torch.zeros_like(wanted)
    momentum = 1.0
    for _ in range(steps):
        downhill = ahead - (ahead @ overlaps - wanted) / curvature
        new = functional.softshrink(downhill, penalty / curvature)
        faster = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / faster * (new - code)
        code, momentum = new, faster
    return code


def learn_dictionary(
    patches: Float[Tensor, "n pixels"],
    count: int,
    *,
    penalty: float,
    generator: Generator,
    steps: int = 200,
    batch: int = 256,
) -> Float[Tensor, "count pixels"]:
    """Atoms of length 1 from which few suffice to build any of the patches.

    Each step codes a batch with the atoms of the moment, then moves each atom to where it serves
    the codes of this and the earlier batches best, the older the less (Mairal et al. 2009).

    Raises ValueError for a penalty that is not positive: without it nothing is sparse.
    """
    if penalty <= 0:
        raise ValueError(f"penalty is {penalty}; a sparse code needs a positive one")
    atoms = torch.randn(count, patches.shape[1], generator=generator)
    atoms /= atoms.norm(dim=1, keepdim=True)
    together, wanted = torch.zeros(count, count), torch.zeros_like(atoms)
    for step in range(steps):
        drawn = patches[torch.randint(len(patches), (batch,), generator=generator)]
        code = sparse_code(drawn, atoms, penalty)
        keep = step / (step + 10)
        together = keep * together + code.T @ code / batch
        wanted = keep * wanted + code.T @ drawn / batch
        for j in torch.nonzero(together.diagonal() > 1e-6).flatten():
            atom = atoms[j] + (wanted[j] - together[j] @ atoms) / together[j, j]
            atoms[j] = atom / atom.norm().clamp_min(1e-6)
    return atoms


# ---------------------------------------------------------------------------------------------
# Gabor functions


@dataclass(frozen=True)
class Gabor:
    """A wave under a bell: n of them, each field of shape (n,), lengths in pixels.

    x, y: the bell's centre, from the middle of the patch. along, across: its standard deviations
    along the wave's direction and across it. angle: that direction, in radians, from the x axis
    towards the y axis, which points down. frequency: in cycles per pixel. cosine, sine: amplitudes
    of the wave's two parts, which together are its amplitude and phase.
    """

    x: Float[Tensor, " n"]
    y: Float[Tensor, " n"]
    along: Float[Tensor, " n"]
    across: Float[Tensor, " n"]
    angle: Float[Tensor, " n"]
    frequency: Float[Tensor, " n"]
    cosine: Float[Tensor, " n"]
    sine: Float[Tensor, " n"]

    def draw(self, size: int) -> Float[Tensor, "n {size} {size}"]:
        """The functions at the pixels of a square patch."""
        shape = torch.stack(
            [self.x, self.y, self.along, self.across, self.angle, self.frequency], 1
        )
        even, odd = _waves(shape, size)
        return self.cosine[:, None, None] * even + self.sine[:, None, None] * odd


def _waves(shape: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The cosine and the sine part of Gabor functions: (..., 6) -> two of (..., size, size)."""
    x, y, along, across, angle, frequency = shape[..., None, None].unbind(-3)
    place = torch.arange(size) - (size - 1) / 2
    right, down = place[None, :] - x, place[:, None] - y
    u = right * angle.cos() + down * angle.sin()
    v = down * angle.cos() - right * angle.sin()
    bell = torch.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    wave = 2 * math.pi * frequency * u
    return bell * wave.cos(), bell * wave.sin()


def _orthonormal(even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Two waves as two vectors at right angles, and what it takes to go back: lengths and lean."""
    even, odd = even.flatten(-2), odd.flatten(-2)
    first = even.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    even = even / first
    lean = (odd * even).sum(-1, keepdim=True)
    odd = odd - lean * even
    second = odd.norm(dim=-1, keepdim=True).clamp_min(1e-3)  # where the sine adds nothing new
    return even, odd / second, first[..., 0], second[..., 0], lean[..., 0]


def _project(target: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Least squares of unit vectors by two waves: share explained, and the two amplitudes."""
    even, odd, first, second, lean = _orthonormal(even, odd)
    a, b = (target * even).sum(-1), (target * odd).sum(-1)
    return a**2 + b**2, (a - b * lean / second) / first, b / second


def fit_gabor(
    filters: Float[Tensor, "n size size"], *, starts: int = 4, steps: int = 60
) -> tuple[Gabor, Float[Tensor, " n"]]:
    """The Gabor function nearest to each filter, and the share of the filter that it explains.

    The share is 1 - ‖filter - Gabor‖² / ‖filter‖², between 0 and 1: for a filter with mean zero,
    the variance explained. A coarse grid of 7,200 shapes gives each filter its best `starts`,
    from which Adam climbs for `steps`; the two amplitudes are solved for exactly.

    Raises ValueError for a filter that is zero everywhere or not finite.
    """
    length = filters.flatten(1).norm(dim=1)
    if not (length.isfinite() & (length > 0)).all():
        raise ValueError("a filter is zero everywhere or not finite; leave it out")
    size = filters.shape[-1]
    target = filters.flatten(1) / length[:, None]
    reach = (size - 1) / 2
    grid = torch.cartesian_prod(
        torch.linspace(-0.7, 0.7, 5) * reach,
        torch.linspace(-0.7, 0.7, 5) * reach,
        torch.tensor([0.13, 0.25, 0.45]) * size,
        torch.tensor([1.0, 2.0]),  # across, as a multiple of along
        torch.arange(8) * math.pi / 8,
        torch.tensor([0.06, 0.12, 0.18, 0.25, 0.35, 0.45]),
    )
    grid[:, 3] *= grid[:, 2]
    even, odd, *_ = _orthonormal(*_waves(grid, size))
    coarse = ((target @ even.T) ** 2 + (target @ odd.T) ** 2).topk(starts).indices
    free = grid[coarse]  # (n, starts, 6)
    free[..., 2:4] = free[..., 2:4].log()  # so that they stay positive
    free.requires_grad_()
    least = torch.tensor([-reach, -reach, 0.5, 0.5, -torch.inf, 0.0])
    most = torch.tensor([reach, reach, size, size, torch.inf, 0.5])

    def shapes() -> Tensor:
        widths = free[..., 2:4].exp()
        return torch.cat([free[..., :2], widths, free[..., 4:]], -1).clamp(least, most)

    optimizer = torch.optim.Adam([free])
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.002 + 0.08 * (1 - step / steps)
        share, _, _ = _project(target[:, None], *_waves(shapes(), size))
        optimizer.zero_grad()
        (-share.sum()).backward()
        optimizer.step()
    with torch.no_grad():
        shape = shapes()
        share, cosine, sine = _project(target[:, None], *_waves(shape, size))
        row, best = torch.arange(len(target)), share.argmax(1)
        amplitudes = [part[row, best] * length for part in (cosine, sine)]
        return Gabor(*shape[row, best].unbind(-1), *amplitudes), share[row, best].clamp(0, 1)


def brightness_share(fields: Float[Tensor, "n size size"]) -> Float[Tensor, " n"]:
    """The share of each field's square that lies in its mean: 0 if uniform light leaves it cold.

    A bandpass field has next to none; a bell without a wave, which `fit_gabor` fits as well as any,
    has much.
    """
    flat = fields.flatten(1)
    return flat.sum(1) ** 2 / (flat.shape[1] * flat.square().sum(1))


def leading_colour(
    filters: Float[Tensor, "n channels size size"],
) -> tuple[Float[Tensor, "n channels"], Float[Tensor, "n size size"], Float[Tensor, " n"]]:
    """Each colour filter as one colour times one pattern, as nearly as that can be.

    Returns the colours, of length 1 and with a positive sum, the patterns, and the share of the
    filter's square that the product has: the leading term of a singular value decomposition.
    """
    left, singular, right = torch.linalg.svd(filters.flatten(2), full_matrices=False)
    colour, pattern = left[:, :, 0], singular[:, :1] * right[:, 0]
    sign = torch.where(colour.sum(1, keepdim=True) < 0, -1.0, 1.0)
    share = singular[:, 0] ** 2 / singular.square().sum(1)
    return sign * colour, (sign * pattern).view(len(filters), *filters.shape[2:]), share


# ---------------------------------------------------------------------------------------------
# A small network to look into, and worlds for it to look at


@dataclass(frozen=True)
class PatchNetConfig:
    """Size of a `PatchNet`.

    input_channels: 3 for colour, 1 for grey. classes: answers to choose from.
    window, stride: of the first convolution, which has no padding.
    channels: kernels of the convolutions; all but the first are 3×3.
    first_std: of the first layer's initial weights, as a share of what keeps the signal's size.
        Small weights turn quickly, so that more of what one sees in them later was learned.

    Raises ValueError for sizes below 1 or a `first_std` that is not positive.
    """

    input_channels: int = 3
    classes: int = 2
    window: int = 9
    stride: int = 2
    channels: tuple[int, ...] = (32, 48)
    first_std: float = 0.1

    def __post_init__(self) -> None:
        sizes = (self.input_channels, self.classes, self.window, self.stride, *self.channels)
        if not self.channels or min(sizes) < 1 or self.first_std <= 0:
            raise ValueError(
                f"{self}: give at least one layer, sizes of at least 1 and a positive first_std"
            )


class PatchNet(nn.Module):
    """Convolutions with normalisation and ReLU, pooling between them, the mean of each map."""

    def __init__(self, config: PatchNetConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PatchNetConfig()
        self.layers = nn.Sequential()
        before = c.input_channels
        for number, width in enumerate(c.channels):
            first = number == 0
            self.layers.append(
                nn.Sequential(
                    nn.Conv2d(before, width, c.window, c.stride, bias=False)
                    if first
                    else nn.Conv2d(before, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                    *([] if number == len(c.channels) - 1 else [nn.MaxPool2d(2)]),
                )
            )
            before = width
        self.classify = nn.Linear(before, c.classes)
        nn.init.normal_(
            self.first.weight, std=c.first_std / math.sqrt(self.first.weight[0].numel())
        )

    @property
    def first(self) -> nn.Conv2d:
        """The first convolution."""
        return self.layers[0][0]

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of the classes, for images of any size."""
        return self.classify(self.layers(images).mean((2, 3)))


def standardise(
    patches: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch channels height width"]:
    """Each patch with mean 0 and standard deviation about 1; flat ones stay nearly flat."""
    mean = patches.mean((1, 2, 3), keepdim=True)
    return (patches - mean) / (patches.std((1, 2, 3), keepdim=True) + 0.05)


def real_or_scrambled(
    photographs: Float[Tensor, "images channels height width"],
    count: int,
    size: int,
    generator: Generator,
) -> tuple[Float[Tensor, "batch channels {size} {size}"], Int[Tensor, " batch"]]:
    """Patches of photographs, label 1, and as many whose phases are scrambled, label 0.

    No person has to label anything, and brightness and correlations give little away: what tells
    the one from the other is in the phases, mostly edges. Scrambling treats a patch as if it were
    repeated in all directions, so it happens with a margin that is cut off afterwards; only the
    wider patch keeps its amplitudes exactly.
    """
    margin = 8
    wide = sample_patches(photographs, size + 2 * margin, 2 * count, generator)
    wide = wide - wide.mean((2, 3), keepdim=True)
    wide[count:] = scramble(wide[count:], generator)
    patches = wide[:, :, margin : margin + size, margin : margin + size]
    grain = 0.02 * torch.randn(patches.shape, generator=generator)  # hides rounding and JPEG
    labels = torch.cat([torch.ones(count), torch.zeros(count)]).long()
    return standardise(patches + grain), labels


def scenes(
    objects: Float[Tensor, "batch 1 small small"],
    backgrounds: Float[Tensor, "batch 1 large large"],
    generator: Generator,
) -> tuple[Float[Tensor, "batch 1 large large"], Bool[Tensor, "batch large large"]]:
    """Silhouettes in front of backgrounds, each at a place of its own, and where they are.

    objects: 1 inside, 0 outside, larger than the backgrounds nowhere. An object is painted with one
    grey value, drawn at random from black to white.

    Raises ValueError if the objects do not fit into the backgrounds.
    """
    small, large = objects.shape[-1], backgrounds.shape[-1]
    if small > large:
        raise ValueError(f"objects of {small} pixels do not fit into scenes of {large}")
    room = large - small + 1
    places = torch.randint(room, (len(objects), 2), generator=generator).tolist()
    masks = torch.stack(
        [
            functional.pad(one, (left, room - 1 - left, top, room - 1 - top))
            for one, (top, left) in zip(objects, places, strict=True)
        ]
    )
    grey = torch.rand(len(objects), 1, 1, 1, generator=generator)
    return masks * grey + (1 - masks) * backgrounds, masks[:, 0] > 0.5


def cka(
    first: Float[Tensor, "examples p"], second: Float[Tensor, "examples q"]
) -> Float[Tensor, ""]:
    """How alike two layers see the same examples, from 0 to 1 (linear CKA, Kornblith et al. 2019).

    It compares which examples are near to each other, so that turning or scaling all features
    changes nothing.
    """
    first, second = first - first.mean(0), second - second.mean(0)
    shared = (first.T @ second).square().sum()
    return shared / ((first.T @ first).norm() * (second.T @ second).norm())


def shifted(
    images: Float[Tensor, "batch channels height width"], pixels: int
) -> Float[Tensor, "batch channels height width"]:
    """The images moved down by so many pixels, with zeros behind them."""
    height = images.shape[2]
    return functional.pad(images, (0, 0, pixels, 0))[:, :, :height]


@torch.no_grad()
def movement(
    layers: Iterable[Callable[[Tensor], Tensor]],
    images: Float[Tensor, "batch channels height width"],
    others: Sequence[Float[Tensor, "batch channels height width"]],
) -> Float[Tensor, "layers others"]:
    """How far the features of each layer move from `images` to each of `others` (Figure 5).

    Euclidean distances, averaged over the images, in units of the mean distance between the
    features of two different images of the batch: 0 is the same, 1 as far as another image.
    """
    rows = []
    seen, moved = images, list(others)
    for layer in layers:
        seen, moved = layer(seen), [layer(other) for other in moved]
        flat = seen.flatten(1)
        unit = torch.pdist(flat).mean()
        rows.append(torch.stack([(other.flatten(1) - flat).norm(dim=1).mean() for other in moved]))
        rows[-1] = rows[-1] / unit
    return torch.stack(rows)
