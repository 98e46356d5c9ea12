"""Figures of what happens along the depth of a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noderun.report.style import COLOURS, figure, save

Row = Mapping[str, Any]


def draw_lesions(rows: Sequence[Row], path: Path) -> None:
    """Test error with one block removed at a time, beside the whole net's (Veit et al. 2016)."""
    key = "test_error" if rows[0]["test_error"] is not None else "test_loss"
    scale = 100 if key == "test_error" else 1
    with figure(height=3.4) as (drawn, axes):
        panel = axes[0, 0]
        removed = [row for row in rows if row["block"] != "none"]
        places = range(len(removed))
        panel.bar(
            places, [scale * row[key] for row in removed], color=COLOURS[0], tick_label=[r["block"] for r in removed]
        )
        panel.axhline(scale * rows[0][key], color=COLOURS[1], linestyle="--", label="no block removed")
        panel.set(xlabel="removed block", ylabel="test error (%)" if scale == 100 else "test loss")
        panel.legend()
        save(drawn, path, rows)
