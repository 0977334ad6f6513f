"""Sentences of numbers, English to German: read forwards or backwards, by one, two or four layers.

Runs "ORDER/LAYERS/SEED", one thread each: an LSTM encoder and an LSTM decoder of 96 cells per layer
learn 20,000 sentences of one to four numbers below 1,000 in 800 steps of 64, sorted by length. A
tenth of the numbers is held out of them. Metrics, on sentences of held-out numbers:

* `perplexity`: the exponential of the mean loss per word, on 400 sentences of one to four numbers
* `bleu` of the greedy translations of those, by sacrebleu
* `exact_1` to `exact_6`: the share of 100 sentences of so many numbers that greedy search
  translates without a fault; five and six numbers are longer than any sentence in training

The weights of "backwards/2/0" and "backwards/2/1" are kept, in half precision.
"""

import math

import sacrebleu
from torch import Tensor

from casebook.data import number_sentences, number_words
from casebook.record import Run
from casebook.sequence.rnn_encoder_decoder import (
    exact_match,
    greedy,
    sentences,
    train_translation,
    translation_loss,
)
from casebook.sequence.seq2seq import Seq2Seq, Seq2SeqConfig, batches_by_length
from casebook.text import Vocabulary
from casebook.training import evaluation_mode, seed_everything

RUNS = (
    *(f"{order}/2/{seed}" for order in ("forwards", "backwards") for seed in (0, 1, 2)),
    *(f"backwards/{layers}/{seed}" for layers in (1, 4) for seed in (0, 1)),
)
STEPS, RATE, LONGEST = 800, 6e-3, 60
LANGUAGES = ("english", "german")


def texts(numbers: list[tuple[int, ...]]) -> list[list[tuple[str, ...]]]:
    """The sentences in English, and in German."""
    words = number_words()
    return [[words.pieces(language, *some) for some in numbers] for language in LANGUAGES]


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps`, its first steps and no metrics."""
    return train(name, STEPS, max_steps)


def train(name: str, steps: int, max_steps: int | None = None) -> Run:
    """The run of that name in so many steps; with `max_steps`, the first of these."""
    order, layers, seed = name.split("/")
    seed_everything(int(seed))
    training = texts(number_sentences(20_000, (1, 4), seed=1))
    vocabularies = [Vocabulary.of(some) for some in training]

    def numbered(both: list[list[tuple[str, ...]]]) -> list[Tensor]:
        return [sentences(some, v) for some, v in zip(both, vocabularies, strict=True)]

    config = Seq2SeqConfig(
        *map(len, vocabularies),
        hidden=96,
        layers=int(layers),
        reverse_source=order == "backwards",
    )
    net = Seq2Seq(config)
    history = train_translation(
        net,
        batches_by_length(*numbered(training), batch_size=64, seed=int(seed)),
        learning_rate=RATE,
        steps=steps,
        max_steps=max_steps,
        description=name,
    )
    if max_steps is not None:
        return Run({"loss": history.loss})
    metrics = {}
    with evaluation_mode(net):
        test = texts(number_sentences(400, (1, 4), seed=2, new=True))
        source, target = numbered(test)
        metrics["perplexity"] = math.exp(translation_loss(net, source, target))
        written = [vocabularies[1].decode(row) for row in greedy(net, source, LONGEST)]
        metrics["bleu"] = sacrebleu.corpus_bleu(
            [" ".join(some) for some in written],
            [[" ".join(some) for some in test[1]]],
            tokenize="none",
        ).score
        for length in range(1, 7):
            one = texts(number_sentences(100, (length, length), seed=3, new=True))
            source, target = numbered(one)
            right = exact_match(greedy(net, source, LONGEST), target)
            metrics[f"exact_{length}"] = right.double().mean().item()
    keep = name in ("backwards/2/0", "backwards/2/1")
    weights = {key: value.half() for key, value in net.state_dict().items()} if keep else {}
    return Run({"loss": history.loss}, metrics, weights)
