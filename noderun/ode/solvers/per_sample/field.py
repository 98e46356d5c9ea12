"""The vector field of a batch whose samples have their own times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.errors import SolveError
from noderun.ode.solvers.events import Event, as_number
from noderun.ode.solvers.field import Autocast, recorded, unchanged
from noderun.ode.solvers.nesting import map_tensors
from noderun.ode.solvers.per_sample.times import SampleBounds
from noderun.ode.solvers.state import Layout, describe


class SampleField:
    """dy/dt = f(t, y, *args) for any of the samples of a batch of ``size``; ``layout`` is that of one sample.

    The solver takes every sample along rising times s. Where ``sign`` [B] is -1, as some are if ``back``, its time runs
    back: t = -s.
    """

    bounds: SampleBounds  # set by the problem that it is part of

    def __init__(
        self,
        f: Callable[..., Any],
        layout: Layout,
        args: tuple[Any, ...],
        autocast: Autocast,
        sign: Tensor,
        back: bool,
    ) -> None:
        self.f, self.layout, self.args, self.autocast = f, layout, args, autocast
        self.size, self.signs = len(sign), sign
        self.first, self.differentiates = True, False  # as of a VectorField
        self.witness: tuple[float, Tensor] | None = None
        self.graphs: dict[str, Any] = {}  # found for this solve
        self.sign = sign if back else None
        dims = {len(shape) - layout.pairs for shape in layout.shapes}
        if len(dims) > 1:
            raise ValueError("per_sample=True takes nested states whose tensors have equally many dimensions")
        self.broadcast = (1,) * dims.pop()

    def natural(self, s: Tensor) -> Tensor:
        """t [..., B] from times along the ways, and the other way round."""
        return s if self.sign is None else s * self.sign

    def of(self, samples: Tensor | None) -> BatchedField:
        """f for these samples, None being all; tensors in args with a leading dimension of B are gathered too."""

        if samples is None:
            return BatchedField(self, self.args, self.sign, self.bounds)
        sign = None if self.sign is None else self.sign[samples]
        return BatchedField(self, self.gathered(self.args, samples), sign, self.bounds.take(samples), samples)

    def gathered(self, args: tuple[Any, ...], samples: Tensor) -> tuple[Any, ...]:
        rows: tuple[Any, ...] = map_tensors(lambda x: x[samples] if x.dim() and len(x) == self.size else x, args)
        return rows


class BatchedField:
    """f along the way of some samples: s [b], y [b, N] -> dy/ds [b, N]."""

    def __init__(
        self,
        field: SampleField,
        args: tuple[Any, ...],
        sign: Tensor | None,
        bounds: SampleBounds,
        samples: Tensor | None = None,
    ) -> None:
        self.field, self.args, self.sign, self.bounds, self.layout = field, args, sign, bounds, field.layout
        self.samples = samples  # None: all
        self.args_of: dict[int, tuple[Any, ...]] = {}  # those of the events, by identity

    def within(self, s: Tensor) -> Tensor:
        """Times [..., b] as f may see them: of the state's real dtype, and moved to the bounds if they lie beyond.

        So a sum that ends a step may do by its rounding.
        """
        low, high, _ = self.bounds
        return s.to(low.dtype).clamp(low, high)

    def __call__(self, s: Tensor, y: Tensor) -> Tensor:
        return self.called(self.within(s), y)

    def called(self, s: Tensor, y: Tensor) -> Tensor:
        """The same at times that ``within`` has made."""
        try:
            flat = self.evaluated_first(s, y) if self.field.first else self.evaluated(s, y)
        except (RuntimeError, ValueError) as error:
            flat = self.retried(s, y, error)
        return flat if self.sign is None else flat * self.sign.unsqueeze(1)

    def evaluated(self, s: Tensor, y: Tensor) -> Tensor:
        """dy/dt [b, N]."""
        field = self.field
        if field.differentiates and not recorded(y):
            return self.evaluated_at_leaf(s, y)
        if not field.autocast.enabled:
            return self.flat(field.f(self.time(s), self.state(y), *self.args), y.shape[0]).to(y.dtype)
        with field.autocast.inside():
            return self.flat(field.f(self.time(s), self.state(y), *self.args), y.shape[0]).to(y.dtype)

    def evaluated_first(self, s: Tensor, y: Tensor) -> Tensor:
        self.field.first = False
        with unchanged(y):
            return self.evaluated(s, y)

    def evaluated_at_leaf(self, s: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad(), self.field.autocast.inside():
            state = self.state(y.detach().requires_grad_())
            flat = self.flat(self.field.f(self.time(s), state, *self.args), y.shape[0]).to(y.dtype)
        return flat if torch.is_grad_enabled() else flat.detach()

    def retried(self, s: Tensor, y: Tensor, error: Exception) -> Tensor:
        """f with autograd on at a y that requires gradients, as for one solution."""
        if y.shape[0] < self.field.size and not isinstance(error, SolveError):
            raise ValueError(
                f"f fails for the {y.shape[0]} of {self.field.size} samples that are still under way ({error}): give "
                "tensors that have a row for each sample in args=, or let f see all samples with compact=False"
            ) from error
        if isinstance(error, ValueError) or recorded(y) or self.field.differentiates:
            raise error
        try:
            flat = self.evaluated_at_leaf(s, y)
        except Exception:
            raise error from None
        self.field.differentiates = True
        return flat

    def natural(self, s: Tensor) -> Tensor:
        return s if self.sign is None else s * self.sign

    def time(self, s: Tensor) -> Tensor:
        """t as f sees it: [b, 1, ..., 1], broadcastable to the state."""
        return self.natural(s).view(-1, *self.field.broadcast)

    def state(self, y: Tensor) -> Any:
        return self.layout.rebuild(self.layout.split(y))

    def flat(self, state: Any, count: int) -> Tensor:
        """[b, N]; ValueError if f returned other shapes than the state's."""
        layout = self.layout
        if layout.single and isinstance(state, Tensor) and state.shape == (count, *layout.shapes[0]):
            return state.reshape(count, layout.sizes[0])
        wanted = tuple(torch.Size((count, *shape)) for shape in layout.shapes)
        rebuilt = Layout(wanted, (), layout.rebuild, layout.keys, layout.single, layout.pairs)
        parts = zip(rebuilt.leaves(state), layout.sizes, strict=True)
        return torch.cat([leaf.reshape(count, size) for leaf, size in parts], dim=1)

    def value(self, event: Event, s: Tensor, y: Tensor) -> Tensor:
        """An event's function fn(t, y, *args) [b]."""
        args = event.args
        if args and self.samples is not None:
            if id(event) not in self.args_of:
                self.args_of[id(event)] = self.field.gathered(args, self.samples)
            args = self.args_of[id(event)]
        value = as_number(event.fn(self.time(self.within(s)), self.state(y), *args))
        if value.numel() != len(s):
            got = describe((value.shape,))
            raise ValueError(f"an event's function returned {got} for {len(s)} samples; it returns one number each")
        return value.reshape(-1).double()
