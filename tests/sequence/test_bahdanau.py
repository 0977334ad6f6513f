"""Learned alignment: attention against loops, sizes against the appendix, and what it learns."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from casebook.sequence.bahdanau import (
    SIZES,
    AdditiveAttention,
    RNNSearch,
    RNNSearchConfig,
    agreement,
    soft_alignment,
)
from casebook.sequence.rnn_encoder_decoder import (
    EncoderDecoder,
    exact_match,
    greedy,
    train_translation,
    translation_loss,
)
from casebook.text import BOS, EOS, PAD, pad, real
from casebook.training import count_parameters, meta_device, seed_everything

TINY = RNNSearchConfig(12, 11, embedding=6, hidden=5, alignment=4, maxout=3)
VARIANTS = [TINY, replace(TINY, both_ways=False), replace(TINY, align="uniform")]
NAMES = ["both ways", "one way", "uniform"]


def some_pairs() -> tuple[Tensor, Tensor]:
    """Three sentences of unequal length and their translations, as numbers."""
    source = pad([[5, 6, 7, 8, EOS], [9, EOS], [4, 4, 10, EOS]])
    target = pad([[4, 3, EOS], [7, 8, 9, 6, EOS], [10, EOS]])
    return source, target


# Hand arithmetic


def test_the_papers_network_has_the_sizes_of_appendix_a() -> None:
    with meta_device():
        net = RNNSearch(SIZES["paper"])
    k, m, n, l = 30_000, 620, 1000, 500  # noqa: E741
    reader = 3 * n * m + 3 * n * n  # W, W_z, W_r and U, U_z, U_r
    by_hand = {
        "source_embedding": m * k,
        "target_embedding": m * k,
        "forward_unit": reader,
        "backward_unit": reader,
        "start": n * n,  # W_s
        "attention": n * n + n * 2 * n + n,  # W_a, U_a, v_a
        "decoder_unit": reader + 3 * n * 2 * n,  # and C, C_z, C_r
        "deep": 2 * l * (n + m + 2 * n),  # U_o, V_o, C_o
        "output": k * l,  # W_o
    }
    assert {name: count_parameters(part) for name, part in net.named_children()} == by_hand
    assert count_parameters(net) == sum(by_hand.values()) == 80_401_000


def test_an_energy_and_a_softmax_by_hand() -> None:
    attention = AdditiveAttention(1, 1, 1)
    for layer, weight in ((attention.query, 2.0), (attention.keys, 3.0), (attention.score, 4.0)):
        nn.init.constant_(layer.weight, weight)
    annotations = torch.tensor([[[0.0], [0.5]]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    energies = attention(torch.tensor([[1.0]]), attention.keys(annotations), mask)
    expected = [4 * math.tanh(2.0), 4 * math.tanh(3.5)]
    assert energies[0].tolist() == pytest.approx(expected, rel=1e-6)
    weights = energies.softmax(-1)[0]
    ratio = math.exp(expected[1] - expected[0])
    assert weights.tolist() == pytest.approx([1 / (1 + ratio), ratio / (1 + ratio)], rel=1e-5)


# Oracles


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def test_the_network_is_the_appendix_written_out_in_loops() -> None:
    """Appendix A.2 in its own letters, for one sentence, one word at a time."""
    seed_everything(0)
    net = RNNSearch(replace(TINY, bias=False)).double()
    n, m, l = 5, 6, 3  # noqa: E741
    source, target = torch.tensor([[5, 6, 7, EOS]]), torch.tensor([[4, 3, 9, EOS]])

    def gated(unit: nn.Module, word: Tensor, before: Tensor, context: Tensor | None) -> Tensor:
        w_r, w_z, w = unit.from_input.weight.split(n)
        u_r, u_z = unit.gates.weight.split(n)
        extra = torch.zeros(3, n, dtype=torch.double)
        if context is not None:
            extra = torch.stack([c @ context for c in unit.from_context.weight.split(n)])
        r = sigmoid(w_r @ word + u_r @ before + extra[0])
        keep = sigmoid(w_z @ word + u_z @ before + extra[1])
        proposed = torch.tanh(w @ word + unit.candidate.weight @ (r * before) + extra[2])
        z = 1 - keep  # the appendix's z says how much is new, the module's how much is kept
        return (1 - z) * before + z * proposed

    words = [net.source_embedding.weight[i] for i in source[0]]
    forward, backward = [], []
    h = torch.zeros(n, dtype=torch.double)
    for word in words:
        h = gated(net.forward_unit, word, h, None)
        forward.append(h)
    h = torch.zeros(n, dtype=torch.double)
    for word in reversed(words):
        h = gated(net.backward_unit, word, h, None)
        backward.insert(0, h)
    annotations = [torch.cat(pair) for pair in zip(forward, backward, strict=True)]

    s = torch.tanh(net.start.weight @ backward[0])
    before, rows, logits = BOS, [], []
    for y in target[0].tolist():
        energies = [
            net.attention.score.weight[0]
            @ torch.tanh(net.attention.query.weight @ s + net.attention.keys.weight @ h_j)
            for h_j in annotations
        ]
        total = sum(torch.exp(e) for e in energies)
        alpha = [torch.exp(e) / total for e in energies]
        c = sum(a * h_j for a, h_j in zip(alpha, annotations, strict=True))
        word = net.target_embedding.weight[before]
        u_o, v_o, c_o = net.deep.weight.split([n, m, 2 * n], dim=1)
        t = u_o @ s + v_o @ word + c_o @ c
        maxout = torch.stack([torch.maximum(t[2 * j], t[2 * j + 1]) for j in range(l)])
        logits.append(net.output.weight @ maxout)
        rows.append(torch.stack(alpha))
        s = gated(net.decoder_unit, word, s, c)
        before = y

    torch.testing.assert_close(net(source, target)[0], torch.stack(logits))
    torch.testing.assert_close(soft_alignment(net, source, target)[0], torch.stack(rows))


@pytest.mark.parametrize("config", VARIANTS, ids=NAMES)
def test_all_words_at_once_is_word_by_word(config: RNNSearchConfig) -> None:
    seed_everything(0)
    net = RNNSearch(config)
    source, target = some_pairs()
    torch.testing.assert_close(net(source, target), EncoderDecoder.forward(net, source, target))


def test_uniform_weights_are_the_mean_of_the_real_words() -> None:
    seed_everything(0)
    net = RNNSearch(replace(TINY, align="uniform"))
    source, target = some_pairs()
    rows = soft_alignment(net, source, target)
    expected = real(source) / real(source).sum(1, keepdim=True)
    torch.testing.assert_close(rows, expected[:, None].expand_as(rows))


# Weights and padding


@pytest.mark.parametrize("config", VARIANTS, ids=NAMES)
def test_rows_sum_to_one_and_padding_has_no_weight(config: RNNSearchConfig) -> None:
    seed_everything(0)
    source, target = some_pairs()
    rows = soft_alignment(RNNSearch(config), source, target)
    assert rows.shape == (3, 5, 5)
    torch.testing.assert_close(rows.sum(-1), torch.ones(3, 5))
    assert (rows >= 0).all()
    assert (rows.masked_select(~real(source)[:, None].expand_as(rows)) == 0).all()


@pytest.mark.parametrize("config", VARIANTS, ids=NAMES)
def test_padding_never_changes_a_result(config: RNNSearchConfig) -> None:
    seed_everything(0)
    net = RNNSearch(config)
    source, target = some_pairs()
    longer = nn.functional.pad(source, (0, 4), value=PAD)
    torch.testing.assert_close(net(longer, target), net(source, target))
    for i in range(3):
        words, written = int(real(source)[i].sum()), int(real(target)[i].sum())
        alone = net(source[i : i + 1, :words], target[i : i + 1, :written])
        torch.testing.assert_close(net(source, target)[i : i + 1, :written], alone)
    assert torch.equal(greedy(net, longer, 6), greedy(net, source, 6))


def test_given_weights_are_used() -> None:
    seed_everything(0)
    net = RNNSearch(TINY)
    source, _ = some_pairs()
    words, state = torch.tensor([4, 5, 6]), net.encode(source)
    found, _ = net.step(words, state)
    torch.testing.assert_close(net.write(words, state, net.search(state))[0], found)
    first = torch.zeros(3, 5).index_fill(1, torch.tensor([0]), 1.0)
    assert (net.write(words, state, first)[0] - found).abs().max() > 1e-4
    annotations = net.annotate(source)
    torch.testing.assert_close(net.attend(first, annotations), annotations[:, 0])


def test_agreement_counts_the_words_whose_largest_weight_is_right() -> None:
    looked_at = torch.tensor([[1, 0, 2, 3], [0, 0, 1, 3]])
    weights = nn.functional.one_hot(looked_at, 4).float() * 0.4 + 0.15
    known = torch.tensor([[1, -1, 0, 3], [0, 2, -1, -1]])
    assert agreement(weights, known) == pytest.approx(3 / 5)
    # With the next row: 1, 0 against 0, 3 and 0, 2 against 0, 1; the word 3 has no next row.
    assert agreement(weights, known, later=1) == pytest.approx(1 / 4)
    # With the row before: 0, 3 against 0, 2, and 2 against 0.
    assert agreement(weights, known, later=-1) == pytest.approx(1 / 3)
    assert agreement(weights, known[:, :2]) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no word"):
        agreement(weights, torch.full((2, 4), -1))


# Contract


@pytest.mark.parametrize("config", VARIANTS, ids=NAMES)
def test_loss_is_finite_and_every_parameter_learns(config: RNNSearchConfig) -> None:
    seed_everything(0)
    net = RNNSearch(config)
    loss = translation_loss(net, *some_pairs())
    assert loss.isfinite()
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_same_seed_same_network_and_same_output() -> None:
    outputs = []
    for _ in range(2):
        seed_everything(3)
        outputs.append(RNNSearch(TINY)(*some_pairs()))
    assert torch.equal(*outputs)


def test_the_order_of_the_source_matters() -> None:
    seed_everything(0)
    net = RNNSearch(TINY)
    source, target = torch.tensor([[5, 6, 7, EOS], [6, 5, 7, EOS]]), torch.tensor([[4, EOS]] * 2)
    logits = net(source, target)
    assert (logits[0] - logits[1]).abs().max() > 1e-5


# Learns


def test_it_learns_to_copy_and_looks_where_it_copies() -> None:
    seed_everything(0)
    generator = torch.Generator().manual_seed(0)
    letters, length = 8, 6

    def sequences(count: int) -> Tensor:
        rows = torch.randint(3, 3 + letters, (count, length), generator=generator)
        return torch.cat([rows, torch.full((count, 1), EOS)], 1)

    net = RNNSearch(RNNSearchConfig(11, 11, embedding=16, hidden=32, alignment=32, maxout=32))
    steps = 250
    rows = sequences(64 * steps)
    batches = [(part, part) for part in rows.split(64)]
    train_translation(net, batches, learning_rate=1e-2, steps=steps)
    new = sequences(200)
    assert exact_match(greedy(net, new, length + 1), new).float().mean() > 0.9
    looks_at = soft_alignment(net, new, new).argmax(-1)[:, :length]
    assert (looks_at == torch.arange(length)).float().mean() > 0.8


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 0}, "hidden=0.*1 or more"),
        ({"align": "hard"}, "'hard'.*learned.*uniform"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)
