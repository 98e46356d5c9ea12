"""result.json: the summary of a run; every key is always there, null if it does not apply."""

from __future__ import annotations

from typing import Any

from noderun.config.schema import Settings
from noderun.record.metric import METRICS, RESULT_KEYS
from noderun.training.meters import quotient
from noderun.training.progress import Progress
from noderun.training.setup import Setup


def make_result(setup: Setup, settings: Settings, progress: Progress) -> dict[str, Any]:
    found = {
        **progress.means.values(),
        **(progress.best or progress.test),
        **progress.measured,
        "memory/peak_mib": progress.peak_mib,
        "parameters": sum(p.numel() for p in setup.model.parameters() if p.requires_grad),
        "epochs": progress.epoch,
        "steps": progress.step,
        "training_seconds": progress.training_seconds,
        "seconds": progress.training_seconds + progress.test_seconds,
        "examples_per_second": quotient(progress.examples, progress.training_seconds),
    }
    outcome = {"device": str(setup.device), "status": "done"} | ({"stopped_early": True} if progress.stopped else {})
    return dict.fromkeys(RESULT_KEYS) | chosen(settings) | numbers(setup, found) | outcome


def numbers(setup: Setup, found: dict[str, float | None]) -> dict[str, float | None]:
    """The metrics that every result has, then the objective's own, out of numbers by tag.

    NAME_se is the standard error of one that is a mean over the examples of the test.
    """
    shared = [METRICS[key] for key in RESULT_KEYS if key in METRICS]
    values = {metric.name: metric.value(found) for metric in (*shared, *setup.objective.metrics)}
    errors = {f"{metric.name}_se": found.get(metric.error_tag) for metric in setup.objective.metrics if not metric.of}
    return values | {name: error for name, error in errors.items() if error is not None}


def chosen(settings: Settings) -> dict[str, Any]:
    """The choices that tell runs apart, null if the model does not use the group."""
    dynamics, solver, gradient = settings.dynamics, settings.solver, settings.gradient
    return {
        "task": "train",
        "model": settings.model.name,
        "dynamics": dynamics.name if dynamics else None,
        "data": settings.data.name,
        "solver": solver.name if solver else None,
        "gradient": gradient.name if gradient else None,
        "rtol": solver.rtol if solver else None,
        "atol": solver.atol if solver else None,
        "seed": settings.seed,
    }
