"""The RNN Encoder–Decoder (Cho et al. 2014): one network reads a sentence, another writes one.

Here begins what the chapters on translation share: `EncoderDecoder`, the interface that every
model of theirs has, the loss of a translation and training on it, the score of a pair, and the
simplest way of writing a translation, word by word. The paper's own are `GatedUnit` and
`RNNEncoderDecoder`.

Departures from the paper: biases, which its equations omit (`Config.bias`); PyTorch's initial
weights, but for the recurrent matrices, which begin orthogonal as in the paper; BOS as the word
before the first. The decoder's unit is the one of equation 8, with the reset gate before the
product, where the paper's supplement has it after.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from casebook.text import BOS, EOS, PAD, Vocabulary, pad, real, trim
from casebook.training import History, fit, one_cycle

State = tuple[Tensor, ...]
"""What a decoder remembers from word to word: tensors with the batch as their first dimension."""


class EncoderDecoder(nn.Module):
    """A model that reads a source sentence as a whole and writes the target word by word.

    A subclass defines `encode` and `step`. `forward`, which training needs, follows from them.
    """

    def encode(self, source: Int[Tensor, "batch source"]) -> State:
        """The decoder's state before the first word. Rows end in PAD, which has no effect."""
        raise NotImplementedError

    def step(
        self, words: Int[Tensor, " batch"], state: State
    ) -> tuple[Float[Tensor, "batch vocab"], State]:
        """Logits of the next word, given the one before it, and the state after that."""
        raise NotImplementedError

    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time vocab"]:
        """Logits for each word of `target`, given all words before it ("teacher forcing").

        target: as `sentences` makes it, without BOS and with EOS.
        """
        state, logits = self.encode(source), []
        for words in previous(target).unbind(1):
            scores, state = self.step(words, state)
            logits.append(scores)
        return torch.stack(logits, 1)


def previous(target: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
    """The word before each word of `target`; before the first one stands BOS."""
    return torch.cat([torch.full_like(target[:, :1], BOS), target[:, :-1]], 1)


def sentences(texts: Sequence[Sequence[str]], vocabulary: Vocabulary) -> Int[Tensor, "n time"]:
    """Each text as a row of numbers that ends in EOS, filled up with PAD."""
    return pad([[*vocabulary.encode(text), EOS] for text in texts])


def translation_loss(
    model: EncoderDecoder, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch time"]
) -> Float[Tensor, ""]:
    """Mean of -log p(word | the words before it, source) over the words of the batch, in nats.

    EOS counts as a word, PAD does not. This is the negative of Cho et al.'s equation 4, per word.
    """
    source, target = trim(source), trim(target)
    logits = model(source, target)
    return nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)


def train_translation(
    model: EncoderDecoder,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    learning_rate: float,
    steps: int,
    max_steps: int | None = None,
    description: str = "training",
) -> History:
    """Train `model` in place by Adam, as all translating networks of this book are trained.

    The learning rate rises to `learning_rate` and falls again within `steps` optimisation steps;
    a gradient longer than 1 is shortened to 1, as an exploding one would undo what was learned.

    batches: (source, target), gone through as often as it takes.
    max_steps: stop after so many of the steps already, as a run that is cut off would.
    Raises ValueError for `steps` or `max_steps` below 1 or empty batches.
    """
    optimizer, scheduler = one_cycle(
        model, learning_rate=learning_rate, steps=steps, weight_decay=0.0
    )
    return fit(
        model,
        batches,
        translation_loss,
        optimizer,
        epochs=steps,  # as many as ever needed: an epoch has one step or more
        max_steps=steps if max_steps is None else min(steps, max_steps),
        scheduler=scheduler,
        clip_norm=1.0,
        description=description,
    )


@torch.no_grad()
def log_probability(
    model: EncoderDecoder, source: Int[Tensor, "n source"], target: Int[Tensor, "n time"]
) -> Float[Tensor, " n"]:
    """log p(target | source) of each pair, in nats: the score of a phrase pair (§3.1).

    The sum over the words of the target, EOS among them.
    """
    log_probabilities = model(trim(source), target).log_softmax(-1)
    of_words = log_probabilities.gather(-1, target[..., None])[..., 0]
    return of_words.where(real(target), 0.0).sum(1)


@torch.no_grad()
def greedy(
    model: EncoderDecoder, source: Int[Tensor, "batch source"], max_length: int
) -> Int[Tensor, "batch time"]:
    """Translations in which each word is the likeliest one after those before it.

    Rows are filled with PAD after their EOS; a row that never ends has `max_length` words.
    """
    state = model.encode(trim(source))
    words = torch.full_like(source[:, 0], BOS)
    done = torch.zeros_like(words, dtype=torch.bool)
    written = []
    for _ in range(max_length):
        logits, state = model.step(words, state)
        words = torch.where(done, PAD, logits.argmax(-1))
        written.append(words)
        done = done | (words == EOS)
        if done.all():
            break
    return torch.stack(written, 1)


def exact_match(
    written: Int[Tensor, "n written"], target: Int[Tensor, "n time"]
) -> Bool[Tensor, " n"]:
    """Which rows say the same, word for word. Columns of PAD make no difference."""
    width = max(written.shape[1], target.shape[1])
    padded = [
        nn.functional.pad(rows, (0, width - rows.shape[1]), value=PAD) for rows in (written, target)
    ]
    return (padded[0] == padded[1]).all(1)


# ---------------------------------------------------------------------------------------------
# The hidden unit


class GatedUnit(nn.Module):
    """Cho et al.'s hidden unit that remembers and forgets (§2.3, equations 5 to 8).

    The reset gate acts on the previous state *before* the matrix product, as in the paper;
    PyTorch's `nn.GRUCell` applies it after. With a context, it enters both gates and the candidate
    at every step, as in the paper's decoder. Recurrent matrices start out orthogonal (§4.1.1).
    """

    def __init__(self, inputs: int, hidden: int, context: int = 0, bias: bool = True) -> None:
        super().__init__()
        self.hidden = hidden
        self.from_input = nn.Linear(inputs, 3 * hidden, bias=bias)
        self.gates = nn.Linear(hidden, 2 * hidden, bias=False)
        self.candidate = nn.Linear(hidden, hidden, bias=False)
        self.from_context = nn.Linear(context, 3 * hidden, bias=False) if context else None
        for square in (*self.gates.weight.data.chunk(2), self.candidate.weight.data):
            nn.init.orthogonal_(square)

    def drive(
        self,
        inputs: Float[Tensor, "*batch inputs"],
        context: Float[Tensor, "*batch context"] | None = None,
    ) -> Float[Tensor, "*batch three_hidden"]:
        """What does not depend on the state: can be computed for all steps at once."""
        total = self.from_input(inputs)
        return total if self.from_context is None else total + self.from_context(context)

    def forward(
        self, drive: Float[Tensor, "batch three_hidden"], state: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, "batch hidden"]:
        """The next state."""
        gates_in, candidate_in = drive.split([2 * self.hidden, self.hidden], -1)
        reset, update = (gates_in + self.gates(state)).sigmoid().chunk(2, -1)  # eqs. 5 and 6
        candidate = torch.tanh(candidate_in + self.candidate(reset * state))  # eq. 8
        return update * state + (1 - update) * candidate  # eq. 7


class ResetAfterUnit(GatedUnit):
    """The same unit with the reset gate *after* the product, as `nn.GRUCell` has it."""

    def forward(
        self, drive: Float[Tensor, "batch three_hidden"], state: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, "batch hidden"]:
        """The next state."""
        gates_in, candidate_in = drive.split([2 * self.hidden, self.hidden], -1)
        reset, update = (gates_in + self.gates(state)).sigmoid().chunk(2, -1)
        candidate = torch.tanh(candidate_in + reset * self.candidate(state))
        return update * state + (1 - update) * candidate


class PlainUnit(nn.Module):
    """The tanh unit without gates, with which the authors got no meaningful result (§2.3)."""

    def __init__(self, inputs: int, hidden: int, context: int = 0, bias: bool = True) -> None:
        super().__init__()
        self.hidden = hidden
        self.from_input = nn.Linear(inputs, hidden, bias=bias)
        self.from_state = nn.Linear(hidden, hidden, bias=False)
        self.from_context = nn.Linear(context, hidden, bias=False) if context else None
        nn.init.orthogonal_(self.from_state.weight.data)

    def drive(
        self,
        inputs: Float[Tensor, "*batch inputs"],
        context: Float[Tensor, "*batch context"] | None = None,
    ) -> Float[Tensor, "*batch hidden"]:
        """What does not depend on the state: can be computed for all steps at once."""
        total = self.from_input(inputs)
        return total if self.from_context is None else total + self.from_context(context)

    def forward(
        self, drive: Float[Tensor, "batch hidden"], state: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, "batch hidden"]:
        """The next state."""
        return torch.tanh(drive + self.from_state(state))


UNITS = {"gated": GatedUnit, "reset after": ResetAfterUnit, "tanh": PlainUnit}


def read(
    unit: GatedUnit | PlainUnit,
    inputs: Float[Tensor, "batch time inputs"],
    mask: Bool[Tensor, "batch time"],
) -> Float[Tensor, "batch time hidden"]:
    """The states of `unit` as it reads from the left; where `mask` is False the state stays."""
    drive = unit.drive(inputs)
    state, states = drive.new_zeros(len(drive), unit.hidden), []
    for t in range(drive.shape[1]):
        state = torch.where(mask[:, t : t + 1], unit(drive[:, t], state), state)
        states.append(state)
    return torch.stack(states, 1)


# ---------------------------------------------------------------------------------------------
# The model


@dataclass(frozen=True)
class Config:
    """The size of an `RNNEncoderDecoder`.

    source_words, target_words: size of the vocabularies, PAD, BOS and EOS included.
    embedding: numbers per word; hidden: units of the encoder and as many of the decoder.
    maxout: units before the output layer, each the larger one of two sums.
    output_rank: if given, the output matrix is a product of two matrices of this rank.
    unit: one of UNITS. Raises ValueError for another one, and for sizes below 1.
    """

    source_words: int
    target_words: int
    embedding: int = 64
    hidden: int = 128
    maxout: int = 128
    output_rank: int | None = None
    bias: bool = True
    unit: str = "gated"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"there is no unit {self.unit!r}; choose one of {tuple(UNITS)}")
        sizes = {
            name: getattr(self, name)
            for name in ("source_words", "target_words", "embedding", "hidden", "maxout")
        }
        if min(*sizes.values(), self.output_rank or 1) < 1:
            raise ValueError(f"{sizes}, output_rank={self.output_rank}: each must be 1 or more")


SIZES = {
    # §4.1: 15,000 words a language, rank 100, 1000 units, 500 maxout units that pool 2. Biases are
    # not in the paper's equations.
    "paper": Config(15_000, 15_000, 100, 1000, 500, output_rank=100, bias=False),
}


class RNNEncoderDecoder(EncoderDecoder):
    """Cho et al.'s model: a sentence becomes one vector `c`, the vector becomes a sentence.

    The decoder sees `c` at every step, in its units and once more in the output.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        unit, hidden, bias = UNITS[config.unit], config.hidden, config.bias
        self.source_embedding = nn.Embedding(config.source_words, config.embedding)
        self.target_embedding = nn.Embedding(config.target_words, config.embedding)
        self.encoder = unit(config.embedding, hidden, bias=bias)
        self.summary = nn.Linear(hidden, hidden, bias=bias)
        self.start = nn.Linear(hidden, hidden, bias=bias)
        self.decoder = unit(config.embedding, hidden, context=hidden, bias=bias)
        self.maxout = nn.Linear(hidden + config.embedding + hidden, 2 * config.maxout, bias=bias)
        if config.output_rank is None:
            self.output = nn.Linear(config.maxout, config.target_words, bias=bias)
        else:
            self.output = nn.Sequential(
                nn.Linear(config.maxout, config.output_rank, bias=False),
                nn.Linear(config.output_rank, config.target_words, bias=bias),
            )

    def represent(self, source: Int[Tensor, "batch source"]) -> Float[Tensor, "batch hidden"]:
        """The summary `c` of each sentence: all that the decoder will know about it."""
        states = read(self.encoder, self.source_embedding(source), real(source))
        return torch.tanh(self.summary(states[:, -1]))

    def encode(self, source: Int[Tensor, "batch source"]) -> State:
        """The decoder's first state and the summary `c`."""
        c = self.represent(source)
        return torch.tanh(self.start(c)), c

    def step(
        self, words: Int[Tensor, " batch"], state: State
    ) -> tuple[Float[Tensor, "batch vocab"], State]:
        """Logits of the next word, from the new state, the word before and `c`."""
        (hidden, c), before = state, self.target_embedding(words)
        hidden = self.decoder(self.decoder.drive(before, c), hidden)
        return self.readout(hidden, before, c), (hidden, c)

    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time vocab"]:
        """As `EncoderDecoder.forward`, but faster: the unit alone goes word by word.

        In training the words are known beforehand, so what needs no state is computed at once.
        """
        hidden, c = self.encode(source)
        before = self.target_embedding(previous(target))
        c = c[:, None].expand(-1, target.shape[1], -1)
        states = []
        for drive in self.decoder.drive(before, c).unbind(1):
            hidden = self.decoder(drive, hidden)
            states.append(hidden)
        return self.readout(torch.stack(states, 1), before, c)

    def readout(
        self,
        hidden: Float[Tensor, "*batch hidden"],
        before: Float[Tensor, "*batch embedding"],
        c: Float[Tensor, "*batch hidden"],
    ) -> Float[Tensor, "*batch vocab"]:
        """The logits: sums in pairs, the larger one of each pair, and the output layer."""
        pairs = self.maxout(torch.cat([hidden, before, c], -1)).unflatten(-1, (-1, 2))
        return self.output(pairs.amax(-1))
