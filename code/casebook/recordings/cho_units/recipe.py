"""The RNN Encoder–Decoder translates spelled-out numbers, with three kinds of hidden unit.

English to German, sentences of one to four numbers below 1,000; a tenth of the numbers is never
seen in training. Runs, one thread each:

* "gated/RATE/SEED", "reset after/RATE/SEED", "tanh/RATE/SEED": 800 steps with the paper's unit,
  with PyTorch's order of reset gate and product, and with a plain tanh unit, wide enough that the
  model has as many parameters. RATE is the highest learning rate of the one cycle.
* "long": the paper's unit for 3,000 steps; its weights are kept.

Metrics: share of 100 sentences translated without a mistake, by greedy decoding: "seen/N" of N
numbers that training also uses, "new/N" of N numbers that it never saw.
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
    translation_loss,
)
from casebook.text import Vocabulary
from casebook.training import evaluation_mode, fit, minibatches, one_cycle, seed_everything

WIDTHS = {"gated": 128, "reset after": 128, "tanh": 187}
RATES = {"gated": ("0.003",), "reset after": ("0.003",), "tanh": ("0.003", "0.001")}
SEEDS = (0, 1, 2)
STEPS, LONG_STEPS, PART = 800, 3000, 100
LENGTHS = (1, 2, 3, 4, 5, 6, 8)
RUNS = (
    *(f"{unit}/{rate}/{seed}" for unit in WIDTHS for rate in RATES[unit] for seed in SEEDS),
    "long",
)


def pairs(
    numbers: list[tuple[int, ...]], source: Vocabulary, target: Vocabulary
) -> tuple[Tensor, Tensor]:
    """Lists of numbers as English and as German sentences."""
    words = number_words()
    return tuple(
        sentences([words.pieces(language, *some) for some in numbers], vocabulary)
        for language, vocabulary in (("english", source), ("german", target))
    )


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps`, its first steps without any evaluation."""
    unit, rate, seed = ("gated", "0.003", "0") if name == "long" else name.split("/")
    steps = LONG_STEPS if name == "long" else STEPS
    every_word = [(number,) for number in range(1000)] + [(1, 2)]
    words = number_words()
    english, german = (
        Vocabulary.of([words.pieces(language, *some) for some in every_word])
        for language in ("english", "german")
    )
    train = pairs(number_sentences(20_000, (1, 4), seed=1), english, german)
    tests = {
        f"{kind}/{count}": pairs(
            number_sentences(100, (count, count), seed=2, new=kind == "new"), english, german
        )
        for kind in ("seen", "new")
        for count in LENGTHS
    }

    seed_everything(int(seed))
    config = Config(len(english), len(german), hidden=WIDTHS[unit], unit=unit)
    net = RNNEncoderDecoder(config)
    optimizer, scheduler = one_cycle(net, learning_rate=float(rate), steps=steps, weight_decay=0.0)

    def score(which: str) -> float:
        source, target = tests[which]
        with evaluation_mode(net):
            return exact_match(greedy(net, source, 100), target).double().mean().item()

    history: dict[str, list[float]] = {"loss": [], "step": [], "new/1": [], "new/2": []}
    while len(history["loss"]) < (max_steps or steps):
        done = len(history["loss"])
        part = fit(
            net,
            minibatches(*train, batch_size=64, seed=1000 * int(seed) + done),
            translation_loss,
            optimizer,
            scheduler=scheduler,
            clip_norm=1.0,
            max_steps=min(PART, (max_steps or steps) - done),
            description=name,
        )
        history["loss"] += part.loss
        if max_steps is None:
            history["step"].append(len(history["loss"]))
            for key in ("new/1", "new/2"):
                history[key].append(score(key))
    if max_steps is not None:
        return Run({"loss": history["loss"]})
    weights = {key: value.half() for key, value in net.state_dict().items()}
    return Run(history, {key: score(key) for key in tests}, weights if name == "long" else {})
