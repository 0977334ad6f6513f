"""Three ways to translate, of equal size, on short and on long sentences; and why the third works.

English to German, lists of numbers in words. Every run learns from 20,000 sentences, in batches of
about the same length, and is judged on sentences of 1 to 12 numbers none of which occurs in
training. Runs are called "MODEL-LONGEST/STEPS/SEED". All models are trained on sentences of up to
4 numbers; as in the paper, RNNencdec and RNNsearch are trained again on longer ones, of up to 8.

* "RNNencdec" (Cho et al. 2014) sees the source as one vector, "Seq2Seq" (Sutskever et al. 2014) as
  the state of two LSTM layers that have read it backwards, "RNNsearch" (Bahdanau et al. 2015) as
  one annotation per word.
* "RNNencdec-4" also runs for more steps, until it has had more of the processor's time than
  "RNNsearch-4".
* "uniform" is RNNsearch with all weights equal, "one way" RNNsearch with one reader.

All have between 0.30 and 0.31 million parameters.

History: `loss` of every step; after each eighth of them (`step`, and `seconds` of the processor
spent on training until then) the share of exact translations of k numbers, `exact/k`.
Metrics at the end, for every k from 1 to 12: `exact/k`; `bleu/k`, from 0 to 100; `prefix/k`, the
mean share of a translation before its first wrong word; `length/k`, words written per word of the
reference. Also `parameters` and `seconds`; and for models that learn to align, on sentences of 4
numbers, `aligned/0`: the share of words whose largest weight is on the word that they translate.
`aligned/1` compares with the weights of the next step instead, `aligned/-1` of the one before.
`inside` is the share of words whose largest weight is somewhere in the number they belong to.
"""

import time
from itertools import chain, islice, repeat

import sacrebleu
import torch
from torch import Tensor

from casebook.data import number_sentences, number_words
from casebook.record import Run
from casebook.sequence import rnn_encoder_decoder, seq2seq
from casebook.sequence.bahdanau import (
    RNNSearch,
    RNNSearchConfig,
    agreement,
    soft_alignment,
)
from casebook.sequence.rnn_encoder_decoder import (
    EncoderDecoder,
    exact_match,
    greedy,
    sentences,
    translation_loss,
)
from casebook.sequence.seq2seq import batches_by_length
from casebook.text import Vocabulary, real
from casebook.training import count_parameters, evaluation_mode, fit, one_cycle, seed_everything

STEPS, MORE_STEPS = 400, 900
SEEDS = (0, 1, 2)
MODELS = (
    f"RNNencdec-4/{STEPS}",
    f"RNNencdec-4/{MORE_STEPS}",
    f"Seq2Seq-4/{STEPS}",
    f"RNNsearch-4/{STEPS}",
    f"uniform-4/{STEPS}",
    f"one way-4/{STEPS}",
    f"RNNencdec-8/{STEPS}",
    f"RNNsearch-8/{STEPS}",
)
RUNS = tuple(f"{model}/{seed}" for model in MODELS for seed in SEEDS)
KEPT = f"RNNsearch-4/{STEPS}/0"
"""The run whose weights are kept."""

PAIRS, BATCH, POOL, RATE, CLIP = 20_000, 64, 20, 5e-3, 1.0
JUDGED, TESTED = range(1, 13), 200
LOOKED_AT, LOOKS, LOOKED_THROUGH = (1, 2, 4), 8, 100


def vocabularies() -> tuple[Vocabulary, Vocabulary]:
    """Of English and of German."""
    english, german = texts(number_sentences(PAIRS, (1, 4), seed=1))
    return Vocabulary.of(english), Vocabulary.of(german)


def texts(numbers: list[tuple[int, ...]]) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Sentences of numbers in English and in German."""
    words = number_words()
    return (
        [words.pieces("english", *sentence) for sentence in numbers],
        [words.pieces("german", *sentence) for sentence in numbers],
    )


def build(model: str, source_words: int, target_words: int) -> EncoderDecoder:
    """The model of that name, with initial weights."""
    words = source_words, target_words
    if model == "RNNencdec":
        config = rnn_encoder_decoder.Config(*words, hidden=124, maxout=124)
        return rnn_encoder_decoder.RNNEncoderDecoder(config)
    if model == "Seq2Seq":
        return seq2seq.Seq2Seq(seq2seq.Seq2SeqConfig(*words, hidden=101))
    change = {"RNNsearch": {}, "uniform": {"align": "uniform"}, "one way": {"both_ways": False}}
    size = {"RNNsearch": 96, "uniform": 101, "one way": 121}[model]
    return RNNSearch(
        RNNSearchConfig(*words, hidden=size, alignment=size, maxout=size, **change[model])
    )


def run(name: str, max_steps: int | None = None) -> Run:
    """One of RUNS."""
    variant, steps, seed = name.split("/")
    model, longest = variant.split("-")
    english, german = vocabularies()
    drawn = number_sentences(PAIRS, (1, int(longest)), seed=1)
    seed_everything(int(seed))
    net = build(model, len(english), len(german))
    pairs = encoded(drawn, english, german)
    batches = batches_by_length(*pairs, batch_size=BATCH, pool=POOL, seed=int(seed))
    endless = chain.from_iterable(repeat(batches))
    optimizer, scheduler = one_cycle(net, learning_rate=RATE, steps=int(steps), weight_decay=0.0)
    history: dict[str, list[float]] = {"loss": [], "step": [], "seconds": []}
    limit, seconds = max_steps or int(steps), 0.0
    while (done := len(history["loss"])) < limit:
        until = min(done + int(steps) // LOOKS, limit)
        part = list(islice(endless, until - done))
        start = time.process_time()
        fitted = fit(net, part, translation_loss, optimizer, scheduler=scheduler, clip_norm=CLIP)
        seconds += time.process_time() - start
        history["loss"] += fitted.loss
        history["step"].append(until)
        history["seconds"].append(seconds)
        if max_steps is None:
            for numbers in LOOKED_AT:
                exact = judge(net, numbers, LOOKED_THROUGH, english, german)["exact"]
                history.setdefault(f"exact/{numbers}", []).append(exact)
    if max_steps is not None:
        return Run(history)
    metrics = {"parameters": float(count_parameters(net)), "seconds": seconds}
    for numbers in JUDGED:
        scores = judge(net, numbers, TESTED, english, german)
        metrics |= {f"{key}/{numbers}": score for key, score in scores.items()}
    if model in ("RNNsearch", "one way"):
        metrics |= alignment(net, english, german)
    kept = {key: tensor.half() for key, tensor in net.state_dict().items()} if name == KEPT else {}
    return Run(history, metrics, kept)


def encoded(
    numbers: list[tuple[int, ...]], english: Vocabulary, german: Vocabulary
) -> tuple[Tensor, Tensor]:
    """Sentences of numbers as rows of both languages."""
    source, target = texts(numbers)
    return sentences(source, english), sentences(target, german)


def judge(
    net: EncoderDecoder, numbers: int, tested: int, english: Vocabulary, german: Vocabulary
) -> dict[str, float]:
    """How well `net` translates `tested` sentences of that many numbers, all of them new to it."""
    drawn = number_sentences(tested, (numbers, numbers), seed=100 + numbers, new=True)
    source, target = encoded(drawn, english, german)
    with evaluation_mode(net):
        written = greedy(net, source, target.shape[1] + 10)
    ours, theirs = ([" ".join(german.decode(row)) for row in rows] for rows in (written, target))
    width = min(written.shape[1], target.shape[1])
    right = (written[:, :width] == target[:, :width]).long().cumprod(1).bool()
    return {
        "exact": exact_match(written, target).float().mean().item(),
        # The words are cut already; `force` keeps sacrebleu from remarking on it.
        "bleu": sacrebleu.corpus_bleu(ours, [theirs], tokenize="none", force=True).score,
        "prefix": ((right & real(target)[:, :width]).sum(1) / real(target).sum(1)).mean().item(),
        "length": (real(written).sum() / real(target).sum()).item(),
    }


def links(drawn: list[tuple[int, ...]], target: Tensor) -> Tensor:
    """For each word of `target` the place of its source word; -1 if there is none, and at PAD."""
    known = torch.full_like(target, -1)
    for row, sentence in zip(known, drawn, strict=True):
        for place, position in enumerate(number_words().alignment(*sentence)):
            row[place] = -1 if position is None else position
    return known


def alignment(net: RNNSearch, english: Vocabulary, german: Vocabulary) -> dict[str, float]:
    """How often the largest weight is on the source word of the word that is being written."""
    drawn = number_sentences(TESTED, (4, 4), seed=104, new=True)
    source, target = encoded(drawn, english, german)
    known = links(drawn, target)
    weights = soft_alignment(net, source, target)
    aligned = {f"aligned/{later}": agreement(weights, known, later) for later in (-1, 0, 1)}
    which_number = (source == english.numbers[";"]).cumsum(1)  # of each place in the source
    looks_at = which_number.gather(1, weights.argmax(-1))
    belongs_to = which_number.gather(1, known.clamp(min=0))
    inside = (looks_at == belongs_to)[known >= 0].double().mean().item()
    return {**aligned, "inside": inside}
