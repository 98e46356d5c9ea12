"""Continuous flows: densities against closed forms and autograd, every gradient, and what testing does otherwise."""

import logging
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from noderun.cli.planning import make_job
from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.config.validation import Incompatible
from noderun.data import Batch
from noderun.dynamics import DYNAMICS
from noderun.evaluation.trained import test_solver as solver_of_tests
from noderun.evaluation.trained import without_gradient
from noderun.models import MODELS, ContinuousFlow, SolveBlock
from noderun.models.continuous import NOISE
from noderun.models.moving_batch_norm import MovingBatchNorm
from noderun.objectives import OBJECTIVES
from noderun.ode.configured import ConfiguredSolve
from noderun.ode.gradients import GRADIENTS, refusal
from noderun.regularizers import REGULARIZERS
from noderun.training.block_pass import gradient_error, numerical_error, passes, reconstruction_error
from noderun.training.compatibility import check
from noderun.training.setup import Setup

TIGHT = ConfiguredSolve(rtol=1e-9, atol=1e-9, gradient="backprop")
SMALL = partial(DYNAMICS["time_mlp"], hidden=4, layers=3)  # fewer than 100 numbers, for gradient=forward
FLOWS = {
    "cnf": lambda solve, **options: MODELS["cnf"]((2,), 2, solve, units=8, hidden=8, t1=2.0, **options),
    "ffjord": lambda solve, **options: MODELS["ffjord"]((2,), 2, SMALL, solve, **options),
    "mlp": lambda solve, **options: MODELS["ffjord"]((2,), 2, partial(DYNAMICS["mlp"], hidden=4), solve, **options),
    "blocks": lambda solve, **options: MODELS["ffjord"]((2,), 2, SMALL, solve, blocks=3, **options),
}
SOLVES = {
    "dopri5": ConfiguredSolve("dopri5", rtol=1e-8, atol=1e-8),
    "dop853": ConfiguredSolve("dop853", rtol=1e-8, atol=1e-8),
    "rk4": ConfiguredSolve("rk4", dt=0.1),
    "reversible_heun": ConfiguredSolve("reversible_heun", dt=0.01),
    "gauss4": ConfiguredSolve("gauss4", dt=0.1),
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def flow(name, solve=TIGHT, **options):
    """In float64, with weights far enough from zero for the map not to be the identity."""
    model = FLOWS[name](solve, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(3)
    return model


def points(count=6):
    return torch.randn(count, 2, dtype=torch.float64)


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[0.3, 1.0], [-0.4, 0.5]], dtype=torch.float64))

    def forward(self, t, y):
        return y @ self.matrix.T


@pytest.mark.parametrize("t1", [0.5, 2.0])
def test_the_log_determinant_of_a_linear_flow_is_t_times_the_trace(t1):
    model, x = ContinuousFlow((2,), [Linear()], TIGHT, t1=t1, test_tolerance=1e-9), points()
    z, log_det = model.encode(x)
    matrix = model.chain[0].dynamics.velocity.matrix
    torch.testing.assert_close(z, x @ torch.linalg.matrix_exp(-t1 * matrix).T, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(log_det, (-t1 * matrix.trace()).expand(6), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", FLOWS)
def test_the_log_determinant_is_that_of_autograds_jacobian(name):
    model, x = flow(name, test_tolerance=1e-9), points()
    model(points(50))  # moves the averages of the norms
    model.eval()
    z, log_det = model.encode(x)
    jacobians = torch.autograd.functional.jacobian(lambda x: model.encode(x)[0].sum(0), x).movedim(1, 0)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobians).logabsdet, rtol=1e-6, atol=1e-7)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(model.log_prob(x), normal + log_det)
    assert log_det.abs().max() > 0.05


@pytest.mark.parametrize("name", FLOWS)
def test_what_is_encoded_is_decoded_again(name):
    model, x = flow(name, test_tolerance=1e-8), points()
    model(points(50))
    model.eval()
    z, log_det = model.encode(x)
    assert torch.linalg.vector_norm(model.decode(z) - x) < 1e-4 * torch.linalg.vector_norm(x)
    assert model.inverse_error(x) < 1e-4
    y, back = model.decode_with_log_det(z)
    torch.testing.assert_close(y, x, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(back, -log_det, rtol=1e-3, atol=1e-4)
    assert model.sample(5).shape == (5, 2)


@pytest.mark.parametrize("name", FLOWS)
def test_the_density_integrates_to_one(name):
    model = flow(name, test_tolerance=1e-5)
    model(points(50))
    side = torch.linspace(-8, 8, 101, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        total = model.eval()(grid).exp().sum() * (side[1] - side[0]) ** 2
    assert total.item() == pytest.approx(1, abs=0.01)


def nll_gradients(model, x):
    torch.manual_seed(1)  # of Hutchinson's noise
    loss = -model(x).mean()
    return [loss.detach(), *torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])]


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
@pytest.mark.parametrize("solver", SOLVES)
@pytest.mark.parametrize("gradient", [name for name in GRADIENTS if name != "backprop"])
def test_every_gradient_of_the_likelihood_is_backprops(gradient, solver, divergence):
    if reason := refusal(solver, gradient):
        pytest.skip(reason)
    if gradient == "forward" and (solver != "rk4" or divergence == "hutchinson"):
        pytest.skip("slow, and refused with Hutchinson's estimate")
    solve, x = SOLVES[solver], points(3)
    model = flow("mlp" if divergence == "hutchinson" else "ffjord", divergence=divergence)
    found = []
    for name in ("backprop", gradient):
        model.chain[0].solve = replace(solve, gradient=name, gradient_rtol=1e-8, gradient_atol=1e-8)
        found.append(nll_gradients(model, x))
    exact = GRADIENTS[gradient].exact
    for own, other in zip(*found, strict=True):
        size = float(torch.linalg.vector_norm(own))
        allowed = (1e-9 if exact else 2e-3) * max(size, 1e-2)
        assert torch.linalg.vector_norm(own - other) <= allowed


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
@pytest.mark.parametrize("gradient", ["backprop", "checkpointed", "adjoint"])
@pytest.mark.parametrize("name", ["cnf", "mlp", "ffjord"])
def test_each_example_may_have_its_own_steps(name, gradient, divergence):
    model, x = flow(name, divergence=divergence, learn_t1=True), points()
    together = nll_gradients(model, x)
    solve = replace(TIGHT, per_sample=True, gradient=gradient)
    model.chain[0].solve = solve
    for own, other in zip(nll_gradients(model, x), together, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)
    assert model.chain[0].stats.nfe_forward.shape == (6,)


@pytest.mark.parametrize("gradient", ["backprop", "checkpointed", "adjoint"])
@pytest.mark.parametrize("name", FLOWS)
def test_the_end_time_is_learned(name, gradient):
    model, x, h = flow(name, replace(TIGHT, gradient=gradient), learn_t1=True), points(), 1e-4
    model.eval().chain[0].test_tolerance = None
    block = model.chain[0]
    (found,) = torch.autograd.grad(-model(x).mean(), [block.log_t1])
    values = []
    with torch.no_grad():
        for sign in (1, -1):
            block.log_t1.add_(sign * h)
            values.append(-model(x).mean())
            block.log_t1.sub_(sign * h)
    assert found.item() == pytest.approx(((values[0] - values[1]) / (2 * h)).item(), rel=1e-4, abs=1e-7)
    assert abs(found.item()) > 1e-4


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_regularizer_is_about_the_points_alone(name, divergence):
    """The same number as along the velocity without a density, and no call of f for it where it needs none."""
    solve, x = ConfiguredSolve("tsit5", dt=0.1, gradient="backprop"), points()
    model = flow("ffjord", solve, divergence=divergence)
    block, plain = model.chain[0], None
    plain = SolveBlock(block.dynamics.velocity, solve)
    penalties = []
    for one, call in ((block, lambda: model(x)), (plain, lambda: plain(x, [1.0, 0.0]))):
        one.regularizer = REGULARIZERS[name]()
        if divergence == "hutchinson" and one is block:
            block.noise = lambda y, index: torch.ones_like(y)  # draws nothing before the regularizer does
        torch.manual_seed(2)
        call()
        penalties.append(one.penalty)
    torch.testing.assert_close(*penalties)
    penalties[0].backward()
    assert block.dynamics.velocity.layers[0].weight.grad.abs().max() > 0
    assert block.stats.nfe_forward == plain.stats.nfe_forward
    model.eval()(x)
    assert block.penalty is None


@pytest.mark.parametrize("name", ["kinetic", "jacobian"])
def test_a_penalty_costs_no_second_call_of_f(name):
    calls = []
    model = flow("mlp", ConfiguredSolve("rk4", dt=0.25, gradient="backprop"))
    block = model.chain[0]
    block.dynamics.velocity.register_forward_hook(lambda *_: calls.append(1))
    block.regularizer = REGULARIZERS[name]()
    model(points())
    assert len(calls) == block.stats.nfe_forward == 16


def test_noise_is_drawn_anew_in_training_and_by_the_index_in_testing():
    model, x = flow("ffjord", divergence="hutchinson", test_divergence="hutchinson"), points()
    index = torch.tensor([7, 3, 9, 0, 1, 2])
    assert not torch.equal(model(x, index), model(x, index))
    torch.manual_seed(5)
    first = model(x, index)
    torch.manual_seed(5)
    assert torch.equal(model(x, index), first)
    model.eval()
    whole = model(x, index)
    torch.testing.assert_close(model(x.flip(0), index.flip(0)).flip(0), whole, rtol=1e-4, atol=1e-5)
    model.chain[0].test_seed = 1
    assert not torch.allclose(model(x, index), whole)


@pytest.mark.parametrize("noise", NOISE)
def test_testing_is_exact_and_tight_whatever_training_was(noise):
    x = points()
    loose = flow("mlp", ConfiguredSolve("euler", dt=0.5, gradient="backprop"), divergence="hutchinson", noise=noise)
    tight = flow("mlp")
    tight.load_state_dict(loose.state_dict())
    truth = tight(x)
    assert (loose(x) - truth).abs().max() > 1e-2
    torch.testing.assert_close(loose.eval()(x), truth, rtol=1e-3, atol=1e-4)
    loose.chain[0].test_tolerance = None
    assert (loose(x) - truth).abs().max() > 1e-2


def test_the_log_determinant_may_be_left_out_of_the_error_norm():
    """Then the steps are those of the points alone, with a regularizer too."""
    solve, x = ConfiguredSolve(rtol=1e-6, atol=1e-6, gradient="backprop"), points()
    model, full = flow("ffjord", solve, norm="point"), flow("ffjord", solve)
    full.load_state_dict(model.state_dict())
    block, alone = model.chain[0], SolveBlock(model.chain[0].dynamics.velocity, solve)
    alone(x, [1.0, 0.0])
    for regularizer in (None, REGULARIZERS["kinetic"]()):
        block.regularizer = regularizer
        model(x)
        assert (block.stats.accepted, block.stats.nfe_forward) == (alone.stats.accepted, alone.stats.nfe_forward)
    full(x)
    assert full.chain[0].stats.nfe_forward != alone.stats.nfe_forward


@pytest.mark.parametrize("shape", [(3,), (2, 4, 4)])
def test_the_moving_norm_is_a_bijection_with_its_determinant(shape):
    norm = MovingBatchNorm(shape).double()
    norm.log_scale.data.normal_()
    norm.bias.data.normal_()
    x = 2 + 3 * torch.randn(40, *shape, dtype=torch.float64)
    z, _ = norm(x)
    flat = ((z - norm.spread_out(norm.bias)) * norm.spread_out((-norm.log_scale).exp())).movedim(1, 0).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(shape[0], dtype=torch.float64))  # the first batch sets both
    torch.testing.assert_close(flat.std(1, correction=0), torch.ones(shape[0], dtype=torch.float64), rtol=1e-4, atol=0)
    norm(x - 5)
    torch.testing.assert_close(norm.mean, x.movedim(1, 0).flatten(1).mean(1) - 0.5)
    norm.eval()
    z, log_det = norm(x)
    jacobian = torch.autograd.functional.jacobian(lambda x: norm(x[None])[0][0].flatten(), x[0])
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian.flatten(1)).logabsdet)
    torch.testing.assert_close(norm.inverse(z), x)


def setup_of(model):
    blocks = [block for block in model.modules() if isinstance(block, SolveBlock)]
    return Setup(model, blocks, OBJECTIVES["density"](), None, None, None, 1, torch.device("cpu"))


@pytest.mark.parametrize("estimate", ["exact", "hutchinson"])
def test_the_solves_of_a_flow_are_measured(estimate):
    solve = ConfiguredSolve(rtol=1e-6, atol=1e-6)
    setup = setup_of(flow("blocks", solve, test_divergence=estimate))
    found = passes(setup, Batch(points()))
    assert [done.block for done in found] == setup.blocks
    for done in found:
        done = done.first(4)
        assert max(numerical_error(done), reconstruction_error(done), gradient_error(done)) < 1e-3


def test_testing_reports_the_way_back():
    setup = setup_of(flow("blocks"))
    batch = Batch(points(70))
    setup.model.eval()
    with torch.no_grad():
        values = setup.values(batch)
    assert values["nll"].shape == (70,) and values["inverse_error"] < 1e-4
    assert values["nfe_sampling"] == sum(stats.nfe_forward for stats in setup.model.sampling_stats) > 0


def test_an_exact_trace_of_many_dimensions_is_said_to_be_costly(caplog):
    with caplog.at_level(logging.WARNING):
        FLOWS["ffjord"](TIGHT)
        assert not caplog.text
        MODELS["ffjord"]((1, 28, 28), 784, partial(DYNAMICS["conv_squash"], hidden=2), TIGHT, divergence="hutchinson")
    (record,) = caplog.records
    assert "model.test_divergence=exact: the trace of 784 dimensions costs about 784 times" in record.message


def test_the_papers_nets_have_their_parameters():
    ffjord = MODELS["ffjord"]((2,), 2, DYNAMICS["time_mlp"], TIGHT, learn_t1=True)
    assert sum(p.numel() for p in ffjord.parameters()) == 9_225
    width = 3 * 64 * 2 + 64
    assert sum(p.numel() for p in MODELS["cnf"]((2,), 2, TIGHT).parameters()) == 64 + (32 * 33) + width * 33


@pytest.mark.long
@pytest.mark.parametrize("gradient", ["checkpointed", "adjoint"])
@pytest.mark.parametrize(("name", "divergence"), [("ffjord", "exact"), ("cnf", "exact"), ("mlp", "hutchinson")])
def test_compiled_steps_give_the_same_likelihood_and_gradient(name, divergence, gradient, recwarn):
    x = torch.randn(8, 2)
    model = FLOWS[name](ConfiguredSolve(rtol=1e-5, atol=1e-5, gradient=gradient), divergence=divergence, norm="point")
    eager = nll_gradients(model, x)
    model.chain[0].solve = replace(model.chain[0].solve, compile=True)
    for own, other in zip(nll_gradients(model, x), eager, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-5)
    assert not [str(w.message) for w in recwarn if "compile" in str(w.message)]
    assert math.isfinite(float(eager[0]))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["gradient=forward", "dynamics=mlp"], "gradient=forward cannot be taken through the vector-Jacobian products"),
        (["gradient=forward", "model.divergence=hutchinson"], "use gradient=checkpointed"),
        (["model.norm=point", "solver=rk4"], "model.norm=point is the error norm of adaptive steps"),
        (["model.norm=point", "solver.norm=max"], "leave solver.norm"),
        (["solver.per_sample=true", "regularizer=kinetic"], "one time for all examples"),
    ],
)
def test_what_cannot_work_together_is_refused(words, sentence):
    job = make_job(Composer("train", [config_folder()]), ["experiment=ffjord/8gaussians", *words])
    with pytest.raises(Incompatible, match=sentence):
        check(job.settings, frozenset())


@pytest.mark.parametrize(("words", "solver"), [([], "dopri5"), (["solver=tsit5"], "tsit5"), (["solver=rk4"], "dopri5")])
def test_a_measurement_is_made_with_the_solver_of_the_runs_tests(words, solver):
    settings = make_job(Composer("train", [config_folder()]), ["experiment=ffjord/8gaussians", *words]).settings
    found = solver_of_tests(settings)
    assert (found.name, found.dt, found.rtol, found.atol) == (solver, None, 1e-5, 1e-5)
    assert without_gradient(settings).model.options["test_tolerance"] is None  # the words have the last say
