"""The RNN Encoder–Decoder of the chapter, trained for longer than a build can wait.

One run, "gated": the paper's unit, 128 of them on either side, learns to translate sentences of
one to four numbers below 1,000 from English to German, a tenth of the numbers held out; 2,000
steps of 64 sentences on one thread. The weights are kept, in half precision.
"""

from casebook.data import number_sentences, number_words
from casebook.record import Run
from casebook.sequence.rnn_encoder_decoder import (
    Config,
    RNNEncoderDecoder,
    sentences,
    train_translation,
)
from casebook.text import Vocabulary
from casebook.training import minibatches, seed_everything

RUNS = ("gated",)
STEPS = 2000
LANGUAGES = ("english", "german")


def run(name: str, max_steps: int | None = None) -> Run:
    """The run; with `max_steps`, its first steps."""
    words, numbers = number_words(), number_sentences(20_000, (1, 4), seed=1)
    texts = [[words.pieces(language, *some) for some in numbers] for language in LANGUAGES]
    english, german = (Vocabulary.of(some) for some in texts)
    pairs = sentences(texts[0], english), sentences(texts[1], german)
    seed_everything(0)
    net = RNNEncoderDecoder(Config(len(english), len(german), unit=name))
    history = train_translation(
        net,
        minibatches(*pairs, batch_size=64, seed=0),
        learning_rate=3e-3,
        steps=STEPS,
        max_steps=max_steps,
        description=name,
    )
    weights = {key: value.half() for key, value in net.state_dict().items()}
    return Run({"loss": history.loss}, weights=weights)
