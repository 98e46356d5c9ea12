"""Hybrid systems: events that reset the state, and a solve between each and the next.

At its event t* the state jumps from y to r(t*, y), and the solve goes on. What follows has the right gradient (the
saltation matrix) because t* and y(t*) move by the implicit function theorem, and the next piece's start against t*.
With ``per_sample=True`` every sample jumps at its own times; here its times are the second dimension: [T, B].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from noderun.ode.per_sample import BatchedSolution, sample_times
from noderun.ode.solvers import Event, Occurrences, Solution, SolveError
from noderun.ode.solvers.errors import StepLimit
from noderun.ode.solvers.events import as_number
from noderun.ode.solvers.nesting import map_tensors, tensors_in

Result = Solution | BatchedSolution
Piece = Callable[[Any, Tensor, Sequence[Event]], Any]  # y0, ts and events without resets -> a solution


class TotalStatistics:
    """The sums of the pieces' statistics, also of what backward() adds to each."""

    def __init__(self, pieces: list[Any]) -> None:
        self.pieces = pieces

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "pieces":  # what copy and pickle look for before there are pieces
            raise AttributeError(name)
        counts = [count for piece in self.pieces if (count := getattr(piece, name)) is not None]
        return sum(counts[1:], counts[0]) if counts else None


@dataclass
class Way:
    """Where every sample stands, and what is known of its way so far; [*] is [B], or [] of a single solution."""

    times: Tensor  # [T, *]
    t: Tensor  # [*]
    y: Any
    ys: Any  # [T, *, ...], NaN where nobody has been yet
    going: Tensor  # [*]
    status: list[str]

    @staticmethod
    def of(y0: Any, times: Tensor) -> Way:
        at_start = times == times[0]
        ys = map_tensors(lambda y: torch.where(beside(at_start, y[None]), y[None], torch.nan), y0)
        going = torch.ones_like(times[0], dtype=torch.bool)
        return Way(times, times[0], y0, ys, going, ["done"] * going.numel())

    def ahead(self) -> Tensor:
        """Which of the times [T, *] are to come."""
        sign = torch.where(self.times[-1] < self.times[0], -1.0, 1.0)
        return self.going & (sign * (self.times - self.t) > 0)

    def read(self, solution: Result, ahead: Tensor, stop: Tensor) -> None:
        """Note what a piece has found at the times up to ``stop`` [*], NaN if nothing stopped it."""
        behind = torch.where(self.times[-1] < self.times[0], self.times < stop, self.times > stop)
        self.ys = either(ahead & ~behind, map_tensors(lambda rows: rows[1:], solution.ys), self.ys)
        words = [solution.status] if isinstance(solution.status, str) else solution.status
        moved = self.going.reshape(-1).tolist()
        self.status = [new if went else old for new, went, old in zip(words, moved, self.status, strict=True)]


def solve_between_resets(
    piece: Piece,
    f: Callable[..., Any],
    y0: Any,
    ts: Tensor,
    events: Sequence[Event],
    max_steps: int,
    per_sample: bool,
) -> Any:
    """The solution over all pieces, as ``piece`` gives one; SolveError, with what was found, if one fails."""
    device = next(tensors_in(y0)).device
    times = ts.to(device, torch.float64)
    if per_sample:
        times = sample_times(times, len(next(tensors_in(y0)))).t()
    way, stats, found = Way.of(y0, times), list[Any](), [list[Occurrences]() for _ in events]
    last = [torch.full_like(way.t, torch.nan).detach() for _ in events]
    solution: Any = None
    try:
        while way.going.any():
            if len(stats) > max_steps:
                raise StepLimit(f"{max_steps} resets did not reach the end", way.t.max().item(), max_steps)
            ahead = way.ahead()
            rows = torch.cat([way.t[None], torch.where(ahead, times, way.t)])
            armed = [arm(event, at) for event, at in zip(events, last, strict=True)]
            solution = piece(way.y, rows.movedim(0, -1), armed)
            stats.append(solution.stats)
            for known, new in zip(found, solution.events, strict=True):
                known.append(new)
            last = jump(way, f, events, solution, ahead)
            solution.stats.nfe_forward += way.going.long() if per_sample else int(way.going)
    except SolveError as error:
        if error.solution is not None:
            way.read(error.solution, ahead, torch.full_like(way.t, torch.nan))
            stats.append(error.solution.stats)
            for known, new in zip(found, error.solution.events, strict=True):
                known.append(new)
            error.solution = merged(error.solution, way, ts, stats, found)
        raise
    return merged(solution, way, ts, stats, found)


def arm(event: Event, last: Tensor) -> Event:
    """The event without its reset, its function 0 at its ``last`` [*] occurrence.

    There the solve starts anew, and rounding has left the state on either side of the zero.
    """
    if event.reset is None:
        return event

    def fn(t: Tensor, y: Any, last: Tensor, *args: Any) -> Tensor:
        value = as_number(event.fn(t, y, *args))
        return torch.where((t == last.to(t.dtype).view_as(t)).view_as(value), 0.0, value)

    return replace(event, fn=fn, reset=None, args=(last, *event.args))


def jump(way: Way, f: Callable[..., Any], events: Sequence[Event], solution: Result, ahead: Tensor) -> list[Tensor]:
    """Move the way to the piece's end and through the resets; when [*] each event now happened, else NaN."""
    never, ended = torch.full_like(way.t, torch.nan).detach(), torch.zeros_like(way.going)
    stop, t, y, last = never, way.t, way.y, []
    for event, occurrences in zip(events, solution.events, strict=True):
        last.append(never)
        if not event.terminal or not len(occurrences.ts):
            continue
        at = occurrences.ts[0].to(never)
        there = torch.isfinite(at)
        stop, ended = torch.where(there, at.detach(), stop), ended | (there & (event.reset is None))
        if event.reset is not None:
            t = torch.where(there, at, t)
            y = either(there, map_tensors(lambda rows: rows[0], occurrences.ys), y)
            y = either(there, event.reset(time_of(t, y), y, *event.args), y)
            last[-1] = torch.where(there, at.detach(), never)
    way.read(solution, ahead, stop)
    way.going = torch.isfinite(stop) & ~ended
    way.t, way.y = (t, y) if way.times.requires_grad else (t.detach(), started(f, t, y))
    return last


def started(f: Callable[..., Any], t: Tensor, y: Any) -> Any:
    """y at the start of a piece at a fixed time, as a function of the time t [*] at which it is y: dy/dt = -f."""
    if not t.requires_grad:
        return y
    with torch.enable_grad():  # f may differentiate a potential
        slope = f(time_of(t.detach(), y), map_tensors(lambda part: part.detach().requires_grad_(), y))
    slopes, change = tensors_in(slope), t.detach() - t
    return map_tensors(lambda part: part + next(slopes).detach() * beside(change, part).to(part.dtype.to_real()), y)


def time_of(t: Tensor, y: Any) -> Tensor:
    """t [*] as f sees it: [] or [B, 1, ..., 1], in the state's real dtype."""
    like = next(tensors_in(y))
    return (beside(t, like) if t.dim() else t).to(like.dtype.to_real())


def beside(x: Tensor, like: Tensor) -> Tensor:
    """x with as many dimensions as ``like``, further ones of size 1 behind its own."""
    return x.reshape((*x.shape, *[1] * (like.dim() - x.dim())))


def either(chosen: Tensor, new: Any, old: Any) -> Any:
    """``new`` where chosen, else ``old``, of nested tensors whose first dimensions are those of ``chosen``."""
    olds = tensors_in(old)
    return map_tensors(lambda part: torch.where(beside(chosen, part), part, next(olds)), new)


def merged(solution: Any, way: Way, ts: Tensor, stats: list[Any], found: Sequence[Sequence[Occurrences]]) -> Any:
    """All pieces as one solution; ``solution`` is any of them."""
    status = way.status if way.t.dim() else way.status[0]
    events = tuple(in_order(parts, ts.dtype) for parts in found)
    return replace(solution, ts=ts, ys=way.ys, stats=TotalStatistics(stats), status=status, events=events)


def in_order(parts: Sequence[Occurrences], dtype: torch.dtype) -> Occurrences:
    """The occurrences [n, *] of all pieces, every sample's in order and NaN behind its last."""
    ts = torch.cat([part.ts for part in parts])
    order = ts.isnan().long().argsort(dim=0, stable=True)
    most = int((~ts.isnan()).sum(0).max()) if len(ts) else 0
    trees = [tensors_in(part.ys) for part in parts]

    def rows(_: Tensor) -> Tensor:
        whole = torch.cat([next(tree) for tree in trees])
        return whole.gather(0, beside(order, whole).expand_as(whole))[:most]

    return Occurrences(ts.gather(0, order)[:most].to(dtype), map_tensors(rows, parts[0].ys))
