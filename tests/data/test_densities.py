"""Points of the plane: their densities by quadrature, their entropies, fresh draws, and the energies' normalizers."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from noderun.config.options import OPTIONS
from noderun.config.options.data import Planar
from noderun.data import SETS, Classes, DataError, Density, batches, load
from noderun.data.densities import CLASSES, ENTROPIES, POINTS, TEST
from noderun.data.energies import ENERGIES
from noderun.data.examples import check_examples

PI, SOME = math.pi, 10_000  # points whose density is worked out


def chosen(name, root="nowhere", **others):
    values = dict(
        name=name,
        root=root,
        download=False,
        limit=None,
        test_limit=None,
        validation=0.0,
        augment=False,
        source=None,
        classes=False,
        options={},
    )
    return SimpleNamespace(**values | others)


def density(name, **options):
    return load(chosen(name, **options), "cpu", targets=(Density,))


def nodes(low, high, count):
    return low + (high - low) / count * (torch.arange(count, dtype=torch.float64) + 0.5)


def at(radius, angle):
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


def mixture(curve, sigma):
    """log p(x) of a point drawn from a curve, given by its nodes, with normal noise."""
    constant = math.log(len(curve) * 2 * PI * sigma**2)
    return lambda x: torch.logsumexp(-torch.cdist(x, curve).square() / (2 * sigma**2), 1) - constant


def spirals(x):
    """The noise is a box of side 1/6 and a normal, so that its distribution is a difference of two of the latter."""
    angle = 3 * PI * nodes(0, 1, 500).sqrt()
    corner = angle[:, None] * torch.stack([-angle.cos(), angle.sin()], 1) / 3
    total = torch.zeros(len(x), dtype=torch.float64)
    for sign in (1, -1):
        p = torch.ones(1, dtype=torch.float64)
        for k in range(2):
            low, high = ((sign * x[:, k, None] - corner[:, k] - end) / 0.1 for end in (0, 1 / 6))
            p = p * 6 * (torch.special.ndtr(low) - torch.special.ndtr(high))
        total += p.mean(1) / 2
    return total.log()


def checkerboard(x):
    return torch.where((x / 2).floor().sum(1).remainder(2) == 0, -math.log(32), -math.inf).double()


FULL, HALF, ROLL = at(1, nodes(0, 2 * PI, 250)), at(1, nodes(0, PI, 120)), 1.5 * PI * (1 + 2 * nodes(0, 1, 300))
MOONS = torch.cat([HALF, torch.tensor([1.0, 0.5]) - HALF])
LOG_DENSITIES = {
    "8gaussians": mixture(at(4 / 1.414, PI / 4 * torch.arange(8).double()), 0.5 / 1.414),
    "checkerboard": checkerboard,
    "moons": mixture(2 * MOONS - torch.tensor([1.0, 0.2]), 0.2),
    "circles": mixture(torch.cat([1.5 * FULL, 3 * FULL]), 0.24),
    "cnf_circles": mixture(torch.cat([0.5 * FULL, FULL]), 0.06),
    "rings": mixture(torch.cat([0.75 * k * FULL for k in (1, 2, 3, 4)]), 0.08),
    "2spirals": spirals,
    "swissroll": mixture(at(ROLL[:, None], ROLL) / 5, 0.2),
}


@pytest.mark.parametrize("name", POINTS)
def test_the_test_points_have_the_density_and_the_entropy_that_are_said(name):
    dataset = density(name)
    x = dataset.test.inputs
    assert x.shape == (TEST, 2) and x.dtype == torch.float32 and dataset.target.entropy == ENTROPIES[name]
    check_examples(dataset)
    if name == "pinwheel":  # its density is a sum over five roots; see below
        return
    nll = -torch.cat([LOG_DENSITIES[name](part) for part in x[:SOME].double().split(1000)])
    assert abs(nll.mean() - ENTROPIES[name]) < 4 * nll.std() / SOME**0.5 + 1e-3


def test_an_arm_of_the_pinwheel_is_a_normal_that_was_turned():
    """Turned back, the arms are one normal; at most log 5 is lost in entropy where arms overlap, and they hardly do."""
    x = density("pinwheel").test.inputs / 2
    radius, found = x.norm(dim=1), x.new_zeros(len(x), 5)
    for arm in range(5):
        along = radius.clone()  # x turned by its angle has this first coordinate: a fixed point
        for _ in range(30):
            angle = 0.4 * PI * arm + 0.25 * along.exp()
            along = 0.5 * along + 0.5 * (angle.cos() * x[:, 0] - angle.sin() * x[:, 1])
        across = angle.sin() * x[:, 0] + angle.cos() * x[:, 1]
        found[:, arm] = -0.5 * ((along - 1) / 0.3) ** 2 - 0.5 * (across / 0.1) ** 2
    normal = found.max(1).values  # of the right arm: half a chi-squared variable of two degrees, an exponential one
    assert abs(normal.mean() + 1) < 0.05
    bound = math.log(5) + math.log(2 * PI * 0.3 * 0.1) + 1 + 2 * math.log(2)
    assert bound - 0.02 < ENTROPIES["pinwheel"] < bound


@pytest.mark.parametrize(
    ("name", "make", "moved"),
    [
        ("moons", lambda d: d.make_moons(SOME, noise=0.1, random_state=0)[0], lambda x: 2 * x - [1, 0.2]),
        ("circles", lambda d: d.make_circles(SOME, factor=0.5, noise=0.08, random_state=0)[0], lambda x: 3 * x),
        ("cnf_circles", lambda d: d.make_circles(SOME, factor=0.5, noise=0.06, random_state=0)[0], lambda x: x),
        ("swissroll", lambda d: d.make_swiss_roll(SOME, noise=1.0, random_state=0)[0][:, [0, 2]], lambda x: x / 5),
    ],
)
def test_scikit_learn_draws_from_the_same_density(name, make, moved):
    import sklearn.datasets

    x = torch.from_numpy(np.asarray(moved(make(sklearn.datasets))))
    nll = -torch.cat([LOG_DENSITIES[name](part) for part in x.split(1000)])
    assert abs(nll.mean() - ENTROPIES[name]) < 4 * nll.std() / SOME**0.5 + 1e-3


@pytest.mark.parametrize("name", [*POINTS, *ENERGIES])
def test_training_sees_fresh_points_that_seed_epoch_and_batch_decide(name):
    dataset = load(chosen(name, options={"examples": 96}), "cpu", targets=(Density, type(ENERGIES["u1"])))

    def drawn(seed, epoch, start=0):
        return [batch.inputs for batch in batches(dataset, "train", 32, seed, epoch, start)]

    first = drawn(0, 0)
    assert len(first) == 3 and all(torch.equal(*pair) for pair in zip(first[1:], drawn(0, 0, start=1), strict=True))
    everything = torch.cat([*first, *drawn(0, 1), *drawn(1, 0)])
    assert len(everything.unique(dim=0)) == len(everything)
    (test,) = batches(dataset, "test", TEST)
    assert torch.equal(test.inputs, dataset.test.inputs)


def test_the_objective_decides_what_moons_and_circles_are():
    for name in ("moons", "circles"):
        assert isinstance(load(chosen(name), "cpu").target, Classes)
        assert isinstance(density(name).target, Density) and SETS[name].sample == "vector"
        assert density(name, options={"noise": 0.2}).target.entropy is None


def class_of(x, name):
    """The class of each of the points x [N, 2], and whether there is no doubt about it."""
    angle, radius = torch.atan2(x[:, 1], x[:, 0]), x.norm(dim=1)
    if name == "8gaussians":
        place = 4 * angle / PI
        return place.round().remainder(8), (place - place.round()).abs() < 0.35
    if name == "checkerboard":
        cell = (x / 2).floor()
        return 2 * (cell[:, 0] + 2) + (cell[:, 1] < 0), radius > 0
    if name == "moons":
        distance = torch.cdist(x, 2 * MOONS - torch.tensor([1.0, 0.2]))
        return distance.argmin(1) < len(HALF), distance.min(1).values < 0.25
    first = {"circles": 1.5, "cnf_circles": 0.5, "rings": 0.75}[name]
    place = radius / first
    return place.round() - 1, (place - place.round()).abs() < 0.3


@pytest.mark.parametrize("name", ["8gaussians", "checkerboard", "moons", "circles", "cnf_circles", "rings"])
def test_a_label_is_the_part_that_its_point_was_drawn_from(name):
    dataset = density(name, classes=True)
    expected, certain = class_of(dataset.test.inputs.double(), name)
    assert certain.double().mean() > 0.7
    assert (expected[certain].long() == dataset.test.targets[certain]).double().mean() > 0.999


@pytest.mark.parametrize("name", CLASSES)
def test_classes_change_nothing_of_the_points(name):
    """Labels come with the points, in training too, and each class is as probable."""
    alone, labeled = (density(name, classes=classes, options={"examples": 96}) for classes in (False, True))
    check_examples(labeled)
    assert torch.equal(alone.test.inputs, labeled.test.inputs) and alone.test.targets is None
    (first,), (second,) = (list(batches(dataset, "train", 96)) for dataset in (alone, labeled))
    assert torch.equal(first.inputs, second.inputs) and second.targets.shape == (96,)
    share = torch.bincount(labeled.test.targets) * CLASSES[name] / TEST
    assert len(share) == CLASSES[name] == labeled.target.classes and (share - 1).abs().max() < 0.1
    assert labeled.target.entropy is None


def test_a_source_comes_with_every_batch():
    dataset = density("moons", source="8gaussians", options={"examples": 64})
    (batch,) = batches(dataset, "train", 64)
    (test,) = batches(dataset, "test", TEST)
    assert batch.source.shape == batch.inputs.shape and test.source.shape == (TEST, 2)
    nll = -LOG_DENSITIES["8gaussians"](test.source.double())
    assert abs(nll.mean() - ENTROPIES["8gaussians"]) < 4 * nll.std() / TEST**0.5
    ((alone, same),) = [
        [batch.inputs, each.inputs] for each in batches(density("moons", options={"examples": 64}), "train", 64)
    ]
    assert torch.equal(alone, same)  # the source is drawn after the points, and changes nothing of them
    both = density("8gaussians", source="8gaussians")
    assert not torch.equal(both.test.inputs, both.test.source)
    with pytest.raises(DataError, match="data.source=rings is of the plane"):
        load(chosen("u1", source="rings"), "cpu")


def test_the_sources_that_can_be_chosen_are_the_densities():
    assert set(Planar.__args__) == POINTS.keys() == ENTROPIES.keys()
    for name in POINTS:
        words = " ".join(OPTIONS["data"][name].__doc__.split())
        assert f"{ENTROPIES[name]:.3f} nats" in words, name


@pytest.mark.parametrize("name", ENERGIES)
def test_the_normalizer_of_an_energy_is_its_integral(name):
    axis = torch.arange(-8, 8, 0.05, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    log_sum = torch.logsumexp(-ENERGIES[name].energy(z), 0) + 2 * math.log(0.05)
    assert abs(log_sum - ENERGIES[name].log_normalizer) < 1e-6


def test_the_energies_are_those_of_the_paper():
    z1, z2 = torch.randn(2, 500, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    w1, w2 = np.sin(2 * PI * z1 / 4), 3 * np.exp(-0.5 * ((z1 - 1) / 0.6) ** 2)
    w3 = 3 / (1 + np.exp(-(z1 - 1) / 0.3))

    def bump(x, width):
        return np.exp(-0.5 * (x / width) ** 2)

    table = {
        "u1": 0.5 * ((np.hypot(z1, z2) - 2) / 0.4) ** 2 - np.log(bump(z1 - 2, 0.6) + bump(z1 + 2, 0.6)),
        "u2": 0.5 * ((z2 - w1) / 0.4) ** 2,
        "u3": -np.log(bump(z2 - w1, 0.35) + bump(z2 - w1 + w2, 0.35)),
        "u4": -np.log(bump(z2 - w1, 0.4) + bump(z2 - w1 + w3, 0.35)),
    }
    for name, expected in table.items():
        found = ENERGIES[name].energy(torch.from_numpy(np.stack([z1, z2], 1)))
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12, err_msg=name)
