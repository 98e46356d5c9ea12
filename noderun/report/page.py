"""report.html: one file that holds all it shows; tables and inline images, no script, nothing to load."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from noderun.record import files
from noderun.report.table import Cell

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .7rem; text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid #888; } td.best { font-weight: bold; }
figure { margin: 1rem 0; } img { max-width: 100%; } figcaption, footer, p.note { color: #555; font-size: 13px; }
"""


class Page:
    """Sections in the order in which they were added."""

    def __init__(self, title: str, note: str = "") -> None:
        self.title, self.parts = title, [f"<h1>{escape(title)}</h1>"]
        if note:
            self.add_note(note)

    def add_heading(self, text: str) -> None:
        self.parts.append(f"<h2>{escape(text)}</h2>")

    def add_note(self, text: str) -> None:
        self.parts.append(f'<p class="note">{escape(text)}</p>')

    def add_table(self, headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        head = "".join(f"<th>{escape(text)}</th>" for text in headings)
        lines = (
            "".join(f'<td class="best">{escape(t)}</td>' if b else f"<td>{escape(t)}</td>" for t, b in r) for r in rows
        )
        body = "\n".join(f"<tr>{line}</tr>" for line in lines)
        self.parts.append(f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>')

    def add_figure(self, path: Path, caption: str) -> None:
        """A PNG, inside the page; the caption names the CSV that it was drawn from."""
        content = base64.b64encode(path.read_bytes()).decode()
        image = f'<img alt="{escape(caption)}" src="data:image/png;base64,{content}">'
        drawn_from = f"{path.parent.name}/{path.with_suffix('.csv').name}"
        self.parts.append(f"<figure>{image}<figcaption>{escape(caption)} ({escape(drawn_from)})</figcaption></figure>")

    def write(self, path: Path) -> Path:
        body = "\n".join(self.parts)
        head = f'<meta charset="utf-8"><title>{escape(self.title)}</title><style>{STYLE}</style>'
        with files.replacing(path) as new:
            new.write_text(f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n')
        return path
