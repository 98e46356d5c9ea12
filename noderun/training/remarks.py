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
    idle = {f"{key} changes nothing": reason for key, reason in idle.items()}
    return idle | past_horizon(settings) | beyond_interval(settings) | beyond_examples(settings, given)


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


def beyond_interval(settings: Settings) -> dict[str, str]:
    """Of a fixed step that is longer than the whole solve."""
    solver, options = settings.solver, settings.model.options
    t1 = options.get("t1")
    if solver is None or solver.dt is None or t1 is None or options.get("learn_t1") or solver.dt <= t1:
        return {}
    return {f"solver.dt={solver.dt:g} is longer than model.t1={t1:g}": f"a solve is one step of length {t1:g}"}


def beyond_examples(settings: Settings, given: Set[str]) -> dict[str, str]:
    """Of a batch that was asked for and that the training examples cannot fill, if their number is in the settings."""
    data = settings.data
    known = [count for count in (data.limit, data.options.get("examples")) if count is not None]
    if "data.batch_size" not in given or not known or data.batch_size <= min(known):
        return {}
    return {f"data.batch_size={data.batch_size} is more than there is": f"a step takes all {min(known)} examples"}
