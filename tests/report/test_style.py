"""The size of figures, as they are drawn for people."""

import pytest

from noderun.report import style
from noderun.report.page import width_of


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_letters_have_one_size_on_a_page(columns, tmp_path, monkeypatch):
    """A figure is shown at its size in inches, and none is wider than the page."""
    monkeypatch.setitem(style.STYLE, "savefig.dpi", style.DPI)
    monkeypatch.setitem(style.STYLE, "figure.constrained_layout.use", True)
    with style.figure(1, columns) as (drawn, axes):
        for panel in axes[0]:
            panel.set(title="title", xlabel="x", ylabel="y")
        style.save(drawn, tmp_path / "figure.png", [])
    inches = min(columns * style.WIDTH, style.PAGE)
    assert width_of(tmp_path / "figure.png") == pytest.approx(96 * inches, abs=1) and inches <= style.PAGE
    assert all(panel.get_position().width * inches > 1.5 for panel in axes[0])
