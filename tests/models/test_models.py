from functools import partial

import pytest
import torch
import torch.nn.functional as F

from noderun.config.options import OPTIONS
from noderun.dynamics import DYNAMICS
from noderun.models import MODELS, ODEBlock
from noderun.ode import engine

CLASSIFIERS = [name for name in MODELS if OPTIONS["model"][name].objective.name == "classify"]
SHAPES = [(1, 28, 28), (3, 32, 32), (1, 8, 8)]
MNIST = (1, 28, 28)


euler = partial(engine.solve, solver="euler", dt=0.5, gradient="backprop")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def make(name, shape=MNIST, dynamics="conv", solve=euler, options=None, **others):
    used = {"make_dynamics": partial(DYNAMICS[dynamics], **(options or {})), "solve": solve}
    return MODELS[name](shape, 10, **(used if name in ("odenet", "rknet") else {}), **others)


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "stem", "count"),
    [
        ("odenet", "conv", 208_266),
        ("rknet", "conv", 208_266),
        ("resnet", "conv", 576_778),
        ("plain", "conv", 576_778),
        ("stem", "conv", 132_874),
        ("odenet", "residual", 232_970),
        ("resnet", "residual", 601_482),
    ],
)
def test_parameters_are_those_of_the_reference(name, stem, count):
    assert parameters(make(name, stem=stem)) == count


def test_the_perceptron_has_the_papers_parameters():
    assert parameters(make("mlp")) == 238_510


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_learns_from_every_image_size(name, shape):
    model = make(name, shape)
    logits = model(torch.rand(4, *shape))
    assert logits.shape == (4, 10) and logits.dtype == torch.float32
    F.cross_entropy(logits, torch.arange(4)).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key
    nfe = {"odenet": [2], "rknet": [2]}  # two Euler steps
    solved = [module.stats.nfe_forward for module in model.modules() if isinstance(module, ODEBlock)]
    assert solved == nfe.get(name, [])


@pytest.mark.parametrize("stem", ["conv", "residual"])
def test_the_tied_resnet_is_euler_on_the_odenet(stem):
    odenet = make("odenet", stem=stem, solve=partial(euler, dt=1 / 6))
    torch.manual_seed(0)
    tied = make("resnet", stem=stem, blocks=6, tied=True)
    x = torch.rand(3, *MNIST)
    torch.testing.assert_close(tied(x), odenet(x), rtol=1e-5, atol=1e-6)
    assert parameters(tied) == parameters(odenet)
    assert not torch.allclose(make("resnet", stem=stem, blocks=5, tied=True)(x), odenet(x))


def test_plain_is_the_resnet_without_its_skips():
    resnet = make("resnet", blocks=2)
    plain = make("plain", blocks=2)
    plain.load_state_dict(resnet.state_dict())
    h = plain.stem(torch.rand(2, *MNIST))
    for shared, block in zip(resnet.blocks, plain.blocks, strict=True):
        torch.testing.assert_close(shared(h), block(h) + h)


def test_seed_001_is_a_linear_stem_and_twenty_euler_steps():
    """The hand-written net's forward pass, z <- z + dt sigmoid(W z + b), by this model's parts."""
    options = dict(layers=1, time=False, output="sigmoid")
    model = make("odenet", dynamics="mlp", solve=partial(euler, dt=0.05), options=options, stem="linear", width=100)
    x = torch.rand(5, *MNIST)
    first, field, last = model.stem[1], model.block.dynamics.net[0], model.head
    z = torch.sigmoid(x.flatten(1) @ first.weight.T + first.bias)
    for _ in range(20):
        z = z + 0.05 * torch.sigmoid(z @ field.weight.T + field.bias)
    torch.testing.assert_close(model(x), z @ last.weight.T + last.bias)
    assert parameters(model) == 78_500 + 10_100 + 1_010


def test_vectors_need_no_stem():
    model = make("odenet", shape=(5,), dynamics="mlp", stem="none")
    assert model(torch.randn(3, 5)).shape == (3, 10)


def test_the_state_stays_float32_under_autocast():
    seen = []

    def solve(f, y0, ts):
        solution = euler(f, y0, ts)
        seen.append((y0.dtype, solution.ys.dtype))
        return solution

    model = make("odenet", solve=solve)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.rand(2, *MNIST))
    model.double()(torch.rand(2, *MNIST, dtype=torch.float64))
    assert seen == [(torch.float32, torch.float32), (torch.float64, torch.float64)]


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("odenet", dict(stem="cnv"), "no stem 'cnv'; there are: conv"),
        ("odenet", dict(stem="linear"), "choose dynamics=mlp"),
        ("plain", dict(stem="linear"), "choose stem=conv"),
        ("stem", dict(shape=(5,), stem="conv"), "leave model.stem out"),
        ("stem", dict(shape=(1, 3, 3)), "try stem=linear"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(name, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(name, **options)
