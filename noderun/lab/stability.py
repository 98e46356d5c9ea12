"""lab=stability: the region of h lambda in which a method's solution of y' = lambda y stays bounded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from noderun.lab.context import LabContext, LabResult, Rows
from noderun.lab.linear_stability import Multistep, StabilityFunction, adams_bashforth, adams_moulton, bdf
from noderun.lab.settings import Stability
from noderun.ode.solvers import METHODS, SOLVERS
from noderun.ode.solvers.rosenbrock import Rosenbrock
from noderun.ode.solvers.tableau import ButcherTableau
from noderun.report import style

GRID = 181  # points a side
WINDOW = 100.0  # a locus that goes beyond is cut to the size of its family's others


def run(context: LabContext) -> LabResult:
    options = context.settings.lab
    onestep, multistep = chosen(context, options)
    rows = [onestep_row(name, r) for name, r in onestep.items()]
    rows += [multistep_row(name, method) for name, method in multistep.items()]
    if onestep:
        draw_regions(context, onestep)
    if multistep:
        draw_loci(context, multistep)
    return LabResult(rows, {})


def chosen(context: LabContext, options: Stability) -> tuple[dict[str, StabilityFunction], dict[str, Multistep]]:
    """The user's coefficients if given; else the named solvers, or all solvers and the linear multistep families."""
    if options.b is not None or options.alpha is not None:
        own = {"yours": StabilityFunction.of(options.a or ((),), options.b)} if options.b is not None else {}
        steps = {"yours (multistep)": Multistep(options.alpha, options.beta or ())} if options.alpha is not None else {}
        return own, steps
    names = context.solvers(options.solvers, lambda info: True, "")
    found = {name: function for name in names if (function := stability_function(name)) is not None}
    return found, {} if options.solvers else linear_families()


def linear_families() -> dict[str, Multistep]:
    adams = {f"AB{k}": adams_bashforth(k) for k in range(1, 6)} | {f"AM{k + 1}": adams_moulton(k) for k in range(1, 5)}
    return adams | {f"BDF{k}": bdf(k) for k in range(1, 8)}


def stability_function(solver: str) -> StabilityFunction | None:
    """From the method's coefficients; None if it has no Butcher tableau."""
    method: Any = METHODS[solver]
    if isinstance(method, Rosenbrock):
        return rosenbrock_function(method)
    tableau = getattr(method, "tableau", None)
    return StabilityFunction.of(tableau.a, tableau.b) if isinstance(tableau, ButcherTableau) else None


def rosenbrock_function(method: Rosenbrock) -> StabilityFunction:
    """With f = lambda y the stages u solve (I - gamma C - z gamma (I + A)) u = z gamma y; see solvers/rosenbrock.py."""
    tableau, s = method.tableau, len(method.tableau.m)
    a, c = (np.array([[*row, *[0.0] * (s - len(row))] for row in rows]) for rows in (tableau.a, tableau.c))
    inverse = tableau.gamma * np.linalg.inv(np.eye(s) - tableau.gamma * c)
    return StabilityFunction.of((inverse @ (np.eye(s) + a)).tolist(), tableau.m, inverse.sum(1).tolist())


def onestep_row(name: str, r: StabilityFunction) -> dict[str, Any]:
    return {
        "method": name,
        "order": SOLVERS[name].order if name in SOLVERS else exponential_order(r),
        "zero-stable": True,  # every one-step method is: rho = zeta - 1
        "A-stable": r.a_stable,
        "L-stable": r.l_stable,
        "A(alpha)": 90.0 if r.a_stable else None,
        "real interval": r.real_interval,
        "imaginary interval": r.imaginary_interval,
        "|R(inf)|": r.at_infinity,
    }


def multistep_row(name: str, method: Multistep) -> dict[str, Any]:
    stable = method.zero_stable()
    angle = method.angle() if stable else 0.0
    return {
        "method": name,
        "order": method.order() if method.consistent() else 0,
        "zero-stable": stable,
        "A-stable": angle == 90.0,
        "L-stable": angle == 90.0 and not any(method.beta[1:]),
        "A(alpha)": angle or None,
        "real interval": method.real_interval() if stable else 0.0,
        "imaginary interval": None,
        "|R(inf)|": None,
    }


def exponential_order(r: StabilityFunction) -> int:
    """The p up to which R(z) agrees with exp(z): an upper bound on the order of the method."""
    terms = max(len(r.p), len(r.q)) + 12
    exp = [1 / math.factorial(k) for k in range(terms)]
    product = np.convolve(exp, r.q)[:terms]
    difference = np.abs(product - np.pad(r.p, (0, terms - len(r.p))))
    wrong = difference > 1e-9
    return int(wrong.argmax()) - 1 if wrong.any() else terms - 1


def draw_regions(context: LabContext, functions: Mapping[str, StabilityFunction]) -> None:
    """Draw |R| = 1 for explicit and implicit methods apart, because their regions differ in size and side."""
    explicit = {name: r for name, r in functions.items() if len(r.q) == 1}
    implicit = {name: r for name, r in functions.items() if len(r.q) > 1}
    panels = [
        (title, group, box)
        for title, group, box in (
            ("explicit: stable inside", explicit, (-8.0, 3.0, -7.0, 7.0)),
            ("implicit: stable on the side of -infinity", implicit, (-10.0, 20.0, -15.0, 15.0)),
        )
        if group
    ]
    points: Rows = []
    with style.figure(len(panels), 1, width=8.0, height=4.8) as (drawn, axes):
        for panel, (title, group, box) in zip(axes.flat, panels, strict=True):
            points += draw_borders(panel, group, box)
            panel.set(title=title, xlabel="Re z", ylabel="Im z", aspect="equal", xlim=box[:2], ylim=box[2:])
            style.outside_legend(panel)
        drawn.suptitle(r"$|R(z)| = 1$, $z = h \lambda$")
        style.save(drawn, context.figures / "regions.png", points)


def draw_borders(panel: Any, functions: Mapping[str, StabilityFunction], box: tuple[float, ...]) -> Rows:
    """Draw one contour per method and return its points."""
    x, y = np.linspace(box[0], box[1], GRID), np.linspace(box[2], box[3], GRID)
    z = x[None, :] + 1j * y[:, None]
    points: Rows = []
    for i, (name, r) in enumerate(together(functions).items()):
        look = style.line_style(i)
        size = np.minimum(np.abs(r(z)), 1e6)
        contour = panel.contour(x, y, size, levels=[1.0], colors=[look["color"]], linestyles=[look["linestyle"]])
        panel.plot([], [], color=look["color"], linestyle=look["linestyle"], label=name)
        pieces = [segment for level in contour.allsegs for segment in level]
        points += [
            {"method": name, "piece": k, "re": float(a), "im": float(b)}
            for k, piece in enumerate(pieces)
            for a, b in piece
        ]
    axes_through_zero(panel)
    return points


def together(functions: Mapping[str, StabilityFunction]) -> dict[str, StabilityFunction]:
    """Methods of one stability function under one name: their borders are one line."""
    groups: dict[tuple[float, ...], list[str]] = {}
    for name, r in functions.items():
        groups.setdefault((*(round(c, 9) for c in r.p), math.inf, *(round(c, 9) for c in r.q)), []).append(name)
    return {", ".join(names): functions[names[0]] for names in groups.values()}


def axes_through_zero(panel: Any) -> None:
    panel.axhline(0, color="#888888", linewidth=0.6)
    panel.axvline(0, color="#888888", linewidth=0.6)


def draw_loci(context: LabContext, methods: Mapping[str, Multistep]) -> None:
    families = list(dict.fromkeys(name.rstrip("0123456789") for name in methods))
    points: Rows = []
    with style.figure(1, len(families)) as (drawn, axes):
        for panel, family in zip(axes[0], families, strict=True):
            members = {name: method for name, method in methods.items() if name.rstrip("0123456789") == family}
            sizes = [np.abs(method.locus()).max() for method in members.values()]
            limit = max((size for size in sizes if size < WINDOW), default=WINDOW) * 1.2
            for i, (name, method) in enumerate(members.items()):
                locus = method.locus()
                locus[np.abs(locus) > limit] = np.nan  # where it leaves the figure
                look = style.line_style(i) | {"marker": "none"}
                panel.plot(locus.real, locus.imag, label=name, **look)
                points += [{"method": name, "re": float(w.real), "im": float(w.imag)} for w in locus]
            axes_through_zero(panel)
            panel.set(title=family, xlabel="Re z", ylabel="Im z")
            panel.set_aspect("equal", adjustable="datalim")
            style.outside_legend(panel)
        drawn.suptitle(r"Root loci $\rho(\zeta)/\sigma(\zeta)$, $|\zeta| = 1$")
        style.save(drawn, context.figures / "loci.png", points)
