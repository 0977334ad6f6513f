"""The loop against one written out by hand, the counts against hand arithmetic."""

import math

import pytest
import torch
from torch import nn

from casebook import training


def small_net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3))


@pytest.fixture
def task() -> tuple[torch.Tensor, torch.Tensor]:
    """Which of three bars is bright: solvable by a small network."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (96,), generator=generator)
    images = 0.1 * torch.randn(96, 1, 8, 8, generator=generator)
    for row, label in enumerate(labels.tolist()):
        images[row, 0, 1 + 2 * label] += 1.0
    return images, labels


def test_minibatches_are_tuples(task: tuple[torch.Tensor, torch.Tensor]) -> None:
    batch = next(iter(training.minibatches(*task, batch_size=32)))
    assert type(batch) is tuple
    assert [part.shape for part in batch] == [(32, 1, 8, 8), (32,)]


def test_one_cycle_rises_to_the_learning_rate_and_falls_to_nothing() -> None:
    optimizer, scheduler = training.one_cycle(
        small_net(), learning_rate=0.01, steps=100, weight_decay=0.2, warm_up=0.4
    )
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert max(rates) == pytest.approx(0.01)
    assert rates.index(max(rates)) == 39
    assert rates[0] < 0.001
    assert rates[-1] < 1e-6
    assert optimizer.param_groups[0]["weight_decay"] == 0.2


def test_one_cycle_wants_steps() -> None:
    with pytest.raises(ValueError, match="total_steps"):
        training.one_cycle(small_net(), learning_rate=0.01, steps=0)


# ---- seeding


def test_same_seed_same_numbers() -> None:
    draws = []
    for _ in range(2):
        generator = training.seed_everything(7)
        draws.append((torch.rand(2).tolist(), torch.rand(2, generator=generator).tolist()))
    assert draws[0] == draws[1]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed is {seed}; choose"):
        training.seed_everything(seed)


def test_threads_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("CASEBOOK_THREADS", "2")
    assert training.set_threads() == 2 == torch.get_num_threads()
    monkeypatch.delenv("CASEBOOK_THREADS")
    assert training.set_threads() == 1
    torch.set_num_threads(before)


@pytest.mark.parametrize("text", ["0", "two", "-1", ""])
def test_threads_must_be_positive(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASEBOOK_THREADS", text)
    with pytest.raises(ValueError, match=r"CASEBOOK_THREADS is .*positive integer"):
        training.set_threads()


# ---- batches


def test_every_row_once_per_epoch_in_a_new_order() -> None:
    rows = torch.arange(10)
    batches = training.minibatches(rows, rows * 2, batch_size=4, seed=1)
    assert len(batches) == 3
    epochs = []
    for _ in range(2):
        first, second = (torch.cat(part) for part in zip(*batches, strict=True))
        assert torch.equal(second, 2 * first)
        assert sorted(first.tolist()) == list(range(10))
        epochs.append(first.tolist())
    assert epochs[0] != epochs[1]


def test_order_depends_on_the_seed_alone() -> None:
    def order(seed: int) -> list[int]:
        torch.manual_seed(0 if seed else 99)
        rows = training.minibatches(torch.arange(50), batch_size=7, seed=seed)
        return torch.cat([batch for (batch,) in rows]).tolist()

    assert order(3) == order(3)
    assert order(3) != order(4)


def test_batches_refuse_bad_input() -> None:
    with pytest.raises(ValueError, match="at least one tensor"):
        training.minibatches(batch_size=2)
    with pytest.raises(ValueError, match=r"\[3, 4\] rows"):
        training.minibatches(torch.zeros(3), torch.zeros(4), batch_size=2)
    with pytest.raises(ValueError, match="batch_size is 0"):
        training.minibatches(torch.zeros(3), batch_size=0)


# ---- fit


def test_fit_equals_a_loop_written_by_hand(task: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = task
    ours, theirs = small_net(), small_net()
    theirs.load_state_dict(ours.state_dict())
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    batches = training.minibatches(images, labels, batch_size=40, seed=5)
    history = training.fit(
        ours, batches, training.classification_loss, optimizer, epochs=2, scheduler=scheduler
    )

    by_hand = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    replayed = training.minibatches(images, labels, batch_size=40, seed=5)
    steps = [batch for _ in range(2) for batch in replayed]
    losses = []
    for number, (x, y) in enumerate(steps):
        by_hand.param_groups[0]["lr"] = 0.1 * 0.5 ** (number // 2)
        loss = nn.functional.cross_entropy(theirs(x), y)
        by_hand.zero_grad()
        loss.backward()
        by_hand.step()
        losses.append(loss.item())
    assert history.loss == pytest.approx(losses, rel=1e-6)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_fit_learns_and_evaluates_each_epoch(task: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = task
    training.seed_everything(0)
    net = small_net()
    modes = []

    def evaluate(model: nn.Module) -> dict[str, float]:
        modes.append((model.training, torch.is_grad_enabled()))
        return {"accuracy": training.accuracy(model, images, labels)}

    history = training.fit(
        net,
        training.minibatches(images, labels, batch_size=16, seed=0),
        training.classification_loss,
        torch.optim.Adam(net.parameters(), lr=0.01),
        epochs=8,
        evaluate=evaluate,
    )
    assert modes == [(False, False)] * 8
    assert net.training
    assert history.series("accuracy")[-1] == 1.0
    assert history.series("step") == [6.0 * epoch for epoch in range(1, 9)]
    assert history.loss[-1] < 0.3 * history.loss[0]
    with pytest.raises(ValueError, match=r"no evaluation is called 'loss'.*'accuracy'"):
        history.series("loss")


def test_fit_stops_at_max_steps(task: tuple[torch.Tensor, torch.Tensor]) -> None:
    net = small_net()
    batches = training.minibatches(*task, batch_size=16)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    history = training.fit(
        net, batches, training.classification_loss, optimizer, epochs=5, max_steps=8
    )
    assert len(history.loss) == 8


@pytest.mark.parametrize(("clip_norm", "moved"), [(None, 5.0), (10.0, 5.0), (1.0, 1.0)])
def test_fit_clips_the_gradient_as_one_vector(clip_norm: float | None, moved: float) -> None:
    """The gradient is (3, 4), of length 5; a step of gradient descent at rate 1 is as long."""
    net = nn.Linear(2, 1, bias=False)
    before = net.weight.detach().clone()

    def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return model(x).sum()

    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    training.fit(net, [(torch.tensor([[3.0, 4.0]]),)], loss, optimizer, clip_norm=clip_norm)
    step = before - net.weight.detach()
    assert step.norm().item() == pytest.approx(moved, rel=1e-5)
    torch.testing.assert_close(step / step.norm(), torch.tensor([[0.6, 0.8]]))


def test_a_loss_that_is_not_finite_stops_the_run(
    task: tuple[torch.Tensor, torch.Tensor],
) -> None:
    net = small_net()
    calls = []

    def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        value = training.classification_loss(model, x, y)
        return value * math.nan if len(calls) == 3 else value

    batches = training.minibatches(*task, batch_size=16)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.25)
    with pytest.raises(training.TrainingDiverged, match=r"nan at step 3 .*rate 0\.25") as caught:
        training.fit(net, batches, loss, optimizer, epochs=5)
    assert len(caught.value.history.loss) == 3
    assert all(p.isfinite().all() for p in net.parameters()), "the bad step was taken"


def test_fit_refuses_bad_input(task: tuple[torch.Tensor, torch.Tensor]) -> None:
    net = small_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="epochs=0"):
        training.fit(net, [task], training.classification_loss, optimizer, epochs=0)
    with pytest.raises(ValueError, match=r"clip_norm is 0\.0"):
        training.fit(net, [task], training.classification_loss, optimizer, clip_norm=0.0)
    with pytest.raises(ValueError, match="batches is empty"):
        training.fit(net, [], training.classification_loss, optimizer)
    once = iter([task])
    with pytest.raises(ValueError, match="yield batches again"):
        training.fit(net, once, training.classification_loss, optimizer, epochs=2)


def test_predict_turns_dropout_off_and_restores_the_mode() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9))
    inputs = torch.randn(7, 2)
    outputs = training.predict(net, inputs, batch_size=3)
    torch.testing.assert_close(outputs, net[0](inputs))
    assert net.training and not outputs.requires_grad


def test_accuracy_by_hand() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    net = nn.Linear(2, 2, bias=False)
    nn.init.eye_(net.weight)
    assert training.accuracy(net, logits, torch.tensor([0, 1, 1, 1])) == 0.75


# ---- counting


def test_layer_table_by_hand() -> None:
    with training.meta_device():
        net = small_net()
    conv, relu, flatten, linear = training.layer_table(net, (1, 1, 8, 8))
    assert (conv.kind, conv.output_shape, conv.neurons) == ("Conv2d", (4, 6, 6), 144)
    assert conv.parameters == 4 * 9 + 4
    assert conv.multiply_adds == 144 * 9
    assert (relu.parameters, relu.multiply_adds) == (0, 0)
    assert flatten.output_shape == (144,)
    assert linear.parameters == 144 * 3 + 3
    assert linear.multiply_adds == 144 * 3
    assert training.count_parameters(net) == conv.parameters + linear.parameters
    assert training.count_multiply_adds(net, (2, 1, 8, 8)) == 2 * (144 * 9 + 144 * 3)


def test_grouped_convolution_costs_its_share() -> None:
    with training.meta_device():
        whole, halves = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=2)
    shape = (1, 8, 5, 5)
    assert training.count_multiply_adds(whole, shape) == 9 * 8 * 8 * 9
    assert training.count_multiply_adds(halves, shape) == 9 * 8 * 4 * 9


def test_a_shared_parameter_counts_once() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    assert training.count_parameters(net) == 16 + 4 + 4


def test_counting_leaves_the_network_as_it_was() -> None:
    net = small_net()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    training.layer_table(net, (1, 1, 8, 8))
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])


def test_layer_table_wants_one_example() -> None:
    with pytest.raises(ValueError, match="must be 1"):
        training.layer_table(small_net(), (4, 1, 8, 8))
