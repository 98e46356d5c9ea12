"""Right words that change nothing, or not what they seem to: what the user is told of them before a run starts."""

from __future__ import annotations

from collections.abc import Set

from noderun.config.schema import OPTIONAL, Settings


def remarks(settings: Settings, given: Set[str]) -> dict[str, str]:
    """What is to be said -> why; ``given`` are the dotted keys and the groups that the command line names."""
    model, solver, trainer = settings.model, settings.solver, settings.trainer
    idle = {
        key: f"model={model.name} has no {group}"
        for key in sorted(given)
        if (group := key.partition(".")[0]) in OPTIONAL and getattr(settings, group) is None
    }
    if "tolerance" in given and solver is None:
        idle["tolerance"] = f"model={model.name} has no solver"
    elif "tolerance" in given and solver is not None and solver.dt is not None:
        idle["tolerance"] = f"steps are fixed (solver.dt={solver.dt:g})"
    if trainer.diagnostics_every and solver is None and "blocks" not in model.options:
        idle["trainer.diagnostics_every"] = f"model={model.name} has no solve to measure"
    return {f"{key} changes nothing": reason for key, reason in idle.items()} | past_horizon(settings)


def past_horizon(settings: Settings) -> dict[str, str]:
    """Of training that goes on where its schedule has come to its end."""
    scheduler, trainer = settings.scheduler, settings.trainer
    if trainer.max_seconds is not None or scheduler.horizon is None or trainer.epochs <= scheduler.horizon:
        return {}
    return {
        f"trainer.epochs={trainer.epochs} goes on past scheduler.horizon={scheduler.horizon}": (
            f"scheduler={scheduler.name} has brought the learning rate to its end by then and keeps it there"
        )
    }
