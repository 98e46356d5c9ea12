"""Options of step size control: tolerances, norms, limits, callbacks; and the choice of the first step."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from noderun.ode.solvers.step_size import I_CONTROLLER, SLIVER, StepController, euler_trial_step, step_from_curvature
from noderun.ode.solvers.times import times_inside

Norm = Callable[[Tensor], Tensor]
Callback = Callable[[float, Tensor, float], None]  # called with t, y [N] and h


def rms(v: Tensor) -> Tensor:
    """Root mean square over the components; HNW I, (II.4.11)."""
    return torch.linalg.vector_norm(v, dim=-1) / max(v.shape[-1], 1) ** 0.5


def max_norm(v: Tensor) -> Tensor:
    """The maximum norm."""
    return torch.linalg.vector_norm(v, float("inf"), dim=-1)


def max_rms_norm(sizes: Sequence[int]) -> Norm:
    """The largest root mean square among the tensors of a nested state."""

    def norm(v: Tensor) -> Tensor:
        return torch.stack([rms(part) for part in v.split(tuple(sizes), dim=-1)]).amax(dim=0)

    return norm


@functools.cache  # so that compiled steps, which belong to a norm, are found again
def leading_rms(count: int, of: int) -> Norm:
    """The root mean square over the first ``count`` of every ``of`` numbers of a batch of states."""

    def norm(v: Tensor) -> Tensor:
        return rms(v[..., : v.shape[-1] * count // of])

    return norm


def max_state_norm(norm: Norm, size: int) -> Norm:
    """``norm`` of a state [size], and the largest of several states in one vector, as the adjoint's is."""

    def wrapped(v: Tensor) -> Tensor:
        if v.shape[-1] == size:
            return norm(v)
        return torch.stack([norm(part) for part in v.split(size, dim=-1)]).amax(dim=0)

    return wrapped


@dataclass(frozen=True)
class StepOptions:
    """The choice of steps: a fixed ``dt``, a ``grid``, or the error held below atol + rtol |y| in ``norm``."""

    rtol: float | Tensor = 1e-5
    atol: float | Tensor = 1e-7
    dt: float | None = None
    max_steps: int = 100_000
    first_step: float | None = None
    norm: Norm = rms
    controller: StepController = field(default=I_CONTROLLER)
    min_step: float = 0.0  # a step of this size is accepted regardless of its error
    max_step: float = math.inf
    jumps: tuple[float, ...] = ()  # times at which f is discontinuous, rising
    grid: tuple[float, ...] | None = None  # rising; fixed steps end here instead of every dt
    before: Callback | None = None  # called before each attempt
    accepted: Callback | None = None
    rejected: Callback | None = None

    @property
    def watched(self) -> bool:
        """Whether a callback sees every attempt."""
        return bool(self.before or self.accepted or self.rejected)

    def scale(self, size: Tensor) -> Tensor:
        """atol + rtol |y| from |y|."""
        if isinstance(self.rtol, Tensor) or isinstance(self.atol, Tensor):
            return self.atol + self.rtol * size
        return torch.add(constant(self.atol, size.dtype, size.device), size, alpha=self.rtol)

    def measure(self, v: Tensor) -> float:
        """The norm of v, on the host."""
        if self.norm is rms:  # divided on the host: one operation less
            return float(torch.linalg.vector_norm(v).item()) / max(v.numel(), 1) ** 0.5
        return self.norm(v).item()

    def ratio(self, error: Tensor, y: Tensor, y1: Tensor) -> float:
        """The error in units of the tolerance: the one number per step that the host waits for."""
        return self.measure(error.div_(self.scale(torch.maximum(y.abs(), y1.abs()))))

    def ratios(self, errors: Tensor, y: Tensor, y1: Tensor) -> list[float]:
        """The same for every row of errors [m, N], still in one transfer."""
        scaled = errors / self.scale(torch.maximum(y.abs(), y1.abs()))
        return torch.stack([self.norm(row) for row in scaled.unbind()]).tolist()

    def fitted(self, y: Tensor) -> StepOptions:
        """For the vector y [N], which may be several states of one layout, as the adjoint's is.

        The least atol is the least number of y's dtype, so that a component at rest at 0 has an error of 0, not 0 / 0.
        """
        states, least = y.numel() // max(self.components, 1), torch.finfo(y.dtype).tiny
        rtol, atol = (x.repeat(states) if isinstance(x, Tensor) else x for x in (self.rtol, self.atol))
        atol = atol.clamp_min(least) if isinstance(atol, Tensor) else max(atol, least)
        return self if rtol is self.rtol and atol is self.atol else replace(self, rtol=rtol, atol=atol)

    @property
    def components(self) -> int:
        """The number of components that tolerances are given for, 0 if they are numbers."""
        return max(x.numel() if isinstance(x, Tensor) else 0 for x in (self.rtol, self.atol))

    def backward(self, rtol: float | None, atol: float | None) -> StepOptions:
        """The options of a backward solve: its own tolerances if they are given, and a first step that it chooses."""
        if rtol is None and atol is None and self.first_step is None:
            return self
        return replace(
            self,
            rtol=self.rtol if rtol is None else rtol,
            atol=self.atol if atol is None else atol,
            first_step=None,
        )

    @property
    def fixed(self) -> bool:
        return self.dt is not None or self.grid is not None

    def limited(self, h: float) -> float:
        """h within the limits on the step size."""
        return math.copysign(min(max(abs(h), self.min_step), self.max_step), h)

    def steps(self, t: float, t_end: float) -> Iterator[float]:
        """The times at which fixed steps from t to t_end end; the last one is cut to end at t_end."""
        if self.grid is not None:
            yield from times_inside(self.grid, t, t_end)
            yield t_end
            return
        assert self.dt is not None
        span = t_end - t
        signed = math.copysign(self.dt, span)
        for i in itertools.count(1):
            if i >= abs(span) / self.dt - SLIVER:
                break
            yield t + i * signed
        yield t_end


@functools.lru_cache(maxsize=64)
def constant(x: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """x [], made once."""
    with torch.inference_mode(False):
        return torch.full((), x, dtype=dtype, device=device)


def first_step(
    control: StepOptions, f: Callable[[float, Tensor], Tensor], t: float, y: Tensor, f0: Tensor, span: float, order: int
) -> float:
    """A first step size, signed like ``span``, from the sizes of y, y' and y''; HNW I, II.4, one call of f."""
    scale = control.scale(y.abs())
    d0, d1 = control.measure(y / scale), control.measure(f0 / scale)
    size = euler_trial_step(d0, d1, abs(span))
    trial = math.copysign(size, span)
    if size == 0 or not math.isfinite(d1):  # f0 or its size in units of the tolerance is not a number
        return trial
    change = control.measure((f(t + trial, torch.add(y, f0, alpha=trial)) - f0) / scale)
    return math.copysign(step_from_curvature(size, d1, change, abs(span), order), span)
