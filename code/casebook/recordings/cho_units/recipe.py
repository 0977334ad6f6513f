"""Three kinds of hidden unit in one RNN Encoder–Decoder that translates spelled-out numbers.

English to German, sentences of one to three numbers below 1,000; a tenth of the numbers is never
seen in training. Runs are "UNIT/RATE/SEED", 400 steps of 64 sentences on one thread:

* "gated" is the paper's unit, "reset after" has PyTorch's order of reset gate and product, and
  "tanh" has no gates, and is wide enough that the model has as many parameters.
* RATE is the highest learning rate of the one cycle; the plain unit has two to choose from.

Metrics: share of 100 sentences of N numbers never seen before that greedy decoding translates
without a mistake, "new/N", and the loss per word on 500 more such sentences, "loss".
"""

from torch import Tensor

from casebook.data import number_sentences, number_words
from casebook.record import Run
from casebook.sequence.rnn_encoder_decoder import (
    Config,
    RNNEncoderDecoder,
    exact_match,
    greedy,
    sentences,
    train_translation,
    translation_loss,
)
from casebook.text import Vocabulary
from casebook.training import evaluation_mode, minibatches, seed_everything

WIDTHS = {"gated": 128, "reset after": 128, "tanh": 187}
RATES = {"gated": ("0.003",), "reset after": ("0.003",), "tanh": ("0.003", "0.001")}
SEEDS = (0, 1, 2)
STEPS = 400
RUNS = tuple(f"{unit}/{rate}/{seed}" for unit in WIDTHS for rate in RATES[unit] for seed in SEEDS)


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps`, its first steps without any test."""
    unit, rate, seed = name.split("/")
    words = number_words()

    def texts(language: str, numbers: list[tuple[int, ...]]) -> list[tuple[str, ...]]:
        return [words.pieces(language, *some) for some in numbers]

    numbers = number_sentences(20_000, (1, 3), seed=1)
    english = Vocabulary.of(texts("english", numbers))
    german = Vocabulary.of(texts("german", numbers))

    def pairs(numbers: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        source = sentences(texts("english", numbers), english)
        return source, sentences(texts("german", numbers), german)

    seed_everything(int(seed))
    net = RNNEncoderDecoder(Config(len(english), len(german), hidden=WIDTHS[unit], unit=unit))
    history = train_translation(
        net,
        minibatches(*pairs(numbers), batch_size=64, seed=int(seed)),
        learning_rate=float(rate),
        steps=STEPS,
        max_steps=max_steps,
        description=name,
    )
    if max_steps is not None:
        return Run({"loss": history.loss})
    metrics = {}
    with evaluation_mode(net):
        for count in (1, 2, 3, 4):
            source, target = pairs(number_sentences(100, (count, count), seed=2, new=True))
            right = exact_match(greedy(net, source, 100), target)
            metrics[f"new/{count}"] = right.double().mean().item()
        metrics["loss"] = translation_loss(
            net, *pairs(number_sentences(500, (1, 3), seed=3, new=True))
        ).item()
    return Run({"loss": history.loss}, metrics)
