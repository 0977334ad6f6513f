"""Seq2Seq: the paper's counts, an LSTM by hand, and beam search against exhaustive search."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from casebook.sequence.rnn_encoder_decoder import (
    EncoderDecoder,
    exact_match,
    greedy,
    train_translation,
    translation_loss,
)
from casebook.sequence.seq2seq import (
    PAPER,
    Ensemble,
    SearchTooLong,
    Seq2Seq,
    Seq2SeqConfig,
    SimilarLengths,
    batches_by_length,
    beam_search,
    beam_steps,
    exact_search,
    gradient_reach,
    reverse,
)
from casebook.text import BOS, EOS, PAD, real
from casebook.training import (
    count_parameters,
    meta_device,
    minibatches,
    seed_everything,
)

TINY = Seq2SeqConfig(8, 7, embedding=6, hidden=9, layers=3, weight_range=0.8)
SOURCE = torch.tensor(
    [
        [3, 4, 5, EOS, PAD, PAD],
        [3, EOS, PAD, PAD, PAD, PAD],
        [6, 7, 4, 5, 3, EOS],
        [EOS, PAD, PAD, PAD, PAD, PAD],
    ]
)
TARGET = torch.tensor([[3, 4, EOS, PAD], [5, EOS, PAD, PAD], [6, 6, 3, EOS], [EOS, PAD, PAD, PAD]])


def tiny(seed: int = 0, **changes: object) -> Seq2Seq:
    """A random model whose sentences end early enough to be worth enumerating."""
    seed_everything(seed)
    net = Seq2Seq(replace(TINY, **changes))
    with torch.no_grad():
        net.output.weight.mul_(3)
        net.output.bias[EOS] += 1
    return net.requires_grad_(False)


def probability(net: Seq2Seq, source: Tensor, words: tuple[int, ...]) -> float:
    """log p(words | source), by one pass through the network with all words given."""
    logits = net(source, torch.tensor([words]))
    likely = logits.log_softmax(-1)[0, torch.arange(len(words)), list(words)]
    return likely.double().sum().item()


def every_translation(net: Seq2Seq, source: Tensor, longest: int) -> dict[tuple[int, ...], float]:
    """All sentences of up to `longest` words, EOS included, with their log probabilities."""
    words = range(EOS + 1, net.config.target_words)
    return {
        (*sentence, EOS): probability(net, source, (*sentence, EOS))
        for length in range(longest)
        for sentence in itertools.product(words, repeat=length)
    }


# Hand arithmetic


def test_the_papers_counts() -> None:
    with meta_device():
        net, biased = Seq2Seq(PAPER), Seq2Seq(replace(PAPER, bias=True))
    gates, layers = 4, 4
    assert count_parameters(net.encoder) == layers * gates * (1000 + 1000) * 1000 == 32_000_000
    assert count_parameters(net.encoder) + count_parameters(net.decoder) == 64_000_000
    assert count_parameters(net) == 1000 * (160_000 + 80_000 + 80_000) + 64_000_000 == 384_000_000
    two_biases = 2 * 2 * layers * gates * 1000
    assert count_parameters(biased) - count_parameters(net) == two_biases + 80_000 == 144_000


def test_8000_numbers_stand_for_a_sentence() -> None:
    net = Seq2Seq(replace(PAPER, source_words=9, target_words=9))
    state = net.encode(torch.tensor([[3, 4, EOS]]))
    assert [part.shape for part in state] == [(1, 4, 1000)] * 2
    assert sum(part.numel() for part in state) == 8000


def test_only_the_words_are_reversed() -> None:
    words = (SOURCE > EOS).sum(1)
    assert reverse(SOURCE, words).tolist() == [
        [5, 4, 3, EOS, PAD, PAD],
        [3, EOS, PAD, PAD, PAD, PAD],
        [3, 5, 4, 7, 6, EOS],
        [EOS, PAD, PAD, PAD, PAD, PAD],
    ]
    assert torch.equal(reverse(reverse(SOURCE, words), words), SOURCE)


def test_a_model_that_reverses_reads_what_the_other_reads_backwards() -> None:
    backwards, forwards = tiny(), tiny(reverse_source=False)
    turned = reverse(SOURCE, (SOURCE > EOS).sum(1))
    assert torch.equal(backwards(SOURCE, TARGET), forwards(turned, TARGET))
    assert not torch.allclose(backwards(SOURCE, TARGET), forwards(SOURCE, TARGET))


# Oracles


def lstm_by_hand(net: torch.nn.LSTM, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs of the last layer, and every layer's output and cell at the end; inputs (time, n)."""
    outputs, cells = [], []
    for layer in range(net.num_layers):
        into, back, bias_in, bias_back = net.all_weights[layer]
        output = cell = torch.zeros(net.hidden_size)
        above = []
        for given in inputs:
            total = into @ given + bias_in + back @ output + bias_back
            let_in, forget, candidate, let_out = total.chunk(4)
            cell = forget.sigmoid() * cell + let_in.sigmoid() * candidate.tanh()
            output = let_out.sigmoid() * cell.tanh()
            above.append(output)
        outputs.append(output)
        cells.append(cell)
        inputs = torch.stack(above)  # the next layer reads this one's outputs
    return inputs, torch.stack(outputs), torch.stack(cells)


def test_the_encoder_is_a_stack_of_lstms_that_reads_backwards() -> None:
    net = tiny()
    _, outputs, cells = lstm_by_hand(net.encoder, net.source_embedding(torch.tensor([5, 4, 3])))
    state = net.encode(SOURCE[:1])
    assert torch.allclose(state[0][0], outputs, atol=1e-6)
    assert torch.allclose(state[1][0], cells, atol=1e-6)


@pytest.mark.parametrize("unit", ["lstm", "tanh"])
def test_all_words_at_once_is_word_by_word(unit: str) -> None:
    net = tiny(unit=unit)
    assert torch.allclose(
        net(SOURCE, TARGET), EncoderDecoder.forward(net, SOURCE, TARGET), atol=1e-6
    )


@pytest.mark.parametrize("seed", range(3))
def test_searches_against_exhaustive_search(seed: int) -> None:
    net, longest = tiny(seed), 4
    for row in SOURCE.split(1):
        everything = every_translation(net, row, longest)
        best = max(everything, key=everything.__getitem__)
        words, score = exact_search(net, row, longest)
        assert words == best
        assert score == pytest.approx(everything[best], abs=1e-5)
        # A beam that can hold every hypothesis forgets none.
        written, scores = beam_search(net, row, 4**longest, longest)
        assert tuple(written[0].tolist()) == best
        assert scores.item() == pytest.approx(everything[best], abs=1e-5)
        # No narrower beam finds a better one, and each says truly how likely its own is.
        for beam in (1, 2, 3):
            written, scores = beam_search(net, row, beam, longest)
            words = tuple(written[0].tolist())
            assert scores.item() == pytest.approx(probability(net, row, words), abs=1e-5)
            if words in everything:
                assert scores.item() <= everything[best] + 1e-5


def test_a_wide_beam_with_a_length_power_maximises_the_mean() -> None:
    net, longest = tiny(1), 4
    for row in SOURCE.split(1):
        everything = every_translation(net, row, longest)
        best = max(everything, key=lambda words: everything[words] / len(words))
        written, scores = beam_search(net, row, 4**longest, longest, length_power=1.0)
        assert tuple(written[0].tolist()) == best
        assert scores.item() == pytest.approx(everything[best], abs=1e-5)


def test_a_beam_misses_what_exact_search_finds_and_a_wider_one_does_not() -> None:
    missed = 0
    for seed in range(8):
        net = tiny(seed)
        for row in SOURCE.split(1):
            _, best = exact_search(net, row, 6)
            scores = [beam_search(net, row, beam, 6)[1].item() for beam in (1, 4**6)]
            missed += scores[0] < best - 1e-4
            assert scores[1] == pytest.approx(best, abs=1e-5)
    assert missed > 0


def test_a_beam_of_one_is_greedy() -> None:
    net = tiny(2)
    with torch.no_grad():
        net.output.bias[[PAD, BOS]] = -100  # which greedy writes as readily as any word
    written = beam_search(net, SOURCE, 1, 9)[0]
    assert exact_match(written, greedy(net, SOURCE, 9)).all()


def test_each_step_keeps_the_likeliest_extensions() -> None:
    net, row = tiny(), SOURCE[:1]
    first, second = itertools.islice(beam_steps(net, row, 3), 2)
    singles = {(word,): probability(net, row, (word,)) for word in range(EOS, 7)}
    kept = sorted(singles, key=singles.__getitem__, reverse=True)[:3]
    assert [(word,) for word in first.words[0].tolist()] == kept
    pairs = {
        (*before, word): probability(net, row, (*before, word))
        for before in kept
        if before[-1] != EOS  # complete, so out of the beam
        for word in range(EOS, 7)
    }
    likeliest = sorted(pairs, key=pairs.__getitem__, reverse=True)[:3]
    parents, words = second.parents[0].tolist(), second.words[0].tolist()
    assert [(*kept[p], w) for p, w in zip(parents, words, strict=True)] == likeliest
    assert second.scores[0].tolist() == pytest.approx([pairs[pair] for pair in likeliest], abs=1e-5)


def test_an_ensemble_averages_probabilities() -> None:
    nets = [tiny(seed) for seed in range(3)]
    mean = torch.stack([net(SOURCE, TARGET).softmax(-1) for net in nets]).mean(0)
    ensemble = Ensemble(nets)
    assert torch.allclose(ensemble(SOURCE, TARGET).exp(), mean, atol=1e-6)
    alone = Ensemble(nets[:1])
    for one, other in zip(
        beam_search(alone, SOURCE, 3, 5), beam_search(nets[0], SOURCE, 3, 5), strict=True
    ):
        assert torch.allclose(one, other)
    with pytest.raises(ValueError, match="no model"):
        Ensemble([])


def test_gradient_reach_against_finite_differences() -> None:
    net = tiny().double()
    reach = gradient_reach(net, SOURCE[:1], TARGET[:1])
    word, step = SOURCE[0, 0].item(), 1e-5
    slope = []
    for i in range(net.config.embedding):
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                net.source_embedding.weight[word, i] += sign * step
                losses.append(-probability(net, SOURCE[:1], (TARGET[0, 0].item(),)))
                net.source_embedding.weight[word, i] -= sign * step
        slope.append((losses[0] - losses[1]) / (2 * step))
    assert reach[0, 0].item() == pytest.approx(math.hypot(*slope), rel=1e-5)
    assert (reach[0, 3:] == 0).all()


# Contract


@pytest.mark.parametrize("unit", ["lstm", "tanh"])
@pytest.mark.parametrize("backwards", [True, False])
def test_padding_never_changes_a_result(unit: str, backwards: bool) -> None:
    net = tiny(unit=unit, reverse_source=backwards)
    together = net(SOURCE, TARGET)
    wider = torch.nn.functional.pad(SOURCE, (0, 5), value=PAD)
    assert torch.allclose(net(wider, TARGET), together, atol=1e-5)
    searched = beam_search(net, SOURCE, 2, 5)
    for i, row in enumerate(SOURCE):
        alone = row[None, : int((row != PAD).sum())]
        assert torch.allclose(net(alone, TARGET[i : i + 1])[0], together[i], atol=1e-5)
        for part, whole in zip(net.encode(alone), net.encode(SOURCE), strict=True):
            assert torch.allclose(part[0], whole[i], atol=1e-5)
        written, score = beam_search(net, alone, 2, 5)
        assert exact_match(written, searched[0][i : i + 1]).all()
        assert torch.allclose(score[0], searched[1][i], atol=1e-5)
        reach = gradient_reach(net, alone, TARGET[i : i + 1])
        both = gradient_reach(net, SOURCE, TARGET)[i]
        assert torch.allclose(both[: reach.shape[1]], reach[0], atol=1e-5)


def test_every_parameter_gets_a_finite_gradient_and_a_seed_decides() -> None:
    losses = []
    for _ in range(2):
        seed_everything(3)
        net = Seq2Seq(TINY)
        loss = translation_loss(net, SOURCE, TARGET)
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        assert all(p.grad.abs().sum() > 0 for p in net.parameters())
        losses.append(loss.item())
    assert losses[0] == losses[1]


def test_initial_weights_are_uniform_in_the_papers_range() -> None:
    seed_everything(0)
    weights = torch.cat(
        [p.flatten() for p in Seq2Seq(Seq2SeqConfig(30, 30, weight_range=0.08)).parameters()]
    )
    assert 0.0799 < weights.abs().max() <= 0.08
    assert weights.std().item() == pytest.approx(0.08 / math.sqrt(3), rel=0.01)


def test_batches_by_length_hold_every_pair_once_and_little_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 9, (230,), generator=generator)
    source = torch.where(torch.arange(9) < lengths[:, None], 3, PAD)
    target = torch.where(torch.arange(9) < lengths[:, None], torch.arange(230)[:, None] + 3, PAD)
    batches = batches_by_length(source, target, batch_size=8, seed=1)
    first, second = list(batches), list(batches)
    assert len(first) == len(batches) == 29
    rows = torch.cat([target[:, 0] for _, target in first])
    assert torch.equal(rows.sort().values, target[:, 0])
    assert not torch.equal(rows, torch.cat([target[:, 0] for _, target in second]))  # new epoch
    again = list(batches_by_length(source, target, batch_size=8, seed=1))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    spans = [(t != PAD).sum(1) for _, t in first]
    assert sum(int(span.max() - span.min()) for span in spans) <= 8
    assert all(torch.equal(real(s).sum(1), real(t).sum(1)) for s, t in first)  # pairs stay pairs
    unsorted = batches_by_length(source, target, batch_size=8, pool=1, seed=1)
    spans = [(t != PAD).sum(1) for _, t in unsorted]
    assert sum(int(span.max() - span.min()) for span in spans) > 50
    with pytest.raises(ValueError, match="batch_size=0"):
        SimilarLengths(source, target, 0)
    with pytest.raises(ValueError, match="pool=0"):
        batches_by_length(source, target, batch_size=8, pool=0)


# Learning


@pytest.mark.parametrize("backwards", [True, False])
def test_learns_to_copy(backwards: bool) -> None:
    generator = seed_everything(0)
    words = torch.randint(3, 9, (2000, 3), generator=generator)
    texts = torch.cat([words, torch.full((2000, 1), EOS)], 1)
    net = Seq2Seq(Seq2SeqConfig(9, 9, embedding=16, hidden=48, layers=1, reverse_source=backwards))
    batches = minibatches(texts, texts, batch_size=64)
    train_translation(net, batches, learning_rate=1e-2, steps=200)
    fresh = torch.tensor([*itertools.product(range(3, 9), repeat=3)])[::5]
    fresh = torch.cat([fresh, torch.full((len(fresh), 1), EOS)], 1)
    for written in (greedy(net, fresh, 9), beam_search(net, fresh, 3, 9)[0]):
        assert exact_match(written, fresh).double().mean() > 0.95


# Errors


@pytest.mark.parametrize("field", ["embedding", "hidden", "layers", "weight_range"])
def test_refuses_sizes_that_are_not_positive(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}=0.*positive"):
        Seq2SeqConfig(9, 9, **{field: 0})


def test_refuses_an_unknown_unit() -> None:
    with pytest.raises(ValueError, match="unit is 'gru'; choose one of"):
        Seq2SeqConfig(9, 9, unit="gru")


def test_refuses_impossible_searches() -> None:
    net = tiny()
    with pytest.raises(ValueError, match="beam is 0"):
        beam_search(net, SOURCE, 0, 5)
    with pytest.raises(ValueError, match="max_length=0"):
        beam_search(net, SOURCE, 1, 0)
    with pytest.raises(ValueError, match="length_power=-1"):
        beam_search(net, SOURCE, 1, 5, length_power=-1.0)
    with pytest.raises(ValueError, match="source has 4 rows"):
        exact_search(net, SOURCE, 5)
    with pytest.raises(SearchTooLong, match="within 2 steps"):
        exact_search(net, SOURCE[:1], 9, max_steps=2)
