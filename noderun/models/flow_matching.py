"""Flow matching (Lipman et al. 2023, Tong et al. 2024): a continuous flow whose field is learned without a solve."""

from __future__ import annotations

import math
import time
from typing import Any, cast

import torch
from torch import Tensor, nn

from noderun import noise
from noderun.models.block import MakeDynamics, Solve
from noderun.models.conditional import ConditionalVelocity
from noderun.models.continuous import ContinuousFlow, FlowBlock
from noderun.models.ffjord import COSTLY, warn_of_cost
from noderun.models.optimal_transport import pairing
from noderun.models.probability_paths import Linear, VariancePreserving


class WithEnergy(nn.Module):
    """d(x, e)/dt = (f, |f|^2), e [B, 1, ..., 1]; ``condition`` are further arguments of f."""

    def __init__(self, velocity: nn.Module) -> None:
        super().__init__()
        self.velocity = velocity

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor], *condition: Tensor) -> tuple[Tensor, Tensor]:
        velocity = self.velocity(t, state[0], *condition)
        return velocity, velocity.square().flatten(1).sum(1).reshape(state[1].shape)


class FlowMatching(ContinuousFlow):
    """x(1) of dx/dt = f(t, x) from x(0) of the source: a standard normal, or the points that come with the data.

    ``path`` joins points of the source and of the data, which ``coupling`` pairs: independent, or by exact optimal
    transport within the batch (ot), or within each class of the batch (conditional_ot). ``source`` comes with the data
    set: its name, or None for the normal.

    With ``classes`` the field is f(t, x, c) of the class c, one-hot, and the flow is p(x | c): its methods take
    ``labels`` int64 [B]. Without labels, log_prob is that of all classes, which are equally probable, together.
    """

    source: str | None = None

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        make_dynamics: MakeDynamics,
        solve: Solve,
        *,
        path: str = "linear",
        sigma: float = 0.0,
        coupling: str = "independent",
        classes: int | None = None,
        transport_points: int = 2000,
        test_divergence: str = "exact",
        **options: Any,
    ) -> None:
        options |= {"divergence": test_divergence, "test_divergence": test_divergence}
        if reason := unfit_coupling(coupling, classes is not None):
            raise ValueError(reason)
        velocity = ConditionalVelocity(shape, classes, make_dynamics) if classes else make_dynamics(shape)
        super().__init__(shape, [velocity], solve, **options)
        self.classes = classes
        self.path = VariancePreserving() if path == "vp" else Linear(sigma)
        self.coupling = coupling
        self.transport_points = transport_points
        if test_divergence == "exact" and math.prod(shape) > COSTLY:
            warn_of_cost("test_divergence", math.prod(shape))

    @property
    def block(self) -> FlowBlock:
        return cast(FlowBlock, self.chain[0])

    @property
    def velocity(self) -> nn.Module:
        return self.block.dynamics.velocity

    def condition(self, labels: Tensor | None) -> tuple[Tensor, ...]:
        """What the field takes beside t and x: the classes, one-hot [B, classes].

        ValueError if there are labels and no classes, or classes and no labels.
        """
        if (labels is None) != (self.classes is None):
            on = "no class" if self.classes is None else f"one of {self.classes} classes: give labels [B]"
            raise ValueError(f"this flow is conditioned on {on}")
        if labels is None or self.classes is None:
            return ()
        return (nn.functional.one_hot(labels, self.classes).to(next(self.parameters()).dtype),)

    def forward(self, x: Tensor, index: Tensor | None = None, **given: Any) -> Tensor:
        """log p(x | labels) [B] in nats; without ``labels`` log of the mean of p(x | c) over the classes c."""
        if self.classes is None or given:
            return super().forward(x, index, **given)
        each = [self(x, index, labels=torch.full([len(x)], c, device=x.device)) for c in range(self.classes)]
        return torch.stack(each).logsumexp(0) - math.log(self.classes)

    log_prob = forward

    def encode(self, y: Tensor, index: Tensor | None = None, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.block(y, index, *self.condition(labels))

    def decode(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.block.inverse(z, *self.condition(labels))

    def regression(self, x: Tensor, source: Tensor | None, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The mean of |f(t, x_t) - u_t|^2 per dimension, and what pairing cost, in milliseconds.

        A point of the source is independent of the labels: for the pairing it has the label of its row.
        """
        x1, _ = self.transform(x)
        x0 = noise.for_batch(torch.randn, x1.shape, x1) if source is None else self.transform(source)[0]
        cost: dict[str, Tensor] = {}
        if self.coupling != "independent":
            start = time.perf_counter()
            x0 = x0[pairing(x0, x1, labels)]
            cost["coupling_ms"] = torch.tensor(1000 * (time.perf_counter() - start))
        t = self.path.last * noise.for_batch(torch.rand, (len(x1), *[1] * (x1.dim() - 1)), x1)
        point, velocity = self.path(x0, x1, t)
        error = self.velocity(t, point, *self.condition(labels)) - velocity
        return {"loss": error.square().mean()} | cost

    def euler(self, x0: Tensor, labels: Tensor | None = None) -> Tensor:
        """x(1) by one step of Euler's method."""
        return x0 + self.velocity(x0.new_zeros(()), x0, *self.condition(labels))

    def transport(self, x0: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x(1), and the integral of |f|^2 along each path [B]."""
        block, start = self.block, (x0, x0.new_zeros(len(x0), *(1 for _ in x0.shape[1:])))
        given = block.in_testing() | {"args": self.condition(labels)}
        solution = block.solve(WithEnergy(self.velocity), start, block.times(), **given)
        block.inverse_stats = solution.stats
        x, energy = solution.ys
        return x[-1], energy[-1].flatten()

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        **given: Any,
    ) -> Tensor:
        """Draws [n, *shape], of ``labels`` [n] or, without them, of classes at random."""
        if self.source is not None:
            raise ValueError(f"this flow starts from points of {self.source}, not from a normal: give some to decode()")
        if self.classes is not None and not given:
            device = next(self.parameters()).device
            given["labels"] = torch.randint(self.classes, (n,), generator=generator, device=device)
        return super().sample(n, generator=generator, temperature=temperature, **given)


def unfit_coupling(coupling: str, classes: bool) -> str | None:
    """Why points cannot be paired so for a flow that is conditioned on classes, or is not; None if they can."""
    if coupling == "ot" and classes:
        return (
            "coupling=ot pairs points across classes, which makes a flow that is conditioned on the class wrong: use "
            "conditional_ot, whose cost contains the class"
        )
    if coupling == "conditional_ot" and not classes:
        return (
            "coupling=conditional_ot pairs points within each class, and the data have no classes: use ot, or "
            "data.classes=true"
        )
    return None
