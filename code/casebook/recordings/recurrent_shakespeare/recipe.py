"""A character-level LSTM of 256 cells reads eight plays of Shakespeare, and is tested on a ninth.

Three runs that differ in nothing but the seed. History: `loss` and `norm`, the gradient's norm
before clipping, of every step; `held_out`, in nats per character of The Comedy of Errors, after
the steps in `step`. Of the first run the weights are kept, in half precision, after the steps in
`KEPT`.
"""

import torch
from torch import Tensor, nn

from casebook.data import shakespeare
from casebook.record import Run
from casebook.sequence.recurrent import CharLSTM, CharLSTMConfig, nats_per_character, train
from casebook.text import Vocabulary
from casebook.training import seed_everything

RUNS = ("seed0", "seed1", "seed2")
LOOKS = (10, 25, 50, 100, 200, 400, 800, 1200, 1600, 2000, 2500)
KEPT = (50, 200, 800, 2500)
NINTH = "AEGEON:\n"  # who speaks first in The Comedy of Errors, and in no other play


def plays() -> tuple[Vocabulary, Tensor, Tensor]:
    """The symbols; eight plays to learn from, and the ninth, as numbers."""
    text = shakespeare()
    vocabulary = Vocabulary.of([text], specials=())
    cut = text.index(NINTH)
    read, held_out = (torch.tensor(vocabulary.encode(part)) for part in (text[:cut], text[cut:]))
    return vocabulary, read, held_out


def untrained(seed: int = 0) -> CharLSTM:
    """The network of that seed before its first step."""
    vocabulary, _, _ = plays()
    seed_everything(seed)
    return CharLSTM(CharLSTMConfig(symbols=len(vocabulary)))


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps` only its first steps, without weights."""
    seed = int(name.removeprefix("seed"))
    _, read, held_out = plays()
    model, weights = untrained(seed), {}

    def look(model: nn.Module) -> dict[str, float]:
        weights[len(weights)] = {key: value.half() for key, value in model.state_dict().items()}
        return {"held_out": nats_per_character(model, held_out)}

    begin = {} if max_steps else {"held_out": nats_per_character(model, held_out)}
    looks = () if max_steps else LOOKS
    history, norms = train(
        model, read, seed=seed, max_steps=max_steps, looks=looks, look=look, description=name
    )
    if max_steps:
        return Run({"loss": history.loss})
    scores = [begin["held_out"], *history.series("held_out")]
    series = {"loss": history.loss, "norm": norms, "step": [0.0, *LOOKS], "held_out": scores}
    kept = {}
    if seed == 0:
        for step in KEPT:
            state = weights[LOOKS.index(step)]
            kept |= {f"{step}/{key}": value for key, value in state.items()}
    return Run(series, {"held_out": scores[-1]}, kept)
