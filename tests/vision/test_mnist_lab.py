"""The MNIST lab's network, its crops and its training."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from casebook.data import mnist
from casebook.training import accuracy, classification_loss, count_parameters, seed_everything
from casebook.vision.mnist_lab import (
    ConvPair,
    MiniVGG,
    MiniVGGConfig,
    Schedule,
    centre_crop,
    crop,
    random_crop,
    train,
)

SMALL = {"channels": (4, 6), "pairs": (1, 2)}


def digits(n: int, split: str = "train") -> tuple[Tensor, Tensor]:
    images, labels = mnist().tensors(split)
    return images[:n], labels[:n]


def shuffle_normalisation(model: nn.Module) -> None:
    """Give every batch normalisation statistics and weights that are not 0 and 1."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.running_mean, layer.bias.data):
                tensor.normal_()
            for tensor in (layer.running_var, layer.weight.data):
                tensor.uniform_(0.5, 2)


# Contract


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("size", [24, 28])
def test_output_is_finite_and_every_parameter_learns(residual: bool, size: int) -> None:
    generator = seed_everything(0)
    model = MiniVGG(MiniVGGConfig(residual=residual))
    images = torch.rand(8, 1, size, size, generator=generator)
    logits = model(images)
    assert logits.shape == (8, 10)
    assert logits.isfinite().all()
    classification_loss(model, images, torch.arange(8)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("residual", [False, True])
def test_same_seed_same_run_and_a_shorter_run_is_its_beginning(residual: bool) -> None:
    images, labels = digits(300)

    def losses(seed: int, max_steps: int | None = None) -> list[float]:
        seed_everything(seed)
        model = MiniVGG(MiniVGGConfig(**SMALL, residual=residual))
        schedule = Schedule(epochs=2, batch_size=50)
        run = train(model, images, labels, seed=seed, schedule=schedule, max_steps=max_steps)
        return run.loss

    first = losses(0)
    assert len(first) == 12
    assert losses(0) == first
    assert losses(0, max_steps=4) == first[:4]
    assert losses(1) != first


# Oracle: other people's arithmetic


def convolve(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """3×3 convolution with zeros around the image, written out as sums."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(weight), *x.shape[1:]))
    for o, row, column in np.ndindex(out.shape):
        out[o, row, column] = (padded[:, row : row + 3, column : column + 3] * weight[o]).sum()
    return out


def normalise(x: np.ndarray, norm: nn.BatchNorm2d) -> np.ndarray:
    mean, var, weight, bias = (
        tensor.detach().numpy()[:, None, None]
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / np.sqrt(var + norm.eps) * weight + bias


@pytest.mark.parametrize("residual", [False, True])
def test_pair_equals_equation_1_written_out(residual: bool) -> None:
    seed_everything(0)
    pair = ConvPair(3, residual).eval()
    shuffle_normalisation(pair)
    x = torch.randn(2, 3, 5, 4)
    with torch.no_grad():
        ours = pair(x).numpy()
    for image, result in zip(x.numpy(), ours, strict=True):
        y = normalise(convolve(image, pair.conv1.weight.detach().numpy()), pair.norm1)
        y = normalise(convolve(np.maximum(y, 0), pair.conv2.weight.detach().numpy()), pair.norm2)
        expected = np.maximum(y + image if residual else y, 0)
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_a_pair_whose_last_scale_is_zero_is_the_identity_only_if_residual() -> None:
    x = torch.rand(2, 5, 6, 6)  # not negative, as after a relu
    for residual in (False, True):
        pair = ConvPair(5, residual)
        nn.init.zeros_(pair.norm2.weight)
        torch.testing.assert_close(pair(x), x if residual else torch.zeros_like(x))


def test_pooling_before_normalisation_and_relu_changes_nothing_but_the_cost() -> None:
    """With a positive scale both are increasing, so the largest of four stays the largest."""
    seed_everything(0)
    stage = MiniVGG(MiniVGGConfig(channels=(7,), pairs=(0,))).stages[0].eval()
    convolution, pool, norm, relu = stage
    shuffle_normalisation(stage)
    x = torch.randn(3, 1, 10, 10)
    torch.testing.assert_close(stage(x), pool(relu(norm(convolution(x)))))


def test_features_are_what_the_linear_layer_sees() -> None:
    seed_everything(0)
    model = MiniVGG(MiniVGGConfig(residual=True)).eval()
    images = torch.rand(3, 1, 24, 24)
    features = model.features(images)
    assert features.shape == (3, 64)
    torch.testing.assert_close(model(images), model.classify(features))


# Hand arithmetic


def test_parameters_counted_by_hand() -> None:
    stage1 = 9 * 1 * 16 + 2 * 16
    stage2 = 9 * 16 * 32 + 2 * 32 + 2 * (9 * 32 * 32 + 2 * 32)
    stage3 = 9 * 32 * 64 + 2 * 64 + 2 * (9 * 64 * 64 + 2 * 64)
    linear = 64 * 10 + 10
    assert stage1 + stage2 + stage3 + linear == 116_602
    for residual in (False, True):
        assert count_parameters(MiniVGG(MiniVGGConfig(residual=residual))) == 116_602


@pytest.mark.parametrize(("pairs", "depth"), [((0, 0, 0), 3), ((0, 1, 1), 7), ((8, 8, 8), 51)])
def test_depth_counts_the_convolutions(pairs: tuple[int, ...], depth: int) -> None:
    config = MiniVGGConfig(pairs=pairs)
    convolutions = [m for m in MiniVGG(config).modules() if isinstance(m, nn.Conv2d)]
    assert config.depth == len(convolutions) == depth


def test_a_pair_sees_five_by_five() -> None:
    seed_everything(0)
    x = torch.randn(1, 2, 11, 11, requires_grad=True)
    ConvPair(2, residual=False).eval()(x)[0, :, 5, 5].sum().backward()
    seen = x.grad.abs().sum((0, 1)) > 0
    assert not seen[:3].any() and not seen[8:].any()
    assert not seen[:, :3].any() and not seen[:, 8:].any()


# Crops


def test_crop_equals_slicing() -> None:
    images = torch.rand(5, 2, 9, 8)
    rows, columns = torch.tensor([0, 1, 2, 3, 2]), torch.tensor([2, 1, 0, 2, 1])
    cut = crop(images, rows, columns, 6)
    for image, row, column, result in zip(images, rows, columns, cut, strict=True):
        torch.testing.assert_close(result, image[:, row : row + 6, column : column + 6])


def test_a_crop_is_a_shift_of_the_middle() -> None:
    """Cropping two pixels lower and one to the left rolls the image up and to the right."""
    images = torch.zeros(1, 1, 28, 28)
    images[..., 6:22, 6:22] = torch.rand(16, 16)
    cut = crop(images, torch.tensor([4]), torch.tensor([1]))
    rolled = np.roll(images.numpy(), shift=(-2, 1), axis=(2, 3))
    np.testing.assert_array_equal(cut.numpy(), rolled[..., 2:26, 2:26])


def test_centre_crop_takes_the_middle() -> None:
    images = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(centre_crop(images), images[..., 2:26, 2:26])
    torch.testing.assert_close(centre_crop(images, 28), images)


def test_random_crops_use_every_place_equally() -> None:
    image = torch.arange(28.0 * 28).reshape(1, 1, 28, 28)
    generator = torch.Generator().manual_seed(0)
    corner = random_crop(image.expand(5000, 1, 28, 28), generator)[:, 0, 0, 0]
    places, times = corner.unique(return_counts=True)
    expected = [28.0 * row + column for row in range(5) for column in range(5)]
    assert places.tolist() == expected
    assert (times - 200).abs().max() < 5 * 200**0.5


@pytest.mark.parametrize(("row", "column"), [(-1, 0), (0, 5), (5, 0), (0, -1)])
def test_a_crop_over_the_edge_is_an_error(row: int, column: int) -> None:
    with pytest.raises(ValueError, match="rows may go from 0 to 4"):
        crop(torch.zeros(1, 1, 28, 28), torch.tensor([row]), torch.tensor([column]))


def test_images_smaller_than_the_crop_are_an_error() -> None:
    small = torch.zeros(2, 1, 20, 20)
    with pytest.raises(ValueError, match="does not fit into images of 20×20"):
        centre_crop(small)
    with pytest.raises(ValueError, match="does not fit into images of 20×20"):
        random_crop(small, torch.Generator())


# Learns


@pytest.mark.parametrize("residual", [False, True])
def test_the_loss_on_one_batch_falls(residual: bool) -> None:
    seed_everything(0)
    model = MiniVGG(MiniVGGConfig(residual=residual))
    images, labels = digits(32)
    schedule = Schedule(epochs=40, batch_size=32, learning_rate=1e-2)
    run = train(model, images, labels, seed=0, schedule=schedule)
    assert run.loss[0] > 1.5
    assert run.loss[-1] < 0.5


def test_two_thousand_digits_teach_it_to_read_new_ones() -> None:
    seed_everything(0)
    model = MiniVGG(MiniVGGConfig(channels=(8, 16, 32), pairs=(0, 0, 1), residual=True))
    images, labels = digits(2000)
    train(model, images, labels, seed=0, schedule=Schedule(epochs=3, batch_size=64))
    unseen, answers = digits(500, "test")
    assert accuracy(model, centre_crop(unseen), answers) > 0.85


# Errors


@pytest.mark.parametrize(
    "config",
    [
        {"channels": (8, 16), "pairs": (1,)},
        {"channels": (), "pairs": ()},
        {"channels": (8, 0), "pairs": (1, 1)},
        {"channels": (8, 16), "pairs": (1, -1)},
    ],
)
def test_impossible_sizes_are_errors(config: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"channels=.* and pairs=.*: "):
        MiniVGGConfig(**config)
