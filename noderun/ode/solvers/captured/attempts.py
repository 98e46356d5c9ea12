"""Attempts of a step that are made, judged and recorded on the device; the host only says how often."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.captured.capture import Capture
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.device_control import (
    Tolerances,
    decide,
    first_size,
    limited,
    limits,
    scaled,
    size_of,
    sized,
    tolerances,
    under_way,
)
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.graphed import room_for
from noderun.ode.solvers.method import Quadrature, Step
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.tableau import combined
from noderun.ode.solvers.times import Bounds, stage_times

STATE, SIZES = slice(2, 8), 8  # of ``report``: the state of the solve, and h, size and error ratio of every attempt
GIVEN = 14  # numbers that a solve gives


@dataclass
class Integral:
    """What is integrated beside the state: its value [P] so far and the integrand at y."""

    value: Tensor
    integrand: Tensor
    controlled: bool  # whether its error counts as the state's does (``ParamIntegral``)

    @staticmethod
    def of(totals: Sequence[Tensor], controlled: bool) -> Integral:
        """Room for integrals of these shapes, side by side."""
        value = side_by_side(totals).clone()
        return Integral(value, torch.zeros_like(value), controlled)

    def load(self, totals: Sequence[Tensor], integrands: Sequence[Tensor] | None) -> None:
        self.value.copy_(side_by_side(totals))
        if integrands:
            self.integrand.copy_(side_by_side(integrands))

    def parts(self, like: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The integrands at y and the integrals, in the shapes and dtypes that they were loaded with."""
        return tuple(apart(self.integrand.clone(), like)), tuple(apart(self.value.clone(), like))

    def after(self, quadrature: Quadrature | None, within: Tolerances) -> tuple[Tensor, Tensor]:
        """Its value after a step, and the error over the step in units of the tolerance."""
        assert quadrature is not None
        change, error = quadrature.sums()
        later = self.value + change
        before, now, wrong = (torch.linalg.vector_norm(x).to(torch.float64) for x in (self.value, later, error))
        rtol, atol = (x.min() for x in within)
        return later, wrong / (atol * len(later) ** 0.5 + rtol * torch.maximum(before, now))


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([real(part).reshape(-1) for part in parts])


def apart(vector: Tensor, like: Sequence[Tensor]) -> Iterator[Tensor]:
    shapes = [real(part) for part in like]
    for part, shape, piece in zip(like, shapes, vector.split([x.numel() for x in shapes]), strict=True):
        shaped = piece.view(shape.shape).to(shape.dtype)
        yield torch.view_as_complex(shaped) if part.is_complex() else shaped


def real(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


class Attempts:
    """A solve at fixed addresses: ``load`` puts it there, ``attempt`` makes an attempt, ``report`` tells its outcome.

    ``numbers`` are those of ``device_control``, with the bounds of f's times between. ``report`` holds whether another
    attempt is due, how many were made, the state of the solve, and h, h as it was cut and the error ratio of each;
    ``record`` [room + 1, rows, N] what each leaves: y, and its k_(s-1), ..., k_0. Once nothing is due, another attempt
    has a step size of 0 and writes to the last row alone.
    """

    def __init__(
        self,
        method: ExplicitRungeKutta,
        make_field: Callable[[Bounds], Field],
        control: StepOptions,
        y: Tensor,
        rows: int,
        integral: Integral | None = None,
        pool: Any = None,
    ) -> None:
        self.method, self.control, self.rows, self.integral = method, control, rows, integral
        self.room, device = room_for(len(y), rows), y.device
        self.numbers = torch.zeros(GIVEN, dtype=torch.float64, device=device)
        self.given = [x.clone() if isinstance(x, Tensor) else None for x in (control.rtol, control.atol)]
        self.report = torch.zeros(SIZES + 3 * (self.room + 1), dtype=torch.float64, device=device)
        self.due, self.count, self.state = self.report[0], self.report[1], self.report[STATE]
        self.sizes = self.report[SIZES:].view(-1, 3)
        self.record = y.new_empty(self.room + 1, rows, len(y))
        self.work = method.start(y)
        self.y, self.slope = self.work.rows[-1], self.work.ks[0]
        self.work.held = self.y  # y is in its place in the stages' buffer
        self.field = make_field(Bounds(self.numbers[10], self.numbers[11]))
        made = (self.evaluate, self.choose, self.attempt, self.fixed)
        self.replays = {work.__name__: Capture(work, self.rest, device, pool) for work in made}

    def rest(self) -> None:
        """Let nothing be due."""
        self.numbers.zero_()
        self.report.zero_()
        self.y.zero_()

    def load(self, numbers: Sequence[float], given: Sequence[Tensor | None], y: Tensor, slope: Tensor | None) -> None:
        packed = torch.tensor(numbers, dtype=torch.float64)
        self.numbers.copy_(packed, non_blocking=True)
        for own, new in zip(self.given, given, strict=True):
            if own is not None and new is not None:
                own.copy_(new)
        self.report.zero_()
        self.state.copy_(self.numbers[:6])
        self.y.copy_(y)
        if slope is not None:
            self.slope.copy_(slope)

    def load_moves(self, moves: Sequence[tuple[float, float]]) -> None:
        """Steps of given sizes, each with its start."""
        table = torch.tensor([(t, h, 0.0) for t, h in moves], dtype=torch.float64)
        self.sizes[: len(moves)].copy_(table, non_blocking=True)
        self.due.fill_(1.0)

    def evaluate(self) -> None:
        """k_0 = f(t, y)."""
        (t,) = stage_times(self.state[0], 0.0, (0.0,), self.y, self.field.bounds)
        self.work.evaluate(0, self.field, t, self.y, True)
        if self.integral is not None and self.field.integrand is not None:
            self.integral.integrand.copy_(self.field.integrand)

    def choose(self) -> None:
        """The first step size, and that a first attempt is due."""
        t, within = self.state[0], tolerances(self.numbers, self.given)
        span = limits(self.numbers)[0] - t

        def slope_at(t: Tensor, y: Tensor) -> Tensor:
            low, high, _ = self.field.bounds
            return self.field(t.clamp(low, high).to(y.dtype.to_real()), y, False)

        h = first_size(slope_at, self.method.error_order, t, span, within, self.y, self.slope, self.control.norm)
        self.state[1].copy_(limited(h, self.numbers))

    def attempt(self) -> None:
        """One attempt from (t, y): accept or reject it, choose the next step size, record it."""
        due = under_way(self.state, self.numbers, self.count, self.room)
        h, size = sized(self.state, self.numbers)
        size = torch.where(due, size, 0.0)
        step = self.step(size, True)
        ratio, beside = self.ratio(step)
        accepted, following = decide(
            self.control.controller, self.method.error_order, self.state, self.numbers, h, size, ratio
        )
        self.note(due, torch.stack([h, size, ratio]))
        self.take(accepted & due, step, beside)
        self.state.copy_(torch.where(due, following, self.state))
        self.count.add_(due)
        self.due.copy_(under_way(self.state, self.numbers, self.count, self.room))

    def fixed(self) -> None:
        """One step of the sizes that ``sizes`` holds, each with its start."""
        t, size, _ = self.sizes.index_select(0, self.count.long().reshape(1))[0].unbind()
        self.state[0].copy_(t)
        step = self.step(size, False)
        self.leave(self.count)
        self.y.copy_(step.y1)
        if self.integral is not None:
            assert step.quadrature is not None
            self.integral.value.add_(step.quadrature.sums()[0])
        self.count.add_(self.due)

    def step(self, size: Tensor, estimate: bool) -> Step:
        work = self.work
        work.known = self.method.tableau.fsal and estimate
        work.integrands[0] = None if self.integral is None else self.integral.integrand
        return self.method.step(self.field, self.state[0], self.y, size, work, estimate)

    def ratio(self, step: Step) -> tuple[Tensor, Tensor | None]:
        """The step's error in units of the tolerance, and the integral after it."""
        assert step.error is not None
        within = tolerances(self.numbers, self.given)
        scale, norm = scaled(within, torch.maximum(step.y.abs(), step.y1.abs())), self.control.norm
        errors = [step.error] if self.method.tableau.low_error is None else [step.error, self.work.estimate(-1)]
        found = [size_of(norm, error / scale).to(torch.float64) for error in errors]
        ratio = combined(*found) if len(found) > 1 else found[0]
        if self.integral is None:
            return ratio, None
        later, beside = self.integral.after(step.quadrature, within)
        return (torch.maximum(ratio, beside) if self.integral.controlled else ratio), later

    def note(self, due: Tensor, sizes: Tensor) -> None:
        """Record an attempt, one that is not due in the last row."""
        place = torch.where(due, self.count, float(self.room))
        self.sizes.index_copy_(0, place.long().reshape(1), sizes.unsqueeze(0))
        self.leave(place)

    def leave(self, place: Tensor) -> None:
        """Record y and the stages."""
        if not self.rows:
            return
        count, s = self.work.count, self.method.tableau.stages
        left = [self.y.unsqueeze(0), self.work.rows[count - s : count]][: self.rows]
        self.record.index_copy_(0, place.long().reshape(1), torch.cat(left).unsqueeze(0))

    def take(self, accepted: Tensor, step: Step, beside: Tensor | None) -> None:
        """The end of an accepted step becomes the start of the next."""
        self.y.copy_(torch.where(accepted, step.y1, self.y))
        if self.method.tableau.fsal:
            self.slope.copy_(torch.where(accepted, self.work.ks[self.method.tableau.stages - 1], self.slope))
        if self.integral is not None and beside is not None:
            self.integral.value.copy_(torch.where(accepted, beside, self.integral.value))
            last = self.work.integrands[self.method.tableau.stages - 1]
            if last is not None:
                self.integral.integrand.copy_(torch.where(accepted, last, self.integral.integrand))
