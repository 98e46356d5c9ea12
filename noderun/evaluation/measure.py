"""What a trained model achieves and costs in testing, as the keys of result.json."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from noderun.config.schema import Settings
from noderun.models.lesion import block_count, lesions, without
from noderun.training.diagnostics import (
    EXAMPLES,
    FIXED_STEP_GRADIENT_REFERENCE,
    BlockPass,
    attempted,
    end_state,
    passages,
    reconstruction_error,
    reference_settings,
    relative_distance,
    worst,
)
from noderun.training.loop import evaluate
from noderun.training.meters import batch_mean, quotient
from noderun.training.result import chosen
from noderun.training.setup import Setup


def measure(setup: Setup, settings: Settings, trained: Mapping[str, Any]) -> dict[str, Any]:
    """One test of the whole test split; ``trained`` is the result.json of the run."""
    solved = solve_numbers(setup)  # first, so that what is timed is warm
    start = time.perf_counter()
    test = evaluate(setup, lambda: None)
    seconds = time.perf_counter() - start
    examples = sum(len(batch[0]) for batch in setup.batches("test", 0, 0))
    mse = test.get("mse/test")
    found = {
        **chosen(settings),
        "task": "evaluate",
        "test_loss": test.get("loss/test"),
        "test_error": test.get("error/test"),
        "nll": test.get("nll/test"),
        "bits_per_dim": test.get("bits_per_dim/test"),
        "rmse": None if mse is None else math.sqrt(mse),
        "nfe_test": test.get("nfe/test"),
        **solved,
        "seconds": seconds,
        "examples_per_second": quotient(examples, seconds),
        "device": str(setup.device),
        "status": "done",
    }
    kept = {key: trained.get(key) for key in ("parameters", "epochs", "steps")}
    return dict.fromkeys(trained) | kept | {key: finite(value) for key, value in found.items()}


@torch.no_grad()
def numerical_error(passage: BlockPass) -> float:
    """As in training's diagnostics, but fixed steps are held against dopri5 at 1e-7.

    At a ReLU's kinks dop853 at 1e-9 takes minutes, and there is one such reference to every cell.
    """
    block, y0 = passage.block, passage.y0
    y1 = end_state(block, block.dynamics, y0)
    reference = reference_settings(block, FIXED_STEP_GRADIENT_REFERENCE)
    return relative_distance(y1, end_state(block, copy.deepcopy(block.dynamics).double(), y0.double(), **reference))


def finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def solve_numbers(setup: Setup) -> dict[str, float | None]:
    """Errors of the solves of a few test examples, the worst block's, and the steps of all blocks together."""
    if not setup.blocks:
        return {}
    batch = next(setup.batches("test", 0, 0))
    seen = attempted("the solve", lambda: passages(setup, tuple(part[:EXAMPLES] for part in batch)))
    if seen is None:
        return {}
    found: dict[str, float | None] = {
        f"steps_{kind}": sum(batch_mean(getattr(block.stats, kind)) for block in setup.blocks)
        for kind in ("accepted", "rejected")
    }
    for key, error_of in (("numerical_error", numerical_error), ("reconstruction_error", reconstruction_error)):
        found[key] = attempted(key, partial(worst(error_of), seen))
    return found


def lesion_rows(setup: Setup, which: str) -> list[dict[str, Any]]:
    """Test error and loss of the whole net, then with the blocks removed that ``which`` names (all, or a number)."""
    if not block_count(setup.model):
        raise ValueError(
            f"{type(setup.model).__name__} has no blocks that could be removed; resnet, plain and revnet have"
        )

    def test() -> dict[str, Any]:
        found = evaluate(setup, lambda: None)
        return {"test_error": found.get("error/test"), "test_loss": found.get("loss/test")}

    rows = [{"block": "none", **test()}]
    if which != "all":
        with without(setup.model, int(which)):
            return [*rows, {"block": int(which), **test()}]
    return rows + [{"block": i, **values} for i, values in enumerate(lesions(setup.model, test))]
