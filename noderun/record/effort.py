"""What the numbers of evaluations say while a model trains: when a solve has become dear, and what makes it cheap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

FORWARD, BACKWARD = "nfe/forward", "nfe/backward"
DEAR_BACKWARD = 10  # times the forward pass's evaluations
GROWN = 2  # times the first ones of the run


def remarks(rows: Iterable[Mapping[str, float | None]]) -> dict[str, str]:
    """A sentence with its remedy for each thing that happened in a run: "backward" was dear, "forward" has grown."""
    found: dict[str, str] = {}
    first: float | None = None
    for row in rows:
        forward, backward = row.get(FORWARD), row.get(BACKWARD)
        if not forward:
            continue
        first = first or forward
        if backward and backward > DEAR_BACKWARD * forward:
            found.setdefault(
                "backward",
                f"the backward pass takes {backward:.0f} evaluations of f, the forward pass {forward:.0f}: try a "
                "smoother activation, gradient=checkpointed or a looser gradient.rtol",
            )
        if forward > GROWN * first:
            found.setdefault(
                "forward",
                f"the forward pass takes {forward:.0f} evaluations of f, and took {first:.0f} at first: try a "
                "regularizer, for instance regularizer=kinetic, or a smoother activation",
            )
    return found
