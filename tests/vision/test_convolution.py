"""The convolution against PyTorch's, fields against gradients, the early networks by hand."""

import json
import random
import re
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import altair
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import vl_convert
import yaml
from torch import nn

from casebook import plotting
from casebook.data import animals, mnist
from casebook.training import classification_loss, count_parameters, fit, seed_everything
from casebook.vision.convolution import (
    KINDS,
    ConnectedNet,
    LocallyConnected,
    ReceptiveField,
    Window,
    ZipCodeNet,
    as_matrix,
    convolve,
    count_layers,
    count_paths,
    digit_net,
    measured_receptive_field,
    put_anywhere,
    receptive_field,
    squash,
)

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "book" / "vision" / "convolution.md"


# Oracles


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_brute_force_is_pytorchs_convolution(kernel: int, stride: int, padding: int) -> None:
    seed_everything(0)
    images = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    weight = torch.randn(4, 3, kernel, kernel, dtype=torch.float64)
    theirs = nn.functional.conv2d(images, weight, stride=stride, padding=padding)
    torch.testing.assert_close(convolve(images, weight, stride, padding), theirs)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 0), (2, 2), (3, 1)])
def test_the_matrix_does_the_same(stride: int, padding: int) -> None:
    seed_everything(0)
    images = torch.randn(5, 2, 7, 7, dtype=torch.float64)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64)
    maps = nn.functional.conv2d(images, weight, stride=stride, padding=padding)
    matrix = as_matrix(weight, 7, stride, padding)
    torch.testing.assert_close(images.flatten(1) @ matrix.T, maps.flatten(1))


def test_the_matrix_of_the_first_picture_is_blockwise_toeplitz() -> None:
    matrix = as_matrix(torch.arange(1.0, 10).reshape(1, 1, 3, 3), size=5)
    assert matrix.shape == (9, 25)
    assert (matrix != 0).sum() == 81
    assert matrix.unique().tolist() == list(range(10))
    blocks = matrix.reshape(3, 3, 5, 5).transpose(1, 2)  # 3 x 5 blocks of 3 x 5
    for i, j in np.ndindex(2, 4):
        assert torch.equal(blocks[i, j], blocks[i + 1, j + 1])
    for block in blocks.reshape(-1, 3, 5):
        assert torch.equal(block[1:, 1:], block[:-1, :-1])


def test_windows_of_their_own_with_equal_weights_are_a_convolution() -> None:
    seed_everything(0)
    convolution = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    local = LocallyConnected(2, 3, size=8, window=Window(3, stride=2, padding=1))
    with torch.no_grad():
        local.weight.copy_(convolution.weight.flatten(1).expand_as(local.weight))
        local.bias.copy_(convolution.bias.expand_as(local.bias))
    images = torch.randn(4, 2, 8, 8)
    torch.testing.assert_close(local(images), convolution(images))


def test_windows_of_their_own_are_independent() -> None:
    local = LocallyConnected(1, 1, size=6, window=Window(3))
    images = torch.rand(1, 1, 6, 6)
    before = local(images)
    with torch.no_grad():
        local.weight[5] += 1.0  # the place in row 1, column 1 of 4 x 4
    changed = (local(images) != before)[0, 0].nonzero()
    assert changed.tolist() == [[1, 1]]


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d])
def test_output_sizes_are_pytorchs(layer: type[nn.Module]) -> None:
    for kernel in (1, 2, 3, 5, 7):
        for stride in (1, 2, 3, 4):
            for padding in range(kernel // 2 + 1):
                channels = (1, 1) if layer is nn.Conv2d else ()
                made = layer(*channels, kernel, stride=stride, padding=padding)
                window = Window(kernel, stride, padding)
                for size in (7, 8, 11, 28):
                    assert made(torch.zeros(1, 1, size, size)).shape[-1] == window.output_size(size)


# Receptive fields


def random_stack(seed: int) -> tuple[list[Window], nn.Sequential, int]:
    """A stack of convolutions, poolings and units, and the size of a map that it makes of 48."""
    draw = random.Random(seed)
    stack, layers, size = [], [], 48
    for _ in range(draw.randint(2, 5)):
        pooled = draw.random() < 0.4
        kernel = draw.choice([2, 3] if pooled else [1, 3, 5])
        window = Window(kernel, draw.choice([1, 1, 2]), draw.randint(0, kernel // 2))
        if size + 2 * window.padding < window.kernel:
            break
        kwargs = {"stride": window.stride, "padding": window.padding}
        if pooled:
            layers.append(draw.choice([nn.MaxPool2d, nn.AvgPool2d])(kernel, **kwargs))
        else:
            layers += [nn.Conv2d(1, 1, kernel, **kwargs), nn.BatchNorm2d(1), nn.ReLU()]
        stack.append(window)
        size = window.output_size(size)
    return stack, nn.Sequential(*layers), size


@pytest.mark.parametrize("seed", range(25))
def test_the_rule_agrees_with_gradients(seed: int) -> None:
    stack, net, size = random_stack(seed)
    field = receptive_field(stack)
    for position in {0, size // 2, size - 1}:
        seen = field.columns(position)
        rows, columns = measured_receptive_field(net, (1, 48, 48), size // 2, position)
        # Strides wider than their windows leave gaps, at whose edges less may be seen.
        assert columns == range(max(0, seen.start), min(48, seen.stop))
        middle = field.columns(size // 2)
        assert rows == range(max(0, middle.start), min(48, middle.stop))


def test_fields_of_known_stacks() -> None:
    small = Window(3, padding=1)
    assert receptive_field([]) == ReceptiveField(1, 1, 0)
    assert receptive_field([small] * 2).size == receptive_field([Window(5)]).size == 5
    assert receptive_field([small] * 3).size == receptive_field([Window(7)]).size == 7
    pool = Window(3, 2)
    convolutions = [small] * 3
    alexnet = [Window(11, 4), pool, Window(5, 1, 2), pool, *convolutions, pool]
    assert receptive_field(alexnet) == ReceptiveField(195, 32, -64)


def test_paths_through_two_layers_are_counted_right() -> None:
    """(1, 1, 1) twice is (1, 2, 3, 2, 1), in both directions."""
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3))
    row = torch.tensor([1.0, 2, 3, 2, 1], dtype=torch.float64)
    expected = torch.zeros(7, 7, dtype=torch.float64)
    expected[1:6, 2:7] = 2 * 4 * torch.outer(row, row)  # 2 channels, and 4 maps on the way
    torch.testing.assert_close(count_paths(net, (2, 7, 7), 1, 2), expected)


def test_counting_leaves_the_network_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.MaxPool2d(2))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    measured_receptive_field(net, (1, 8, 8), 1, 1)
    assert [type(layer) for layer in net] == [nn.Conv2d, nn.ReLU, nn.MaxPool2d]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


# Hand arithmetic


def test_the_zip_code_reader_is_counted_as_in_its_paper() -> None:
    counts = {
        row.name: (row.units, row.connections, row.parameters) for row in count_layers(ZipCodeNet())
    }
    assert counts == {
        "h1": (768, 768 * 26, 25 * 12 + 768),
        "h2": (192, 192 * (8 * 25 + 1), 12 * 8 * 25 + 192),
        "h3": (30, 30 * 193, 30 * 193),
        "output": (10, 310, 310),
    }
    assert sum(connections for _, connections, _ in counts.values()) == 64_660
    assert sum(parameters for *_, parameters in counts.values()) == 9760
    assert count_parameters(ZipCodeNet()) == 9760
    assert count_parameters(ConnectedNet()) == 257 * 40 + 41 * 10 == 10_690


def test_a_map_of_h2_sees_its_eight_maps_and_no_other() -> None:
    h2 = ZipCodeNet().h2
    maps = torch.rand(1, 12, 8, 8)
    for j in range(12):
        changed = maps.clone()
        changed[:, j] += 1
        differs = (h2(changed) != h2(maps)).flatten(2).any(2)[0]
        assert differs.tolist() == [(j - i) % 12 < 8 for i in range(12)]


def test_beyond_the_border_is_background() -> None:
    """An even background of -1 gives every unit of a map the same total."""
    h1 = ZipCodeNet().h1
    with torch.no_grad():
        h1.bias.zero_()
        maps = h1(-torch.ones(1, 1, 16, 16))
    torch.testing.assert_close(maps, maps[:, :, :1, :1].expand_as(maps))


def test_the_unit_of_1989_takes_one_to_one() -> None:
    assert squash(torch.tensor([1.0, -1.0])).tolist() == pytest.approx([1, -1], abs=1e-3)


def test_each_kind_of_network_has_fewer_parameters() -> None:
    full = 257 * 512 + 513 * 256
    local = 64 * 8 * 26 + 16 * 16 * (8 * 25 + 1)
    shared = 8 * 26 + 16 * (8 * 25 + 1)
    output = 257 * 10
    counts = [count_parameters(digit_net(kind)) for kind in KINDS]
    assert counts == [full + output, local + output, shared + output]


def test_a_shared_network_can_be_written_as_a_local_and_that_as_a_full_one() -> None:
    seed_everything(0)
    shared, local, full = (digit_net(kind) for kind in reversed(KINDS))
    images = torch.randn(3, 1, 16, 16)
    pairs = [
        [layer for layer in net if isinstance(layer, nn.Conv2d | LocallyConnected | nn.Linear)]
        for net in (shared, local, full)
    ]
    with torch.no_grad():
        for convolution, windows, connected in list(zip(*pairs, strict=True))[:2]:
            size = windows.size
            windows.weight.copy_(convolution.weight.flatten(1).expand_as(windows.weight))
            windows.bias.copy_(convolution.bias.expand_as(windows.bias))
            connected.weight.copy_(as_matrix(convolution.weight, size, stride=2, padding=2))
            connected.bias.copy_(convolution.bias.repeat_interleave(windows.out_size**2))
        for last in (pairs[1][2], pairs[2][2]):
            last.load_state_dict(pairs[0][2].state_dict())
        torch.testing.assert_close(local(images), shared(images))
        torch.testing.assert_close(full(images), shared(images))


def test_digits_are_put_on_boards_whole_and_everywhere() -> None:
    digits = torch.zeros(500, 1, 28, 28)
    digits[:, :, 4:24, 4:24] = torch.rand(500, 1, 1, 1)
    boards = put_anywhere(digits, torch.Generator().manual_seed(0))
    assert boards.shape == (500, 1, 16, 16)
    corners = []
    for board, digit in zip(boards[:, 0], digits[:, 0], strict=True):
        rows, columns = (board > -1).nonzero().unbind(1)
        corners.append((int(rows.min()), int(columns.min())))
        assert len(rows) == 100
        torch.testing.assert_close(board[rows, columns], 2 * digit[4, 4].expand(100) - 1)
    assert len(set(corners)) == 49


# Contract, and learning

NETS = {
    "zip code reader": ZipCodeNet,
    "connected": ConnectedNet,
    **{kind: lambda kind=kind: digit_net(kind) for kind in KINDS},
}


@pytest.mark.parametrize("name", NETS)
def test_output_is_finite_and_every_parameter_learns(name: str) -> None:
    seed_everything(0)
    net = NETS[name]()
    images, labels = torch.randn(30, 1, 16, 16), torch.arange(30) % 10
    logits = net(images)
    assert logits.shape == (30, 10)
    assert logits.isfinite().all()
    classification_loss(net, images, labels).backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", NETS)
def test_same_seed_same_network_and_same_output(name: str) -> None:
    outputs = []
    for _ in range(2):
        seed_everything(3)
        outputs.append(NETS[name]()(torch.ones(2, 1, 16, 16)))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("name", NETS)
def test_loss_on_one_batch_falls(name: str) -> None:
    seed_everything(0)
    net, labels = NETS[name](), torch.arange(20) % 10
    band = torch.arange(16) // 2 == labels[:, None] % 8
    images = 0.3 * torch.randn(20, 1, 16, 16) + 1.0 * band[:, None, :, None]
    images[labels > 7] *= -1
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    history = fit(net, [(images, labels)], classification_loss, optimizer, epochs=60)
    assert history.loss[-1] < 0.2 * history.loss[0]


def test_a_convolution_moves_with_its_image_and_a_local_layer_does_not() -> None:
    seed_everything(0)
    image = torch.zeros(1, 1, 16, 16)
    image[:, :, 5:9, 4:8] = torch.rand(4, 4)
    moved = image.roll(3, dims=3)
    weight = torch.randn(2, 1, 3, 3)
    maps = convolve(image, weight, padding=1)
    assert torch.equal(convolve(moved, weight, padding=1), maps.roll(3, dims=3))
    local = LocallyConnected(1, 2, size=16, window=Window(3, padding=1))
    assert (local(moved) - local(image).roll(3, dims=3)).abs().max() > 0.1


# Bad input


@pytest.mark.parametrize(
    "fields", [{"kernel": 0}, {"kernel": 3, "stride": 0}, {"kernel": 3, "padding": -1}]
)
def test_windows_that_cannot_move_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="cannot be moved over an image"):
        Window(**fields)


def test_windows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="window of 5 pixels does not fit into 2 pixels with 1"):
        Window(5, padding=1).output_size(2)
    with pytest.raises(ValueError, match="does not fit"):
        convolve(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 3, 3))


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images are 9 x 9.*8 x 8 only"):
        LocallyConnected(1, 1, size=8, window=Window(3))(torch.zeros(1, 1, 9, 9))


def test_an_unknown_kind_of_network_is_refused() -> None:
    with pytest.raises(ValueError, match="kind is 'sparse'; choose one of"):
        digit_net("sparse")


def test_outputs_that_do_not_exist_are_refused() -> None:
    net = nn.Conv2d(1, 1, 3)
    with pytest.raises(ValueError, match=r"no output \(6, 0\).*\(1, 6, 6\)"):
        count_paths(net, (1, 8, 8), 6, 0)
    with pytest.raises(ValueError, match="must end in maps"):
        count_paths(nn.Sequential(net, nn.Flatten()), (1, 8, 8), 0, 0)
    with pytest.raises(ValueError, match="nothing but padding"):
        measured_receptive_field(nn.Conv2d(1, 1, 1, padding=2), (1, 4, 4), 0, 0)


# The page's charts: what they compute, and where they lead


@cache
def chart(name: str) -> dict[str, Any]:
    """The specification of a figure of the page, from the cell that makes it."""
    cells = re.findall(
        r"```\{code-cell\} ipython3\n---\n(.*?)---\n(.*?)```", PAGE.read_text(), re.S
    )
    (source,) = (code for head, code in cells if f"name: {name}\n" in head)
    shown: list[Any] = []
    plot = type(
        "Plotting", (), {**vars(plotting), "show": lambda figure, alt: shown.append(figure)}
    )
    names = {
        "sys": sys,
        "alt": altair,
        "plt": plt,
        "np": np,
        "nn": nn,
        "torch": torch,
        "plotting": plot,
        "animals": animals,
        "mnist": mnist,
        "Window": Window,
    }
    exec(source, names)
    return shown[0].to_dict()


def drawn_with(spec: dict[str, Any], **values: Any) -> str:
    """The chart as SVG after a reader has set some of its parameters."""
    spec = deepcopy(spec)
    for parameter in spec["params"]:
        if parameter["name"] in values:
            parameter["value"] = values.pop(parameter["name"])
    assert not values
    return vl_convert.vegalite_to_svg(spec, vl_version=vl_convert.get_vegalite_versions()[-1])


def test_the_calculator_agrees_with_the_package() -> None:
    spec = chart("fig-convolution-calculator")
    parameters = {p["name"]: p.get("value") for p in spec["params"]}
    stacks = list(parameters["stacks"].values())
    draw = random.Random(0)
    stacks += [
        [64, *draw.choices(list(parameters["windows"])[1:], k=3), *["no layer"] * 5]
        for _ in range(4)
    ]
    for n, *layers in stacks:
        svg = drawn_with(spec, n=n, **{f"l{i}": layer for i, layer in enumerate(layers, start=1)})
        told = re.findall(r">sees (\d+), apart (\d+), map (\d+)<", svg)
        stack, size, expected = [], n, []
        for layer in layers:
            if layer != "no layer":
                stack.append(Window(*parameters["windows"][layer]))
                size = stack[-1].output_size(size)
                field = receptive_field(stack)
                expected.append((str(field.size), str(field.jump), str(size)))
        assert told == expected, layers


def test_the_kernel_in_the_chart_is_a_convolution() -> None:
    spec = deepcopy(chart("fig-convolution-kernel"))
    for layer in spec["layer"][:2]:
        layer["mark"]["aria"] = True  # so that each pixel says its value
    weights = [1.0, -2, 0, 3, 0.5, -1, 0, 2, -1]
    svg = drawn_with(spec, picture="zebra", **{f"w{i}": str(w) for i, w in enumerate(weights)})
    sums = [float(found.replace("−", "-")) for found in re.findall(r"sum: ([-−\d.]+)", svg)]
    picture = np.zeros((28, 28))
    for row in (
        next(iter(spec["datasets"].values())) if "datasets" in spec else spec["data"]["values"]
    ):
        if row["picture"] == "zebra":
            picture[row["y"], row["x"]] = row["p"][4]
    kernel = torch.tensor(weights).reshape(1, 1, 3, 3)
    maps = convolve(torch.tensor(picture, dtype=torch.float32)[None, None], kernel, padding=1)
    assert len(sums) == 784
    np.testing.assert_allclose(sums, maps.flatten(), atol=0.011)


def test_a_choice_in_a_chart_fills_in_the_controls_that_it_names() -> None:
    """The patch of Vega's signals goes by their place: it must be the right one."""
    for name, filled in (
        ("fig-convolution-kernel", [f"w{i}" for i in range(9)]),
        ("fig-convolution-calculator", ["n", *(f"l{i}" for i in range(1, 9))]),
    ):
        spec = chart(name)
        patch = spec["usermeta"]["embedOptions"]["patch"]
        vega = vl_convert.vegalite_to_vega(spec, vl_version=vl_convert.get_vegalite_versions()[-1])
        paths = [re.fullmatch(r"/signals/(\d+)/on", step["path"]) for step in patch]
        places = [int(path[1]) for path in paths if path]
        assert [vega["signals"][place]["name"] for place in places] == filled


def test_the_names_in_the_chart_of_errors_lead_to_chapters_of_this_part() -> None:
    spec = chart("fig-convolution-errors")
    rows = spec.get("datasets") or {}
    text = json.dumps([rows, spec])
    linked = set(re.findall(r'"link": "([^"]+)\.html"', text))
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    pages = {c["file"] for part in contents["parts"] for c in part["chapters"]}
    assert linked
    assert {f"book/vision/{stem}" for stem in linked} <= pages
    svg = vl_convert.vegalite_to_svg(spec, vl_version=vl_convert.get_vegalite_versions()[-1])
    assert "alexnet.html" in svg
