"""A table as text: its cells, and how it is laid out where there is little room."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from noderun.config.validation import printable

Cell = tuple[str, bool]  # its text, and whether it is bold
NUMBER = re.compile(r"[-+]?[\d.,]+(e[-+]?\d+)?%?( ± .*)?|-|nan|unbounded|[-+]?inf")
PIECE = re.compile(r"[^\s.]+\.?")  # of a heading: it breaks at a space and after a dot
LONG = 40  # characters: a longer text of several words is a sentence, which may break between them
FRAME, BESIDE = 1, 3  # characters of a table's left edge, and of what is around the text of each of its columns
PIPE = 10_000  # a pipe has no width to keep to


@dataclass(frozen=True)
class Part:
    """Some columns of a table, each of ``widths`` characters."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    widths: Sequence[int]

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether it holds numbers."""
        return [all(NUMBER.fullmatch(row[j][0]) for row in self.rows) for j in range(len(self.headings))]


def folded(headings: Sequence[str], rows: Sequence[Sequence[Cell]], room: int) -> list[Part]:
    """A table as parts that are at most ``room`` characters wide, to be shown one below the other.

    Headings break between words before the table does. If there are several parts, each begins with the row's number.
    """
    texts = [[row[j][0] for row in rows] for j in range(len(headings))]
    whole = [max(map(cell_len, [heading, *column])) for heading, column in zip(headings, texts, strict=True)]
    if FRAME + sum(width + BESIDE for width in whole) <= room:
        return [Part(headings, rows, whole)]
    least = [least_width(heading, column) - BESIDE for heading, column in zip(headings, texts, strict=True)]
    if FRAME + sum(width + BESIDE for width in least) <= room:
        return [Part(headings, rows, least)]
    number = len(str(len(rows)))
    left = room - FRAME - number - BESIDE
    least = [min(width, left - BESIDE) for width in least]  # only a path is longer, which breaks anywhere
    return [
        Part(
            ["#", *(headings[j] for j in columns)],
            [[(str(i), False), *(row[j] for j in columns)] for i, row in enumerate(rows, start=1)],
            [number, *(least[j] for j in columns)],
        )
        for columns in packed(least, left)
    ]


def packed(widths: Sequence[int], room: int) -> list[list[int]]:
    """The columns in their order, as many beside one another as there is room for."""
    parts: list[list[int]] = []
    used = room
    for j, width in enumerate(widths):
        if used + width + BESIDE > room:
            parts.append([])
            used = 0
        parts[-1].append(j)
        used += width + BESIDE
    return parts


def least_width(heading: str, texts: Sequence[str]) -> int:
    """The characters that a column needs with what is around it: a heading or a sentence may break, no other cell."""
    needed = [min(cell_len(text), LONG) if is_sentence(text) else cell_len(text) for text in texts]
    return BESIDE + max([*map(cell_len, PIECE.findall(heading)), *needed], default=0)


def is_sentence(text: str) -> bool:
    return " " in text and not NUMBER.fullmatch(text) and len(text) > LONG


def print_table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """A table on stdout, folded if the terminal is too narrow for it."""
    console = stdout()
    for part in folded(headings, rows, console.width):
        console.print(drawn(part))


def print_facts(facts: Sequence[tuple[str, str]], title: str | None = None) -> None:
    """Names and values on stdout, one below the other."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(shown(name), shown(value))
    stdout().print(table)


def stdout() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPE)


def drawn(part: Part) -> Table:
    table = Table()
    for heading, width, numeric in zip(part.headings, part.widths, part.numeric, strict=True):
        text = heading if " " in heading or cell_len(heading) <= width else heading.replace(".", ".\n")
        table.add_column(escape(text), width=width, justify="right" if numeric else "left", overflow="fold")
    for row in part.rows:
        table.add_row(*(f"[bold]{shown(text)}[/]" if bold else shown(text) for text, bold in row))
    return table


def shown(text: str) -> str:
    """Text of a table in a terminal, whatever a stranger's folder holds: no markup and no control characters."""
    return escape(printable(text))


def latex(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A tabular with the rules of booktabs; bold cells are bold."""
    align = "".join("r" if numeric else "l" for numeric in Part(headings, rows, ()).numeric)
    lines = [" & ".join(map(tex, headings)), r"\midrule"]
    lines += [" & ".join(rf"\textbf{{{tex(text)}}}" if bold else tex(text) for text, bold in row) for row in rows]
    body = "\n".join(line if line.startswith(r"\midrule") else rf"{line} \\" for line in lines)
    return f"\\begin{{tabular}}{{{align}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}"


TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
TEX |= {special: f"\\{special}" for special in "&%$#_{}"}


def tex(text: str) -> str:
    return "".join(TEX.get(character, character) for character in printable(text))
