"""The page on stochastic equations runs from top to bottom."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/stochastic.md"


def test_the_page_runs():
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.S | re.M)
    page: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), page)
    assert len(blocks) == 3
