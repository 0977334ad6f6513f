"""AlexNet: its layers against hand arithmetic, its normalisation against the formula."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from casebook.training import (
    classification_loss,
    count_multiply_adds,
    count_parameters,
    fit,
    layer_table,
    meta_device,
    seed_everything,
)
from casebook.vision.alexnet import (
    SIZES,
    AlexNet,
    AlexNetConfig,
    Convolution,
    LocalResponseNorm,
    centre_crop,
    colour_components,
    jitter_colours,
    local_response_norm,
    random_crops,
    random_reflections,
    ten_views,
    without_groups,
    without_normalisation,
)

SMALL = SIZES["small"]


def small_batch(n: int = 8) -> Tensor:
    return torch.rand(n, 1, 25, 25, generator=torch.Generator().manual_seed(0))


# Hand arithmetic


def test_parameters_of_the_whole_network_and_of_each_layer() -> None:
    with meta_device():
        net = AlexNet()
    by_hand = {
        "conv1": 96 * (11 * 11 * 3 + 1),
        "conv2": 256 * (5 * 5 * 48 + 1),
        "conv3": 384 * (3 * 3 * 256 + 1),
        "conv4": 384 * (3 * 3 * 192 + 1),
        "conv5": 256 * (3 * 3 * 192 + 1),
        "fc6": 4096 * (6 * 6 * 256 + 1),
        "fc7": 4096 * (4096 + 1),
        "fc8": 1000 * (4096 + 1),
    }
    rows = [row for row in layer_table(net, (1, 3, 227, 227)) if row.parameters]
    assert {row.name.split(".")[1]: row.parameters for row in rows} == by_hand
    assert count_parameters(net) == sum(by_hand.values()) == 60_965_224


def test_maps_shrink_from_55_to_6() -> None:
    with meta_device():
        rows = layer_table(AlexNet(), (1, 3, 227, 227))
    shapes = {row.name.split(".")[1]: row.output_shape for row in rows}
    assert [shapes[f"conv{i}"] for i in range(1, 6)] == [
        (96, 55, 55),
        (256, 27, 27),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
    ]
    assert shapes["pool5"] == (256, 6, 6)
    assert SIZES["alexnet"].map_sizes == (27, 13, 13, 13, 6)
    neurons = [row.neurons for row in rows if row.parameters]
    assert neurons == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]


def test_layers_come_in_the_order_of_section_3_5() -> None:
    with meta_device():
        names = [row.name.split(".")[1] for row in layer_table(AlexNet(), (1, 3, 227, 227))]
    assert " ".join(names) == (
        "conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2 conv3 relu3 conv4 relu4 "
        "conv5 relu5 pool5 fc6 relu6 drop6 fc7 relu7 drop7 fc8"
    )


def test_grouping_saves_weights_and_multiply_adds() -> None:
    with meta_device():
        whole = AlexNet(without_groups(SIZES["alexnet"]))
        assert count_parameters(whole) == 62_378_344
        one_gpu = AlexNet(SIZES["one-gpu"])
    assert count_parameters(one_gpu) == 59_798_312
    halves = 256 * 5 * 5 * 48 * 27**2 + 384 * 9 * 192 * 13**2 + 256 * 9 * 192 * 13**2
    with meta_device():
        grouped = count_multiply_adds(AlexNet(), (1, 3, 227, 227))
    assert count_multiply_adds(whole, (1, 3, 227, 227)) == grouped + halves


def test_pooling_without_overlap_gives_maps_of_the_same_size() -> None:
    for config in (SIZES["alexnet"], SMALL):
        assert replace(config, pool_window=2).map_sizes == config.map_sizes


def test_a_group_does_not_see_the_other_half() -> None:
    net = AlexNet(SMALL).eval()
    conv2 = net.features.conv2
    maps = torch.rand(1, SMALL.convolutions[0].kernels, 7, 7)
    changed = maps.clone()
    changed[:, maps.shape[1] // 2 :] = 0  # the half on the second GPU
    difference = (conv2(maps) - conv2(changed)).abs().amax((0, 2, 3))
    assert (difference[: conv2.out_channels // 2] == 0).all()
    assert (difference[conv2.out_channels // 2 :] > 0).all()


# Oracles


@pytest.mark.parametrize("size", [1, 3, 5])
def test_response_norm_is_the_papers_formula(size: int) -> None:
    a = torch.rand(2, 7, 3, 2, dtype=torch.float64)
    k, alpha, beta, channels = 2.0, 0.3, 0.75, a.shape[1]
    expected = torch.empty_like(a)
    for i in range(channels):
        first, last = max(0, i - size // 2), min(channels - 1, i + size // 2)
        squares = sum(a[:, j] ** 2 for j in range(first, last + 1))
        expected[:, i] = a[:, i] / (k + alpha * squares) ** beta
    result = local_response_norm(a, size, alpha, beta, k)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=0)


def test_response_norm_is_pytorchs_with_n_times_its_alpha() -> None:
    a = torch.rand(2, 16, 5, 5) * 30
    ours = LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=2.0)(a)
    torch.testing.assert_close(ours, nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)(a))
    theirs = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)(a)
    assert (ours - theirs).abs().max() > 0.1


def test_colour_components_are_the_principal_axes() -> None:
    generator = seed_everything(0)
    axes, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator))
    spread = torch.tensor([3.0, 1.0, 0.5])
    pixels = (torch.randn(200_000, 3, generator=generator) * spread) @ axes.T
    images = pixels.T.reshape(3, 10, 100, 200).transpose(0, 1)
    values, vectors = colour_components(images)
    torch.testing.assert_close(values, spread**2, rtol=0.02, atol=0)
    alignment = (vectors * axes).sum(0).abs()
    torch.testing.assert_close(alignment, torch.ones(3), rtol=1e-3, atol=0)


# Contract


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        without_groups(SMALL),
        without_normalisation(SMALL),
        replace(SMALL, activation="tanh"),
        replace(SMALL, activation="sigmoid"),
        replace(SMALL, pool_window=2, dropout=0.0),
        replace(SMALL, hidden=()),
        replace(SIZES["four-layer"], input_size=25),
    ],
    ids=[
        "small",
        "ungrouped",
        "unnormalised",
        "tanh",
        "sigmoid",
        "plain",
        "no hidden layer",
        "four layers",
    ],
)
def test_output_is_finite_and_every_parameter_learns(
    config: AlexNetConfig, check_gradients: Callable
) -> None:
    seed_everything(0)
    check_gradients(AlexNet(config), small_batch(32), 10)


def test_same_seed_same_network_and_same_output() -> None:
    outputs = []
    for _ in range(2):
        seed_everything(3)
        outputs.append(AlexNet(SMALL)(small_batch()))
    assert torch.equal(*outputs)


def test_initial_weights_are_those_of_section_5() -> None:
    seed_everything(0)
    net = AlexNet(replace(SIZES["alexnet"], hidden=(64, 64), classes=10))  # the rest is full-sized
    for name, layer in [*net.features.named_children(), *net.classifier.named_children()]:
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        assert layer.weight.mean().abs() < 1e-3
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
        one = name in ("conv2", "conv4", "conv5", "fc6", "fc7")
        assert (layer.bias == (1.0 if one else 0.0)).all(), name


def test_the_small_networks_signal_keeps_its_size() -> None:
    """Weights scaled to the fan-in: logits of order one, where 0.01 would leave next to nothing."""
    seed_everything(0)
    images = torch.randn(64, 1, 25, 25)
    assert 0.1 < AlexNet(SMALL).eval()(images).std() < 10
    assert AlexNet(replace(SMALL, weight_std=0.01)).eval()(images).std() < 1e-3


# Learns


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_loss_on_one_batch_falls(activation: str) -> None:
    seed_everything(0)
    net = AlexNet(replace(SMALL, activation=activation, dropout=0.0))
    labels = torch.arange(32) % 10
    band = torch.arange(25) // 2 == labels[:, None]  # (32, 25): where an image's bright stripe is
    images = 0.3 * torch.randn(32, 1, 25, 25) + 3.0 * band[:, None, :, None]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    history = fit(net, [(images, labels)], classification_loss, optimizer, epochs=40)
    assert history.loss[-1] < 0.1 * history.loss[0]


# Augmentation


def test_crops_are_windows_of_their_own_image() -> None:
    images = torch.arange(6 * 2 * 7 * 9).reshape(6, 2, 7, 9).float()
    crops = random_crops(images, 4, torch.Generator().manual_seed(0))
    places = set()
    for image, crop in zip(images, crops, strict=True):
        top, left = divmod(int(crop[0, 0, 0] - image[0, 0, 0]), 9)
        places.add((top, left))
        assert torch.equal(crop, image[:, top : top + 4, left : left + 4])
    assert len(places) > 1


def test_every_place_is_drawn_about_equally_often() -> None:
    n = 8000
    images = torch.arange(16.0).reshape(1, 1, 4, 4).expand(n, 1, 4, 4)
    corners = random_crops(images, 2, torch.Generator().manual_seed(0))[:, 0, 0, 0]
    values, counts = corners.unique(return_counts=True)
    assert values.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert ((counts - n / 9).abs() < 5 * (n / 9) ** 0.5).all()


def test_half_of_the_images_are_mirrored() -> None:
    images = torch.rand(1000, 1, 3, 4)
    result = random_reflections(images, torch.Generator().manual_seed(0))
    same = (result == images).flatten(1).all(1)
    mirrored = (result == images.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 400 < mirrored.sum() < 600


def test_centre_crop_and_ten_views() -> None:
    images = torch.rand(3, 2, 8, 8)
    assert torch.equal(centre_crop(images, 4), images[:, :, 2:6, 2:6])
    views = ten_views(images, 5)
    assert views.shape == (10, 3, 2, 5, 5)
    assert torch.equal(views[0], images[:, :, :5, :5])
    assert torch.equal(views[3], images[:, :, 3:, 3:])
    assert torch.equal(views[5:], views[:5].flip(4))


def test_colour_jitter_adds_one_colour_to_all_pixels_of_an_image() -> None:
    images = torch.rand(4, 3, 5, 6)
    values, vectors = torch.tensor([4.0, 2.0, 1.0]), torch.eye(3)
    jittered = jitter_colours(images, values, vectors, torch.Generator().manual_seed(1), std=0.1)
    shift = (jittered - images).flatten(2)
    torch.testing.assert_close(shift, shift[:, :, :1].expand_as(shift))
    draws = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)) * 0.1
    torch.testing.assert_close(shift[:, :, 0], draws * values)
    assert torch.equal(
        jitter_colours(images, values, vectors, torch.Generator().manual_seed(1), std=0.0), images
    )


# Bad input


def test_images_of_another_size_are_refused() -> None:
    net = AlexNet(SMALL)
    with pytest.raises(ValueError, match=r"\(2, 1, 28, 28\).*\(batch, 1, 25, 25\)"):
        net(torch.zeros(2, 1, 28, 28))
    with pytest.raises(ValueError, match="crop or resize"):
        net(torch.zeros(2, 3, 25, 25))
    with meta_device(), pytest.raises(ValueError, match="227"):
        AlexNet()(torch.zeros(1, 3, 224, 224))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "gelu"}, "gelu.*relu"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"input_size": 12}, "begin larger"),
        ({"convolutions": (Convolution(15, 5, groups=2),)}, "convolution 1 has 2 groups"),
    ],
)
def test_configurations_that_do_not_fit_together_are_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SIZES["alexnet"], **change)


def test_crops_that_do_not_fit_are_refused() -> None:
    images = torch.zeros(1, 1, 6, 8)
    for function in (centre_crop, ten_views):
        with pytest.raises(ValueError, match="7 x 7 does not fit images of 6 x 8"):
            function(images, 7)
    with pytest.raises(ValueError, match="from 1 to 6"):
        random_crops(images, 0, torch.Generator())


def test_response_norm_refuses_an_even_window() -> None:
    with pytest.raises(ValueError, match="size is 4"):
        local_response_norm(torch.zeros(1, 8, 1, 1), size=4)
