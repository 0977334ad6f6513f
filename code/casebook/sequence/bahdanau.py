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
* All gates and layers have biases (the paper leaves them out of its formulas "to increase
  readability"); `SIZES["rnnsearch"]` has none, as the sizes in appendix A.2 are given.
* The output reads the state *before* this step, s_{i-1}, as appendix A.2.2 and the authors' code
  have it; equation 4 says s_i.
* Initial weights are PyTorch's. The paper began with v_a = 0 (appendix B.1), that is with equal
  weights for all words.
* Padding has no weight in the mean. The paper's formulas are for one sentence.
* Training, by AdamW on batches of random sentences, is the caller's; the paper used Adadelta on
  batches of sentences of about the same length.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from casebook.sequence.rnn_encoder_decoder import EncoderDecoder, GatedUnit, State, read
from casebook.text import BOS, real

ALIGNMENTS = ("learned", "uniform")


@dataclass(frozen=True)
class RNNSearchConfig:
    """The sizes of an RNNsearch; every default is the paper's (appendix A.2).

    Raises ValueError for a size below 1 or an unknown alignment.
    """

    source_words: int = 30_000  # K_x: symbols of the source vocabulary
    target_words: int = 30_000  # K_y
    embedding: int = 620  # m: numbers per word
    hidden: int = 1000  # n: units of the decoder, and of the encoder in each direction
    alignment: int = 1000  # n': hidden units of the alignment model
    maxout: int = 500  # l: outputs of the maxout layer, each the larger of two
    both_ways: bool = True  # False: the encoder reads from left to right alone
    align: str = "learned"  # "uniform": the plain mean of the annotations, for comparison
    bias: bool = True

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if isinstance(size, int) and not isinstance(size, bool) and size < 1:
                raise ValueError(f"{name} is {size}; choose 1 or more")
        if self.align not in ALIGNMENTS:
            raise ValueError(f"align is {self.align!r}; choose one of {ALIGNMENTS}")

    @property
    def annotation(self) -> int:
        """Numbers in the annotation of one source word: 2n, or n for a one-way encoder."""
        return self.hidden * (2 if self.both_ways else 1)


SIZES = {
    # The network of the paper, without biases.
    "rnnsearch": RNNSearchConfig(bias=False),
    # This book's, about 0.3 million parameters for numbers in words.
    "small": RNNSearchConfig(35, 35, embedding=64, hidden=96, alignment=96, maxout=96),
}


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
        attention = AdditiveAttention if config.align == "learned" else UniformAttention
        self.attention = attention(n, annotation, config.alignment)
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
        """`step` with given weights: context (eq. 5), new state (A.2.2), maxout output (eq. 4)."""
        before, annotations, keys, mask = state
        context = (weights[:, None] @ annotations)[:, 0]  # c_i = Σ_j α_ij h_j
        embedded = self.target_embedding(words)
        after = self.decoder_unit(self.decoder_unit.drive(embedded, context), before)
        deep = self.deep(torch.cat([before, embedded, context], -1))
        logits = self.output(deep.unflatten(-1, (-1, 2)).amax(-1))  # maxout: the larger of two
        return logits, (after, annotations, keys, mask)


@torch.no_grad()
def soft_alignment(
    model: RNNSearch, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch time"]
) -> Float[Tensor, "batch time source"]:
    """The weights with which `model` writes `target`: row i is α_i, as in the paper's Figure 3.

    source, target: as `sentences` makes them; the model is told every word before the next.
    """
    state, rows = model.encode(source), []
    before = torch.cat([torch.full_like(target[:, :1], BOS), target[:, :-1]], 1)
    for words in before.unbind(1):
        weights = model.search(state)
        rows.append(weights)
        _, state = model.write(words, state, weights)
    return torch.stack(rows, 1)


def batches_by_length(
    source: Int[Tensor, "n source"],
    target: Int[Tensor, "n time"],
    *,
    batch_size: int = 80,
    pool: int = 20,
    seed: int = 0,
) -> list[tuple[Int[Tensor, "batch source"], Int[Tensor, "batch time"]]]:
    """Batches of sentences of about the same length, so that little is computed on padding (B.2).

    The pairs are shuffled once. Of every `pool` times `batch_size` pairs in turn, the shortest
    targets make the first batch, the next longer ones the second, and so on; the batches come in
    random order. Pairs that do not fill a batch are left out.
    Raises ValueError if there are not enough pairs for one batch, or `pool` is below 1.
    """
    if pool < 1 or not 1 <= batch_size <= len(source):
        raise ValueError(
            f"batch_size={batch_size}, pool={pool}, {len(source)} pairs: both must be at least 1, "
            "and there must be a batch of pairs or more"
        )
    generator = torch.Generator().manual_seed(seed)
    batches: list[Tensor] = []
    for rows in torch.randperm(len(source), generator=generator).split(pool * batch_size):
        by_length = rows[real(target[rows]).sum(1).argsort(stable=True)]
        batches += [part for part in by_length.split(batch_size) if len(part) == batch_size]
    order = torch.randperm(len(batches), generator=generator).tolist()
    return [(source[batches[i]], target[batches[i]]) for i in order]
