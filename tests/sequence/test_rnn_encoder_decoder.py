"""The RNN Encoder–Decoder: its units against formulas and PyTorch, its scores against hand sums."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from casebook.sequence.rnn_encoder_decoder import (
    SIZES,
    UNITS,
    Config,
    EncoderDecoder,
    GatedUnit,
    PlainUnit,
    ResetAfterUnit,
    RNNEncoderDecoder,
    exact_match,
    greedy,
    log_probability,
    previous,
    read,
    sentences,
    train_translation,
    translation_loss,
)
from casebook.text import BOS, EOS, PAD, Vocabulary, real
from casebook.training import count_parameters, fit, meta_device, seed_everything

TINY = Config(9, 8, embedding=5, hidden=6, maxout=4)


def tiny(unit: str = "gated", **changes: object) -> RNNEncoderDecoder:
    seed_everything(0)
    return RNNEncoderDecoder(replace(TINY, unit=unit, **changes))


def batch() -> tuple[Tensor, Tensor]:
    """Three pairs of different lengths."""
    source = torch.tensor([[3, 4, 5, EOS], [8, 7, EOS, PAD], [6, EOS, PAD, PAD]])
    target = torch.tensor([[5, EOS, PAD], [4, 7, EOS], [EOS, PAD, PAD]])
    return source, target


def wider(rows: Tensor, columns: int = 3) -> Tensor:
    return nn.functional.pad(rows, (0, columns), value=PAD)


# The units


def by_the_paper(unit: GatedUnit, x: list[float], h: list[float]) -> list[float]:
    """Equations 5 to 8, one number at a time. Rows of the matrices: reset, update, candidate."""
    n = unit.hidden
    w, b = unit.from_input.weight.tolist(), unit.from_input.bias.tolist()
    u = unit.gates.weight.tolist() + unit.candidate.weight.tolist()

    def row(j: int, state: list[float]) -> float:
        of_input = sum(weight * value for weight, value in zip(w[j], x, strict=True))
        of_state = sum(weight * value for weight, value in zip(u[j], state, strict=True))
        return of_input + b[j] + of_state

    def logistic(a: float) -> float:
        return 1 / (1 + math.exp(-a))

    r = [logistic(row(j, h)) for j in range(n)]
    z = [logistic(row(n + j, h)) for j in range(n)]
    reset = [r[j] * h[j] for j in range(n)]
    return [z[j] * h[j] + (1 - z[j]) * math.tanh(row(2 * n + j, reset)) for j in range(n)]


def test_the_gated_unit_is_equations_5_to_8() -> None:
    seed_everything(0)
    unit, x, h = GatedUnit(3, 4), torch.randn(3), torch.rand(4) * 2 - 1
    ours = unit(unit.drive(x[None]), h[None])[0]
    assert ours.tolist() == pytest.approx(by_the_paper(unit, x.tolist(), h.tolist()), abs=1e-6)


def test_one_unit_by_hand() -> None:
    unit = GatedUnit(1, 1, bias=False)
    with torch.no_grad():
        unit.from_input.weight.copy_(torch.tensor([[0.0], [0.0], [0.3]]))  # both gates at 1/2
        unit.gates.weight.zero_()
        unit.candidate.weight.fill_(2.0)
    state = unit(unit.drive(torch.tensor([[1.0]])), torch.tensor([[0.4]]))
    assert state.item() == pytest.approx(0.5 * 0.4 + 0.5 * math.tanh(0.3 + 2.0 * 0.5 * 0.4))


def grucell(unit: GatedUnit, inputs: int) -> nn.GRUCell:
    """PyTorch's cell with the weights of `unit`, and zero as its second bias."""
    cell = nn.GRUCell(inputs, unit.hidden)
    with torch.no_grad():
        cell.weight_ih.copy_(unit.from_input.weight)
        cell.bias_ih.copy_(unit.from_input.bias)
        cell.weight_hh.copy_(torch.cat([unit.gates.weight, unit.candidate.weight]))
        cell.bias_hh.zero_()
    return cell


def test_reset_after_is_pytorchs_cell_and_reset_before_is_not() -> None:
    seed_everything(0)
    x, h = torch.randn(7, 5), torch.rand(7, 6) * 2 - 1
    after, before = ResetAfterUnit(5, 6), GatedUnit(5, 6)
    before.load_state_dict(after.state_dict())
    theirs = grucell(after, 5)(x, h)
    torch.testing.assert_close(after(after.drive(x), h), theirs)
    assert (before(before.drive(x), h) - theirs).abs().max() > 0.01


@pytest.mark.parametrize("open_gate", [True, False])
def test_the_order_does_not_matter_where_the_reset_gate_is_open_or_shut(open_gate: bool) -> None:
    seed_everything(0)
    x, h = torch.randn(7, 5), torch.rand(7, 6) * 2 - 1
    before = GatedUnit(5, 6)
    with torch.no_grad():
        before.from_input.bias[:6] = 50.0 if open_gate else -50.0
    theirs = grucell(before, 5)(x, h)
    torch.testing.assert_close(before(before.drive(x), h), theirs)
    if not open_gate:  # then the candidate knows nothing of the state
        plain = torch.tanh(before.drive(x)[:, 12:])
        z = before.drive(x)[:, 6:12] + before.gates(h)[:, 6:]
        torch.testing.assert_close(theirs, z.sigmoid() * h + (1 - z.sigmoid()) * plain)


@pytest.mark.parametrize("unit", [GatedUnit, ResetAfterUnit])
def test_a_shut_update_gate_replaces_the_state_and_an_open_one_keeps_it(
    unit: type[GatedUnit],
) -> None:
    seed_everything(0)
    cell, h = unit(5, 6), torch.rand(7, 6) * 2 - 1
    with torch.no_grad():
        cell.from_input.bias[6:12] = 50.0
    torch.testing.assert_close(cell(cell.drive(torch.randn(7, 5)), h), h)


def test_the_plain_unit_is_pytorchs_cell() -> None:
    seed_everything(0)
    unit, cell, x, h = PlainUnit(5, 6), nn.RNNCell(5, 6), torch.randn(7, 5), torch.randn(7, 6)
    with torch.no_grad():
        cell.weight_ih.copy_(unit.from_input.weight)
        cell.bias_ih.copy_(unit.from_input.bias)
        cell.weight_hh.copy_(unit.from_state.weight)
        cell.bias_hh.zero_()
    torch.testing.assert_close(unit(unit.drive(x), h), cell(x, h))


def test_reading_is_pytorchs_gru_on_packed_sentences() -> None:
    seed_everything(0)
    unit, gru = ResetAfterUnit(5, 6), nn.GRU(5, 6, batch_first=True)
    cell = grucell(unit, 5)
    gru.load_state_dict({f"{key}_l0": value for key, value in cell.state_dict().items()})
    x, lengths = torch.randn(3, 4, 5), torch.tensor([4, 2, 1])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    _, last = gru(packed)
    states = read(unit, x, torch.arange(4) < lengths[:, None])
    torch.testing.assert_close(states[:, -1], last[0])
    torch.testing.assert_close(states[1, 1:], states[1, 1].expand(3, 6))  # and it stays so


@pytest.mark.parametrize("name", UNITS)
def test_a_context_enters_at_every_step(name: str) -> None:
    seed_everything(0)
    unit = UNITS[name](5, 6, context=2)
    x, c, h = torch.randn(3, 5), torch.randn(3, 2), torch.zeros(3, 6)
    total = unit.from_input(x) + c @ unit.from_context.weight.T
    torch.testing.assert_close(unit.drive(x, c), total)
    assert not torch.equal(unit(unit.drive(x, c), h), unit(unit.drive(x, 2 * c), h))


@pytest.mark.parametrize("name", UNITS)
def test_recurrent_matrices_begin_orthogonal(name: str) -> None:
    unit = UNITS[name](5, 6)
    recurrent = unit.from_state.weight if name == "tanh" else unit.gates.weight
    for square in recurrent.chunk(len(recurrent) // 6):
        torch.testing.assert_close(square @ square.T, torch.eye(6), atol=1e-5, rtol=0)


# The model


def test_parameters_of_the_papers_model() -> None:
    words, rank, n, maxout = 15_000, 100, 1000, 500
    unit = 3 * (rank * n + n * n)
    encoder = unit + n * n
    decoder = n * n + unit + 3 * n * n + 2 * maxout * (n + rank + n)
    embeddings = 2 * words * rank
    with meta_device():
        low = count_parameters(RNNEncoderDecoder(SIZES["paper"]))
        full = count_parameters(RNNEncoderDecoder(replace(SIZES["paper"], output_rank=None)))
    assert low == encoder + decoder + embeddings + rank * (maxout + words) == 18_250_000
    assert full == encoder + decoder + embeddings + maxout * words == 24_200_000


def test_the_model_by_its_formulas() -> None:
    net = tiny(output_rank=2)
    source, target = torch.tensor([[3, 4, EOS]]), torch.tensor([[5, EOS]])
    unit, h = net.encoder, torch.zeros(1, 6)
    for word in (3, 4, EOS):
        h = unit(unit.drive(net.source_embedding.weight[word][None]), h)
    c = torch.tanh(net.summary.weight @ h[0] + net.summary.bias)
    h = torch.tanh(net.start.weight @ c + net.start.bias)[None]
    expected = []
    for word in (BOS, 5):
        e = net.target_embedding.weight[word]
        h = net.decoder(net.decoder.drive(e[None], c[None]), h)
        sums = net.maxout.weight @ torch.cat([h[0], e, c]) + net.maxout.bias
        largest = torch.stack([max(pair) for pair in sums.reshape(4, 2)])
        first, second = net.output
        expected.append(second.weight @ (first.weight @ largest) + second.bias)
    torch.testing.assert_close(net(source, target)[0], torch.stack(expected))


@pytest.mark.parametrize("unit", UNITS)
def test_all_words_at_once_or_one_by_one(unit: str) -> None:
    net = tiny(unit)
    torch.testing.assert_close(net(*batch()), EncoderDecoder.forward(net, *batch()))


def test_the_interface_alone_does_nothing() -> None:
    with pytest.raises(NotImplementedError):
        EncoderDecoder().encode(batch()[0])
    with pytest.raises(NotImplementedError):
        EncoderDecoder().step(torch.tensor([BOS]), ())


@pytest.mark.parametrize("unit", UNITS)
def test_padding_never_changes_a_result(unit: str) -> None:
    net, (source, target) = tiny(unit), batch()
    for one, more in zip(net.encode(source), net.encode(wider(source)), strict=True):
        torch.testing.assert_close(one, more)
    torch.testing.assert_close(
        net(wider(source), wider(target))[:, : target.shape[1]], net(source, target)
    )
    scores = log_probability(net, source, target)
    torch.testing.assert_close(log_probability(net, wider(source), wider(target)), scores)
    for row in range(3):  # alone, without the others and without padding
        alone = (rows[row : row + 1, : real(rows)[row].sum()] for rows in (source, target))
        torch.testing.assert_close(log_probability(net, *alone)[0], scores[row])
    torch.testing.assert_close(
        translation_loss(net, wider(source), wider(target)), translation_loss(net, source, target)
    )
    assert torch.equal(greedy(net, wider(source), 5), greedy(net, source, 5))


def test_the_order_of_the_words_matters() -> None:
    net = tiny()
    there, back = (net.represent(torch.tensor([row])) for row in ([3, 4, 5, EOS], [5, 4, 3, EOS]))
    assert (there - back).abs().max() > 1e-3


# What is done with a model


def test_previous_puts_bos_first() -> None:
    assert previous(torch.tensor([[5, 6, EOS]])).tolist() == [[BOS, 5, 6]]


def test_sentences_end_in_eos_and_are_filled_up() -> None:
    vocabulary = Vocabulary.of([("a", "b")])
    rows = sentences([("a",), ("b", "a", "a")], vocabulary)
    assert rows.tolist() == [[3, EOS, PAD, PAD], [4, 3, 3, EOS]]


def test_a_score_is_the_sum_over_the_words() -> None:
    net, (source, target) = tiny(), batch()
    for row in range(3):
        state, total = net.encode(source[row : row + 1]), 0.0
        words = [word for word in target[row].tolist() if word != PAD]
        for before, word in pairwise([BOS, *words]):
            logits, state = net.step(torch.tensor([before]), state)
            total += logits.log_softmax(-1)[0, word].item()
        assert log_probability(net, source, target)[row].item() == pytest.approx(total, abs=1e-5)


def test_the_loss_is_the_mean_score_of_a_word() -> None:
    net, (source, target) = tiny(), batch()
    total = -log_probability(net, source, target).sum()
    torch.testing.assert_close(translation_loss(net, source, target), total / real(target).sum())


class Parrot(EncoderDecoder):
    """Says its source again, word by word, and goes on after the end if it may."""

    def encode(self, source: Tensor) -> tuple[Tensor, ...]:
        return source, torch.zeros(len(source), dtype=torch.long)

    def step(self, words: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        source, place = state
        now = source.gather(1, place.clamp(max=source.shape[1] - 1)[:, None])[:, 0]
        return nn.functional.one_hot(now, 9).float(), (source, place + 1)


def test_greedy_takes_the_likeliest_word_until_eos() -> None:
    source = batch()[0]
    assert torch.equal(greedy(Parrot(), wider(source), 10), source)
    assert torch.equal(greedy(Parrot(), source, 2), source[:, :2])  # cut off


def test_exact_match_asks_for_every_word() -> None:
    target = torch.tensor([[3, 4, EOS], [3, 4, EOS], [3, EOS, PAD], [3, EOS, PAD]])
    written = torch.tensor([[3, 4, EOS], [3, 5, EOS], [3, EOS, PAD], [3, 4, EOS]])
    assert exact_match(written, target).tolist() == [True, False, True, False]
    assert exact_match(wider(written), target).tolist() == [True, False, True, False]
    assert exact_match(written[:, :2], target).tolist() == [False, False, True, False]


# Contract, learning, errors


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("unit", UNITS)
def test_contract(unit: str, rank: int | None) -> None:
    losses = []
    for _ in range(2):
        net = tiny(unit, output_rank=rank)
        loss = translation_loss(net, *batch())
        loss.backward()
        assert loss.isfinite()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name
        losses.append(loss.item())
    assert losses[0] == losses[1]
    assert losses[0] == pytest.approx(math.log(8), abs=0.6)  # nothing learned yet


@pytest.mark.parametrize("unit", UNITS)
def test_the_loss_of_a_batch_falls(unit: str) -> None:
    net = tiny(unit)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    history = fit(net, [batch()] * 60, translation_loss, optimizer)
    assert history.loss[-1] < 0.2 * history.loss[0]


def test_it_learns_to_copy() -> None:
    seed_everything(0)
    words = torch.randint(3, 9, (1000, 3))
    rows = torch.cat([words, torch.full((1000, 1), EOS)], 1)
    net = RNNEncoderDecoder(Config(9, 9, embedding=16, hidden=48, maxout=32))
    batches = [(part, part) for part in rows[:800].split(64)]
    history = train_translation(net, batches, learning_rate=1e-2, steps=200)
    assert len(history.loss) == 200
    assert exact_match(greedy(net, rows[800:], 8), rows[800:]).double().mean() > 0.95


def test_training_that_is_cut_off_has_done_the_first_steps_of_the_whole() -> None:
    whole, part = (
        train_translation(tiny(), [batch()], learning_rate=1e-2, steps=12, max_steps=limit).loss
        for limit in (None, 5)
    )
    assert (len(whole), len(part)) == (12, 5)
    assert part == pytest.approx(whole[:5])
    with pytest.raises(ValueError, match="max_steps=0"):
        train_translation(tiny(), [batch()], learning_rate=1e-2, steps=12, max_steps=0)
    with pytest.raises(ValueError, match="steps"):
        train_translation(tiny(), [batch()], learning_rate=1e-2, steps=0)


def test_an_unknown_unit_and_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="no unit 'lstm'; choose one of"):
        replace(TINY, unit="lstm")
    with pytest.raises(ValueError, match="each must be 1 or more"):
        replace(TINY, hidden=0)
    with pytest.raises(ValueError, match="each must be 1 or more"):
        replace(TINY, output_rank=-1)
