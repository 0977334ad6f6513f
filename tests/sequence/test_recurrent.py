"""Gradients by hand against autograd, the LSTM against PyTorch's, counting against counting."""

import json
import math
import re
import statistics

import pytest
import torch
from torch import nn

from casebook.data import shakespeare
from casebook.record import load_recipe
from casebook.sequence.recurrent import (
    FEATURES,
    Carried,
    CharLSTM,
    CharLSTMConfig,
    CharTanh,
    LSTMCell,
    NGram,
    Rememberer,
    Schedule,
    TanhCell,
    as_step,
    backpropagate,
    cell_picker,
    cell_states,
    clip_before_step,
    colored_text,
    correlations,
    features,
    first_symbols,
    levels,
    nats_per_character,
    state_jacobians,
    streams,
    train,
    travel,
    unroll,
    write,
)
from casebook.training import classification_loss, fit, seed_everything

TEXT = "HAMLET:\nTo be, or not?\n'Tis so.\n\nClown:\nAy."


def small(symbols: int = 6, hidden: int = 12) -> CharLSTM:
    seed_everything(0)
    return CharLSTM(CharLSTMConfig(symbols, hidden))


# Back through time


def test_the_plain_cell_is_pytorchs() -> None:
    seed_everything(0)
    cell, theirs = TanhCell(3, 5), nn.RNN(3, 5)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(cell.w_in)
        theirs.weight_hh_l0.copy_(cell.w_rec)
        theirs.bias_ih_l0.zero_()
        theirs.bias_hh_l0.zero_()
    inputs = torch.randn(7, 2, 3)
    torch.testing.assert_close(unroll(cell, inputs, torch.zeros(2, 5))[1:], theirs(inputs)[0])


def test_back_propagation_by_hand_is_autograds() -> None:
    seed_everything(0)
    cell = TanhCell(3, 5, scale=1.3).double()
    inputs = torch.randn(9, 2, 3, dtype=torch.double)
    outward = torch.randn(9, 2, 5, dtype=torch.double)  # a loss that hears every state
    states = unroll(cell, inputs, torch.randn(2, 5, dtype=torch.double))
    states.retain_grad()
    (states[1:] * outward).sum().backward()
    gradients, errors = backpropagate(cell, inputs, states.detach(), outward)
    for name, parameter in cell.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)
    torch.testing.assert_close(errors[-1], outward[-1])


def test_errors_are_jacobian_products() -> None:
    seed_everything(0)
    cell = TanhCell(3, 4).double()
    inputs = torch.randn(6, 1, 3, dtype=torch.double)
    states = unroll(cell, inputs, torch.zeros(1, 4, dtype=torch.double)).detach()
    arriving = torch.zeros(6, 1, 4, dtype=torch.double)
    arriving[-1] = 1.0
    _, errors = backpropagate(cell, inputs, states, arriving)
    jacobians = state_jacobians(as_step(cell), inputs[:, 0], states[0, 0])
    by_hand = torch.diag(1 - states[3, 0] ** 2) @ cell.w_rec.detach()
    torch.testing.assert_close(jacobians[2], by_hand)
    error = arriving[-1, 0]
    for t in (4, 3, 2, 1, 0):
        error = error @ jacobians[t + 1]
        torch.testing.assert_close(errors[t, 0], error)


def test_norms_of_known_products() -> None:
    shear = torch.tensor([[0.5, 4.0], [0.0, 0.5]], dtype=torch.double)
    norms = travel(torch.stack([2 * torch.eye(2, dtype=torch.double), shear]))
    expected = torch.linalg.matrix_norm(shear, 2)
    torch.testing.assert_close(norms, torch.stack([expected, 2 * expected]))


def test_no_step_stretches_more_than_the_largest_singular_value() -> None:
    seed_everything(0)
    cell = TanhCell(3, 8, scale=0.9).double()
    inputs = torch.randn(20, 3, dtype=torch.double)
    norms = travel(state_jacobians(as_step(cell), inputs, torch.zeros(8, dtype=torch.double)))
    assert (norms <= 0.9 ** torch.arange(1, 21) + 1e-12).all()


# The LSTM


def test_the_lstm_is_pytorchs() -> None:
    seed_everything(0)
    theirs = nn.LSTMCell(3, 5)
    ours = LSTMCell.like(theirs)
    x, state = torch.randn(4, 3), (torch.randn(4, 5), torch.randn(4, 5))
    for mine, yours in zip(ours(x, state), theirs(x, state), strict=True):
        torch.testing.assert_close(mine, yours)


def test_an_lstm_step_by_hand() -> None:
    cell = LSTMCell(1, 1)
    with torch.no_grad():
        for layer, bias in ((cell.forget, 1.0), (cell.write, 0.0), (cell.candidate, 0.5)):
            layer.weight.zero_()
            layer.bias.fill_(bias)
        cell.read.weight.zero_()
        cell.read.bias.fill_(-1.0)
    h, c = cell(torch.ones(1, 1), (torch.zeros(1, 1), torch.full((1, 1), 2.0)))
    expected = 2 / (1 + math.exp(-1)) + 0.5 * math.tanh(0.5)
    assert c.item() == pytest.approx(expected)
    assert h.item() == pytest.approx(math.tanh(expected) / (1 + math.e))


def test_the_forget_bias_is_where_it_belongs() -> None:
    lstm = CharLSTM(CharLSTMConfig(4, 3, forget_bias=2.0)).lstm
    bias = (lstm.bias_ih_l0 + lstm.bias_hh_l0).reshape(4, 3)
    assert bias[1].tolist() == [2.0] * 3
    assert bias[[0, 2, 3]].abs().sum() == 0
    assert Rememberer("lstm", 5.0).layer.bias_ih_l0[32:64].unique().tolist() == [5.0]
    with pytest.raises(ValueError, match="choose 'tanh' or 'lstm'"):
        Rememberer("gru")


def test_cell_states_are_those_of_the_layer() -> None:
    model, codes = small(), torch.randint(6, (50,))
    with torch.no_grad():
        _, (_, cells) = model(codes[:, None])
    together = cell_states(model, codes, columns=1, warm_up=0)
    torch.testing.assert_close(together[-1], cells[0, 0].tanh())
    apart = cell_states(model, codes, columns=4, warm_up=50)  # from the very beginning
    torch.testing.assert_close(apart, together)


# The network that writes


@pytest.mark.parametrize("make", [small, lambda: CharTanh(6, 12, 1.0)])
def test_contract(make) -> None:
    model = make()
    codes = torch.randint(6, (9, 3))
    logits, state = model(codes)
    assert logits.shape == (9, 3, 6)
    assert logits.isfinite().all()
    assert Carried()(model, codes[:-1], codes[1:], torch.tensor(True)).isfinite()
    nn.functional.cross_entropy(logits.flatten(0, 1), codes.flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    again, _ = model(codes[:, :1], tuple(part[:, :1] for part in state))
    assert not torch.equal(again, logits[:, :1])  # the state matters


def test_streams_go_on_where_they_stopped() -> None:
    codes = torch.arange(103)
    pieces = streams(codes, batch=4, time=5, seed=0)
    for _ in range(3):
        inputs, targets, fresh = next(pieces)
        assert fresh
        for _ in range(3):
            before = inputs
            inputs, targets, fresh = next(pieces)
            assert not fresh
            assert torch.equal(inputs[0], (before[-1] + 1) % 103)
            assert torch.equal(targets, (inputs + 1) % 103)
    with pytest.raises(ValueError, match="Take fewer columns"):
        next(streams(codes, batch=50, time=5, seed=0))


def test_the_state_is_carried_and_the_gradient_is_not() -> None:
    model, loss = small(), Carried()
    codes = torch.randint(6, (21, 2))
    loss(model, codes[:10], codes[1:11], torch.tensor(True))
    second = loss(model, codes[10:20], codes[11:21], torch.tensor(False))
    logits, _ = model(codes[:20])
    whole = nn.functional.cross_entropy(logits[10:].flatten(0, 1), codes[11:21].flatten())
    torch.testing.assert_close(second, whole)
    second.backward()
    assert all(not part.requires_grad for part in loss.state)


def test_clipping_scales_and_keeps_the_direction() -> None:
    weight = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    norms = clip_before_step(optimizer, 1.0)
    weight.grad = torch.tensor([3.0, 4.0])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.6, -0.8]), atol=1e-5, rtol=0)
    weight.grad = torch.tensor([0.3, 0.4])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.9, -1.2]), atol=1e-5, rtol=0)
    assert norms == pytest.approx([5.0, 0.5])


def test_learns_a_text_with_a_long_period_and_repeats_itself() -> None:
    codes = torch.tensor([0, 1, 1, 2, 1, 1, 3, 1, 1] * 60)
    schedule = Schedule(steps=250, batch=8, time=27, learning_rate=0.03)

    def look(model: nn.Module) -> dict[str, float]:
        return {"nats": nats_per_character(model, codes, columns=2)}

    model = small(hidden=24)
    history, norms = train(model, codes, seed=0, schedule=schedule, looks=(50, 250), look=look)
    assert len(history.loss) == len(norms) == 250
    assert [row["step"] for row in history.evaluations] == [50, 250]
    assert history.evaluations[1]["nats"] < 0.1 < history.evaluations[0]["nats"]
    short, _ = train(small(hidden=24), codes, seed=0, schedule=schedule, max_steps=5)
    assert short.loss == history.loss[:5]
    generator = torch.Generator().manual_seed(0)
    written = write(model, codes[:27], 15, temperature=0.1, generator=generator)
    assert torch.equal(written, codes[:15])


def test_write_follows_the_temperature_and_can_hold_a_cell() -> None:
    model, start = small(), torch.tensor([0, 1])

    def draw(**more) -> list[int]:
        generator = torch.Generator().manual_seed(3)
        return write(model, start, 40, generator=generator, **more).tolist()

    assert draw(temperature=1.0) == draw(temperature=1.0)
    assert len(set(draw(temperature=1e-4))) < len(set(draw(temperature=10.0)))
    assert draw(temperature=1.0) != draw(temperature=1.0, fixed={cell: 50.0 for cell in range(12)})
    three = write(
        model,
        start[:, None].expand(-1, 3),
        40,
        temperature=1.0,
        generator=torch.Generator().manual_seed(3),
    )
    assert three.shape == (40, 3)
    assert len({tuple(column.tolist()) for column in three.T}) == 3
    with pytest.raises(ValueError, match="choose a temperature above 0"):
        draw(temperature=0.0)


def test_a_plain_network_remembers_over_a_short_lag() -> None:
    generator = seed_everything(0)
    model = Rememberer("tanh")
    batches = (first_symbols(4, 32, generator) for _ in range(150))
    history = fit(
        model,
        batches,
        classification_loss,
        torch.optim.Adam(model.parameters(), 5e-3),
        max_steps=150,
    )
    assert statistics.mean(history.loss[-10:]) < 0.05 < 0.5 < history.loss[0]
    sequences, first = first_symbols(6, 10, generator)
    assert torch.equal(sequences[0].argmax(1), first)
    assert (sequences[1:, :, :2] == 0).all()


# Counting


def test_the_counts_by_hand() -> None:
    codes = torch.tensor([0, 1, 0, 1, 0, 2])  # a b a b a c
    one, two = NGram(codes, 3, 2).nats(torch.tensor([0, 1]))
    # Alone: 6 letters of 3 kinds, so (2 + 3/3) / (6 + 3). After a: b twice, c once, of 2 kinds.
    alone = (2 + 3 * (1 / 3)) / 9
    assert one == pytest.approx(-math.log(alone))
    assert two == pytest.approx(-math.log((2 + 2 * alone) / 5))


def test_probabilities_add_up_to_one() -> None:
    seed_everything(0)
    codes = torch.randint(4, (200,))
    model = NGram(codes, 4, 3)
    for context in ([0, 1], [3, 3], [2, 0]):
        total = sum(math.exp(-model.nats(torch.tensor([*context, last]))[-1]) for last in range(4))
        assert total == pytest.approx(1)


def test_an_order_that_does_not_fit_is_refused() -> None:
    for order in (0, 12):
        with pytest.raises(ValueError, match="choose 1 to 10"):
            NGram(torch.zeros(20, dtype=torch.long), 63, order)


# Features and colours


def test_features_of_a_short_text() -> None:
    rows = features(TEXT)
    assert tuple(rows) == FEATURES
    assert all(len(row) == len(TEXT) for row in rows.values())

    def where(name: str) -> str:
        return "".join(c for c, value in zip(TEXT, rows[name], strict=True) if value)

    assert where("inside a speaker's name") == "HAMLET\nClown"
    assert where("an upper-case letter") == "HAMLETTTCA"
    assert where("the word ends here") == "Toertsony"
    assert where("inside a question") == "\nTo be, or not?"
    assert where("after an apostrophe") == "'Tis"
    line = rows["position in the line"].tolist()
    assert line[:9] == [1, 2, 3, 4, 5, 6, 7, 0, 1]
    assert rows["line of the speech"].tolist()[7:9] == [1, 1]


def test_correlations_are_numpys() -> None:
    seed_everything(0)
    values, cells = torch.randn(50, 2), torch.randn(50, 3)
    expected = torch.corrcoef(torch.cat([values, cells], 1).T)[:2, 2:]
    torch.testing.assert_close(correlations(values, cells), expected)
    assert correlations(torch.ones(50, 1), cells).tolist() == [[0.0, 0.0, 0.0]]


def test_colours_are_the_nearest_of_eleven() -> None:
    assert levels(torch.tensor([-1.0, -0.09, 0.0, 0.11, 1.0, 3.0])) == "affgkk"
    html = colored_text("a<\n", torch.tensor([0.0, 1.0, -1.0]))
    assert '<i class="f">a</i><i class="k">&lt;</i><i class="a">↵</i>\n' in html
    with pytest.raises(ValueError, match="give one for each"):
        colored_text("abc", torch.zeros(2))


def test_the_picker_holds_every_cell_and_needs_nothing_else() -> None:
    cells = torch.rand(5, 7) * 2 - 1
    html = cell_picker("a b\nc", cells, {"spaces": 3, "lines": 6}, alt="Letters in colours")
    rows = json.loads(re.search(r"rows = (\[.*?\]);", html)[1])
    assert rows == [levels(column) for column in cells.T]
    assert "".join(re.findall(r'<i class="(.)">', html)) == rows[3]  # what shows without scripts
    assert "http" not in html and "src=" not in html
    assert 'aria-label="Letters in colours"' in html


# The recordings


def test_the_ninth_play_begins_where_nobody_has_spoken_before() -> None:
    text, recipe = shakespeare(), load_recipe("recurrent_shakespeare")
    read, ninth = text.split(recipe.NINTH, 1)  # at the first time that he speaks
    assert read.endswith("\n\n")
    assert "DROMIO" not in read
    assert "DROMIO" in ninth
    _, codes_read, codes_ninth = recipe.plays()
    assert len(codes_read) == len(read)
    assert len(codes_read) + len(codes_ninth) == len(text)
