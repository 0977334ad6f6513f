"""ResNet: equal to transformers', counted against the paper and by hand, blocks without weights."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from transformers import ResNetConfig as TheirConfig
from transformers import ResNetForImageClassification

from casebook.training import (
    classification_loss,
    count_multiply_adds,
    count_parameters,
    fit,
    layer_table,
    meta_device,
    seed_everything,
)
from casebook.vision.resnet import (
    SIZES,
    BasicBlock,
    Bottleneck,
    ResNet,
    ResNetConfig,
    ZeroPadding,
    cifar,
    layer_responses,
    loss_on_plane,
    narrow,
    random_direction,
    signal_gradients,
    train,
)

IMAGENET, CIFAR = (1, 3, 224, 224), (1, 3, 32, 32)

# Every kind of network at a reduced width, with the size of the images it is tried on.
REDUCED = {
    "basic A": (replace(SIZES["resnet18"], channels=(4, 8, 8, 16), classes=10), 32),
    "basic B": (replace(SIZES["resnet34"], channels=(4, 8, 8, 16), classes=10, shortcut="B"), 32),
    "basic C": (replace(SIZES["resnet18"], channels=(4, 8, 8, 16), classes=10, shortcut="C"), 32),
    "plain": (replace(SIZES["resnet18"], channels=(4, 8, 8, 16), classes=10, residual=False), 32),
    "bottleneck A": (
        replace(SIZES["resnet50"], channels=(2, 4, 4, 8), classes=10, shortcut="A"),
        32,
    ),
    "bottleneck B": (replace(SIZES["resnet50"], channels=(2, 4, 4, 8), classes=10), 32),
    "bottleneck 3x3": (
        replace(SIZES["resnet50"], channels=(2, 4, 4, 8), classes=10, stride_on="3x3"),
        32,
    ),
    "cifar 20": (replace(SIZES["cifar20"], channels=(4, 8, 16)), 16),
    "cifar 14 plain": (replace(cifar(14), channels=(4, 8, 16), residual=False), 16),
    "cifar 44": (replace(SIZES["cifar44"], channels=(2, 4, 8)), 8),
    "narrow 8": (replace(narrow(8), input_channels=3), 14),
}


def images_for(size: int, n: int = 16) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


# Oracle: Hugging Face's ResNet with our random weights


def their_network(config: ResNetConfig) -> nn.Module:
    expansion = 4 if config.block == "bottleneck" else 1
    return ResNetForImageClassification(
        TheirConfig(
            num_channels=config.input_channels,
            embedding_size=config.channels[0],
            hidden_sizes=[expansion * channels for channels in config.channels],
            depths=list(config.blocks),
            layer_type=config.block,
            downsample_in_bottleneck=config.stride_on == "1x1",
            num_labels=config.classes,
        )
    )


@pytest.mark.parametrize("stride_on", ["1x1", "3x3"])
@pytest.mark.parametrize(
    ("block", "channels"), [("basic", (6, 8, 12, 16)), ("bottleneck", (4, 6, 6, 8))]
)
def test_same_logits_as_transformers(block: str, channels: tuple[int, ...], stride_on: str) -> None:
    seed_everything(0)
    config = ResNetConfig((2, 1, 3, 2), channels, block, stride_on=stride_on, classes=7)
    ours, theirs = ResNet(config), their_network(config)
    copies = [*theirs.state_dict().values()]
    # Both sides list stem, then blocks; a block of theirs lists its shortcut before its layers.
    ordered = [*ours.stem.state_dict().values()]
    for block_of_ours in ours.blocks():
        ordered += [*block_of_ours.shortcut.state_dict().values()]
        ordered += [*block_of_ours.f.state_dict().values()]
    ordered += [*ours.classify.state_dict().values()]
    for mine, copy in zip(ordered, copies, strict=True):
        if mine.is_floating_point():
            mine.copy_(torch.rand_like(mine) + 0.5 if mine.ndim < 2 else mine)
        copy.copy_(mine)
    images = images_for(64, 4)
    for training in (True, False):
        expected = theirs.train(training)(images).logits
        torch.testing.assert_close(ours.train(training)(images), expected, rtol=1e-4, atol=1e-4)


# Counts


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_515_688),
        ("resnet34", 21_623_848),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
        ("cifar20", 269_722),
        ("cifar110", 1_727_962),
        ("cifar1202", 19_421_274),
    ],
)
def test_parameters(name: str, parameters: int) -> None:
    with meta_device():
        assert count_parameters(ResNet(SIZES[name])) == parameters


def test_cifar_parameters_by_hand() -> None:
    """Convolutions, two numbers of batch normalisation per channel, and the last layer."""
    for depth in (20, 32, 44, 56):
        n = (depth - 2) // 6
        widths = [16] * 2 * n + [32] * 2 * n + [64] * 2 * n
        before = [3, 16, *widths[:-1]]
        by_hand = sum(9 * i * o + 2 * o for i, o in zip(before, [16, *widths], strict=True))
        with meta_device():
            assert count_parameters(ResNet(cifar(depth))) == by_hand + 64 * 10 + 10


def test_multiply_adds_of_resnet_50_by_hand() -> None:
    total, width = 112**2 * 64 * 49 * 3, 64
    sizes, blocks = (56, 28, 14, 7), (3, 4, 6, 3)
    for size, count, channels in zip(sizes, blocks, (64, 128, 256, 512), strict=True):
        total += size**2 * width * 4 * channels  # the projection of the first block
        for _ in range(count):
            total += size**2 * (width * channels + 9 * channels**2 + 4 * channels**2)
            width = 4 * channels
    total += 2048 * 1000
    with meta_device():
        net = ResNet(SIZES["resnet50"])
    assert count_multiply_adds(net, IMAGENET) == total == 3_857_973_248


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_stride_on_the_3x3_costs_more(name: str) -> None:
    with meta_device():
        paper, variant = ResNet(SIZES[name]), ResNet(replace(SIZES[name], stride_on="3x3"))
    assert count_parameters(paper) == count_parameters(variant)
    # Three 1x1 convolutions work on maps of twice the height and width.
    extra = sum(
        3 * (size // 2) ** 2 * 2 * channels * channels
        for size, channels in ((56, 128), (28, 256), (14, 512))
    )
    difference = count_multiply_adds(variant, IMAGENET) - count_multiply_adds(paper, IMAGENET)
    assert difference == extra == 231_211_008


def test_options_add_projections() -> None:
    """B adds three projections to the 34-layer network, C thirteen more (§4.1 counts thirteen)."""
    counts = {}
    for option in "ABC":
        with meta_device():
            net = ResNet(replace(SIZES["resnet34"], shortcut=option))
        counts[option] = sum(isinstance(block.shortcut, nn.Sequential) for block in net.blocks())
    assert counts == {"A": 0, "B": 3, "C": 16}


def test_depth_counts_the_layers_with_weights() -> None:
    for name, config in SIZES.items():
        assert config.depth == int("".join(c for c in name if c.isdigit()))
    for name in ("resnet18", "resnet50", "cifar56"):
        with meta_device():
            net = ResNet(SIZES[name])
        layers = [m for block in net.blocks() for m in block.f if isinstance(m, nn.Conv2d)]
        assert len(layers) + 2 == SIZES[name].depth


def test_maps_shrink_as_in_the_tables() -> None:
    with meta_device():
        rows = layer_table(ResNet(SIZES["resnet50"]), IMAGENET)
        small = layer_table(ResNet(SIZES["cifar20"]), CIFAR)
    shapes = [row.output_shape for row in rows if row.kind in ("MaxPool2d", "Conv2d")]
    assert shapes[0] == (64, 112, 112)
    assert shapes[1] == (64, 56, 56)
    assert shapes[-1] == (2048, 7, 7)
    outputs = [row.output_shape for row in small if row.kind == "Conv2d"]
    assert [outputs.count(s) for s in ((16, 32, 32), (32, 16, 16), (64, 8, 8))] == [7, 6, 6]


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "cifar20", "cifar56"])
def test_plain_and_residual_have_the_same_parameters(name: str) -> None:
    with meta_device():
        residual, plain = ResNet(SIZES[name]), ResNet(replace(SIZES[name], residual=False))
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (residual, plain)]
    assert shapes[0] == shapes[1]


def test_plain_and_residual_start_from_the_same_weights() -> None:
    nets = []
    for residual in (True, False):
        seed_everything(0)
        nets.append(ResNet(narrow(8, residual)))
    for mine, other in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(mine, other)


# Blocks


def test_option_a_is_subsampling_and_zeros() -> None:
    x = torch.randn(2, 3, 5, 6)
    by_hand = torch.zeros(2, 7, 3, 3)
    for i in range(3):
        for j in range(3):
            by_hand[:, :3, i, j] = x[:, :, 2 * i, 2 * j]
    assert torch.equal(ZeroPadding(4, stride=2)(x), by_hand)


def silence(block: nn.Module) -> None:
    for layer in block.f:
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
def test_without_weights_a_block_is_the_identity_up_to_the_rectifier(
    kind: type[nn.Module], training: bool
) -> None:
    config = SIZES["cifar20"]
    block = kind(4 * kind.expansion, 4, 1, config).train(training)
    silence(block)
    x = torch.randn(5, 4 * kind.expansion, 6, 6)
    assert torch.equal(block(x), x.relu())
    assert torch.equal(block(x.relu()), x.relu())
    plain = kind(4 * kind.expansion, 4, 1, replace(config, residual=False)).train(training)
    silence(plain)
    assert (plain(x) == 0).all()


def test_blocks_without_weights_leave_a_deeper_network_the_function_of_the_shallower() -> None:
    """The solution by construction of §1."""
    seed_everything(0)
    shallow, deep = ResNet(narrow(8)).eval(), ResNet(narrow(20)).eval()
    deep.stem.load_state_dict(shallow.stem.state_dict())
    deep.classify.load_state_dict(shallow.classify.state_dict())
    for ours, theirs in zip(deep.stages, shallow.stages, strict=True):
        ours[0].load_state_dict(theirs[0].state_dict())
        for block in ours[1:]:
            silence(block)
    images = torch.rand(4, 1, 14, 14)
    torch.testing.assert_close(deep(images), shallow(images))


def test_initial_weights() -> None:
    seed_everything(0)
    net = ResNet(replace(SIZES["resnet18"], classes=200))
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
    assert net.classify.weight.std().item() == pytest.approx(512**-0.5, rel=0.05)
    assert (net.classify.bias == 0).all()


# Contract


@pytest.mark.parametrize("name", REDUCED)
def test_output_is_finite_and_every_parameter_learns(name: str, check_gradients: Callable) -> None:
    config, size = REDUCED[name]
    seed_everything(0)
    check_gradients(ResNet(config), images_for(size), 10)


def test_same_seed_same_network_and_same_output() -> None:
    outputs = []
    for _ in range(2):
        seed_everything(3)
        outputs.append(ResNet(REDUCED["basic B"][0])(images_for(32)))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("name", REDUCED)
def test_loss_on_one_batch_falls(name: str) -> None:
    config, size = REDUCED[name]
    seed_everything(0)
    net, labels = ResNet(config), torch.arange(32) % 10
    stripe = torch.arange(size) * 10 // size == labels[:, None]  # where an image is bright
    images = 0.3 * images_for(size, 32) + 3.0 * stripe[:, None, :, None]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9)
    history = fit(net, [(images, labels)], classification_loss, optimizer, epochs=16)
    assert min(history.loss) < 0.8 * history.loss[0]


def test_train_cut_off_early_does_the_first_steps_of_the_same_run() -> None:
    images = torch.randn(160, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels, histories = torch.arange(160) % 10, []
    for max_steps in (None, 5):
        seed_everything(0)
        net = ResNet(narrow(8))
        histories.append(
            train(
                net,
                images,
                labels,
                seed=1,
                steps=8,
                look=3,
                evaluate=lambda net: {"training": float(net.training)},
                max_steps=max_steps,
            )
        )
    whole, begun = histories
    assert (len(whole.loss), len(begun.loss)) == (8, 5)  # three batches of 160 images to an epoch
    assert begun.loss == whole.loss[:5]
    assert whole.series("step") == [3, 6, 8]
    assert whole.series("training") == [0, 0, 0]


def test_train_is_gradient_descent_with_momentum_and_a_falling_rate() -> None:
    images = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels, nets = torch.arange(64) % 10, []
    for _ in range(2):
        seed_everything(0)
        nets.append(ResNet(narrow(8)))
    ours, by_hand = nets
    train(ours, images, labels, seed=0, steps=8)
    velocity = [torch.zeros_like(p) for p in by_hand.parameters()]
    for rate in 4 * [0.1] + 2 * [0.01] + 2 * [0.001]:
        gradients = torch.autograd.grad(
            classification_loss(by_hand, images, labels), list(by_hand.parameters())
        )
        with torch.no_grad():
            for p, v, g in zip(by_hand.parameters(), velocity, gradients, strict=True):
                v.copy_(0.9 * v + g + 1e-4 * p)
                p -= rate * v
    for mine, other in zip(ours.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-2, atol=1e-3)


# Looking inside


def test_layer_responses_are_those_behind_batch_normalisation() -> None:
    seed_everything(0)
    net, images = ResNet(narrow(14)), torch.rand(32, 1, 14, 14)
    for i, block in enumerate(net.blocks()):
        nn.init.constant_(block.f[1].weight, 2 * i + 1.0)
        nn.init.constant_(block.f[4].weight, 2 * i + 2.0)
    # Behind it the standard deviation is its own scale, whatever came in.
    before = {k: v.clone() for k, v in net.state_dict().items()}
    expected = list(range(1, 13))
    assert layer_responses(net.eval(), images) == pytest.approx(expected, rel=1e-2)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not net.training


def test_signal_gradients_are_autograds() -> None:
    seed_everything(0)
    net, images, labels = ResNet(narrow(8)), torch.rand(8, 1, 14, 14), torch.arange(8)
    signal = net.train().stem(images).detach().requires_grad_()
    logits = net.classify(net.stages(signal).mean((2, 3)))
    nn.functional.cross_entropy(logits, labels).backward()
    gradients = signal_gradients(net, images, labels)
    assert len(gradients) == 4
    assert gradients[0] == pytest.approx(signal.grad.norm().item(), rel=1e-4)


def test_random_direction_has_the_filters_norms() -> None:
    net = ResNet(narrow(8))
    direction = random_direction(net, torch.Generator().manual_seed(0))
    for parameter, step in zip(net.parameters(), direction, strict=True):
        if parameter.ndim < 2:
            assert (step == 0).all()
        else:
            torch.testing.assert_close(
                step.flatten(1).norm(dim=1), parameter.flatten(1).norm(dim=1)
            )


def test_loss_on_plane_passes_through_the_network() -> None:
    seed_everything(0)
    net, images, labels = ResNet(narrow(8)), torch.rand(16, 1, 14, 14), torch.arange(16) % 10
    generator = torch.Generator().manual_seed(0)
    directions = random_direction(net, generator), random_direction(net, generator)
    losses = loss_on_plane(net, images, labels, directions, [-0.5, 0.0, 0.5])
    with torch.no_grad():
        assert losses[1, 1].item() == pytest.approx(classification_loss(net, images, labels).item())
        for parameter, step in zip(net.parameters(), directions[1], strict=True):
            parameter += 0.5 * step
        moved = classification_loss(net, images, labels).item()
    assert losses[1, 2].item() == pytest.approx(moved, rel=1e-5)


# Bad input


def test_images_with_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 14, 14\).*\(batch, 1, height, width\)"):
        ResNet(narrow(8))(torch.zeros(2, 3, 14, 14))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": "wide"}, "block is 'wide'.*basic.*bottleneck"),
        ({"shortcut": "D"}, "shortcut is 'D'.*'A', 'B', 'C'"),
        ({"stem": "mnist"}, "stem is 'mnist'"),
        ({"stride_on": "5x5"}, "stride_on is '5x5'"),
        ({"blocks": (2, 2)}, "one number per stage"),
        ({"blocks": (2, 2, 0, 2)}, "at least 1"),
    ],
)
def test_configurations_that_do_not_fit_together_are_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SIZES["resnet18"], **change)


@pytest.mark.parametrize("depth", [2, 18, 21, -4])
def test_cifar_depths_are_six_n_plus_two(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth is {depth}.*6n"):
        cifar(depth)
