"""The suite series: a controlled equation, a latent ODE, and events of each sample's own."""

from __future__ import annotations

from collections.abc import Iterator

from noderun.benchmarks.case import Case
from noderun.benchmarks.controlled import controlled_case
from noderun.benchmarks.crossings import crossing_case
from noderun.benchmarks.latent import latent_case


def series_cases(device: str, quick: bool) -> Iterator[Case]:
    for make in (controlled_case, latent_case, crossing_case):
        yield make(device, quick)
