"""Recurrent networks: the plain one, the LSTM, and what its cells do while it reads Shakespeare.

`TanhCell`, `unroll` and `backpropagate` are the plain network and back-propagation through time by
hand. `LSTMCell` is the LSTM one gate at a time. `state_jacobians` and `travel` measure how a change
of the state grows or fades on its way. `CharLSTM` reads and writes character by character;
`features` and `correlations` look for cells whose activation a person can name, `NGram` counts,
and `cell_picker` shows a text in the colours of any cell.

Where it departs from the papers:

- The LSTM has the forget gate of Gers et al. (2000), which the one of 1997 had not, and no
  peepholes. Its gradient is that of all paths; in 1997 it was cut off outside the cells.
- Karpathy et al. (2015) compare networks of several kinds, depths and sizes, on a novel and on
  source code. Ours has one layer of 256 cells, and learns with Adam, from plays.
- They look for cells by eye; we search all cells by correlation with features that we wrote down.
- Gradients are clipped by the norm of all parameters together, as in Pascanu et al. (2013).
- Task 2b of Hochreiter and Schmidhuber (1997) asks for every next symbol; we ask for the last one,
  with eight symbols in all, and of networks with 32 hidden units instead of one.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from casebook.training import History, evaluation_mode, fit, one_cycle

State = tuple[Tensor, Tensor]
"""Of an LSTM: the hidden state h and the cells c."""


# ---------------------------------------------------------------------------------------------
# The plain network, and gradients through time


class TanhCell(nn.Module):
    """h' = tanh(W_in x + W_rec h + b), a recurrence of the kind that Elman (1990) made known.

    scale: the recurrent weights begin as a random rotation or reflection times `scale`, so that
    all of their singular values are `scale`.
    """

    def __init__(self, inputs: int, hidden: int, scale: float = 1.0) -> None:
        super().__init__()
        self.w_in = nn.Parameter(torch.randn(hidden, inputs) / inputs**0.5)
        self.w_rec = nn.Parameter(torch.empty(hidden, hidden))
        self.bias = nn.Parameter(torch.zeros(hidden))
        nn.init.orthogonal_(self.w_rec, gain=scale)

    def forward(
        self, x: Float[Tensor, "B inputs"], h: Float[Tensor, "B H"]
    ) -> Float[Tensor, "B H"]:
        return torch.tanh(x @ self.w_in.T + h @ self.w_rec.T + self.bias)


def unroll(
    cell: TanhCell, inputs: Float[Tensor, "T B inputs"], state: Float[Tensor, "B H"]
) -> Float[Tensor, "T+1 B H"]:
    """The state before the first step and after each: one copy of the cell per step."""
    states = [state]
    for x in inputs:
        states.append(cell(x, states[-1]))
    return torch.stack(states)


def backpropagate(
    cell: TanhCell,
    inputs: Float[Tensor, "T B inputs"],
    states: Float[Tensor, "T+1 B H"],
    arriving: Float[Tensor, "T B H"],
) -> tuple[dict[str, Tensor], Float[Tensor, "T B H"]]:
    """Back-propagation through time, by hand.

    states: from `unroll`. arriving: the loss's derivative by each state that does not go through
    later states, such as the one through that step's output.
    Returns the gradients of the three parameters, and the loss's whole derivative by each state.
    """
    error = torch.zeros_like(states[0])
    gradients = {name: torch.zeros_like(p) for name, p in cell.named_parameters()}
    errors = []
    for t in reversed(range(len(inputs))):
        error = error + arriving[t]
        errors.append(error)
        through = error * (1 - states[t + 1] ** 2)  # through the tanh
        gradients["w_in"] += through.T @ inputs[t]  # the same weights in every step: add up
        gradients["w_rec"] += through.T @ states[t]
        gradients["bias"] += through.sum(0)
        error = through @ cell.w_rec  # one step back in time
    return gradients, torch.stack(errors[::-1])


# ---------------------------------------------------------------------------------------------
# The LSTM, one gate at a time


class LSTMCell(nn.Module):
    """Hochreiter and Schmidhuber's cell (1997) with the forget gate of Gers et al. (2000).

    Four layers look at the input and the state before; each is one gate, or what is to be written.
    """

    def __init__(self, inputs: int, hidden: int, forget_bias: float = 1.0) -> None:
        super().__init__()
        self.forget, self.write, self.candidate, self.read = (
            nn.Linear(inputs + hidden, hidden) for _ in range(4)
        )
        nn.init.constant_(self.forget.bias, forget_bias)

    def forward(
        self, x: Float[Tensor, "B inputs"], state: tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]
    ) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]:
        h, c = state
        seen = torch.cat([x, h], 1)
        f = self.forget(seen).sigmoid()  # how much of each cell to keep
        i = self.write(seen).sigmoid()  # how much of the candidate to write
        g = self.candidate(seen).tanh()  # the candidate
        o = self.read(seen).sigmoid()  # how much of each cell to show
        c = f * c + i * g
        return o * c.tanh(), c

    @classmethod
    def like(cls, theirs: nn.LSTMCell) -> "LSTMCell":
        """The same cell as PyTorch's, which stacks its matrices: write, forget, candidate, read."""
        ours = cls(theirs.input_size, theirs.hidden_size)
        weights = torch.cat([theirs.weight_ih, theirs.weight_hh], 1).chunk(4)
        biases = (theirs.bias_ih + theirs.bias_hh).chunk(4)
        layers = (ours.write, ours.forget, ours.candidate, ours.read)
        with torch.no_grad():
            for layer, weight, bias in zip(layers, weights, biases, strict=True):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
        return ours


@torch.no_grad()
def set_forget_bias(
    bias_ih: Float[Tensor, " gates"], bias_hh: Float[Tensor, " gates"], value: float
) -> None:
    """Begin with this forget bias in PyTorch's LSTM, which adds two: the other becomes 0."""
    bias_ih.view(4, -1)[1] = value
    bias_hh.view(4, -1)[1] = 0.0


# ---------------------------------------------------------------------------------------------
# How a change of the state travels


def state_jacobians(
    step: Callable[[Tensor, Tensor], Tensor],
    inputs: Float[Tensor, "T inputs"],
    state: Float[Tensor, " S"],
) -> Float[Tensor, "T S S"]:
    """The derivative of each state by the one before, along the path that `inputs` lead to.

    step: the next state, a vector, from an input and a state.
    """
    found = []
    for x in inputs:
        found.append(torch.func.jacrev(step, argnums=1)(x, state).detach())
        state = step(x, state).detach()
    return torch.stack(found)


def travel(jacobians: Float[Tensor, "T S S"]) -> Float[Tensor, " T"]:
    """The norm of the last state's derivative by the state 1, 2, ... T steps before it.

    The norm is the largest factor by which a small change can grow: the largest singular value of
    the product of the Jacobians in between.
    """
    product = torch.eye(jacobians.shape[-1], dtype=jacobians.dtype)
    norms = []
    for jacobian in jacobians.flip(0):
        product = product @ jacobian
        norms.append(torch.linalg.matrix_norm(product, 2))
    return torch.stack(norms)


def as_step(cell: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """A cell as a function of vectors: (input, state) to the next state.

    The state of an LSTM is its h and its c, one behind the other.
    """

    def step(x: Float[Tensor, " inputs"], state: Float[Tensor, " S"]) -> Float[Tensor, " S"]:
        if isinstance(cell, LSTMCell | nn.LSTMCell):
            h, c = cell(x[None], tuple(part[None] for part in state.chunk(2)))
            return torch.cat([h[0], c[0]])
        return cell(x[None], state[None])[0]

    return step


# ---------------------------------------------------------------------------------------------
# A network that writes letter by letter


@dataclass(frozen=True)
class CharLSTMConfig:
    """symbols: how many there are; hidden: cells of the one layer; forget_bias: where it begins."""

    symbols: int
    hidden: int = 256
    forget_bias: float = 1.0


class CharLSTM(nn.Module):
    """One LSTM layer that reads characters and, after each, gives logits for the next.

    A character comes in as a vector of zeros with a single one, as in Karpathy et al. (2015).
    """

    def __init__(self, config: CharLSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.lstm = nn.LSTM(config.symbols, config.hidden)
        self.read_out = nn.Linear(config.hidden, config.symbols)
        with torch.no_grad():
            self.lstm.bias_ih_l0.zero_()
            self.lstm.bias_hh_l0.zero_()
        set_forget_bias(self.lstm.bias_ih_l0, self.lstm.bias_hh_l0, config.forget_bias)

    def forward(
        self, codes: Int[Tensor, "T B"], state: State | None = None
    ) -> tuple[Float[Tensor, "T B V"], State]:
        ones = nn.functional.one_hot(codes, self.config.symbols).to(self.read_out.weight.dtype)
        hidden, state = self.lstm(ones, state)
        return self.read_out(hidden), state


class CharTanh(nn.Module):
    """The same, with the plain recurrence, whose weights begin as in `TanhCell`."""

    def __init__(self, symbols: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.symbols = symbols
        self.rnn = nn.RNN(symbols, hidden)
        self.read_out = nn.Linear(hidden, symbols)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, gain=scale)

    def forward(
        self, codes: Int[Tensor, "T B"], state: tuple[Tensor] | None = None
    ) -> tuple[Float[Tensor, "T B V"], tuple[Tensor]]:
        ones = nn.functional.one_hot(codes, self.symbols).to(self.read_out.weight.dtype)
        hidden, last = self.rnn(ones, None if state is None else state[0])
        return self.read_out(hidden), (last,)


def streams(
    codes: Int[Tensor, " n"], *, batch: int, time: int, seed: int
) -> Iterator[tuple[Int[Tensor, "T B"], Int[Tensor, "T B"], Bool[Tensor, ""]]]:
    """The text in `batch` columns, read from top to bottom in pieces of `time` characters, forever.

    Every pass cuts the text, taken as a ring, at another place. Each piece comes with the same
    piece one character further on, which is what to predict, and with whether it is the first of
    a pass: all others go on where the piece before ended, so that a network's state can be kept.

    Raises ValueError if the text is too short for one piece.
    """
    length = len(codes) // batch
    if length <= time:
        raise ValueError(
            f"{len(codes)} characters in {batch} columns are {length} each; a piece of {time} and "
            "the character after it need more. Take fewer columns or shorter pieces"
        )
    generator = torch.Generator().manual_seed(seed)
    while True:
        start = int(torch.randint(len(codes), (), generator=generator))
        columns = codes.roll(-start)[: batch * length].reshape(batch, length).T
        for begin in range(0, length - time, time):
            piece = columns[begin : begin + time + 1]
            yield piece[:-1], piece[1:], torch.tensor(begin == 0)


class Carried:
    """The loss, in nats per character, with the state handed on from one piece to the next.

    The state is detached: its numbers go on, the gradient stops. That is truncated
    back-propagation through time.
    """

    def __init__(self) -> None:
        self.state: State | None = None

    def __call__(
        self,
        model: nn.Module,
        inputs: Int[Tensor, "T B"],
        targets: Int[Tensor, "T B"],
        fresh: Bool[Tensor, ""],
    ) -> Float[Tensor, ""]:
        logits, state = model(inputs, None if fresh else self.state)
        self.state = tuple(part.detach() for part in state)
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def clip_before_step(optimizer: torch.optim.Optimizer, limit: float) -> list[float]:
    """From now on, scale gradients whose norm exceeds `limit` down to it before every step.

    The norm is that of all parameters' gradients together (Pascanu et al. 2013, algorithm 1).
    Returns the list to which each step adds the norm that it found, before scaling.
    """
    norms: list[float] = []
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def clip(*_: object) -> None:
        norms.append(nn.utils.clip_grad_norm_(parameters, limit).item())

    optimizer.register_step_pre_hook(clip)
    return norms


@dataclass(frozen=True)
class Schedule:
    """How the network that writes is trained.

    batch: columns read side by side; time: characters through which the gradient goes back.
    steps: of the optimiser. learning_rate: the highest, reached after `warm_up` of the steps, from
    where it falls along a cosine. clip: the largest norm of a gradient.
    """

    steps: int = 2500
    batch: int = 32
    time: int = 128
    learning_rate: float = 1e-2
    warm_up: float = 0.04
    clip: float = 1.0


def train(
    model: nn.Module,
    codes: Int[Tensor, " n"],
    *,
    seed: int,
    schedule: Schedule | None = None,
    max_steps: int | None = None,
    looks: Sequence[int] = (),
    look: Callable[[nn.Module], dict[str, float]] | None = None,
    description: str = "reading",
) -> tuple[History, list[float]]:
    """Train `model` in place on a text; return the history and every step's gradient norm.

    looks: steps after which `look(model)` is called; its numbers go into the history.
    With `max_steps` the run is cut off early, and is until then the same. Raises what `fit` and
    `streams` raise.
    """
    schedule = schedule or Schedule()
    batches = streams(codes, batch=schedule.batch, time=schedule.time, seed=seed)
    optimizer, scheduler = one_cycle(
        model,
        learning_rate=schedule.learning_rate,
        steps=schedule.steps,
        warm_up=schedule.warm_up,
        weight_decay=0.0,
    )
    norms = clip_before_step(optimizer, schedule.clip)
    history, loss = History(), Carried()
    end = min(schedule.steps, max_steps or schedule.steps)
    for stop in sorted({step for step in looks if 0 < step < end} | {end}):
        part = fit(
            model,
            batches,
            loss,
            optimizer,
            max_steps=stop - len(history.loss),
            scheduler=scheduler,
            evaluate=look if stop in looks else None,
            description=description,
        )
        history.loss += part.loss
        history.seconds += part.seconds
        for scores in part.evaluations:
            history.evaluations.append({**scores, "step": float(stop)})
    return history, norms


def nats_per_character(model: nn.Module, codes: Int[Tensor, " n"], columns: int = 16) -> float:
    """Mean negative log-likelihood of each character given all before it in its column.

    The text is read in `columns` long pieces side by side, each from a state of zeros.
    """
    length = len(codes) // columns
    text = codes[: columns * length].reshape(columns, length).T
    total, state = 0.0, None
    with evaluation_mode(model):
        for begin in range(0, length - 1, 512):
            piece = text[begin : begin + 513]
            logits, state = model(piece[:-1], state)
            total += nn.functional.cross_entropy(
                logits.flatten(0, 1), piece[1:].flatten(), reduction="sum"
            ).item()
    return total / (columns * (length - 1))


# ---------------------------------------------------------------------------------------------
# What a network that writes is good for


@torch.no_grad()
def write(
    model: CharLSTM,
    start: Int[Tensor, "n ..."],
    length: int,
    *,
    temperature: float,
    generator: torch.Generator,
    fixed: dict[int, float] | None = None,
) -> Int[Tensor, "length ..."]:
    """Read `start`, then draw `length` characters, each from what the network expects next.

    start: one text, or as columns several of one length, which are continued side by side.
    temperature: the logits are divided by it before the softmax.
    fixed: cells to hold at a value, by number, in every step: an experiment on the network.
    Raises ValueError unless the temperature is positive and there is a character to start from.
    """
    if temperature <= 0 or not len(start):
        raise ValueError(
            f"temperature is {temperature} and start has {len(start)} characters; choose a "
            "temperature above 0 and give at least one character"
        )
    state, written = None, list(start.reshape(len(start), -1))
    for step in range(len(start) + length - 1):
        logits, (hidden, cells) = model(written[step][None], state)
        for cell, value in (fixed or {}).items():
            cells[..., cell] = value
        state = (hidden, cells)
        if step >= len(start) - 1:
            probabilities = (logits[0] / temperature).softmax(1)
            written.append(torch.multinomial(probabilities, 1, generator=generator)[:, 0])
    return torch.stack(written[len(start) :]).reshape(length, *start.shape[1:])


@torch.no_grad()
def cell_states(
    model: CharLSTM, codes: Int[Tensor, " n"], *, columns: int = 32, warm_up: int = 500
) -> Float[Tensor, "n H"]:
    """tanh of every cell after reading each character, between -1 and 1.

    To save time the text is read in `columns` parts side by side; each begins `warm_up` characters
    early, so that its state is not empty.
    """
    length = -(-len(codes) // columns)
    ends = torch.arange(1, columns + 1) * length
    places = ends + torch.arange(-length - warm_up, 0)[:, None]  # (time, columns)
    lstm = model.lstm
    projected = lstm.weight_ih_l0.T + lstm.bias_ih_l0  # what each character adds to the gates
    hidden = cells = projected.new_zeros(columns, lstm.hidden_size)
    kept = []
    for step, place in enumerate(places):
        inside = ((place >= 0) & (place < len(codes))).to(hidden.dtype)[:, None]
        sums = projected[codes[place.clamp(0, len(codes) - 1)]]
        sums = sums + nn.functional.linear(hidden, lstm.weight_hh_l0, lstm.bias_hh_l0)
        into, forget, candidate, out = sums.chunk(4, 1)
        cells = forget.sigmoid() * cells + into.sigmoid() * candidate.tanh()
        cells = cells * inside
        hidden = out.sigmoid() * cells.tanh() * inside
        if step >= warm_up:
            kept.append(cells.tanh())
    return torch.stack(kept, 1).flatten(0, 1)[: len(codes)]


def features(text: str) -> dict[str, Float[Tensor, " n"]]:
    """What a person could say about the place in the text after each of its characters.

    Yes or no is 1 or 0; a position is a number of characters (or lines). Everything but the last
    two could be told from the text so far; those two look ahead.
    """
    n = len(text)
    rows: dict[str, list[float]] = {name: [] for name in FEATURES}
    in_name, line, word, sentence, lines = True, 0, 0, 0, 0
    quoted = False
    for i, character in enumerate(text):
        if character == "\n":
            if text[i - 1 : i] == "\n":
                in_name, lines = True, 0
            else:
                in_name, lines = False, lines + 1
            line = word = 0
        else:
            line += 1
            in_name = in_name and character != ":"
            word = word + 1 if character.isalpha() or character == "'" else 0
        sentence = 0 if character in ".?!" or in_name else sentence + 1
        quoted = character == "'" if not character.isalpha() else quoted
        rows["inside a speaker's name"].append(in_name)
        rows["position in the line"].append(line)
        rows["position in the word"].append(word)
        rows["position in the sentence"].append(sentence)
        rows["line of the speech"].append(lines)
        rows["an upper-case letter"].append(character.isupper())
        rows["a vowel"].append(character in "aeiouAEIOU")
        rows["a space or line break"].append(character.isspace())
        rows["after an apostrophe"].append(quoted)
        rows["the word ends here"].append(character.isalpha() and not text[i + 1 : i + 2].isalpha())
    end = 0.0
    for character in reversed(text):  # how does the sentence go out that this is part of?
        end = float(character == "?") if character in ".?!:" else end
        rows["inside a question"].append(end)
    rows["inside a question"].reverse()
    assert all(len(row) == n for row in rows.values())
    return {name: torch.tensor(row, dtype=torch.float) for name, row in rows.items()}


FEATURES = (
    "inside a speaker's name",
    "position in the line",
    "position in the word",
    "position in the sentence",
    "line of the speech",
    "an upper-case letter",
    "a vowel",
    "a space or line break",
    "after an apostrophe",
    "the word ends here",
    "inside a question",
)


def correlations(
    values: Float[Tensor, "n features"], cells: Float[Tensor, "n H"]
) -> Float[Tensor, "features H"]:
    """The correlation coefficient of every feature with every cell; 0 where one is constant."""

    def standard(x: Tensor) -> Tensor:
        x = x.double() - x.double().mean(0)
        return x / x.norm(dim=0).clamp_min(1e-12)

    return (standard(values).T @ standard(cells)).float()


# ---------------------------------------------------------------------------------------------
# What to compare it with


class NGram:
    """Character frequencies after the last `order` - 1 characters, smoothed by shorter contexts.

    The smoothing is Witten and Bell's: after a context that was followed n times, by u different
    characters, the counts get n of n + u parts of the trust and the next shorter context the rest.
    Below the shortest, every symbol is equally likely. Contexts are numbers, so an order above 10
    would not fit; a ValueError says so.
    """

    def __init__(self, codes: Int[Tensor, " n"], symbols: int, order: int) -> None:
        if order < 1 or symbols**order >= 2**63:
            raise ValueError(f"order is {order} with {symbols} symbols; choose 1 to 10")
        self.symbols, self.order = symbols, order
        self.tables = []
        for size in range(1, order + 1):
            grams, counts = self._grams(codes, size).unique(return_counts=True)
            contexts, place, followers = (grams // symbols).unique(
                return_inverse=True, return_counts=True
            )
            totals = torch.zeros(len(contexts), dtype=torch.long).index_add(0, place, counts)
            self.tables.append((grams, counts, contexts, totals, followers))

    def _grams(self, codes: Int[Tensor, " n"], size: int) -> Int[Tensor, " places"]:
        """The number of the `size` characters that end at each place where there are as many."""
        number = torch.zeros(len(codes) - size + 1, dtype=torch.long)
        for offset in range(size):
            number = number * self.symbols + codes[offset : offset + len(number)]
        return number

    def nats(self, codes: Int[Tensor, " n"]) -> list[float]:
        """Mean negative log-likelihood with contexts of 0, 1, ... `order` - 1 characters.

        The first characters of the text, which lack a context of the longest kind, are left out.
        """
        skip, means = self.order - 1, []
        probability = torch.full((len(codes) - skip,), 1 / self.symbols, dtype=torch.double)
        for size, (grams, counts, contexts, totals, followers) in enumerate(self.tables, start=1):
            asked = self._grams(codes, size)[skip - size + 1 :]
            seen = _look_up(grams, counts, asked)
            total = _look_up(contexts, totals, asked // self.symbols)
            kinds = _look_up(contexts, followers, asked // self.symbols)
            mixed = (seen + kinds * probability) / (total + kinds).clamp_min(1)
            probability = torch.where(total > 0, mixed, probability)
            means.append(-probability.log().mean().item())
        return means


def _look_up(
    keys: Int[Tensor, " k"], values: Int[Tensor, " k"], asked: Int[Tensor, " n"]
) -> Tensor:
    """The value of each key that is asked for, 0 for those that are not among the sorted keys."""
    place = torch.searchsorted(keys, asked).clamp_max(len(keys) - 1)
    return torch.where(keys[place] == asked, values[place], 0)


# ---------------------------------------------------------------------------------------------
# Remember the first symbol


def first_symbols(
    lag: int, batch: int, generator: torch.Generator, symbols: int = 8
) -> tuple[Float[Tensor, "T B V"], Int[Tensor, " B"]]:
    """Sequences of `lag` symbols whose first is one of two, and which of them it was.

    All others are drawn from the other symbols, so there is nothing else to learn; it is the
    classification at the heart of task 2b of Hochreiter and Schmidhuber (1997).
    """
    codes = torch.randint(2, symbols, (lag, batch), generator=generator)
    codes[0] = torch.randint(2, (batch,), generator=generator)
    return nn.functional.one_hot(codes, symbols).float(), codes[0]


class Rememberer(nn.Module):
    """A recurrent layer that reads to the end and then says which of two symbols came first.

    kind: "tanh" for the plain network, or "lstm" with the initial bias of its forget gates.
    """

    def __init__(self, kind: str, forget_bias: float = 1.0, symbols: int = 8, hidden: int = 32):
        super().__init__()
        if kind not in ("tanh", "lstm"):
            raise ValueError(f"kind is {kind!r}; choose 'tanh' or 'lstm'")
        self.layer = (nn.RNN if kind == "tanh" else nn.LSTM)(symbols, hidden)
        self.read_out = nn.Linear(hidden, 2)
        if kind == "lstm":
            set_forget_bias(self.layer.bias_ih_l0, self.layer.bias_hh_l0, forget_bias)

    def forward(self, sequences: Float[Tensor, "T B V"]) -> Float[Tensor, "B 2"]:
        return self.read_out(self.layer(sequences)[0][-1])


# ---------------------------------------------------------------------------------------------
# Text in the colours of a cell


LEVELS = "abcdefghijk"
"""Names of the eleven colours from -1, orange, over 0, no colour, to +1, blue."""


def levels(values: Float[Tensor, " n"]) -> str:
    """One letter per value between -1 and 1: the nearest of the eleven colours."""
    places = ((values.clamp(-1, 1) + 1) * 5).round().long()
    return "".join(LEVELS[place] for place in places.tolist())


def colored_text(text: str, values: Float[Tensor, " n"]) -> str:
    """HTML of the text, every character on the colour of its value. Needs `color_style`.

    Raises ValueError unless there is one value per character.
    """
    if len(text) != len(values):
        raise ValueError(f"{len(text)} characters and {len(values)} values; give one for each")
    tiles = [
        f'<i class="{level}">{"↵" if character == chr(10) else escape(character)}</i>'
        + ("\n" if character == "\n" else "")
        for character, level in zip(text, levels(values), strict=True)
    ]
    return f'<pre class="casebook-cells">{"".join(tiles)}</pre>'


def color_style() -> str:
    """The style sheet of `colored_text`: thin enough a colour to read through, day and night."""
    rules = [
        ".casebook-cells{white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.6;text-align:left;"
        "margin:.3rem 0 .9rem;padding:0!important;color:inherit;background:none}",
        ".casebook-cells i{font-style:normal;padding:.12em 0}",
    ]
    for place, level in enumerate(LEVELS):
        color = "230,159,0" if place < 5 else "0,114,178"
        rules.append(
            f".casebook-cells .{level}{{background:rgba({color},{abs(place - 5) * 0.12:.2f})}}"
        )
    return f"<style>{''.join(rules)}</style>"


def cell_picker(text: str, cells: Float[Tensor, "n H"], named: dict[str, int], *, alt: str) -> str:
    """HTML in which the reader picks a cell, by name or by number, and the text takes its colours.

    named: cells to offer by what they seem to do; the first is shown to begin with, and stays
    where there are no scripts. Everything is in the returned text: no file, no network.
    """
    rows = [levels(column) for column in cells.T]
    first = next(iter(named.values()))
    key = f"cells-{hashlib.sha256((text + ''.join(rows)).encode()).hexdigest()[:8]}"
    options = "".join(
        f'<option value="{cell}">{escape(name)} (cell {cell})</option>'
        for name, cell in named.items()
    )
    last, row = len(rows) - 1, "display:flex;flex-wrap:wrap;gap:.4rem 1.2rem;font-size:.85rem"
    return f"""{color_style()}<div id="{key}" role="group" aria-label="{escape(alt)}">
<p style="{row};align-items:center;margin:0">
<label>found: <select style="max-width:18rem">{options}
<option value="">another</option></select></label>
<label>cell <input type="number" min="0" max="{last}" value="{first}" style="width:4.5em"></label>
<input type="range" min="0" max="{last}" value="{first}" aria-label="cell" style="width:11rem">
</p>
{colored_text(text, cells[:, first])}</div>
<script>
(() => {{
  const box = document.getElementById("{key}"), rows = {json.dumps(rows)};
  const [pick, number, slide] = box.querySelectorAll("select, input");
  const tiles = box.querySelectorAll("i");
  const show = cell => {{
    const row = rows[cell];
    if (!row) return;
    tiles.forEach((tile, i) => {{ tile.className = row[i]; }});
    number.value = slide.value = cell;
    pick.value = [...pick.options].some(o => o.value === String(cell)) ? cell : "";
  }};
  for (const input of [pick, number, slide]) {{
    input.addEventListener("input", () => show(input.value));
  }}
}})();
</script>"""
