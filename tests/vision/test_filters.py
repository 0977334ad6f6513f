"""What filters see: each tool against brute force, an exact solution, or something planted."""

import math

import pytest
import torch
from sklearn.decomposition import PCA, sparse_encode
from torch import Tensor, nn

from casebook.training import classification_loss, seed_everything
from casebook.vision.convolution import ReceptiveField, Window, receptive_field
from casebook.vision.filters import (
    Gabor,
    PatchNet,
    PatchNetConfig,
    brightness_share,
    cka,
    fit_gabor,
    gaussian_blur,
    leading_colour,
    learn_dictionary,
    maximise_activation,
    movement,
    occlusion_map,
    principal_components,
    randomised,
    real_or_scrambled,
    sample_patches,
    scenes,
    scramble,
    shifted,
    sparse_code,
    standardise,
    top_patches,
    whiten,
    windows,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def natural(count: int = 2, size: int = 64) -> Tensor:
    """Images with edges and with amplitudes that fall with frequency: overlapping rectangles."""
    draw, images = generator(3), torch.zeros(count, 3, size, size)
    for image in images:
        for _ in range(60):
            top, left = torch.randint(-8, size, (2,), generator=draw).tolist()
            tall, wide = torch.randint(4, 24, (2,), generator=draw).tolist()
            colour = torch.rand(3, 1, 1, generator=draw)
            image[:, max(top, 0) : top + tall, max(left, 0) : left + wide] = colour
    return images


# Activation maximisation


def test_a_linear_units_best_image_is_its_own_filter() -> None:
    """max w·x with ‖x‖ = r is at x = r·w / ‖w‖, by Cauchy and Schwarz."""
    weights = torch.randn(3, 2, 5, 5, generator=generator())
    unit = torch.arange(3)

    def score(images: Tensor) -> Tensor:
        return nn.functional.conv2d(images, weights)[unit, unit, 0, 0]

    start = torch.randn(3, 2, 5, 5, generator=generator(1))
    found = maximise_activation(score, start, norm=2.0, steps=200)
    exact = 2 * weights / weights.flatten(1).norm(dim=1).view(3, 1, 1, 1)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.02)


def test_the_norm_is_kept_and_the_score_climbs() -> None:
    seed_everything(0)
    net = PatchNet(PatchNetConfig(input_channels=1, window=3, channels=(4, 4))).eval()
    start = torch.rand(5, 1, 16, 16, generator=generator())
    found = maximise_activation(
        lambda images: net(images)[:, 0],
        start,
        norm=3.0,
        steps=20,
        jitter=1,
        blur=1.0,
        generator=generator(),
    )
    torch.testing.assert_close(found.flatten(1).norm(dim=1), torch.full((5,), 3.0))
    level = start * (3 / start.flatten(1).norm(dim=1)).view(5, 1, 1, 1)
    assert (net(found)[:, 0] > net(level)[:, 0]).all()


def test_every_unit_climbs_before_its_relu_and_a_silent_one_is_refused_behind_it() -> None:
    seed_everything(0)
    net = PatchNet(PatchNetConfig(input_channels=1, window=3, channels=(16, 16))).eval()
    start = torch.rand(16, 1, 16, 16, generator=generator())
    net = randomised(net, 0, start)
    before, unit = nn.Sequential(net.layers[0], net.layers[1][:2]), torch.arange(16)

    def middle(images: Tensor) -> Tensor:
        return before(images)[unit, unit, 1, 1]

    level = start * (3 / start.flatten(1).norm(dim=1)).view(16, 1, 1, 1)
    with torch.no_grad():
        at_start = middle(level)
    assert (at_start < 0).any()  # units that their ReLU would silence
    found = maximise_activation(middle, start, norm=3.0, steps=40, blur=0.7)
    with torch.no_grad():
        assert (middle(found) > at_start).all()
    with pytest.raises(ValueError, match="is a ReLU silent there"):
        maximise_activation(lambda images: middle(images).relu(), start, norm=3.0)


def test_blur_keeps_the_sum_and_spreads_a_point() -> None:
    point = torch.zeros(1, 2, 21, 21)
    point[:, :, 10, 10] = 1
    soft = gaussian_blur(point, 1.5)
    assert soft.sum().item() == pytest.approx(2, rel=1e-5)
    place = torch.arange(21.0) - 10
    assert (soft[0, 0].sum(0) * place**2).sum().sqrt().item() == pytest.approx(1.5, rel=0.05)


# Occlusion


def test_occlusion_of_a_model_that_looks_at_one_place() -> None:
    image = torch.rand(1, 12, 10, generator=generator())
    drops = occlusion_map(lambda batch: batch[:, 0, 4, 7], image, size=3)
    assert drops.shape == (10, 8)
    expected = torch.zeros(10, 8)
    expected[2:5, 5:8] = image[0, 4, 7] - 0.5  # the places whose square covers (4, 7)
    torch.testing.assert_close(drops, expected)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_occlusion_is_brute_force(stride: int) -> None:
    seed_everything(0)
    net = PatchNet(PatchNetConfig(input_channels=1, window=3, channels=(4, 4))).eval()
    image = torch.rand(1, 16, 14, generator=generator())
    drops = occlusion_map(lambda b: net(b)[:, 1], image, size=4, stride=stride, value=0.2)
    with torch.no_grad():
        for row, top in enumerate(range(0, 13, stride)):
            for column, left in enumerate(range(0, 11, stride)):
                covered = image.clone()
                covered[0, top : top + 4, left : left + 4] = 0.2
                expected = net(image[None])[0, 1] - net(covered[None])[0, 1]
                torch.testing.assert_close(drops[row, column], expected, rtol=1e-4, atol=1e-6)


# Patches and what a unit sees


def test_windows_are_found_in_order() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 5, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Sequential(nn.Conv2d(2, 2, 3))
    )
    assert windows(net) == [Window(5, 2, 1), Window(2, 2), Window(3)]
    with pytest.raises(ValueError, match="plain square window"):
        windows(nn.Conv2d(1, 1, (1, 3)))
    with pytest.raises(ValueError, match="plain square window"):
        windows(nn.Conv2d(1, 1, 3, dilation=2))


def test_top_patches_find_what_was_planted() -> None:
    """A cross hidden in three images is what a cross-shaped filter likes best, cut out exactly."""
    cross = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]])
    images = 0.2 * torch.rand(10, 1, 12, 12, generator=generator())
    places = {2: (0, 0), 5: (4, 7), 9: (9, 9)}  # two of them in corners
    for strength, (index, (row, column)) in enumerate(places.items(), start=1):
        images[index, 0, row : row + 3, column : column + 3] = cross * (2 + strength)
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    layer.weight.data = cross.view(1, 1, 3, 3)
    field = receptive_field(windows(layer))
    with torch.no_grad():
        activity = layer(images)[:, 0]
    patches, values = top_patches(activity, images, field, 3)
    expected = torch.stack([cross * 5, cross * 4, cross * 3])[:, None]
    torch.testing.assert_close(patches, expected)
    torch.testing.assert_close(values, torch.tensor([25.0, 20.0, 15.0]))


def test_top_patches_through_strides_explain_the_activity() -> None:
    """Fed to the network alone, without padding, a patch gives the activity it was chosen for."""
    seed_everything(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 5, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3))
    images = torch.rand(6, 2, 40, 40, generator=generator())
    with torch.no_grad():
        activity = net(images)[:, 1]
        patches, values = top_patches(activity, images, receptive_field(windows(net)), 4)
        torch.testing.assert_close(net(patches)[:, 1, 0, 0], values)
    torch.testing.assert_close(values, activity.flatten(1).amax(1).topk(4).values)


def test_a_patch_is_zero_outside_of_the_image() -> None:
    images = torch.ones(1, 1, 4, 4)
    activity = torch.zeros(1, 4, 4)
    activity[0, 0, 3] = 1
    patches, _ = top_patches(activity, images, ReceptiveField(size=3, jump=1, start=-1), 1)
    assert patches[0, 0].tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 0]]


# Natural patches


def test_whitening_levels_the_spectrum() -> None:
    size = 128
    frequency = torch.hypot(*torch.meshgrid(*[torch.fft.fftfreq(size)] * 2, indexing="ij"))
    noise = torch.fft.fft2(torch.randn(2, size, size, generator=generator()))
    pink = torch.fft.ifft2(noise / frequency.clamp_min(1 / size)).real
    power = torch.fft.fft2(whiten(pink, cutoff=0.45)).abs().square().mean(0)
    low = power[(frequency > 0.02) & (frequency < 0.08)].mean()
    high = power[(frequency > 0.15) & (frequency < 0.2)].mean()
    assert (low / high).item() == pytest.approx(1, abs=0.2)
    torch.testing.assert_close(whiten(pink).std((1, 2)), torch.ones(2))


def test_scrambling_keeps_amplitudes_and_colour_correlations() -> None:
    images = natural()
    mixed = scramble(images, generator())
    for name in ("abs", "sum"):
        before, after = torch.fft.fft2(images), torch.fft.fft2(mixed)
        if name == "sum":  # cross-spectrum of red and green: the phases cancel
            before, after = before[:, 0] * before[:, 1].conj(), after[:, 0] * after[:, 1].conj()
        torch.testing.assert_close(after.abs(), before.abs(), rtol=1e-3, atol=1e-2)
    assert (mixed - images).abs().mean() > 0.1


def test_patches_are_windows_of_the_images() -> None:
    images = torch.arange(2 * 1 * 6 * 7).reshape(2, 1, 6, 7).float()
    for patch in sample_patches(images, 3, 20, generator()):
        image, place = divmod(int(patch[0, 0, 0]), 42)
        row, column = divmod(place, 7)
        assert torch.equal(patch, images[image, :, row : row + 3, column : column + 3])


def test_principal_components_are_scikit_learns() -> None:
    patches = torch.randn(500, 6, generator=generator()) * torch.tensor([3.0, 2, 1.5, 1, 0.5, 0.2])
    ours = principal_components(patches)
    theirs = torch.tensor(PCA().fit(patches).components_).float()
    torch.testing.assert_close((ours * theirs).sum(1).abs(), torch.ones(6), rtol=1e-4, atol=0)


# Sparse coding


def test_codes_are_scikit_learns_lasso() -> None:
    atoms = torch.randn(12, 8, generator=generator())
    atoms /= atoms.norm(dim=1, keepdim=True)
    patches = torch.randn(5, 8, generator=generator(1))
    ours = sparse_code(patches, atoms, penalty=0.3, steps=2000)
    theirs = sparse_encode(patches, atoms, algorithm="lasso_cd", alpha=0.3, max_iter=5000)
    torch.testing.assert_close(ours, torch.tensor(theirs).float(), rtol=0, atol=2e-3)
    assert (ours == 0).any(1).all()


def test_a_dictionary_recovers_planted_atoms() -> None:
    draw = generator()
    planted = torch.randn(10, 16, generator=draw)
    planted /= planted.norm(dim=1, keepdim=True)
    active = torch.rand(4000, 10, generator=draw) < 0.15
    patches = (active * torch.randn(4000, 10, generator=draw) * 2) @ planted
    atoms = learn_dictionary(patches, 10, penalty=0.2, generator=draw, steps=150)
    torch.testing.assert_close(atoms.norm(dim=1), torch.ones(10))
    nearest = (planted @ atoms.T).abs().amax(1)
    assert nearest.median() > 0.97
    assert (nearest > 0.9).sum() >= 8


# Gabor functions


def planted_gabors(count: int, size: int) -> tuple[Gabor, Tensor]:
    draw = generator(5)
    uniform = lambda low, high: low + (high - low) * torch.rand(count, generator=draw)  # noqa: E731
    gabors = Gabor(
        x=uniform(-2, 2),
        y=uniform(-2, 2),
        along=uniform(1.5, 2.5),
        across=uniform(1.5, 3.5),
        angle=uniform(0, math.pi),
        frequency=uniform(0.12, 0.3),
        cosine=uniform(0.5, 1),
        sine=uniform(-1, 1),
    )
    return gabors, gabors.draw(size)


def test_a_gabor_is_drawn_as_its_formula_says() -> None:
    one = lambda value: torch.tensor([value])  # noqa: E731
    gabor = Gabor(
        one(1.0), one(0.0), one(2.0), one(3.0), one(math.pi / 2), one(0.25), one(0.0), one(2.0)
    )
    # Angle of a right angle: the wave runs down. Pixel (row 4, column 3) is 1 down of the middle
    # and in the bell's own column x = 1, so u = 1, v = 0.
    expected = 2 * math.exp(-0.5 * (1 / 2) ** 2) * math.sin(2 * math.pi * 0.25)
    assert gabor.draw(7)[0, 4, 4].item() == pytest.approx(expected, rel=1e-5)


def test_fits_recover_planted_gabors() -> None:
    planted, filters = planted_gabors(12, 12)
    found, share = fit_gabor(3 * filters, starts=4, steps=120)
    assert share.min() > 0.97
    assert (found.frequency - planted.frequency).abs().median() < 0.01
    assert (found.x - planted.x).abs().median() < 0.2
    turned = (found.angle - planted.angle).remainder(math.pi)
    assert torch.minimum(turned, math.pi - turned).median() < 0.05
    drawn = found.draw(12)
    left = (3 * filters - drawn).flatten(1).norm(dim=1) / (3 * filters).flatten(1).norm(dim=1)
    torch.testing.assert_close(1 - left**2, share, rtol=0, atol=0.01)


def test_gabors_explain_little_of_noise_and_the_less_the_larger_it_is() -> None:
    shares = [
        fit_gabor(torch.randn(12, size, size, generator=generator()))[1].mean().item()
        for size in (7, 12)
    ]
    assert 0.15 < shares[0] < 0.45
    assert shares[1] < 0.6 * shares[0]


def test_brightness_share_of_a_bell_an_edge_and_a_flat_field() -> None:
    flat, edge = torch.full((4, 4), -2.0), torch.tensor([-1.0, -1, 1, 1]).expand(4, 4)
    half = torch.tensor([0.0, 0, 1, 1]).expand(4, 4)  # mean 1/2, mean square 1/2
    share = brightness_share(torch.stack([flat, edge, half]))
    torch.testing.assert_close(share, torch.tensor([1.0, 0.0, 0.5]))


def test_a_filter_of_one_colour_is_taken_apart() -> None:
    colour = torch.tensor([[0.6, 0.0, -0.8], [0.0, -1.0, 0.0]])
    pattern = torch.randn(2, 5, 5, generator=generator())
    filters = colour[:, :, None, None] * pattern[:, None]
    found, patterns, share = leading_colour(filters)
    torch.testing.assert_close(share, torch.ones(2))
    torch.testing.assert_close(found[:, :, None, None] * patterns[:, None], filters)
    assert (found.sum(1) >= 0).all()


# The network and its worlds


@pytest.mark.parametrize(
    "config",
    [PatchNetConfig(), PatchNetConfig(1, 3, 5, 1, (4, 6, 8), 1.0), PatchNetConfig(channels=(5,))],
)
def test_output_is_finite_and_every_parameter_learns(config: PatchNetConfig) -> None:
    seed_everything(0)
    net = PatchNet(config)
    images = torch.randn(16, config.input_channels, 32, 32, generator=generator())
    assert net(images).isfinite().all()
    assert net(images).shape == (16, config.classes)
    classification_loss(net, images, torch.arange(16) % config.classes).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_same_seed_same_network_and_same_patches() -> None:
    results = []
    for _ in range(2):
        draw = seed_everything(4)
        patches, _ = real_or_scrambled(natural(), 4, 20, draw)
        results.append(PatchNet()(patches))
    assert torch.equal(*results)


def test_it_learns_to_tell_real_from_scrambled() -> None:
    draw = seed_everything(0)
    net = PatchNet(PatchNetConfig(window=5, channels=(8, 8)))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        patches, labels = real_or_scrambled(natural(), 16, 20, draw)
        loss = classification_loss(net, patches, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_real_and_scrambled_patches_are_alike_in_mean_and_variance() -> None:
    patches, labels = real_or_scrambled(natural(), 300, 20, generator())
    assert labels.sum() == 300
    for statistic in (lambda p: p.mean((1, 2, 3)), lambda p: p.std((1, 2, 3))):
        real, mixed = statistic(patches[labels == 1]), statistic(patches[labels == 0])
        assert (real.mean() - mixed.mean()).abs() < 0.1


def test_standardised_patches() -> None:
    patches = standardise(5 + 3 * torch.randn(4, 3, 9, 9, generator=generator()))
    torch.testing.assert_close(patches.mean((1, 2, 3)), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(patches.std((1, 2, 3)), torch.ones(4), rtol=0, atol=0.05)
    assert standardise(torch.full((1, 3, 4, 4), 0.7)).abs().max() < 1e-4


def test_scenes_show_the_object_where_the_mask_says() -> None:
    objects = torch.zeros(6, 1, 5, 5)
    objects[:, :, 1:4, 2] = 1
    grounds = torch.full((6, 1, 11, 11), -1.0)
    images, masks = scenes(objects, grounds, generator())
    assert (masks.sum((1, 2)) == 3).all()
    assert (images[:, 0][~masks] == -1).all()
    inside = images[:, 0][masks].view(6, 3)
    assert (inside == inside[:, :1]).all()
    assert len(inside[:, 0].unique()) == 6
    assert len({tuple(torch.nonzero(mask)[0].tolist()) for mask in masks}) > 1


# Comparing features


def test_cka_of_turned_scaled_and_unrelated_features() -> None:
    features = torch.randn(200, 5, generator=generator())
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator(1)))
    assert cka(features, 3 * features @ turn + 1).item() == pytest.approx(1, abs=1e-4)
    assert cka(features, torch.randn(200, 5, generator=generator(2))) < 0.1


def test_movement_of_layers_that_see_everything_or_only_the_sum() -> None:
    images = torch.zeros(4, 1, 8, 8)
    for number, image in enumerate(images):
        image[0, number, number] = number + 1
    layers = [lambda x: x, lambda x: x.sum((2, 3))]
    moved = movement(layers, images, [images, shifted(images, 1)])
    torch.testing.assert_close(moved[:, 0], torch.zeros(2))
    assert moved[0, 1] > 0.5
    assert moved[1, 1].item() == pytest.approx(0, abs=1e-6)
    assert torch.equal(shifted(images, 2)[:, :, 2:], images[:, :, :-2])


def test_a_randomised_copy_has_forgotten_and_the_network_has_not() -> None:
    seed_everything(0)
    net = PatchNet().eval()
    images = torch.randn(32, 3, 32, 32, generator=generator())
    before = net(images)
    copies = [randomised(net, seed, images) for seed in (1, 1, 2)]
    assert torch.equal(net(images), before)
    assert torch.equal(copies[0](images), copies[1](images))
    assert not torch.allclose(copies[0](images), copies[2](images))
    activity = copies[0].layers[0][:2](images)
    torch.testing.assert_close(activity.mean((0, 2, 3)), torch.zeros(32), rtol=0, atol=1e-3)


# Bad input


def test_bad_input_is_refused() -> None:
    image, flat = torch.zeros(1, 8, 8), torch.zeros(2, 1, 8, 8)
    with pytest.raises(ValueError, match="norm is 0"):
        maximise_activation(lambda x: x.sum(), flat + 1, norm=0.0)
    with pytest.raises(ValueError, match="all zero"):
        maximise_activation(lambda x: x.sum(), flat, norm=1.0)
    with pytest.raises(ValueError, match="give a `generator`"):
        maximise_activation(lambda x: x.sum(), flat + 1, norm=1.0, jitter=2)
    for size, stride in ((9, 1), (0, 1), (3, 0)):
        with pytest.raises(ValueError, match="choose a size from 1 to 8"):
            occlusion_map(lambda x: x.sum((1, 2, 3)), image, size=size, stride=stride)
    with pytest.raises(ValueError, match="count is 3, but there are 2"):
        top_patches(torch.zeros(2, 8, 8), flat, ReceptiveField(), 3)
    with pytest.raises(ValueError, match="patches of 9 pixels"):
        sample_patches(flat, 9, 1, generator())
    with pytest.raises(ValueError, match="penalty is 0"):
        learn_dictionary(torch.zeros(4, 4), 2, penalty=0.0, generator=generator())
    with pytest.raises(ValueError, match="zero everywhere"):
        fit_gabor(torch.zeros(1, 5, 5))
    with pytest.raises(ValueError, match="objects of 9 pixels"):
        scenes(torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 8, 8), generator())
    for bad in ({"channels": ()}, {"window": 0}, {"first_std": 0.0}):
        with pytest.raises(ValueError, match="give at least one layer"):
            PatchNetConfig(**bad)
