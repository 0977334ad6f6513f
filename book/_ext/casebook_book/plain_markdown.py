"""Markdown and LaTeX from a page's resolved tree, for the Colab edition.

The text has to read the same in Colab, JupyterLab and VS Code, so it keeps to what all three show.
What they cannot do shapes it: Colab shows neither SVG in a text cell nor cell attachments, so
drawings are embedded as PNG; and a code cell stands alone, so the box around a solution is a
heading when there is code in it.

A kind of node that no rule covers is an error, never silently dropped. The rules are the methods
`block_<kind>` and `inline_<kind>` of `Translator`.
"""

import base64
import html
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import vl_convert
from docutils import nodes
from sphinx import addnodes
from sphinx.errors import SphinxError
from sphinx.locale import admonitionlabels
from sphinx.util.math import get_node_equation_number

CARDS = {"paper-card", "lab-card", "opener-card"}  # containers that the site draws as a box
BOLD = {"card-eyebrow", "card-title"}  # paragraphs in them that are more than text


class NoMarkdown(SphinxError):
    """Something on a page that has no plain Markdown."""

    category = "Colab edition"


@dataclass(frozen=True)
class Prose:
    """A piece of Markdown. A heading begins a text cell, so that Colab folds what it heads."""

    markdown: str
    heading: bool = False


@dataclass(frozen=True)
class Code:
    """A code cell of the page, by its place among the page's cells.

    caption: Markdown, of the figures that it draws.
    """

    index: int
    hidden: bool = False
    caption: str = ""


Block = Prose | Code


class Translator:
    """Turns the resolved tree of one page into Markdown and code cells.

    A node is handled by the method named after its class, or after the nearest of its base
    classes that has one. Methods `block_...` return blocks, methods `inline_...` a string.
    """

    def __init__(self, builder: Any, docname: str) -> None:
        self.builder = builder  # a ColabBuilder
        self.config = builder.config
        self.docname = docname
        self.depth = 0  # of the heading above

    # -- dispatch

    def block(self, node: nodes.Node) -> list[Block]:
        """The blocks of a node that stands where a paragraph can stand."""
        method = self._method("block", node)
        if method:
            return method(node)
        if self._method("inline", node):  # an image or a raw drawing between paragraphs
            return self._prose(self.inline(node).strip())
        raise self._unknown(node)

    def inline(self, node: nodes.Node) -> str:
        """The Markdown of a node within a paragraph."""
        method = self._method("inline", node)
        if method is None:
            raise self._unknown(node)
        return method(node)

    def _method(self, kind: str, node: nodes.Node) -> Callable[[Any], Any] | None:
        names = (f"{kind}_{base.__name__}" for base in type(node).__mro__)
        return next((getattr(self, name) for name in names if hasattr(self, name)), None)

    def _unknown(self, node: nodes.Node) -> NoMarkdown:
        return self.error(
            node, f"there is no rule for a node {type(node).__name__!r}; add one to Translator"
        )

    def error(self, node: nodes.Node, message: str) -> NoMarkdown:
        """An error that names the page and, where it is known, the line."""
        line = next((n.line for n in _upwards(node) if getattr(n, "line", None)), None)
        return NoMarkdown(f"{self.docname}{f':{line}' if line else ''}: {message}")

    def blocks(self, children: Iterable[nodes.Node]) -> list[Block]:
        """The blocks of several nodes; neighbours that are inline make one paragraph."""
        found: list[Block] = []
        line: list[nodes.Node] = []
        for child in children:
            if isinstance(child, nodes.Text | nodes.Inline) and not self._method("block", child):
                line.append(child)
            else:
                found += self._paragraph(line) + self.block(child)
                line = []
        return found + self._paragraph(line)

    def inlines(self, children: Iterable[nodes.Node]) -> str:
        """The Markdown of several nodes within a paragraph.

        A drawing written on one line arrives as many nodes, and is put together again here.
        """
        found: list[str] = []
        drawn = ""
        for child in children:
            is_raw = isinstance(child, nodes.raw)
            if drawn or (is_raw and re.match(r"<svg\b(?!.*</svg>)", child.astext(), re.S)):
                drawn += child.astext() if is_raw else html.escape(child.astext())
                if drawn.endswith("</svg>"):
                    found.append(drawing(drawn))
                    drawn = ""
            else:
                found.append(self.inline(child))
        return "".join(found)

    def markdown(self, children: Iterable[nodes.Node], where: str) -> str:
        """Blocks as one Markdown text. Raises NoMarkdown if there is a code cell among them."""
        blocks = self.blocks(children)
        for block in blocks:
            if isinstance(block, Code):
                raise NoMarkdown(f"{self.docname}: a code cell cannot stand in a {where}")
        return "\n\n".join(block.markdown for block in blocks)

    def _prose(self, markdown: str) -> list[Block]:
        return [Prose(markdown)] if markdown else []

    def _paragraph(self, children: Sequence[nodes.Node]) -> list[Block]:
        return self._prose(_safe_start(self.inlines(children).strip()))

    def _nothing(self, node: nodes.Node) -> Any:
        return []

    # -- the page's structure

    def block_document(self, node: nodes.document) -> list[Block]:
        """A page. HTML outside of its sections is scripts that Jupyter Book's extensions add."""
        return self.blocks(child for child in node.children if not isinstance(child, nodes.raw))

    def block_section(self, node: nodes.section) -> list[Block]:
        self.depth += 1
        found = self.blocks(node.children)
        self.depth -= 1
        return found

    def block_title(self, node: nodes.title) -> list[Block]:
        anchor = f"#{node.parent['ids'][0]}" if self.depth > 1 else ""
        number = self.builder.secnumbers.get(anchor)
        label = ".".join(map(str, number)) + self.config.html_secnumber_suffix if number else ""
        return [self._heading(label + self.inlines(node.children), self.depth)]

    def _heading(self, text: str, depth: int) -> Prose:
        return Prose(f"{'#' * min(max(depth, 1), 6)} {text}", heading=True)

    def block_rubric(self, node: nodes.rubric) -> list[Block]:
        return self._prose(_bold(self.inlines(node.children)))

    def block_paragraph(self, node: nodes.paragraph) -> list[Block]:
        """A paragraph, or one of the lines that the site sets in bold: a card's title."""
        if BOLD & set(node["classes"]):
            return self._prose(_bold(self.inlines(node.children)))
        return self.blocks(node.children)

    def block_block_quote(self, node: nodes.block_quote) -> list[Block]:
        return _quoted(self.blocks(node.children))

    def block_attribution(self, node: nodes.attribution) -> list[Block]:
        return self._prose(f"— {self.inlines(node.children)}")

    def block_transition(self, node: nodes.transition) -> list[Block]:
        return self._prose("---")

    def block_compound(self, node: nodes.compound) -> list[Block]:
        return self.blocks(node.children)

    def block_line_block(self, node: nodes.line_block) -> list[Block]:
        lines = [
            child.astext() if isinstance(child, nodes.line_block) else self.inlines(child.children)
            for child in node.children
        ]
        return self._prose("<br>\n".join(map(_safe_start, lines)))

    # Nothing to see on the site either, or only its navigation.
    block_comment = block_substitution_definition = block_tabular_col_spec = _nothing
    block_meta = block_toctree = block_highlightlang = _nothing

    # -- code

    def block_literal_block(self, node: nodes.literal_block) -> list[Block]:
        language = node.get("language", "").replace("ipython3", "python")
        return self._prose(_fenced(node.astext(), "" if language == "none" else language))

    def block_doctest_block(self, node: nodes.doctest_block) -> list[Block]:
        return self._prose(_fenced(node.astext(), "pycon"))

    def block_container(self, node: nodes.container) -> list[Block]:
        """Cells of the notebook, and boxes: captioned code, dropdowns, tabs, cards."""
        if node.get("nb_element") == "cell_code":
            return self._cell(node)
        component = node.get("design_component")
        if component == "dropdown" or "toggle" in node["classes"]:
            titled = bool(node.get("has_title"))
            title = self.inlines(node.children[0].children) if titled else "More"
            return self._details(title, self.blocks(node.children[titled:]), node)
        if component == "card-title":
            return self._prose(_bold(self.inlines(node.children)))
        found = self.blocks(node.children)
        return _quoted(found) if CARDS & set(node["classes"]) else found

    def block_caption(self, node: nodes.caption) -> list[Block]:
        """Of a code block or a figure, with its number."""
        text = self.inlines(node.children)
        kind = "figure" if isinstance(node.parent, nodes.figure) else "code-block"
        number = self.number(kind, node.parent)
        return self._prose(f"**{number}.** {text}" if number else f"*{text}*")

    def _cell(self, node: nodes.container) -> list[Block]:
        """A code cell, and the captions of the figures that it draws."""
        captions = [
            self.markdown([child], "caption")
            for figure in node.findall(nodes.figure)
            for child in figure.children
            if isinstance(child, nodes.caption | nodes.legend)
        ]
        return [Code(node["cell_index"], caption="\n\n".join(captions))]

    # -- mathematics

    def block_math_block(self, node: nodes.math_block) -> list[Block]:
        number = get_node_equation_number(self, node) if node["number"] else ""
        tag = f" \\tag{{{number}}}" if number else ""
        return self._prose(f"$$\n{display_math(node.astext())}{tag}\n$$")

    def inline_math(self, node: nodes.math) -> str:
        return f"${portable_math(node.astext())}$"

    # -- lists

    def block_bullet_list(self, node: nodes.bullet_list) -> list[Block]:
        return self._list(node, ["- "] * len(node.children))

    def block_enumerated_list(self, node: nodes.enumerated_list) -> list[Block]:
        start = node.get("start", 1)
        return self._list(node, [f"{start + i}. " for i in range(len(node.children))])

    def _list(self, node: nodes.Element, markers: Sequence[str]) -> list[Block]:
        texts = list(map(self._item, node.children))
        tight = not any("\n\n" in text for text in texts)
        return self._prose(("\n" if tight else "\n\n").join(map(_hanging, markers, texts)))

    def _item(self, item: nodes.list_item) -> str:
        """A list item; a list within it follows its first line at once."""
        lists = all(isinstance(child, nodes.Sequential) for child in item.children[1:])
        parts = (self.markdown([child], "list") for child in item.children)
        return ("\n" if lists else "\n\n").join(parts)

    def block_definition_list(self, node: nodes.definition_list) -> list[Block]:
        """Markdown has none: one bullet for each term."""
        items = []
        for item in node.children:
            terms = [_bold(self.inlines(c.children)) for c in item if isinstance(c, nodes.term)]
            body = [c for c in item if isinstance(c, nodes.definition)]
            items.append(f"{', '.join(terms)}: {self.markdown(body, 'list')}")
        return self._prose("\n".join(_hanging("- ", item) for item in items))

    def block_definition(self, node: nodes.definition) -> list[Block]:
        return self.blocks(node.children)

    def block_glossary(self, node: addnodes.glossary) -> list[Block]:
        return self.blocks(node.children)

    # -- boxes

    def block_Admonition(self, node: nodes.Element) -> list[Block]:
        """Notes, tips, warnings, theorems: anything that the site shows as a titled box."""
        title, body = self._split_title(node)
        title = title or str(admonitionlabels.get(node.tagname, ""))
        if "countertype" in node:  # a theorem or definition: "Theorem 1 (title)"
            number = ".".join(map(str, self._numbers(node["countertype"], node)))
            title = " ".join([node["realtype"].title(), number, title.strip()]).strip()
        blocks = self.blocks(body)
        if "dropdown" in node["classes"]:
            return self._details(title, blocks, node)
        return _quoted([*self._prose(_bold(title)), *blocks])

    block_topic = block_sidebar = block_enumerable_node = block_unenumerable_node = block_Admonition
    block_proof_node = block_Admonition

    def block_exercise_node(self, node: nodes.Element) -> list[Block]:
        """An exercise, under a heading: its solution may hold code, which a box cannot."""
        title, body = self._split_title(node)
        number = self.number("exercise", node)
        return [self._heading(f"{number or ''}{title}", self.depth + 1), *self.blocks(body)]

    block_exercise_enumerable_node = block_exercise_node

    def block_solution_node(self, node: nodes.Element) -> list[Block]:
        """A solution: folded away if it is but text, and its code hidden if it is not."""
        title, body = self._split_title(node)
        title = re.sub(r"\[(.*?)\]\(http[^)]*\)", r"\1", title)  # it links to the exercise
        blocks = self.blocks(body)
        folded = "dropdown" in node["classes"]
        if folded and not any(isinstance(block, Code) for block in blocks):
            return self._details(title, blocks, node)
        if folded:
            blocks = [replace(b, hidden=True) if isinstance(b, Code) else b for b in blocks]
        return [self._heading(title, self.depth + 1), *blocks, Prose("---")]

    def _split_title(self, node: nodes.Element) -> tuple[str, list[nodes.Node]]:
        first, *rest = node.children or [None]
        if isinstance(first, nodes.title):
            return self.inlines(first.children), rest
        return "", node.children

    def _details(self, title: str, blocks: Sequence[Block], node: nodes.Node) -> list[Block]:
        """A box that opens at a click; with code in it, a bold line above its contents."""
        if any(isinstance(block, Code) for block in blocks):
            return [*self._prose(_bold(title)), *blocks]
        body = "\n\n".join(block.markdown for block in blocks)
        summary = re.sub(r"\*\*|(?<!\\)[*`]", "", title)  # Markdown is not read in there
        return self._prose(f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>")

    # -- figures and tables

    def block_figure(self, node: nodes.figure) -> list[Block]:
        """The picture and its caption, as one piece."""
        return self._prose(self.markdown(node.children, "figure"))

    def block_legend(self, node: nodes.legend) -> list[Block]:
        return self.blocks(node.children)

    def block_table(self, node: nodes.table) -> list[Block]:
        found: list[Block] = []
        for title in (child for child in node if isinstance(child, nodes.title)):
            number = self.number("table", node)
            text = self.inlines(title.children)
            found += self._prose(f"**{number}.** {text}" if number else f"*{text}*")
        head = [row for thead in node.findall(nodes.thead) for row in thead.children]
        body = [row for tbody in node.findall(nodes.tbody) for row in tbody.children]
        rows = [self._row(row) for row in [*head, *body]]
        if not head:
            rows.insert(0, [""] * len(rows[0]))
        entries = next(node.findall(nodes.row)).children
        rule = [_alignment(entry) for entry in entries]
        lines = [f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]]]
        return found + self._prose("\n".join(lines))

    def _row(self, row: nodes.row) -> list[str]:
        cells: list[str] = []
        for entry in row.children:
            text = self.markdown(entry.children, "table")
            if "```" in text or "morerows" in entry:
                raise self.error(entry, "a Markdown table holds no code blocks or merged rows")
            text = re.sub(r"(?:\n)+", "<br>", text.replace("\n- ", "\n• "))
            cells += [_in_table(text)] + [""] * entry.get("morecols", 0)
        return cells

    # -- notes and references

    def block_footnote(self, node: nodes.footnote) -> list[Block]:
        label, *body = node.children
        text = self.markdown(body, "footnote").removeprefix("{-}").strip()
        return self._prose(f"<sup>[{label.astext()}]</sup> {text}")

    def block_citation(self, node: nodes.citation) -> list[Block]:
        """An entry of the bibliography, without its label: the book cites by author and year."""
        return self._prose(_hanging("- ", self.markdown(node.children[1:], "citation")))

    # -- within a paragraph

    def inline_Text(self, node: nodes.Text) -> str:
        return escape(node.astext().replace("\n", " "))

    def inline_inline(self, node: nodes.Element) -> str:
        return self.inlines(node.children)

    inline_generated = inline_title_reference = inline_PassthroughTextElement = inline_inline

    def inline_strong(self, node: nodes.Element) -> str:
        return _bold(self.inlines(node.children))

    def inline_emphasis(self, node: nodes.Element) -> str:
        return f"*{self.inlines(node.children)}*"

    inline_literal_strong, inline_literal_emphasis = inline_strong, inline_emphasis

    def inline_literal(self, node: nodes.literal) -> str:
        text = node.astext()
        fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
        pad = " " if text.startswith("`") or text.endswith("`") else ""
        return f"{fence}{pad}{text}{pad}{fence}"

    def inline_subscript(self, node: nodes.subscript) -> str:
        return f"<sub>{self.inlines(node.children)}</sub>"

    def inline_superscript(self, node: nodes.superscript) -> str:
        return f"<sup>{self.inlines(node.children)}</sup>"

    def inline_abbreviation(self, node: nodes.abbreviation) -> str:
        title = html.escape(node.get("explanation", ""))
        return f'<abbr title="{title}">{self.inlines(node.children)}</abbr>'

    def inline_sd_line_break(self, node: nodes.Node) -> str:
        return "<br>"

    def inline_footnote_reference(self, node: nodes.footnote_reference) -> str:
        return f"<sup>[{node.astext()}]</sup>"

    def inline_reference(self, node: nodes.reference) -> str:
        text = self.inlines(node.children)
        address = node.get("refuri") or (f"#{node['refid']}" if "refid" in node else "")
        if address.startswith("#"):
            address = self.builder.addresses.page(self.docname) + address
        if not re.match(r"(?:https?|mailto):", address):
            raise self.error(node, f"the link {text!r} leads to {address!r}, not into the web")
        return f"[{text}]({address_in_link(address)})"

    def inline_download_reference(self, node: addnodes.download_reference) -> str:
        address = node.get("refuri") or self.builder.downloaded(node["filename"])
        return f"[{self.inlines(node.children)}]({address_in_link(address)})"

    def inline_target(self, node: nodes.target) -> str:
        return self.inlines(node.children)

    def inline_decoration(self, node: nodes.Node) -> str:
        return ""

    inline_sd_icon = inline_fontawesome = inline_comment = inline_index = inline_decoration

    def inline_image(self, node: nodes.image) -> str:
        return self.builder.picture(node["uri"], node.get("alt", ""))

    def inline_raw(self, node: nodes.raw) -> str:
        """Hand-written HTML: drawings become pictures, the rest stays as it is."""
        if "html" not in node["format"].split():
            return ""
        text = re.sub(r"<!--.*?-->", "", node.astext(), flags=re.S)
        text = SVG.sub(lambda match: drawing(match[0]), text)
        if re.search(r"<(script|style|iframe|object|link)\b", text):
            raise self.error(node, f"this HTML does not work in Colab: {text.strip()[:80]!r}")
        local = re.search(r"\b(?:src|href)\s*=\s*[\"'](?!https?:|mailto:|data:)([^\"']*)", text)
        if local:
            raise self.error(node, f"write {local[1]!r} in Markdown, which makes the link absolute")
        return re.sub(r"\n\s*\n", "\n", text)  # an empty line would end the HTML

    # -- numbers

    def number(self, kind: str, node: nodes.Element) -> str:
        """What the site calls a figure, table, ...: "Fig. 1.2"; "" if it has no number."""
        numbers = self._numbers(kind, node)
        return self.config.numfig_format[kind] % ".".join(map(str, numbers)) if numbers else ""

    def _numbers(self, kind: str, node: nodes.Element) -> tuple[int, ...]:
        known = self.builder.fignumbers.get(kind, {})
        return next((known[id] for id in node["ids"] if id in known), ())


# ---------------------------------------------------------------------------------------------
# Markdown


def escape(text: str) -> str:
    """Plain text, so that Markdown shows it as it is.

    >>> escape("2*3_4 costs $5 <b>")
    '2\\\\*3\\\\_4 costs \\\\$5 &lt;b>'
    """
    text = re.sub(r"([\\`*_$])", r"\\\1", text)
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    return text.replace("](", "]\\(").replace("~~", "\\~\\~")


def _safe_start(text: str) -> str:
    """A paragraph that does not begin like a list, a heading or a quotation."""
    text = re.sub(r"^(#{1,6}|[>+-])(?=\s|$)", r"\\\1", text)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", text)


def _bold(text: str) -> str:
    plain = text.replace("**", "").strip()
    return f"**{plain}**" if plain else ""


def _hanging(marker: str, text: str) -> str:
    """A list item: later lines stand below the first one's text."""
    return marker + re.sub(r"\n(?!\n|$)", "\n" + " " * len(marker), text)


def _fenced(code: str, language: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    return f"{fence}{language}\n{code.rstrip()}\n{fence}"


def _in_table(text: str) -> str:
    """A table cell: a vertical bar would end it, also within a formula."""
    parts = re.split(r"(?<!\\)(\$[^$]+\$)", text)
    for bar, name in ((r"\|", r"\Vert"), ("|", r"\vert")):
        parts[1::2] = [math.replace(bar, name + "{}") for math in parts[1::2]]
    parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
    return "".join(parts)


def _alignment(entry: nodes.entry) -> str:
    classes = entry["classes"]
    left, right = "text-center" in classes, {"text-center", "text-right"} & set(classes)
    return f"{':' if left else ''}---{':' if right else ''}"


def address_in_link(address: str) -> str:
    return address.replace("(", "%28").replace(")", "%29").replace(" ", "%20")


def _quoted(blocks: Sequence[Block]) -> list[Block]:
    """A box: Markdown quoted as one piece, code cells left between the pieces."""
    found: list[Block] = []
    for block in blocks:
        if isinstance(block, Code):
            found.append(block)
            continue
        # A ">" within the lines of a formula would be read as part of it.
        text = re.sub(r"(?s)\$\$\n(.*?)\n\$\$", _on_one_line, block.markdown)
        text = "\n".join(f"> {line}".rstrip() for line in text.split("\n"))
        if found and isinstance(found[-1], Prose):
            found[-1] = Prose(f"{found[-1].markdown}\n>\n{text}")
        else:
            found.append(Prose(text))
    return found


def _on_one_line(formula: re.Match[str]) -> str:
    return f"$${portable_math(formula[1])}$$"


def _upwards(node: nodes.Node | None) -> Iterator[nodes.Node]:
    while node is not None:
        yield node
        node = node.parent


# ---------------------------------------------------------------------------------------------
# LaTeX

# Display environments that cannot stand between $$ signs, and what can.
INNER = {"align": "aligned", "gather": "gathered", "alignat": "alignedat", "equation": ""}
ENVIRONMENT = re.compile(r"\\(begin|end)\{([a-z]+)\*?\}")
WHOLE_ENVIRONMENT = re.compile(r"\\begin\{([a-zA-Z]+\*?)\}(?:(?!\\begin\{).)*?\\end\{\1\}", re.S)


def portable_math(text: str) -> str:
    """LaTeX that survives Markdown: on one line, and with no "<" that may look like a tag."""
    return re.sub(r"\s*\n\s*", " ", re.sub(r"\s*(?<!\\)<\s*", r" \\lt ", text)).strip()


def display_math(text: str) -> str:
    """LaTeX for between $$ signs, whether it is one equation, several lines or an environment."""

    def inner(match: re.Match[str]) -> str:
        name = INNER.get(match[2])
        return match[0] if name is None else f"\\{match[1]}{{{name}}}" if name else ""

    text = re.sub(r"(?<!\\)%.*", "", text)  # comments
    text = re.sub(r"\s*(?<!\\)<\s*", r" \\lt ", ENVIRONMENT.sub(inner, text))
    parts = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    text = " \\\\\n".join(parts)
    rest, nested = text, 1
    while nested:
        rest, nested = WHOLE_ENVIRONMENT.subn("", rest)
    if r"\\" in rest:  # lines outside of any environment
        text = f"\\begin{{aligned}}\n{text}\n\\end{{aligned}}"
    return text


# ---------------------------------------------------------------------------------------------
# Pictures

SVG = re.compile(r"<svg\b.*?</svg>", re.S)
XML_ENTITIES = {"amp", "lt", "gt", "quot", "apos"}
PAPER, INK = "#ffffff", "#1f2328"  # the drawing's own, because a PNG cannot follow dark mode


def drawing(svg: str, alt: str = "") -> str:
    """An SVG drawing as an embedded PNG, at its own size, twice as fine.

    alt: what it shows; else the drawing's own aria-label or <title>. A drawing marked
    aria-hidden is decoration and gives "". Raises NoMarkdown if it cannot be drawn.
    """
    opening = re.match(r"<svg\b[^>]*>", svg)[0]
    if 'aria-hidden="true"' in opening:
        return ""
    label = re.search(r'aria-label="([^"]*)"', opening) or re.search(r"<title[^>]*>([^<]*)", svg)
    alt = html.escape(alt) or (label[1].strip() if label else "")
    size = re.search(r'viewBox="\s*\S+\s+\S+\s+(\S+)', opening)
    width = re.search(r'\bwidth="([\d.]+)(?:px)?"', opening) or size
    attribute = f' width="{round(float(width[1]))}"' if width else ""
    try:
        png = vl_convert.svg_to_png(_standalone(svg, opening), scale=2)
    except (RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise NoMarkdown(f"the drawing {alt[:60]!r} is no valid SVG: {reason}") from error
    return f'<img src="{data_address("image/png", png)}" alt="{alt}"{attribute}>'


def _standalone(svg: str, opening: str) -> str:
    """Inline SVG as a document of its own: namespace, colours and entities made explicit."""
    style = re.search(r'\sstyle="([^"]*)"', opening)
    own = f"color: {INK}; background-color: {PAPER}; {style[1] if style else ''}"
    root = opening.replace(style[0], "") if style else opening
    if "xmlns=" not in root:
        root = root.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    root = root.replace("<svg", f'<svg style="{own}"', 1)
    text = root + svg[len(opening) :]
    text = re.sub(r"var\(\s*--[\w-]+\s*,\s*([^()]+(?:\([^()]*\))?)\)", r"\1", text)
    unresolved = re.search(r"var\(\s*(--[\w-]+)", text)
    if unresolved:
        raise NoMarkdown(
            f"a drawing's colour {unresolved[1]} is known to the site's style sheet only: "
            f"give it a second choice, var({unresolved[1]}, #888)"
        )
    return re.sub(r"&(\w+);", lambda m: m[0] if m[1] in XML_ENTITIES else html.unescape(m[0]), text)


def data_address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
