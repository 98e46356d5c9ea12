"""What several ranks cannot train together, found before a run starts."""

from __future__ import annotations

from noderun.config.schema import Settings, Solver
from noderun.config.validation import Incompatible


def check_ranks(settings: Settings, on_gpu: bool) -> None:
    """Raises Incompatible if ``trainer.devices``, or torchrun, shares among processes what cannot be shared."""
    from noderun.training.ranks import rank_count

    devices = settings.trainer.devices
    count = rank_count(devices)
    if devices not in (1, count):
        raise Incompatible(f"torchrun has started {count} processes, and trainer.devices={devices}: leave it out")
    if settings.solver is not None and settings.solver.sync_steps:
        check_sync_steps(settings)
    if count > 1 and (reason := unshared(settings, count) or unfit_device(settings.device, count, on_gpu)):
        raise Incompatible(reason)


def unshared(settings: Settings, count: int) -> str | None:
    """What of the settings looks at a batch as a whole; None if nothing does."""
    options = settings.model.options
    if settings.data.batch_size < count:
        return f"data.batch_size={settings.data.batch_size} leaves some of {count} devices without an example"
    if settings.trainer.on_nonfinite == "skip":
        return (
            "trainer.on_nonfinite=skip leaves out a step that failed on one of several devices alone: use restore, or "
            "trainer.devices=1"
        )
    if options.get("coupling", "independent") != "independent":
        return (
            f"model.coupling={options['coupling']} pairs the points of a whole batch, of which each of several devices "
            "has a part: use model.coupling=independent or trainer.devices=1"
        )
    if options.get("double_at"):
        return "model.double_at makes new parameters during training, which several devices do not share: leave it out"
    if options.get("batch_norm") and options.get("blocks", 1) > 1:
        return (
            "model.batch_norm=true normalizes by the mean over a batch, of which each of several devices sees a part: "
            "use model.batch_norm=false or model.blocks=1"
        )
    return None


def unfit_device(word: str, count: int, on_gpu: bool) -> str | None:
    """Why there is not a device for each rank; None if there is. A CPU takes any number."""
    import torch

    if not on_gpu:
        return None
    if word not in ("auto", "cuda"):
        return f"device={word} is one device, and {count} are asked for: say device=cuda"
    there = torch.cuda.device_count()
    return f"this machine has {there} CUDA device(s), and {count} are asked for" if count > there else None


def check_sync_steps(settings: Settings) -> None:
    """Raises Incompatible if the steps of several devices cannot be held together by their errors."""
    from noderun.ode.gradients import GRADIENTS

    solver, gradient = settings.solver, settings.gradient
    assert solver is not None
    if reason := not_held_together(solver, settings):
        raise Incompatible(f"solver.sync_steps=true {reason}")
    if gradient is not None and not GRADIENTS[gradient.name].exact:
        raise Incompatible(
            f"solver.sync_steps=true is of the forward solve, and gradient={gradient.name} makes another one, with "
            "steps of its own: use gradient=checkpointed, which repeats those of the forward solve"
        )


def not_held_together(solver: Solver, settings: Settings) -> str | None:
    """The rest of the sentence that says why; None if they can be."""
    from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
    from noderun.training.build import make_method

    if solver.dt is not None:
        return f"is for adaptive steps, and fixed ones were chosen (solver.dt={solver.dt:g})"
    if solver.per_sample:
        return "makes no difference where each example has its own steps: leave it or solver.per_sample out"
    if settings.model.stochastic or not isinstance(make_method(solver), ExplicitRungeKutta):
        return f"is for explicit Runge-Kutta methods, and solver={solver.name} is none: use solver=dopri5"
    if solver.options.get("compile"):
        return "decides on each step with the other devices, and a compiled loop by itself: leave out solver.compile"
    if solver.norm != Solver.norm or settings.model.options.get("norm") == "point":
        return "sums squares over the devices, which is norm=rms: leave the norm out"
    return None
