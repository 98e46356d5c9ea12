"""The project's targets, as ratios of times within one run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from noderun.benchmarks.case import LIMIT, Row


@dataclass(frozen=True)
class Target:
    """``over`` None: milliseconds of the contender; ``faster``: the least speed-up over ``over``."""

    what: str
    suite: str
    cases: str  # a regular expression that their names begin with
    contender: str
    over: str | None
    bound: float
    faster: bool = False

    def values(self, rows: Sequence[Row]) -> list[float]:
        """One per case that has both contenders."""
        times: dict[str, dict[str, float]] = {}
        for row in rows:
            if row.suite == self.suite and re.match(self.cases, row.case):
                times.setdefault(row.case, {})[row.contender] = row.milliseconds
        return [
            self.value(of) for of in times.values() if self.contender in of and (self.over is None or self.over in of)
        ]

    def value(self, of: dict[str, float]) -> float:
        if self.over is None:
            return of[self.contender]
        ratio = of[self.contender] / of[self.over]
        return 1 / ratio if self.faster else ratio

    def met(self, value: float) -> bool:
        return value >= self.bound if self.faster else value <= self.bound

    @property
    def wanted(self) -> str:
        if self.over is None:
            return f"at most {self.bound:g} ms"
        return f"at least {self.bound:g} x faster" if self.faster else f"at most {self.bound:g} x {self.over}"


SMALL, BLOCK, STEP = "MLP 2-64-64-2, B = ", "ODE-Net's block", "ODE-Net, one training step"
ON_A_CARD = (  # an H100: what, cases, contender, milliseconds as it is and with f compiled
    ("ODE-Net's block without gradient", f"{BLOCK}.*no gradient", "", (3.2, 2.1)),
    ("the same with its exact gradient", f"{BLOCK}.*backward", " checkpointed", (13, 8.5)),
    ("the same by adjoint", f"{BLOCK}.*backward", " adjoint", (11, 8)),
    ("MLP 2-64-64-2, B = 128, without gradient", f"{SMALL}.*no gradient", "", (1,)),
    ("the same with its exact gradient", f"{SMALL}.*backward", " checkpointed", (3,)),
    ("ODE-Net, one training step", STEP, " checkpointed", (12,)),
)
TARGETS = (
    Target("solve, B = 1024 and more", "solve", SMALL + r"\d{4}", "noderun", LIMIT, 1.15),
    Target("solve, B = 128", "solve", SMALL + "128,", "noderun", LIMIT, 1.4),
    Target("solve, B = 1", "solve", SMALL + "1,", "noderun", LIMIT, 1.7),
    Target("compiled solve, B = 1 and 128", "solve", SMALL + r"1(28)?,", "noderun compiled", LIMIT, 1.0),
    *(
        Target(f"gradient of a small f, {g}", "gradient", SMALL, f"noderun {g}", f"torchdiffeq {g}", 3, faster=True)
        for g in ("backprop", "adjoint")
    ),
    Target(
        "compiled gradient of a small f", "gradient", SMALL, "noderun compiled checkpointed", "diffrax checkpointed", 2
    ),
    Target("ODE-Net's block, backprop", "training", f"{BLOCK}.*by backprop", "noderun backprop", LIMIT, 1.05),
    Target("ODE-Net's block, adjoint", "training", f"{BLOCK}.*by adjoint", "noderun adjoint", LIMIT, 1.1),
    *(
        Target(
            f"the same block, {g}", "training", "ODE-Net's block", f"noderun {g}", f"torchdiffeq {g}", n, faster=True
        )
        for g, n in (("backprop", 1.3), ("adjoint", 1.25))
    ),
    *(
        Target(f"training step, own f, {g}", "training", STEP, f"noderun {g}", f"torchdiffeq {g}", 1.5, faster=True)
        for g in ("backprop", "adjoint")
    ),
    *(
        Target(
            f"neural CDE, against torchcde {peer}",
            "series",
            "neural CDE",
            "noderun backprop",
            f"torchcde {peer}",
            n,
            faster=True,
        )
        for peer, n in (("rk4, backprop", 1.5), ("by default", 10))
    ),
    Target("latent ODE, gradient", "series", "latent ODE", "noderun backprop", "torchdiffeq backprop", 1, faster=True),
    Target("events of each sample", "series", "an event", "noderun", "torchdiffeq, one by one", 1, faster=True),
    Target("SDE solve", "stochastic", "solve", "noderun", "torchsde", 2, faster=True),
    *(
        Target(f"SDE gradient, {g}", "stochastic", "gradient", f"noderun {g}", f"torchsde {g}", 2, faster=True)
        for g in ("backprop", "adjoint", "reversible")
    ),
    Target("100 increments in order", "stochastic", "100 increments", "noderun in order", None, 2),
    Target("100 increments in any order", "stochastic", "100 increments", "noderun shuffled", None, 10),
    *(
        Target(what, "gpu", cases, f"noderun{form}{gradient}", None, bound)
        for what, cases, gradient, bounds in ON_A_CARD
        for form, bound in zip(("", " compiled"), bounds, strict=False)
    ),
    Target("the same solve beside diffrax", "gpu", f"{SMALL}.*no gradient", "noderun", "diffrax", 1),
    Target("`noderun --help`", "startup", "", "noderun --help", None, 200),
    Target("`noderun train --help`", "startup", "", "noderun train --help", None, 2000),
)
