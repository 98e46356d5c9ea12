"""report.html: one file that holds all it shows; tables and inline images, no script, nothing to load."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from html import escape
from pathlib import Path

from noderun.record import files
from noderun.report.cells import Cell, Part, folded, is_sentence
from noderun.report.style import DPI

ROOM = 135  # characters of a table that fill the page
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } h3 { font-size: 1rem; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .7rem; text-align: left; vertical-align: bottom; }
th { border-bottom: 2px solid #888; } td { white-space: nowrap; } td.long { white-space: normal; }
th.number, td.number { text-align: right; } td.best { font-weight: bold; } code { overflow-wrap: anywhere; }
figure { margin: 1rem 0; } img { max-width: 100%; } figcaption, footer, p.note { color: #555; font-size: 13px; }
@media print { body { margin: 0; max-width: none; } table { font-size: 9px; } th, td { padding: .2rem .35rem; } }
"""


class Page:
    """Sections in the order in which they were added."""

    def __init__(self, title: str, note: str = "") -> None:
        self.title, self.parts = title, [f"<h1>{escape(title)}</h1>"]
        if note:
            self.add_note(note)

    def add_heading(self, text: str, level: int = 2) -> None:
        self.parts.append(f"<h{level}>{escape(text)}</h{level}>")

    def add_note(self, text: str) -> None:
        self.parts.append(f'<p class="note">{escape(text)}</p>')

    def add_command(self, text: str) -> None:
        self.parts.append(f"<p><code>{escape(text)}</code></p>")

    def add_table(self, headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """A table; one that is too wide for the page continues below itself."""
        self.parts += [table(part) for part in folded(headings, rows, ROOM)]

    def add_figure(self, path: Path, caption: str, folder: Path) -> None:
        """A PNG, inside the page; the caption names the CSV that it was drawn from, as seen from the page's folder."""
        content = base64.b64encode(path.read_bytes()).decode()
        image = f'<img alt="{escape(caption)}" width="{width_of(path)}" src="data:image/png;base64,{content}">'
        rows = path.with_suffix(".csv")
        drawn_from = f" (numbers: {rows.relative_to(folder)})" if rows.is_file() else ""
        self.parts.append(f"<figure>{image}<figcaption>{escape(caption + drawn_from)}</figcaption></figure>")

    def write(self, path: Path) -> Path:
        body = "\n".join(self.parts)
        head = f'<meta charset="utf-8"><title>{escape(self.title)}</title><style>{STYLE}</style>'
        with files.replacing(path) as new:
            new.write_text(f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n')
        return path


def width_of(path: Path) -> int:
    """The pixels of a page, 96 an inch, that a PNG of ours is wide: so letters have one size in all of them."""
    (pixels,) = struct.unpack(">I", path.read_bytes()[16:20])  # of its first chunk
    return round(pixels * 96 / DPI)


def table(part: Part) -> str:
    numeric = part.numeric
    head = "".join(cell("th", text, number, False) for text, number in zip(part.headings, numeric, strict=True))
    lines = ("".join(cell("td", t, number, b) for (t, b), number in zip(r, numeric, strict=True)) for r in part.rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>" if any(part.headings) else f"<table>\n{body}\n</table>"


def cell(tag: str, text: str, number: bool, best: bool) -> str:
    kinds = {"number": number, "best": best, "long": tag == "td" and is_sentence(text)}
    classes = " ".join(kind for kind, holds in kinds.items() if holds)
    return f'<{tag} class="{classes}">{escape(text)}</{tag}>' if classes else f"<{tag}>{escape(text)}</{tag}>"
