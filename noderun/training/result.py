"""result.json: the summary of a finished run, every key always there, null where it does not apply."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from noderun.config.schema import Settings
from noderun.record.run_folder import write_json
from noderun.training.meters import quotient
from noderun.training.progress import Progress
from noderun.training.setup import Setup


def make_result(setup: Setup, settings: Settings, progress: Progress) -> dict[str, Any]:
    train, test, solved = progress.means.values(), progress.test, progress.diagnostics
    mse = test.get("mse/test")
    values = {
        **chosen(settings),
        "parameters": sum(p.numel() for p in setup.model.parameters() if p.requires_grad),
        "epochs": progress.epoch,
        "steps": progress.step,
        "train_loss": train.get("loss/train"),
        "test_loss": test.get("loss/test"),
        "test_error": test.get("error/test"),
        "nll": test.get("nll/test"),
        "bits_per_dim": test.get("bits_per_dim/test"),
        "rmse": None if mse is None else math.sqrt(mse),
        "nfe_forward": train.get("nfe/forward"),
        "nfe_backward": train.get("nfe/backward"),
        "nfe_test": test.get("nfe/test"),
        "steps_accepted": train.get("steps/accepted"),
        "steps_rejected": train.get("steps/rejected"),
        "numerical_error": solved.get("solve/numerical_error"),
        "gradient_error": solved.get("solve/gradient_error"),
        "reconstruction_error": solved.get("solve/reconstruction_error"),
        "memory_saved_mib": solved.get("memory/saved_mib"),
        "memory_peak_mib": progress.peak_mib,
        "seconds": progress.training_seconds + progress.test_seconds,
        "examples_per_second": quotient(progress.examples, progress.training_seconds),
        "device": str(setup.device),
        "status": "done",
    }
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}


def chosen(settings: Settings) -> dict[str, Any]:
    """The words that tell runs apart, null where the model does not use the group."""
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


def write_result(path: Path, result: dict[str, Any]) -> None:
    write_json(path, result)
