"""Learned alignment: Neural Machine Translation by Jointly Learning to Align and Translate (2015).

Bahdanau, Cho and Bengio's RNNsearch. Two gated networks read the sentence, one from each end, so
that every word gets an annotation of its own. Before each word that it writes, the decoder compares
its state with all annotations and takes their weighted mean: which words of the source matter now
is decided anew at every step, and learned with everything else. Equations and appendices are those
of the ICLR 2015 paper.

Where this departs from the paper, and why:

* The gated unit is the one of the RNN Encoder–Decoder's module. There the update gate says how much
  of the old state stays; in this paper's appendix A.1.1 it says how much of it goes. The two are
  the same unit with the sign of the gate's weights turned.
* The paper leaves biases out of its formulas to make them easier to read. Here all gates and layers
  outside the alignment model have them, except in `SIZES["paper"]`, whose weights are to be
  counted as the appendix lists them.
* The output reads the state *before* this step, s_{i-1}, as the formula in appendix A.2.2 has it;
  equation 4 says s_i. That state has not taken in y_{i-1}, the last word written. The authors' code
  reads the state before the step, too, but numbers the words one step earlier, so that there the
  state that searches has already seen the last word.
* Initial weights are PyTorch's, except that the recurrent matrices begin orthogonal, as in the
  paper. The paper drew the others from narrow Gaussians and began with v_a = 0 (B.1), so with equal
  weights for all words.
* The paper's formulas are for one sentence. In a batch, padding has no weight in the mean.
* This book trains with Adam, by `train_translation`. The paper used Adadelta.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from casebook.sequence.rnn_encoder_decoder import (
    EncoderDecoder,
    GatedUnit,
    State,
    previous,
    read,
)
from casebook.text import real


@dataclass(frozen=True)
class RNNSearchConfig:
    """The sizes of an RNNsearch. The defaults are this book's, for numbers in words.

    source_words, target_words: size of the vocabularies, K_x and K_y, specials included.
    embedding: numbers per word, m. hidden: units of the decoder, and of each reader, n.
    alignment: hidden units of the alignment model, n'. maxout: outputs of the maxout layer, l.
    both_ways: without it the encoder only reads from left to right.
    align: "learned", or for comparison "uniform", the plain mean of the annotations.
    Raises ValueError for a size below 1 or an unknown alignment.
    """

    source_words: int
    target_words: int
    embedding: int = 64
    hidden: int = 96
    alignment: int = 96
    maxout: int = 96
    both_ways: bool = True
    align: str = "learned"
    bias: bool = True

    def __post_init__(self) -> None:
        names = ("source_words", "target_words", "embedding", "hidden", "alignment", "maxout")
        wrong = [f"{name}={getattr(self, name)}" for name in names if getattr(self, name) < 1]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: every size must be 1 or more")
        if self.align not in ALIGNMENTS:
            raise ValueError(f"align is {self.align!r}; choose one of {tuple(ALIGNMENTS)}")

    @property
    def annotation(self) -> int:
        """Numbers in the annotation of one source word: 2n, or n where only one network reads."""
        return self.hidden * (2 if self.both_ways else 1)


class AdditiveAttention(nn.Module):
    """The alignment model: how well each annotation fits the decoder's state (A.1.2).

    e_j = v_a · tanh(W_a s + U_a h_j). The second product does not depend on the decoder, so it is
    computed once per sentence, by `keys`.
    """

    def __init__(self, state: int, annotation: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Linear(state, hidden, bias=False)  # W_a
        self.keys = nn.Linear(annotation, hidden, bias=False)  # U_a
        self.score = nn.Linear(hidden, 1, bias=False)  # v_a

    def forward(
        self,
        state: Float[Tensor, "batch state"],
        keys: Float[Tensor, "batch source hidden"],
        mask: Bool[Tensor, "batch source"],
    ) -> Float[Tensor, "batch source"]:
        """The energies; -inf where `mask` is False, at padding."""
        energies = self.score(torch.tanh(self.query(state)[:, None] + keys))[..., 0]
        return energies.masked_fill(~mask, -torch.inf)


class UniformAttention(AdditiveAttention):
    """Every annotation fits equally well. What is left is the mean, a vector of fixed length."""

    def __init__(self, state: int, annotation: int, hidden: int) -> None:
        nn.Module.__init__(self)
        self.keys = nn.Identity()

    def forward(
        self,
        state: Float[Tensor, "batch state"],
        keys: Float[Tensor, "batch source hidden"],
        mask: Bool[Tensor, "batch source"],
    ) -> Float[Tensor, "batch source"]:
        """Energies of 0; -inf where `mask` is False, at padding."""
        return torch.zeros_like(keys[..., 0]).masked_fill(~mask, -torch.inf)


ALIGNMENTS: dict[str, type[AdditiveAttention]] = {
    "learned": AdditiveAttention,
    "uniform": UniformAttention,
}


SIZES = {
    # Appendix A.2.3, and 30,000 words a language (§4.1). Biases are not in the paper's equations.
    "paper": RNNSearchConfig(30_000, 30_000, 620, 1000, 1000, 500, bias=False),
}


class RNNSearch(EncoderDecoder):
    """Encoder and decoder with a search through the source before every word."""

    def __init__(self, config: RNNSearchConfig) -> None:
        super().__init__()
        self.config = config
        n, m, annotation, bias = config.hidden, config.embedding, config.annotation, config.bias
        self.source_embedding = nn.Embedding(config.source_words, m)
        self.target_embedding = nn.Embedding(config.target_words, m)
        self.forward_unit = GatedUnit(m, n, bias=bias)
        self.backward_unit = GatedUnit(m, n, bias=bias) if config.both_ways else None
        self.start = nn.Linear(n, n, bias=bias)  # W_s
        self.attention = ALIGNMENTS[config.align](n, annotation, config.alignment)
        self.decoder_unit = GatedUnit(m, n, context=annotation, bias=bias)
        self.deep = nn.Linear(n + m + annotation, 2 * config.maxout, bias=bias)  # U_o, V_o, C_o
        self.output = nn.Linear(config.maxout, config.target_words, bias=bias)  # W_o

    def annotate(
        self, source: Int[Tensor, "batch source"]
    ) -> Float[Tensor, "batch source annotation"]:
        """Of each word the states of both readers when they have just read it (eq. 7, A.2.1)."""
        words, mask = self.source_embedding(source), real(source)
        annotations = read(self.forward_unit, words, mask)
        if self.backward_unit is not None:
            backward = read(self.backward_unit, words.flip(1), mask.flip(1)).flip(1)
            annotations = torch.cat([annotations, backward], -1)
        return annotations

    def encode(self, source: Int[Tensor, "batch source"]) -> State:
        """(s_0, annotations, U_a · annotations, which of them are words)."""
        annotations = self.annotate(source)
        if self.backward_unit is not None:
            last_read = annotations[:, 0, self.config.hidden :]  # has seen the whole sentence
        else:
            last_read = annotations[:, -1]
        start = torch.tanh(self.start(last_read))
        return start, annotations, self.attention.keys(annotations), real(source)

    def search(self, state: State) -> Float[Tensor, "batch source"]:
        """The weights α_ij of the annotations for the next word: positive, their sum 1 (eq. 6)."""
        before, _, keys, mask = state
        return self.attention(before, keys, mask).softmax(-1)

    def step(
        self, words: Int[Tensor, " batch"], state: State
    ) -> tuple[Float[Tensor, "batch vocab"], State]:
        """Logits of the next word, given the one before it, and the state after that."""
        return self.write(words, state, self.search(state))

    def write(
        self,
        words: Int[Tensor, " batch"],
        state: State,
        weights: Float[Tensor, "batch source"],
    ) -> tuple[Float[Tensor, "batch vocab"], State]:
        """`step` with weights that are given: they need not be those that `search` finds."""
        before, annotations, keys, mask = state
        context = self.attend(weights, annotations)
        embedded = self.target_embedding(words)
        after = self.decoder_unit(self.decoder_unit.drive(embedded, context), before)
        return self.readout(before, embedded, context), (after, annotations, keys, mask)

    @staticmethod
    def attend(
        weights: Float[Tensor, "batch source"], annotations: Float[Tensor, "batch source size"]
    ) -> Float[Tensor, "batch size"]:
        """The context c_i: the mean of the annotations with these weights (eq. 5)."""
        return (weights[:, None] @ annotations)[:, 0]

    def readout(
        self,
        before: Float[Tensor, "*batch hidden"],
        embedded: Float[Tensor, "*batch embedding"],
        context: Float[Tensor, "*batch annotation"],
    ) -> Float[Tensor, "*batch vocab"]:
        """The logits: sums in pairs, the larger one of each pair, and the output layer (A.2.2)."""
        pairs = self.deep(torch.cat([before, embedded, context], -1)).unflatten(-1, (-1, 2))
        return self.output(pairs.amax(-1))

    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time vocab"]:
        """What `EncoderDecoder.forward` computes, the words' part for all words at once."""
        hidden, annotations, keys, mask = self.encode(source)
        embedded = self.target_embedding(previous(target))
        befores, contexts = [], []
        for drive in self.decoder_unit.from_input(embedded).unbind(1):
            weights = self.search((hidden, annotations, keys, mask))
            befores.append(hidden)
            contexts.append(self.attend(weights, annotations))
            hidden = self.decoder_unit(drive + self.decoder_unit.from_context(contexts[-1]), hidden)
        return self.readout(torch.stack(befores, 1), embedded, torch.stack(contexts, 1))


@torch.no_grad()
def soft_alignment(
    model: RNNSearch, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch time"]
) -> Float[Tensor, "batch time source"]:
    """The weights with which `model` writes `target`: row i is α_i, as in the paper's Figure 3.

    source, target: as `sentences` makes them; the model is told every word before the next.
    """
    state, rows = model.encode(source), []
    for words in previous(target).unbind(1):
        weights = model.search(state)
        rows.append(weights)
        _, state = model.write(words, state, weights)
    return torch.stack(rows, 1)


def agreement(
    weights: Float[Tensor, "batch time source"],
    known: Int[Tensor, "batch words"],
    later: int = 0,
) -> float:
    """Share of the words with a known source word that get their largest weight from it.

    known: for each word written, the position of the source word that it translates, or -1 for a
        word that translates none, and for padding.
    later: compare with the row that many steps later, or, if negative, earlier. Words that have no
        such row are left out.
    Raises ValueError if no word is left to compare.
    """
    looked_at = weights.argmax(-1)
    steps = min(known.shape[1], looked_at.shape[1])
    first, last = max(0, -later), min(steps, looked_at.shape[1] - later)
    source, found = known[:, first:last], looked_at[:, first + later : last + later]
    if not (source >= 0).any():
        raise ValueError(f"no word with a known source has a row {later} steps later")
    return (found == source)[source >= 0].float().mean().item()
