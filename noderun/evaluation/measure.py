"""What a trained model achieves and costs in testing, as the keys of result.json."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

from noderun.config.schema import Settings
from noderun.models.continuous import FlowBlock
from noderun.models.lesion import block_count, lesions, without
from noderun.record.notice import announced
from noderun.training.diagnostics import EXAMPLES, diagnose
from noderun.training.loop import evaluate
from noderun.training.meters import Number, quotient, solve_numbers
from noderun.training.result import chosen, numbers
from noderun.training.setup import Setup


def measure(setup: Setup, settings: Settings, trained: Mapping[str, Any], draws: int = 1) -> dict[str, Any]:
    """A test of the whole test split; ``trained`` is the result.json of the run.

    With several ``draws`` of Hutchinson's noise numbers are means over them, NLL with the standard error of that mean,
    and the time is that of one.
    """
    solved = measured_solves(setup)  # first, so that what is timed is warm
    examples = sum(len(batch) for batch in setup.batches("test", 0, 0))
    start = time.perf_counter()
    with announced(f"testing {examples:,} examples"):
        tests = list(by_draws(setup, draws))
    seconds = (time.perf_counter() - start) / draws
    test = {tag: statistics.fmean(found[tag] for found in tests) for tag in tests[0]}
    over_draws = [found["nll/test"] for found in tests if "nll/test" in found] if draws > 1 else []
    spread = {"draws": draws, "nll_draws_se": statistics.stdev(over_draws) / draws**0.5} if over_draws else {}
    found = {**test, **solved, "seconds": seconds, "examples_per_second": quotient(examples, seconds)}
    kept = {key: trained.get(key) for key in ("parameters", "epochs", "steps")}
    outcome = {"task": "evaluate", "device": str(setup.device), "status": "done"}
    return dict.fromkeys(trained) | numbers(setup, found) | spread | chosen(settings) | kept | outcome


def by_draws(setup: Setup, draws: int) -> Iterator[dict[str, float]]:
    """The test by one draw of Hutchinson's noise after another; nothing else differs."""
    blocks = [block for block in setup.blocks if isinstance(block, FlowBlock)]
    for seed in range(draws):
        for block in blocks:
            block.test_seed = seed
        yield evaluate(setup)


def measured_solves(setup: Setup) -> dict[str, float | None]:
    """The errors that training measured last, on the same examples, and the steps of all blocks there, by tag."""
    if not setup.blocks:
        return {}
    batch = next(setup.batches("train", 0, 0)).rows(slice(EXAMPLES))
    found = diagnose(setup, batch, ("solve/numerical_error", "solve/reconstruction_error"))
    counts = solve_numbers(block.stats for block in setup.blocks)
    return found | {tag: as_number(counts[tag]) for tag in ("steps/accepted", "steps/rejected")}


def as_number(count: Number | None) -> float | None:
    return None if count is None else float(count)


def lesion_rows(setup: Setup, which: str) -> list[dict[str, Any]]:
    """Test error and loss of the whole net, then with the blocks removed that ``which`` names (all, or a number)."""
    if not block_count(setup.model):
        raise ValueError(
            f"{type(setup.model).__name__} has no blocks that could be removed; resnet, plain and revnet have"
        )

    def test() -> dict[str, Any]:
        found = evaluate(setup)
        return {"test_error": found.get("error/test"), "test_loss": found.get("loss/test")}

    rows = [{"block": "none", **test()}]
    if which != "all":
        with without(setup.model, int(which)):
            return [*rows, {"block": int(which), **test()}]
    return rows + [{"block": i, **values} for i, values in enumerate(lesions(setup.model, test))]
