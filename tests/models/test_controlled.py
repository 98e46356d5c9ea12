"""Controlled equations: paths equal torchcde's, exact solutions, padding, masks, clocks, gradients and refusals."""

import copy
import warnings

import pytest
import torch
import torchcde
from torch import nn

from noderun.data import Batch, Classes, DataError, Dataset, Series
from noderun.models import MODELS
from noderun.models.control import INTERPOLATIONS, LOOKS_AHEAD, ControlPath
from noderun.models.log_ncde import LogField, log_signatures
from noderun.models.recurrence import DiagonalRecurrence, FlowRecurrence
from noderun.ode.configured import ConfiguredSolve
from noderun.ode.gradients import GRADIENTS

KNOTS = {"solver": "heun2", "dt": 1.0}
CONTROLLED = ("neural_cde", "log_ncde", "linear_cde", "ssm")


def make(name, outputs=3, **options):
    torch.manual_seed(0)
    solve = {"solve": ConfiguredSolve(**KNOTS)} if name in ("neural_cde", "log_ncde") else {}
    return MODELS[name]((7, 2), outputs, **solve, **options).double()


@pytest.fixture
def series():
    """Inputs [3, 7, 2], irregular times of each series' own, and a mask whose first row is there."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 7, 2, generator=generator, dtype=torch.float64)
    times = torch.rand(3, 7, generator=generator, dtype=torch.float64).cumsum(1)
    mask = torch.rand(3, 7, 2, generator=generator) < 0.7
    mask[:, 0] = mask[:, -1] = True
    return inputs, times, mask


def torchcde_coefficients(name, path, times):
    """torchcde's coefficients of dX/dt [B, K, n, C] in units of an interval."""
    dt = times.diff().view(-1, 1)
    with warnings.catch_warnings(action="ignore"):  # a rectilinear path that begins with a missing value
        if name in ("linear", "rectilinear"):
            knots = torchcde.linear_interpolation_coeffs(path, *([times] if name == "linear" else [None, 0]))
            return knots.diff(dim=1).unsqueeze(2)
        cubic = (
            torchcde.natural_cubic_coeffs
            if name == "natural"
            else torchcde.hermite_cubic_coefficients_with_backward_differences
        )
        _, b, two_c, three_d = cubic(path, times).chunk(4, dim=-1)
    return torch.stack([b * dt, two_c * dt**2, three_d * dt**3], dim=2)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_paths_are_torchcdes(name, missing):
    torch.manual_seed(0)
    times, x = torch.rand(12, dtype=torch.float64).cumsum(0), torch.randn(3, 12, 4, dtype=torch.float64)
    mask = torch.rand(3, 12, 4) < 0.5 if missing else torch.ones(3, 12, 4, dtype=torch.bool)
    assert mask.any(1).all()
    clock = times.expand(3, -1)
    found = ControlPath(name)(torch.where(mask, x, torch.nan), clock, mask if missing else None, None)
    path = torch.cat([clock.unsqueeze(-1), torch.where(mask, x, torch.nan)], dim=2)
    torch.testing.assert_close(found.coefficients, torchcde_coefficients(name, path, times), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CONTROLLED)
def test_padding_does_not_change_a_result(name, series):
    inputs, times, mask = series
    model = make(name)
    padded = torch.cat([inputs, torch.full_like(inputs[:, :4], torch.nan)], dim=1)
    longer = torch.cat([times, times[:, -1:].expand(-1, 4)], dim=1)
    seen = torch.cat([mask, torch.zeros_like(mask[:, :4])], dim=1)
    torch.testing.assert_close(model(padded, longer, seen), model(inputs, times, mask))


@pytest.mark.parametrize("name", CONTROLLED)
def test_a_mask_of_ones_is_none(name, series):
    inputs, times, _ = series
    model = make(name)
    for ones in (torch.ones(3, 7, dtype=torch.bool), torch.ones(3, 7, 2, dtype=torch.bool)):
        torch.testing.assert_close(model(inputs, times, ones), model(inputs, times))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("neural_cde", {"interpolation": name}) for name in INTERPOLATIONS if name not in LOOKS_AHEAD),
        ("linear_cde", {}),
        ("ssm", {}),
    ],
)
def test_an_output_on_the_way_does_not_depend_on_what_comes_after(name, options, series):
    inputs, times, mask = series
    model = make(name, **options)
    if name == "neural_cde":
        model.block.solve = ConfiguredSolve(solver="dopri5", rtol=1e-7, atol=1e-9)
    asked = (times[:, 2:4] + times[:, 3:5]) / 2
    answers = model(inputs, times, mask, asked)
    assert answers.shape == (3, 2, 3)
    later = (times > asked[:, -1:]).unsqueeze(-1)
    changed = torch.where(later, 10 * inputs + 1, inputs)
    torch.testing.assert_close(model(changed, times, mask, asked), answers, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(model(changed, times, mask), model(inputs, times, mask))


@pytest.mark.parametrize("solve", [KNOTS, {"solver": "dopri5", "rtol": 1e-9, "atol": 1e-11}])
def test_without_time_a_cde_does_not_see_the_clock(solve, series):
    inputs, times, mask = series
    model = make("neural_cde", time=False, interpolation="linear")
    model.block.solve = ConfiguredSolve(**solve)
    torch.testing.assert_close(model(inputs, times.square() + 3, None), model(inputs, times, None))


class Constant(nn.Module):
    """f(z) = F z for fixed matrices F [H, H, C] in place of a net, so that dz = sum_c F_c z dX^c."""

    def __init__(self, matrices):
        super().__init__()
        self.matrices = nn.Parameter(matrices)

    def forward(self, s, z, coefficients):
        from noderun.models.control import derivative

        return torch.einsum("ijc,bj,bc->bi", self.matrices, z, derivative(coefficients, s))


@pytest.mark.parametrize("interpolation", ["hermite", "linear", "natural"])
def test_commuting_matrices_give_the_exponential_of_the_increment(interpolation, series):
    """If all A_c commute, dz = sum_c A_c z dX^c ends at exp(sum_c A_c (X^c(1) - X^c(0))) z(0), whatever the path."""
    inputs, times, _ = series
    model = make("neural_cde", interpolation=interpolation, hidden=3)
    a = 0.3 * torch.randn(3, 3, dtype=torch.float64)
    matrices = torch.stack([0.2 * a, a, a @ a], dim=-1)
    model.block.dynamics, model.head = Constant(matrices), nn.Identity()
    model.block.solve = ConfiguredSolve(solver="dopri8", rtol=1e-11, atol=1e-12)
    path = torch.cat([times.unsqueeze(-1), inputs], dim=2)
    flow = torch.linalg.matrix_exp(torch.einsum("ijc,bc->bij", matrices, path[:, -1] - path[:, 0]))
    exact = torch.einsum("bij,bj->bi", flow, model.encoder(path[:, 0]))
    torch.testing.assert_close(model(inputs, times), exact, rtol=1e-8, atol=1e-8)


def test_a_linear_cde_is_the_product_of_exponentials(series):
    inputs, times, _ = series
    model = make("linear_cde", blocks=2, size=3, order=16)
    path = torch.cat([times.unsqueeze(-1), inputs], dim=2)
    z = model.encoder(path[:, 0]).view(3, 3, 2)
    for dx in path.diff(dim=1).unbind(1):
        flow = torch.linalg.matrix_exp(torch.einsum("ijnc,bc->bnij", model.matrices, dx))
        z = torch.einsum("bnij,bjn->bin", flow, z)
    torch.testing.assert_close(model.states(path[:, 0], path.diff(dim=1))[:, -1], z.flatten(1))
    torch.testing.assert_close(model(inputs, times), model.head(z.flatten(1)))


def test_recurrences_have_autograds_gradient():
    torch.manual_seed(0)
    exponents, b = (torch.randn(*n, 3, dtype=torch.complex128, requires_grad=True) for n in ((), (5, 2)))
    gaps = torch.rand(5, 2, 1, dtype=torch.float64)
    assert torch.autograd.gradcheck(DiagonalRecurrence.apply, (exponents, gaps, b))
    h, states = torch.zeros_like(b[0]), DiagonalRecurrence.apply(exponents, gaps, b)
    for gap, impulse, state in zip(gaps, b, states, strict=True):
        h = (exponents * gap).exp() * h + impulse
        torch.testing.assert_close(state, h, rtol=1e-12, atol=1e-12)
    matrices = torch.randn(4, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    start = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, z: FlowRecurrence.apply(m, z, 3), (matrices, start))


def test_a_levy_area_is_that_of_the_polygon():
    """Around a unit square the increment is 0 and the area 1; the window's padding adds nothing."""
    square = torch.tensor([[[1.0, 0], [0, 1], [-1, 0], [0, -1]]])
    found = log_signatures(square, 5)
    assert found.shape == (1, 1, 3, 2)
    assert found[0, 0].tolist() == [[0, 0], [0, 1], [-1, 0]]


def test_the_log_ode_field_has_the_lie_brackets():
    torch.manual_seed(0)
    field = LogField(hidden=4, channels=3, width=5, layers=2, activation="tanh").double()
    z, signature = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 4, 3, dtype=torch.float64)
    area = signature[:, 1:] - signature[:, 1:].transpose(1, 2)
    signature = torch.cat([signature[:, :1], area], dim=1)
    for row in range(2):
        columns = lambda z: field.matrix(z.unsqueeze(0))[0]  # noqa: E731
        f, jacobian = columns(z[row]), torch.autograd.functional.jacobian(columns, z[row])  # [H, C], [H, C, H]
        slope = f @ signature[row, 0]
        for i in range(3):
            for j in range(i + 1, 3):
                bracket = jacobian[:, j] @ f[:, i] - jacobian[:, i] @ f[:, j]
                slope = slope + area[row, i, j] * bracket
        found = field(torch.tensor(0.0), z, signature.flatten(1)[:, None, None])
        torch.testing.assert_close(found[row], slope)


def test_a_window_of_the_log_ode_method_is_exact_to_order_three(series):
    """Over one window the error of the log-ODE method of depth 2 falls with the third power of the path's size."""
    inputs, times, _ = series
    log, fine = make("log_ncde", window=6, time=False), make("neural_cde", interpolation="linear", time=False)
    fine.load_state_dict(log.state_dict())
    log.block.solve = fine.block.solve = ConfiguredSolve(solver="dopri8", rtol=1e-12, atol=1e-13)
    errors = []
    for size in (0.1, 0.05):
        path = size * (inputs - inputs[:, :1]) + inputs[:, :1]
        errors.append((log(path, times) - fine(path, times)).norm().item())
    assert 0 < errors[0] < 1e-3 and errors[0] / errors[1] == pytest.approx(8, rel=0.25)


EXACT = sorted(name for name, each in GRADIENTS.items() if each.exact and name not in ("reversible", "forward"))


@pytest.mark.parametrize("gradient", [*EXACT, "adjoint"])
@pytest.mark.parametrize("model", ["neural_cde", "log_ncde"])
def test_every_gradient_is_backprops(model, gradient, series):
    """Two forward passes come before the first backward pass: each belongs to its own batch."""
    inputs, times, mask = series
    net = make(model)

    def gradients(**choices):
        net.block.solve = ConfiguredSolve(**choices)
        found = net(inputs, times, mask), net(inputs.flip(0), times.flip(0), mask.flip(0))
        return torch.autograd.grad(found[0].square().sum() + 2 * found[1].square().sum(), list(net.parameters()))

    choices = {"solver": "dopri5", "rtol": 1e-8, "atol": 1e-10} if gradient == "adjoint" else KNOTS
    expected = gradients(gradient="backprop", **choices)
    for found, wanted in zip(gradients(gradient=gradient, **choices), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_each_series_may_take_steps_of_its_own(series):
    inputs, times, mask = series
    net, choices = make("neural_cde"), {"solver": "dopri5", "rtol": 1e-9, "atol": 1e-10}
    net.block.solve = ConfiguredSolve(**choices)
    together = net(inputs, times, mask)
    net.block.solve = ConfiguredSolve(per_sample=True, **choices)
    torch.testing.assert_close(net(inputs, times, mask), together, rtol=1e-6, atol=1e-6)


def test_one_step_an_interval_sees_its_increment_alone(series):
    inputs, times, _ = series
    nets = {name: make("neural_cde", interpolation=name) for name in ("hermite", "linear", "natural")}
    answers = [net(inputs, times) for net in nets.values()]
    torch.testing.assert_close(answers[1:], [answers[0]] * 2)
    finer = copy.deepcopy(nets["hermite"])
    finer.block.solve = ConfiguredSolve(solver="rk4", dt=0.25)
    assert not torch.allclose(finer(inputs, times), answers[0], rtol=1e-3)


def test_what_has_no_control_is_refused_by_name(series):
    inputs, times, mask = series
    mask = mask.clone()
    mask[1, :, 1] = False
    with pytest.raises(DataError, match="channel 1 of series 1 has no observation.*model.initial=0"):
        make("neural_cde")(inputs, times, mask)
    assert torch.isfinite(make("neural_cde", initial=0.0)(inputs, times, mask)).all()
    with pytest.raises(DataError, match="channel 1 of series 1 has no first value"):
        make("linear_cde")(inputs, times, mask, times[:, 3:])
    with pytest.raises(DataError, match="interpolation=natural looks ahead.*hermite, linear or rectilinear"):
        make("neural_cde", interpolation="natural")(inputs, times, None, times[:, 3:])
    with pytest.raises(DataError, match="one output per series"):
        make("log_ncde")(inputs, times, None, times[:, 3:])
    with pytest.raises(DataError, match="two observations"):
        make("neural_cde")(inputs[:, :1], times[:, :1])


def test_a_data_set_is_refused_before_training_and_the_record_is_named(series):
    inputs, times, mask = series
    mask = mask.clone()
    mask[2, :, 0] = False
    rows, good = Batch(inputs, torch.zeros(3).long(), times, mask), Batch(inputs, torch.zeros(3).long(), times)
    dataset = Dataset("own", (7, 2), Classes(2), good, rows)
    for name in ("neural_cde", "log_ncde", "linear_cde"):
        with pytest.raises(DataError, match="own, test: channel 0 of series 2 has no observation"):
            make(name).prepare_for(dataset)
        make(name, initial=0.0).prepare_for(dataset)
    forecast = Dataset("own", (7, 2), Series(2), *[Batch(inputs, inputs, times, target_times=times)] * 2)
    with pytest.raises(DataError, match="own: model=log_ncde takes a window"):
        make("log_ncde").prepare_for(forecast)
