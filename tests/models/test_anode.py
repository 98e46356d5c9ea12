"""Augmented neural ODEs (Dupont et al. 2019): sizes, zeros, and what a flow on a line cannot do."""

from functools import partial

import pytest
import torch

from noderun.config.options import Data
from noderun.data import SETS, Classes, DataError, batches, load
from noderun.dynamics import DYNAMICS
from noderun.models import MODELS
from noderun.ode import engine

rk4 = partial(engine.solve, solver="rk4", dt=0.2, gradient="backprop")
POINTS = ["spheres", "sines", "moons", "circles", "crossing_1d"]


def points(name, augment=False, **options):
    return load(Data(name, root="-", download=False, augment=augment, options=options), "cpu")


@pytest.mark.parametrize(
    ("shape", "extra", "hidden", "time", "count"),
    [  # Dupont et al. 2019, table 1; with time their published configuration
        ((1, 28, 28), 0, 92, False, 84_395),
        ((1, 28, 28), 5, 64, False, 84_816),
        ((3, 32, 32), 0, 125, False, 172_358),
        ((3, 32, 32), 10, 64, False, 171_799),
        ((1, 28, 28), 0, 92, True, 85_316),
        ((1, 28, 28), 5, 64, True, 85_462),
    ],
)
def test_parameters_are_those_of_the_paper(shape, extra, hidden, time, count):
    dynamics = partial(DYNAMICS["conv_anode"], hidden=hidden, time=time)
    model = MODELS["odenet"](shape, 10, dynamics, rk4, stem="none", augment=extra, head="flatten")
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("stem", ["none", "conv"])
def test_the_state_is_the_input_and_zeros(stem):
    seen = []

    def solve(f, y0, ts):
        seen.append(y0)
        return rk4(f, y0, ts)

    model = MODELS["odenet"]((3, 9, 9), 10, DYNAMICS["conv"], solve, stem=stem, width=32, augment=5)
    x = torch.rand(2, 3, 9, 9)
    assert model(x).shape == (2, 10)
    torch.testing.assert_close(seen[0][:, :-5], model.stem(x))
    assert not seen[0][:, -5:].any() and seen[0].shape[1] == (3 if stem == "none" else 32) + 5


@pytest.mark.parametrize("augment", [0, 1])
def test_only_an_augmented_flow_can_exchange_two_points(augment):
    torch.manual_seed(0)
    data = points("crossing_1d", examples=32)
    dynamics = partial(DYNAMICS["mlp"], hidden=16, layers=2)
    model = MODELS["odenet"]((1,), 1, dynamics, rk4, stem="none", head="none", augment=augment)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for epoch in range(60):
        for batch in batches(data, "train", 32, 0, epoch):
            optimizer.zero_grad()
            loss = (model(batch.inputs) - batch.targets).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    if augment:
        assert losses[-1] < 0.2
    else:
        assert min(losses) > 1 - 1e-4 and losses[-1] < 1.1  # a monotone map: isotonic regression of falling targets


@pytest.mark.parametrize("name", POINTS)
def test_points_are_balanced_finite_and_apart_from_their_test(name):
    data = points(name)
    assert data.sample == "vector" and data.train.inputs.shape[1:] == data.shape
    assert not torch.equal(data.train.inputs, data.test.inputs) or name == "crossing_1d"  # where training draws anew
    assert SETS[name].download is None
    if isinstance(data.target, Classes):
        share = data.train.targets.float().mean()
        assert share == pytest.approx(2 / 3 if name == "spheres" else 0.5, abs=1e-3)


def test_spheres_are_a_ball_in_a_shell():
    rows = points("spheres", dimension=3).train
    points_, labels = rows.inputs, rows.targets
    radius = points_.norm(dim=1)
    assert points_.shape == (3000, 3) and (labels == 0).sum() == 1000
    assert radius[labels == 0].max() <= 0.5 and radius[labels == 1].min() >= 1 and radius.max() <= 1.5
    assert (radius[labels == 0] < 0.25).float().mean() == pytest.approx(0.5**3, abs=0.04)  # uniform in the ball


def test_every_batch_of_the_crossing_is_balanced_and_fresh():
    data = points("crossing_1d")
    first, second = (next(batches(data, "train", 64, 0, epoch)) for epoch in (0, 1))
    assert first.targets.sum() == 0 and torch.equal(first.targets, -first.inputs.sign())
    assert first.inputs.abs().min() >= 0.5 and first.inputs.abs().max() <= 1.5
    assert not torch.equal(first.inputs, second.inputs)


def test_points_are_not_augmented_as_images_are():
    with pytest.raises(DataError, match="moons is made of points"):
        points("moons", augment=True)
