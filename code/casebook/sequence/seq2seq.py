"""Sequence to Sequence Learning with Neural Networks (Sutskever, Vinyals and Le 2014).

One deep LSTM reads the source sentence, backwards; another begins in the state in which the first
one stopped, and writes the translation. A beam search looks for the likeliest one. Sections (§)
are those of the arXiv version.

Where this departs from the paper, and why:

* The paper prints no equation of its LSTM and cites Graves (2013), whose gates also see their own
  cell through one "peephole" weight each. This is PyTorch's LSTM, which has none. Peepholes and
  biases are lost in the paper's rounded counts; `PAPER` has neither, so that the counts are round.
* The symbol that ends the source and starts the translation is one in the paper's Figure 1. The
  decoder reads the book's BOS in its place, and the encoder leaves out the source's EOS, so that
  the two together take exactly the steps of that figure.
* The paper does not say when its beam search stops. This one stops when no open hypothesis can
  still overtake the best complete one.
* The paper trains with plain stochastic gradient descent; this book with Adam, by
  `train_translation`.
* The paper's standard RNN has a sigmoid; the one here, PyTorch's, a tanh.
* The default sizes are this book's. Their initial weights are larger than the paper's, in
  proportion: the sum of 168 products at 0.28 spreads about as widely as that of 2,000 at 0.08.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from casebook.sequence.rnn_encoder_decoder import EncoderDecoder, State, previous
from casebook.text import BOS, EOS, PAD, real, trim

UNITS: dict[str, type[nn.RNNBase]] = {"lstm": nn.LSTM, "tanh": nn.RNN}


@dataclass(frozen=True)
class Seq2SeqConfig:
    """The sizes of a Seq2Seq. Raises ValueError for a size that is not positive or a false unit."""

    source_words: int  # in the vocabulary, the specials included
    target_words: int
    embedding: int = 64  # numbers that stand for a word
    hidden: int = 104  # cells of each layer
    layers: int = 2
    reverse_source: bool = True  # §3.3
    unit: str = "lstm"  # "tanh" for the standard RNN of §5's guess, whose own unit is a sigmoid
    bias: bool = True
    weight_range: float = 0.28  # initial weights are uniform between minus and plus this

    def __post_init__(self) -> None:
        sizes = ("source_words", "target_words", "embedding", "hidden", "layers", "weight_range")
        wrong = [f"{name}={getattr(self, name)}" for name in sizes if not getattr(self, name) > 0]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: every size must be positive")
        if self.unit not in UNITS:
            raise ValueError(f"unit is {self.unit!r}; choose one of {list(UNITS)}")


PAPER = Seq2SeqConfig(
    160_000, 80_000, embedding=1000, hidden=1000, layers=4, bias=False, weight_range=0.08
)
"""The network of §3.4."""


class Seq2Seq(EncoderDecoder):
    """A deep LSTM that reads, and a deep LSTM that goes on from its state and writes (§2)."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        self.source_embedding = nn.Embedding(config.source_words, config.embedding)
        self.target_embedding = nn.Embedding(config.target_words, config.embedding)
        self.encoder, self.decoder = (
            UNITS[config.unit](
                config.embedding, config.hidden, config.layers, bias=config.bias, batch_first=True
            )
            for _ in range(2)
        )
        self.output = nn.Linear(config.hidden, config.target_words, bias=config.bias)
        for weights in self.parameters():
            nn.init.uniform_(weights, -config.weight_range, config.weight_range)

    def encode(self, source: Int[Tensor, "batch source"]) -> State:
        """What each layer holds after the last word: its output, and an LSTM's cells as well.

        Each of them is of shape (batch, layers, hidden).
        """
        words = (real(source) & (source != EOS)).sum(1)
        if self.config.reverse_source:
            source = reverse(source, words)
        # A packed sequence ends each row at its own length. A sentence without words reads EOS.
        packed = nn.utils.rnn.pack_padded_sequence(
            self.source_embedding(source),
            words.clamp(min=1).cpu(),
            batch_first=True,
            enforce_sorted=False,
        )
        _, state = self.encoder(packed)
        return batch_first(state)

    def step(
        self, words: Int[Tensor, " batch"], state: State
    ) -> tuple[Float[Tensor, "batch vocab"], State]:
        logits, state = self.write(words[:, None], state)
        return logits[:, 0], state

    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time vocab"]:
        """What `EncoderDecoder.forward` computes, all words in one call, which is faster."""
        return self.write(previous(target), self.encode(source))[0]

    def write(
        self, words: Int[Tensor, "batch time"], state: State
    ) -> tuple[Float[Tensor, "batch time vocab"], State]:
        """Logits of the word after each of `words`, and the state after the last of them."""
        layers_first = tuple(part.transpose(0, 1).contiguous() for part in state)
        outputs, after = self.decoder(
            self.target_embedding(words),
            layers_first if self.config.unit == "lstm" else layers_first[0],
        )
        return self.output(outputs), batch_first(after)


def batch_first(state: Tensor | tuple[Tensor, Tensor]) -> State:
    """PyTorch's state, which has the layers first, as the decoders of this book hand it on."""
    parts = state if isinstance(state, tuple) else (state,)
    return tuple(part.transpose(0, 1) for part in parts)


def reverse(
    source: Num[Tensor, "batch source"], words: Int[Tensor, " batch"]
) -> Num[Tensor, "batch source"]:
    """The first `words[i]` entries of row i in reverse order; what follows stays in its place."""
    place = torch.arange(source.shape[1], device=source.device).expand_as(source)
    mirrored = words[:, None] - 1 - place
    return source.gather(1, torch.where(mirrored >= 0, mirrored, place))


# ---------------------------------------------------------------------------------------------
# Searching for the likeliest translation


class Beam(NamedTuple):
    """The hypotheses that one step of a beam search keeps, best first; -inf marks an empty place.

    scores: log p(all words so far | source).
    parents: which hypothesis of the step before each one extends.
    words: by which word. EOS completes the hypothesis, and the next step does not extend it.
    """

    scores: Float[Tensor, "batch beam"]
    parents: Int[Tensor, "batch beam"]
    words: Int[Tensor, "batch beam"]


@torch.no_grad()
def beam_steps(
    model: EncoderDecoder, source: Int[Tensor, "batch source"], beam: int
) -> Iterator[Beam]:
    """The steps of a beam search (§3.2), one per word of the translations, without end.

    Each step extends every open hypothesis by every word but PAD and BOS, and keeps the `beam`
    likeliest. A row whose hypotheses are all complete goes on with empty places.
    Raises ValueError if `beam` is less than 1.
    """
    if beam < 1:
        raise ValueError(f"beam is {beam}; keep 1 hypothesis or more")
    rows = torch.arange(len(source), device=source.device)[:, None]
    state = tuple(part.repeat_interleave(beam, 0) for part in model.encode(trim(source)))
    words = torch.full((len(source), beam), BOS, device=source.device)
    scores = torch.full(words.shape, -torch.inf, device=source.device)
    scores[:, 0] = 0  # one hypothesis to begin with: that nothing is written yet
    while True:
        logits, state = model.step(words.flatten(), state)
        likely = logits.log_softmax(-1).unflatten(0, words.shape)
        likely[..., [PAD, BOS]] = -torch.inf
        extended = (scores[..., None] + likely).flatten(1)  # every word after every hypothesis
        scores, best = extended.topk(beam)
        parents, words = best // likely.shape[-1], best % likely.shape[-1]
        yield Beam(scores, parents, words)
        scores = scores.masked_fill(words == EOS, -torch.inf)
        state = tuple(part[(rows * beam + parents).flatten()] for part in state)


@torch.no_grad()
def beam_search(
    model: EncoderDecoder,
    source: Int[Tensor, "batch source"],
    beam: int,
    max_length: int,
    length_power: float = 0.0,
) -> tuple[Int[Tensor, "batch time"], Float[Tensor, " batch"]]:
    """The best complete translation that a beam of that width meets, and its log probability.

    max_length: words of a translation at most, EOS included; a row without a complete hypothesis
        by then gets the likeliest open one.
    length_power: best is what has the largest log probability divided by length to this power:
        0 is the paper's search, 1 compares the mean per word.

    Rows are filled with PAD after their EOS, as in `greedy`, to which a beam of 1 is equal (but it
    never writes PAD or BOS). Raises ValueError if `beam` or `max_length` is less than 1, or
    `length_power` is negative.
    """
    if max_length < 1 or length_power < 0:
        raise ValueError(
            f"max_length={max_length}, length_power={length_power}: choose a length of 1 or more "
            "and a power of 0 or more"
        )
    rows = torch.arange(len(source), device=source.device)
    written = torch.full((len(source), beam, max_length), PAD, device=source.device)
    best_words = torch.full((len(source), max_length), PAD, device=source.device)
    best_score = torch.full((len(source),), -torch.inf, device=source.device)
    best_rank = best_score.clone()  # what is compared: the score for its length
    for time, (scores, parents, words) in enumerate(beam_steps(model, source, beam), start=1):
        written = written[rows[:, None], parents]
        written[:, :, time - 1] = words
        complete = scores.masked_fill(words != EOS, -torch.inf)
        opened = scores.masked_fill(words == EOS, -torch.inf)
        if time == max_length:
            none = best_rank.maximum(complete.amax(1)) == -torch.inf
            complete[none] = scores[none]
        score, which = complete.max(1)
        rank = score / time**length_power
        better = rank > best_rank
        best_words[better] = written[rows, which][better]
        best_score = torch.where(better, score, best_score)
        best_rank = torch.where(better, rank, best_rank)
        # Every further word lowers the score, so this is the most that an open one can reach.
        hope = opened.amax(1) / max_length**length_power
        if time == max_length or (hope <= best_rank).all():
            return trim(best_words), best_score
    raise AssertionError("the steps have no end of their own")


class Ensemble(EncoderDecoder):
    """Models that write together (§3.6): the probability of a word is the mean of theirs.

    All of them must be of one kind. The paper does not say how it combines its LSTMs.
    """

    def __init__(self, models: Sequence[EncoderDecoder]) -> None:
        super().__init__()
        if not models:
            raise ValueError("there is no model in this ensemble; give at least one")
        self.models = nn.ModuleList(models)

    def encode(self, source: Int[Tensor, "batch source"]) -> State:
        return tuple(part for model in self.models for part in model.encode(source))

    def step(
        self, words: Int[Tensor, " batch"], state: State
    ) -> tuple[Float[Tensor, "batch vocab"], State]:
        """Log probabilities, which are logits too, and the states of all models in a row."""
        parts = len(state) // len(self.models)
        likely, after = [], ()
        for i, model in enumerate(self.models):
            logits, own = model.step(words, state[i * parts : (i + 1) * parts])
            likely.append(logits.log_softmax(-1))
            after += own
        return torch.stack(likely).logsumexp(0) - math.log(len(likely)), after


class SearchTooLong(ValueError):
    """An exact search needed more steps than it was allowed."""


@torch.no_grad()
def exact_search(
    model: EncoderDecoder,
    source: Int[Tensor, "n source"],
    max_length: int,
    max_steps: int = 10_000,
) -> tuple[tuple[int, ...], float]:
    """The likeliest of all translations of up to `max_length` words, EOS included, and its log p.

    Always extends the likeliest hypothesis that is left. A word never makes a hypothesis likelier,
    so the first complete one that comes up is the best of all. Raises ValueError if `source` is
    not one row, and SearchTooLong after `max_steps` extended hypotheses: how many it takes
    depends on how sure the model is.
    """
    if len(source) != 1 or max_length < 1:
        raise ValueError(
            f"source has {len(source)} rows and max_length is {max_length}; give one row and a "
            "length of 1 or more"
        )
    start = (0.0, (), model.encode(trim(source)))
    heap, made = [(0.0, 0, start)], 0
    for _ in range(max_steps):
        *_, (score, words, state) = heapq.heappop(heap)
        if words and words[-1] == EOS:
            return words, score
        last = torch.tensor([words[-1] if words else BOS], device=source.device)
        logits, state = model.step(last, state)
        for word, likely in enumerate(logits[0].log_softmax(-1).tolist()):
            if word not in (PAD, BOS) and (word == EOS or len(words) + 1 < max_length):
                made += 1  # ties are decided by age, so that tensors are never compared
                longer = (score + likely, (*words, word), state)
                heapq.heappush(heap, (-longer[0], made, longer))
    raise SearchTooLong(
        f"no translation was proven best within {max_steps} steps; allow more, or search with a "
        "beam, which proves nothing"
    )


# ---------------------------------------------------------------------------------------------
# Training


class SimilarLengths(Sampler[list[int]]):
    """Minibatches whose sentences are about equally long, so that few PADs are needed (§3.4).

    Each epoch draws `pool` batches at a time at random, sorts their sentences by length, cuts them
    into batches, and shuffles all batches. A pair counts as longer for the words of its target
    and, among equals, for those of its source.
    Raises ValueError if `batch_size` or `pool` is less than 1.
    """

    def __init__(
        self,
        source: Int[Tensor, "n source"],
        target: Int[Tensor, "n time"],
        batch_size: int,
        pool: int = 50,
        seed: int = 0,
    ) -> None:
        if batch_size < 1 or pool < 1:
            raise ValueError(f"batch_size={batch_size}, pool={pool}: both must be at least 1")
        self.length = real(target).sum(1) * source.shape[1] + real(source).sum(1)
        self.batch_size, self.pool = batch_size, pool
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[list[int]]:
        batches: list[Tensor] = []
        drawn = torch.randperm(len(self.length), generator=self.generator)
        for some in drawn.split(self.batch_size * self.pool):
            batches += some[self.length[some].argsort(stable=True)].split(self.batch_size)
        for i in torch.randperm(len(batches), generator=self.generator):
            yield batches[i].tolist()

    def __len__(self) -> int:
        full, rest = divmod(len(self.length), self.batch_size * self.pool)
        return full * self.pool + -(-rest // self.batch_size)


def batches_by_length(
    source: Int[Tensor, "n source"],
    target: Int[Tensor, "n time"],
    *,
    batch_size: int,
    pool: int = 50,
    seed: int = 0,
) -> DataLoader:
    """What `minibatches` yields, but batches of `SimilarLengths`; the loss trims their PADs."""
    return DataLoader(
        TensorDataset(source, target),
        sampler=SimilarLengths(source, target, batch_size, pool, seed),
        batch_size=None,
        collate_fn=tuple,
    )


# ---------------------------------------------------------------------------------------------
# How far the gradient reaches


def gradient_reach(
    model: Seq2Seq,
    source: Int[Tensor, "batch source"],
    target: Int[Tensor, "batch time"],
    position: int = 0,
) -> Float[Tensor, "batch source"]:
    """How strongly the loss of one target word pulls at the embedding of each source word.

    Returns the norm of the gradient of -log p(target[:, position] | ...) by the embedding, in the
    order of the sentence however the model reads it, zero at EOS and PAD.
    """
    embedded: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[0]

    handle = model.source_embedding.register_forward_hook(keep)
    try:
        logits = model(source, target[:, : position + 1])[:, position]
    finally:
        handle.remove()
    loss = nn.functional.cross_entropy(logits, target[:, position], reduction="sum")
    (gradient,) = torch.autograd.grad(loss, embedded)
    reach = gradient.norm(dim=-1)
    if model.config.reverse_source:
        reach = reverse(reach, (real(source) & (source != EOS)).sum(1))
    return reach
