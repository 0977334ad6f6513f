"""The card at the head of a chapter: what it is about, how long it takes to read and to run.

A paper's chapter begins with ``paper-card``, whose argument is the paper's key in the
bibliography and whose body is the paper's claim in one sentence::

    ```{paper-card} krizhevsky2012
    A large convolutional network, trained on two GPUs, ...
    ```

A lab begins with ``lab-card``, whose body says what the reader builds; the opener of a part with
``opener-card``, whose body says what the part is about. All are made of ordinary docutils nodes, so
the Colab edition shows them as text.

The minutes are counted from the page's prose; the seconds are those that the page's own execution
took, from the record that comes with its outputs.
"""

from collections.abc import Iterable

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from pybtex.database import Entry, Person
from pybtex.richtext import Text
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

WORDS_PER_MINUTE = 220
"""How fast a careful reader reads prose."""

SECONDS_PER_FIGURE = 15
"""How long a figure or a table is looked at."""

SECONDS_PER_EQUATION = 15
"""How long a displayed equation is looked at."""

NAMED_AUTHORS = 6
"""A paper with more authors than this is given its first three and the number of the others."""


class CardTimes(nodes.General, nodes.Inline, nodes.Element):
    """Stands where the minutes and seconds go, until the whole page has been read."""


class LabCard(SphinxDirective):
    """``lab-card``: what the reader builds (the body), minutes to read, seconds to run."""

    has_content = True
    kind = "lab"
    eyebrow = "The lab"

    def run(self) -> list[nodes.Node]:
        """Return the card: a container of paragraphs."""
        if not self.content:
            raise self.error(f"{self.name}: its body must say, in a sentence, {self.body_says}")
        claim = nodes.container(classes=["card-claim"])
        self.state.nested_parse(self.content, self.content_offset, claim)
        times = nodes.paragraph("", "", CardTimes(), classes=["card-times"])
        eyebrow = nodes.paragraph("", self.eyebrow, classes=["card-eyebrow"])
        card = nodes.container(
            "", eyebrow, *self.heading(), claim, times, classes=[f"{self.kind}-card"]
        )
        self.set_source_info(card)
        return [card]

    body_says = "what the reader builds"

    def heading(self) -> list[nodes.Node]:
        """Return what stands above the body: nothing, in a lab."""
        return []


class OpenerCard(LabCard):
    """``opener-card``: what a part of the book is about (the body), minutes, seconds."""

    kind = "opener"
    eyebrow = "Where this part begins"
    body_says = "what the part is about"


class PaperCard(LabCard):
    """``paper-card KEY``: the paper's title, authors, year, venue and links above its claim."""

    required_arguments = 1
    kind = "paper"
    eyebrow = "The paper"
    body_says = "what the paper claims"

    def heading(self) -> list[nodes.Node]:
        """Return title, authors, and venue with links, read from the bibliography."""
        key = self.arguments[0]
        entries = self.env.get_domain("cite").bibdata.data.entries
        if key not in entries:
            raise self.error(
                f"{self.name}: no {key!r} in the bibliography; add it to book/references.bib"
                f" or use one of: {', '.join(sorted(entries))}"
            )
        entry = entries[key]
        links = addresses(entry)
        title = plain(entry.fields["title"])
        venue = nodes.paragraph("", ", ".join(publication(entry)), classes=["card-venue"])
        for label, address in links:
            venue += [nodes.Text(" · "), nodes.reference("", label, refuri=address)]
        linked = nodes.reference("", title, refuri=links[0][1]) if links else nodes.Text(title)
        return [
            nodes.paragraph("", "", linked, classes=["card-title"]),
            nodes.paragraph("", authors(entry.persons["author"]), classes=["card-authors"]),
            venue,
        ]


def plain(latex: str) -> str:
    """Return a field of the bibliography as plain text: no braces, no accents in LaTeX."""
    return str(Text.from_latex(" ".join(latex.split())))


def authors(people: Iterable[Person]) -> str:
    """Return the authors' names in reading order."""
    parts = ("first", "middle", "prelast", "last", "lineage")
    names = [
        plain(" ".join(word for part in parts for word in person.get_part(part)))
        for person in people
    ]
    if len(names) > NAMED_AUTHORS:
        return f"{', '.join(names[:3])} and {len(names) - 3} others"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def publication(entry: Entry) -> list[str]:
    """Return where and when a paper appeared."""
    fields = entry.fields
    venue = fields.get("booktitle") or fields.get("journal") or fields.get("note")
    return [plain(part) for part in (venue, fields["year"]) if part]


def addresses(entry: Entry) -> list[tuple[str, str]]:
    """Return the paper's links, each with its label: DOI first, then arXiv, then any other."""
    fields = entry.fields
    found = []
    if doi := fields.get("doi"):
        found.append((f"doi:{doi}", f"https://doi.org/{doi}"))
    if eprint := fields.get("eprint"):
        found.append((f"arXiv:{eprint}", f"https://arxiv.org/abs/{eprint}"))
    if (url := fields.get("url")) and not found:
        found.append(("link", url))
    return found


def reading_minutes(document: nodes.document) -> int:
    """Return the minutes it takes to read a page: its prose, figures and equations, not its code.

    Worked solutions and the references are not counted: few read them in passing.
    """
    words = 0
    for node in document.findall(nodes.Text):
        if not any(_unread(parent) for parent in _parents(node)):
            words += len(node.astext().split())
    pictures = sum(1 for _ in document.findall(nodes.figure))
    tables = sum(1 for _ in document.findall(nodes.table))
    equations = sum(1 for _ in document.findall(nodes.math_block))
    seconds = 60 * words / WORDS_PER_MINUTE
    seconds += SECONDS_PER_FIGURE * (pictures + tables) + SECONDS_PER_EQUATION * equations
    return max(1, round(seconds / 60))


def _parents(node: nodes.Node) -> Iterable[nodes.Node]:
    while node := node.parent:
        yield node


def _unread(node: nodes.Node) -> bool:
    """Say whether what stands inside a node is no prose."""
    if isinstance(node, nodes.literal_block | nodes.math_block | nodes.raw | nodes.table):
        return True
    # A cell's only prose are the captions of its figures, and these are counted as figures.
    return "cell" in _classes(node) or "solution" in _classes(node)


def _classes(node: nodes.Node) -> list[str]:
    return node["classes"] if isinstance(node, nodes.Element) else []


def in_words(seconds: float) -> str:
    """Return a duration as a person would say it.

    >>> in_words(0.4), in_words(42.3), in_words(100)
    ('a second', '42 seconds', '1 minute 40 seconds')
    """
    whole = max(1, round(seconds))
    minutes, rest = divmod(whole, 60)
    parts = []
    if minutes:
        parts.append("1 minute" if minutes == 1 else f"{minutes} minutes")
    if rest:
        parts.append("1 second" if rest == 1 else f"{rest} seconds")
    return "a second" if whole == 1 else " ".join(parts)


def fill_times(app: Sphinx, document: nodes.document) -> None:
    """Write minutes and seconds into the card, now that the whole page has been read.

    The card's claim also becomes the page's description in search results and previews.
    """
    for claim in document.findall(lambda node: "card-claim" in _classes(node)):
        app.env.metadata[app.env.docname].setdefault("og:description", claim.astext())
    for times in list(document.findall(CardTimes)):
        minutes = reading_minutes(document)
        text = f"{minutes} minute{'' if minutes == 1 else 's'} to read"
        execution = NbMetadataCollector.get_exec_data(app.env, app.env.docname)
        if execution and execution["runtime"]:
            text += f" · {in_words(execution['runtime'])} to run, on one processor core"
        times.replace_self(nodes.Text(text))


def setup(app: Sphinx) -> None:
    """Add the directives."""
    app.add_directive("paper-card", PaperCard)
    app.add_directive("lab-card", LabCard)
    app.add_directive("opener-card", OpenerCard)
    app.connect("doctree-read", fill_times)
