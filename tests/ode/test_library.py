"""The library's face: what can be imported, what a type checker sees, objects in place of names."""

import ast
import doctest
import inspect
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
from torch import nn

import noderun
import noderun.ode
from noderun.ode.arguments import SolveOptions
from noderun.ode.engine import solve
from noderun.ode.solvers.compiled.runge_kutta import graph_of
from noderun.ode.solvers.field import Autocast, VectorField
from noderun.ode.solvers.state import Layout

ROOT = Path(__file__).parent.parent.parent
F64 = torch.float64


def test_every_public_name_is_seen_by_a_type_checker_and_loads():
    tree = ast.parse((ROOT / "noderun/__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == noderun.PUBLIC
    assert {name for name, module in seen.items() if module == "noderun.ode"} == set(noderun.ode.__all__)
    for name, module in seen.items():
        assert getattr(noderun, name) is getattr(sys.modules[module], name)


def test_the_library_loads_nothing_else_of_ours():
    code = (
        "import sys; from noderun.ode import solve; "
        "print([m for m in sys.modules if m.split('.')[0] in ('hydra', 'omegaconf') "
        "or m.startswith('noderun.') and not m.startswith('noderun.ode')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout.strip() == "[]"


TYPES = """
import noderun
sol = noderun.solve(abs, 1, [0.0], rtol=1e-3)
reveal_type(sol.stats)
samples = noderun.solve(abs, 1, [0.0], per_sample=True)
reveal_type(samples.stats)
reveal_type(noderun.Adjoint(norm="full").norm)
reveal_type(noderun.ODEBlock)
noderun.solve(abs, 1, [0.0], rtoll=1e-3)
"""


@pytest.mark.long
def test_a_strict_type_checker_sees_the_real_types(tmp_path):
    (tmp_path / "user.py").write_text(TYPES)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent"]
    checked = subprocess.run([*command, str(tmp_path / "user.py")], capture_output=True, text=True, cwd=ROOT)
    lines = [line for line in checked.stdout.splitlines() if "user.py" in line]
    expected = ("statistics.Statistics", "problem.SampleStatistics", '"str"', "def (", "Unexpected keyword", "overload")
    for line, words in zip([x for x in lines if "error" in x or "Revealed" in x], expected, strict=True):
        assert words in line


def test_the_typed_keywords_are_those_of_solve():
    given = inspect.signature(solve).parameters
    hints, options = get_type_hints(solve), get_type_hints(SolveOptions)
    keywords = [name for name, p in given.items() if p.kind is p.KEYWORD_ONLY and name != "per_sample"]
    assert options == {name: hints[name] for name in keywords}


def test_every_argument_of_solve_is_described():
    for name in inspect.signature(solve).parameters:
        assert f"``{name}``" in solve.__doc__, name


def test_the_example_of_solve_is_right():
    results = doctest.testmod(sys.modules["noderun.ode.engine"])
    assert results.attempted and not results.failed


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.3, -1.1], [0.9, 0.2]], dtype=F64))

    def forward(self, t, y):
        return torch.tanh(y @ self.weight) * torch.cos(t)


def end_and_gradient(**options):
    field, y0 = Field(), torch.tensor([[0.7, -0.4]], dtype=F64)
    end = noderun.solve(field, y0, [0.0, 0.5, 1.0], **options).ys[-1]
    return end.detach(), torch.autograd.grad(end.sum(), field.weight)[0]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", ["dopri5", "rk4", "sdirk2", "trbdf2"])
def test_a_method_and_its_tableau_are_taken_as_the_name_is(name):
    method, options = noderun.METHODS[name], {"dt": 0.1}
    assert same(end_and_gradient(solver=method, **options), end_and_gradient(solver=name, **options))
    assert same(end_and_gradient(solver=method.tableau, **options), end_and_gradient(solver=name, **options))


def test_a_method_of_ones_own():
    """Heun's method of order 2 with Euler's as the embedded one, as heun2 and adaptive_heun have it."""
    tableau = noderun.ButcherTableau(
        order=2, a=((), (1.0,)), b=(0.5, 0.5), c=(0.0, 1.0), dense=((1.0, -0.5), (0.0, 0.5)),
        error=(-0.5, 0.5), error_order=1,
    )  # fmt: skip
    mine = noderun.ExplicitRungeKutta("mine", tableau, "this test", "Heun's method")
    for options in ({"dt": 0.1}, {"rtol": 1e-4, "atol": 1e-4}):
        assert same(end_and_gradient(solver=mine, **options), end_and_gradient(solver=tableau, **options))
    assert same(end_and_gradient(solver=mine, dt=0.1), end_and_gradient(solver="heun2", dt=0.1))
    with pytest.raises(ValueError, match="solver 'mine' cannot"):
        end_and_gradient(solver=mine, gradient="reversible")


def test_a_fully_implicit_tableau_is_refused():
    full = noderun.ButcherTableau(
        order=2, a=((0.25, 0.25), (0.25, 0.25)), b=(0.5, 0.5), c=(0.5, 0.5), dense=((0.5,), (0.5,))
    )
    with pytest.raises(ValueError, match="explicit tableaus.*diagonally implicit"):
        end_and_gradient(solver=full, dt=0.1)


def test_compiled_graphs_of_ones_own_methods_are_told_apart_by_their_tableaus():
    rows = {"order": 1, "a": ((), (0.5,)), "c": (0.0, 0.5)}
    tableaus = [noderun.ButcherTableau(b=b, dense=tuple((x,) for x in b), **rows) for b in ((1.0, 0.0), (0.0, 1.0))]
    one, other = (noderun.ExplicitRungeKutta("mine", tableau, "this test", "a method") for tableau in tableaus)
    y = torch.zeros(2)
    field = VectorField(lambda t, y: -y, Layout.of(y), (), Autocast("cpu"))
    assert graph_of(one, field, y) is not graph_of(other, field, y)
    again = noderun.ExplicitRungeKutta("again", tableaus[0], "this test", "the first one, made anew")
    assert graph_of(one, field, y) is graph_of(again, field, y)


@pytest.mark.parametrize(
    ("chosen", "name", "options"),
    [
        (noderun.Backprop(), "backprop", {}),
        (noderun.Checkpointed(checkpoints=2), "checkpointed", {"checkpoints": 2}),
        (noderun.Symplectic(), "symplectic", {}),
        (noderun.Adjoint(norm="seminorm"), "adjoint", {"norm": "seminorm"}),
        (noderun.Interpolated(), "interpolated", {}),
        (noderun.Forward(), "forward", {}),
    ],
)
def test_a_gradient_is_taken_as_its_name_is(chosen, name, options):
    assert same(end_and_gradient(gradient=chosen), end_and_gradient(gradient=name, gradient_options=options))


@pytest.mark.parametrize("gradient", noderun.GRADIENTS.values())
def test_a_gradient_says_what_it_is_and_refuses_what_it_does_not_know(gradient):
    assert gradient.memory and gradient.source and gradient.description and gradient.__doc__
    with pytest.raises(ValueError, match="has no option 'colour'"):
        gradient().with_options(colour=1)


@pytest.mark.parametrize(("option", "value"), [("checkpoints", 0), ("norm", "half")])
def test_an_option_out_of_range_is_refused_when_the_gradient_is_made(option, value):
    takers = [g for g in noderun.GRADIENTS.values() if option in inspect.signature(g).parameters]
    assert len(takers) == 2
    for gradient in takers:
        with pytest.raises(ValueError, match=f"is '?{value}'?; it is"):
            gradient(**{option: value})


def test_a_gradient_of_ones_own():
    @dataclass(frozen=True)
    class Scaled(noderun.Gradient):
        name, exact, recorded_by_autograd = "scaled", False, True
        factor: float = 1.0

        def solve(self, problem):
            ys = noderun.integrate(problem)
            return ys.detach() + self.factor * (ys - ys.detach())

        def refusal(self, method):
            return "gradient='scaled' is for explicit solvers" if method.info.implicit else super().refusal(method)

    (end, grad), (expected, full) = end_and_gradient(gradient=Scaled(0.5)), end_and_gradient(gradient="backprop")
    assert torch.equal(end, expected) and torch.equal(grad, 0.5 * full)
    with pytest.raises(ValueError, match="explicit solvers"):
        end_and_gradient(gradient=Scaled(), solver="radau5")
    with pytest.raises(ValueError, match="'scaled' has one time for all samples"):
        end_and_gradient(gradient=Scaled(), per_sample=True)


@pytest.mark.parametrize("wrong", [{"gradient": noderun.Adjoint}, {"solver": None}, {"controller": 0.9}])
def test_what_is_neither_a_name_nor_an_object_is_refused(wrong):
    with pytest.raises(TypeError, match="it is a name, or an object"):
        end_and_gradient(**wrong)


def test_a_batched_solution_has_a_number_per_sample():
    y0 = torch.tensor([[1.0], [2.0], [3.0]], dtype=F64)
    sol = noderun.solve(lambda t, y: -y, y0, [0.0, 1.0], per_sample=True, dense=True)
    assert isinstance(sol, noderun.BatchedSolution) and not isinstance(sol, noderun.Solution)
    assert sol.stats.nfe_forward.shape == (3,) and sol.status == ["done"] * 3
    torch.testing.assert_close(sol.interpolate(0.5), y0 * torch.tensor(-0.5, dtype=F64).exp(), rtol=1e-5, atol=0)
