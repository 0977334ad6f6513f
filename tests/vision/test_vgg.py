"""VGG: Table 1 and Table 2, receptive fields against gradients, dense evaluation against crops."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from casebook.training import (
    classification_loss,
    count_parameters,
    fit,
    layer_table,
    meta_device,
    seed_everything,
)
from casebook.vision.alexnet import local_response_norm
from casebook.vision.convolution import receptive_field
from casebook.vision.vgg import (
    SIZES,
    VGG,
    VGGConfig,
    as_fully_convolutional,
    multiply_adds,
    narrowed,
    take_over,
    weight_layers,
)

PAPER = ("A", "A-LRN", "B", "C", "D", "E")
# A sixteenth of the width, so that a test trains one in a moment.
TINY = {
    name: replace(
        narrowed(config, 16),
        input_size=32,
        input_channels=1,
        hidden=(32, 32),
        classes=4,
        initialisation="he",
    )
    for name, config in SIZES.items()
    if not name.startswith("small")
}


def tiny_batch(n: int = 8) -> Tensor:
    return torch.randn(n, 1, 32, 32, generator=torch.Generator().manual_seed(0))


# Hand arithmetic


@pytest.mark.parametrize(
    ("name", "weight_layers", "millions"),
    [
        ("A", 11, 133),
        ("A-LRN", 11, 133),
        ("B", 13, 133),
        ("C", 16, 134),
        ("D", 16, 138),
        ("E", 19, 144),
    ],
)
def test_depth_and_parameters_are_those_of_tables_1_and_2(
    name: str, weight_layers: int, millions: int
) -> None:
    with meta_device():
        net = VGG(SIZES[name])
    assert SIZES[name].depth == weight_layers
    assert round(count_parameters(net) / 1e6) == millions


def test_every_weight_of_network_d_by_hand() -> None:
    widths = [3, 64, 64, 128, 128, 256, 256, 256, *[512] * 6]
    convolutions = sum(9 * a * b + b for a, b in itertools.pairwise(widths))
    connected = (7 * 7 * 512 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    assert connected == 123_642_856
    with meta_device():
        net = VGG(SIZES["D"])
    assert count_parameters(net.classifier) == connected
    assert count_parameters(net) == convolutions + connected == 138_357_544


def test_c_is_b_and_three_convolutions_of_one_pixel() -> None:
    extra = (256 + 1) * 256 + 2 * (512 + 1) * 512
    with meta_device():
        b, c = VGG(SIZES["B"]), VGG(SIZES["C"])
    assert count_parameters(c) - count_parameters(b) == extra
    fields = [receptive_field(SIZES[name].windows).size for name in ("B", "C", "D")]
    assert fields[0] == fields[1] < fields[2]


def test_work_of_networks_d_and_e_in_both_conventions() -> None:
    connected = 7 * 7 * 512 * 4096 + 4096 * 4096 + 4096 * 1000
    for name, extra in (("D", (3, 3, 3)), ("E", (4, 4, 4))):
        layers = [(3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56)]
        layers += [(256, 256, 56)] * (extra[0] - 1)
        layers += [(256, 512, 28)] + [(512, 512, 28)] * (extra[1] - 1) + [(512, 512, 14)] * extra[2]
        by_hand = sum(9 * a * b * side**2 for a, b, side in layers)
        assert multiply_adds(SIZES[name]) == (by_hand, by_hand + connected)


def test_maps_halve_from_224_to_7() -> None:
    with meta_device():
        rows = layer_table(VGG(SIZES["E"]), (1, 3, 224, 224))
    shapes = {row.name.split(".")[1]: row.output_shape for row in rows}
    assert [shapes[f"pool{i}"] for i in range(1, 6)] == [
        (64, 112, 112),
        (128, 56, 56),
        (256, 28, 28),
        (512, 14, 14),
        (512, 7, 7),
    ]


def test_averaging_the_maps_leaves_the_first_connected_layer_a_49th() -> None:
    with meta_device():
        flat, average = VGG(SIZES["D"]), VGG(replace(SIZES["D"], head="average"))
    saved = flat.classifier.fc1.weight.numel() - average.classifier.fc1.weight.numel()
    assert count_parameters(flat) - count_parameters(average) == saved == 48 * 512 * 4096


def test_small_networks_have_an_eighth_of_the_width_and_end_in_one_pixel() -> None:
    for name in PAPER:
        whole, small = SIZES[name], SIZES[f"small-{name}"]
        assert [k for _, k in small.convolutions] == [k // 8 for _, k in whole.convolutions]
        assert (small.depth, small.map_size, small.hidden) == (whole.depth, 1, (128, 128))


# Oracles


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_receptive_field_of_a_stack_is_where_gradients_arrive(count: int) -> None:
    stack = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(count)))
    for layer in stack:
        nn.init.ones_(layer.weight)
    image = torch.zeros(1, 1, 21, 21, requires_grad=True)
    stack(image)[0, 0, 10, 10].backward()
    touched = image.grad[0, 0].abs().sum(0).nonzero().flatten()
    assert len(touched) == 2 * count + 1
    assert touched[0] == 10 - count


@pytest.mark.parametrize("name", ["A", "B", "C", "D", "E", "B-5x5"])
def test_receptive_field_of_the_features_is_where_gradients_arrive(name: str) -> None:
    """Sums and means in place of ReLU and maximum, so that every path counts."""
    windows = SIZES[name].windows
    layers = []
    for window in windows:
        if window.stride == 2:
            layers.append(nn.AvgPool2d(2))
        else:
            layer = nn.Conv1d(1, 1, window.kernel, padding=window.padding, bias=False)
            nn.init.constant_(layer.weight, 1 / window.kernel)
            layers.append(layer)
    row = torch.zeros(1, 1, 640, dtype=torch.float64, requires_grad=True)
    signal = row
    for layer in layers:
        if isinstance(layer, nn.AvgPool2d):
            signal = functional.avg_pool1d(signal, 2)
        else:
            signal = layer.double()(signal)
    signal[0, 0, 10].backward()
    touched = row.grad[0, 0].nonzero().flatten()
    field = receptive_field(windows)
    assert (touched[0].item(), len(touched)) == (field.columns(10)[0], field.size)


@pytest.mark.parametrize("name", PAPER)
def test_forward_is_the_papers_table_written_out(name: str) -> None:
    blocks = {  # number of 3x3 convolutions per block, and whether a 1x1 follows
        "A": ((1, 1, 2, 2, 2), False),
        "A-LRN": ((1, 1, 2, 2, 2), False),
        "B": ((2, 2, 2, 2, 2), False),
        "C": ((2, 2, 2, 2, 2), True),
        "D": ((2, 2, 3, 3, 3), False),
        "E": ((2, 2, 4, 4, 4), False),
    }
    counts, pointwise = blocks[name]
    seed_everything(0)
    net = VGG(TINY[name]).eval()
    weights = iter([(layer.weight, layer.bias) for layer in weight_layers(net)])
    images = x = 100 * tiny_batch()
    for b, count in enumerate(counts):
        for _ in range(count):
            x = functional.conv2d(x, *next(weights), padding=1).relu()
        if pointwise and b >= 2:
            weight, bias = next(weights)
            assert weight.shape[2:] == (1, 1)
            x = functional.conv2d(x, weight, bias).relu()
        if name == "A-LRN" and b == 0:
            x = local_response_norm(x, 5, 1e-4, 0.75, 2.0)
        x = functional.max_pool2d(x, 2)
    x = x.flatten(1)
    for _ in range(2):
        x = functional.linear(x, *next(weights)).relu()
    x = functional.linear(x, *next(weights))
    assert next(weights, None) is None
    torch.testing.assert_close(net(images), x)


def test_fully_convolutional_gives_the_same_scores_on_images_of_the_usual_size() -> None:
    net = VGG(replace(TINY["D"], input_size=96)).eval()  # maps of 3 x 3
    dense = as_fully_convolutional(net)
    images = torch.randn(4, 1, 96, 96)
    assert dense.classifier.fc1.kernel_size == (3, 3)
    torch.testing.assert_close(dense(images).flatten(1), net(images), rtol=1e-4, atol=1e-5)
    assert count_parameters(dense) == count_parameters(net)


def test_fully_convolutional_slides_the_classifier_over_the_maps() -> None:
    net = VGG(replace(TINY["B"], input_size=64)).eval()  # maps of 2 x 2
    dense = as_fully_convolutional(net)
    images = torch.randn(2, 1, 128, 160)
    maps = net.features(images)  # (2, 32, 4, 5)
    scores = dense(images)
    assert scores.shape == (2, 4, 3, 4)
    for row in range(3):
        for column in range(4):
            window = maps[:, :, row : row + 2, column : column + 2].flatten(1)
            torch.testing.assert_close(
                scores[:, :, row, column], net.classifier(window), rtol=1e-4, atol=1e-5
            )


def test_crops_and_dense_evaluation_differ_only_by_what_lies_around_the_crop() -> None:
    """A crop is padded with zeros where the dense net sees the neighbourhood (§3.2)."""
    seed_everything(0)
    images = torch.randn(2, 1, 24, 24)
    crop = images[:, :, 8:16, 8:16]
    for window, differs in ((1, False), (3, True)):
        blocks = (f"conv{window}-16", f"conv{window}-16")
        net = VGG(VGGConfig(blocks, 8, 1, hidden=(32,), classes=3, initialisation="he")).eval()
        scores = as_fully_convolutional(net)(images)  # (2, 3, 5, 5), four pixels apart
        assert scores.shape == (2, 3, 5, 5)
        gap = (scores[:, :, 2, 2] - net(crop)).abs().max().item()
        assert (gap > 1e-2) == differs
        assert differs or gap < 1e-5


# Initialisation


def test_random_weights_have_the_spread_asked_for() -> None:
    config = replace(SIZES["B"], hidden=(64,), classes=10, head="average")
    spreads = {}
    for how in ("gaussian", "glorot", "he"):
        seed_everything(0)
        net = VGG(replace(config, initialisation=how))
        spreads[how] = [layer.weight.std().item() for layer in weight_layers(net)[:10]]
        assert all((layer.bias == 0).all() for layer in weight_layers(net))
    assert spreads["gaussian"] == pytest.approx([0.01] * 10, rel=0.05)
    channels = [3, 64, 64, 128, 128, 256, 256, 512, 512, 512, 512]
    pairs = list(itertools.pairwise(channels))
    assert spreads["glorot"] == pytest.approx(
        [(2 / 9 / (a + b)) ** 0.5 for a, b in pairs], rel=0.05
    )
    assert spreads["he"] == pytest.approx([(2 / 9 / a) ** 0.5 for a, _ in pairs], rel=0.05)


def test_deeper_networks_take_over_four_convolutions_and_the_connected_layers() -> None:
    shallow, deep = VGG(TINY["A"]), VGG(TINY["E"])
    before = {name: tensor.clone() for name, tensor in deep.state_dict().items()}
    names = take_over(deep, shallow)
    assert [name.split(".")[1] for name in names] == [
        "conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc1", "fc2", "fc3",
    ]  # fmt: skip
    for name, tensor in deep.state_dict().items():
        if name.rsplit(".", 1)[0] in names:
            assert torch.equal(tensor, shallow.state_dict()[name])
        else:
            assert torch.equal(tensor, before[name])
    assert all(parameter.requires_grad for parameter in deep.parameters())


# Contract


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("head", ["flatten", "average"])
def test_output_is_finite_and_every_parameter_learns(
    name: str, head: str, check_gradients: Callable
) -> None:
    seed_everything(0)
    check_gradients(VGG(replace(TINY[name], head=head, dropout=0.0)), tiny_batch(32), 4)


def test_same_seed_same_network_and_same_output() -> None:
    outputs = []
    for _ in range(2):
        seed_everything(3)
        outputs.append(VGG(TINY["C"])(tiny_batch()))
    assert torch.equal(*outputs)


def test_averaged_head_takes_any_size_that_survives_the_poolings() -> None:
    net = VGG(replace(TINY["A"], head="average")).eval()
    assert net(torch.zeros(1, 1, 32, 75)).shape == (1, 4)
    with pytest.raises(ValueError, match="at least 32"):
        net(torch.zeros(1, 1, 31, 40))


# Learns


@pytest.mark.parametrize("name", TINY)
def test_loss_on_one_batch_falls(name: str) -> None:
    seed_everything(0)
    net = VGG(replace(TINY[name], dropout=0.0))
    labels = torch.arange(16) % 4
    quarter = torch.arange(32) // 8 == labels[:, None]  # where an image's bright stripe is
    images = 0.3 * torch.randn(16, 1, 32, 32) + 2.0 * quarter[:, None, :, None]
    optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
    history = fit(net, [(images, labels)], classification_loss, optimizer, epochs=60)
    assert min(history.loss) < 0.5 * history.loss[0]


# Bad input


def test_images_that_do_not_fit_are_refused() -> None:
    net = VGG(TINY["A"])
    with pytest.raises(ValueError, match=r"\(2, 1, 28, 28\).*exactly 32 pixels"):
        net(torch.zeros(2, 1, 28, 28))
    with pytest.raises(ValueError, match="1 channels"):
        net(torch.zeros(2, 3, 32, 32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": ("conv3-64", "conv2-8")}, "'conv2-8'"),
        ({"blocks": ("conv3-0",)}, "at least one kernel"),
        ({"blocks": ("maxpool",)}, "'maxpool'.*'conv3-64'"),
        ({"head": "max"}, "head is 'max'"),
        ({"initialisation": "zeros"}, "initialisation is 'zeros'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"input_size": 31}, "at least 32"),
    ],
)
def test_configurations_that_do_not_fit_together_are_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SIZES["D"], **change)


def test_what_cannot_be_narrowed_taken_over_or_slid_is_refused() -> None:
    with pytest.raises(ValueError, match="divisor is 3"):
        narrowed(SIZES["A"], 3)
    with pytest.raises(ValueError, match=r"conv1_1.weight has the shape \(4, 1, 3, 3\)"):
        take_over(VGG(TINY["E"]), VGG(TINY["B-5x5"]))
    with pytest.raises(ValueError, match="averages its maps"):
        as_fully_convolutional(VGG(replace(TINY["A"], head="average")))
