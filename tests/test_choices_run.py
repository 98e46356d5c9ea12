"""Models, dynamics, regularizers and points, chosen by their words, are built from their YAML and make a step."""

import pytest
import torch

from noderun.cli.planning import make_job
from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.dynamics import DYNAMICS
from noderun.regularizers import REGULARIZERS
from noderun.training.build import make_setup
from noderun.training.isolation import isolated
from noderun.training.loop import train_step

CPU = torch.device("cpu")
MODELS = ["hamiltonian", "mlp", "odenet", "plain", "resnet", "revnet", "rknet", "stem"]
POINTS = ["spheres", "sines", "moons", "circles"]
FLOWS = [
    [],
    ["model.blocks=2", "model.norm=point", "model.learn_t1=true", "regularizer=kinetic"],
    ["model.divergence=hutchinson", "model.noise=gaussian", "dynamics=mlp", "gradient=adjoint"],
    ["solver.per_sample=true", "model.divergence=hutchinson", "dynamics.layer=gated"],
]
SYSTEMS = ("lotka_volterra", "pendulum", "lorenz", "bouncing_ball")
OBSERVED = (
    "model=neural_pde",
    "model=convnet_stepper",
    "model=neural_ode",
    "model=hamiltonian_nn",
    "model=hybrid",
    "model=physics",
)
SERIES = [
    *([f"model={name}"] for name in ("rnn", "gru_d", "ode_rnn", "latent_ode", "neural_flow")),
    ["task=classify"],
    ["task=interpolate", "data.observed=0.5", "data.score=held_out"],
    ["model.encoder=ode_rnn", "model.poisson=true", "model.samples=3"],
    ["model.encoder=ode_rnn", "model.euler_steps=0", "model.objective=series"],
    ["solver=rk4", "solver.dt=0.5", "gradient=checkpointed"],
]
CONTROLLED = ("neural_cde", "linear_cde", "log_ncde", "ssm")
CONTROLS = [
    ["solver=dopri5", "gradient=adjoint", "model.interpolation=natural", "tolerance=1e-2"],
    ["solver=midpoint", "solver.dt=0.5", "gradient=checkpointed", "regularizer=kinetic"],
]
CHOICES = [
    *([f"model={name}"] for name in MODELS),
    *([f"dynamics={name}", "model.width=16"] for name in DYNAMICS if name not in ("mlp", "conv1d", *SYSTEMS)),
    ["model=neural_ode"],
    ["model=neural_ode", "data=two_body", "model.order=2"],
    ["model=hamiltonian_nn"],
    ["model=hamiltonian_nn", "model.objective=derivative"],
    ["model=hamiltonian_nn", "solver=leapfrog", "solver.dt=0.5"],
    ["model=hybrid", "optimizer=lbfgs", "optimizer.iterations=2", "data.limit=null", "data.batch_size=32"],
    ["model=neural_pde"],
    ["model=neural_pde", "solver=trbdf2", "data.unroll=2"],
    ["model=neural_pde", "model.objective=derivative"],
    ["model=convnet_stepper", "data=kuramoto_sivashinsky", "data.unroll=3", "data.length=30", "data.points=48"],
    ["experiment=energy/poisson"],
    ["model=physics", "data=cubic_spiral", "dynamics=pendulum", "optimizer=adam", "model.correction=4"],
    *([f"regularizer={name}", "model.width=16"] for name in ["none", *REGULARIZERS]),
    *(["experiment=anode/spheres", f"data={name}"] for name in POINTS),
    *(["experiment=signature/depth2", "data.examples=8", f"model={name}"] for name in CONTROLLED),
    *(["experiment=signature/depth2", "data.examples=8", *words] for words in CONTROLS),
    *(["experiment=latent_ode/spirals", "data.points=8", f"model={name}"] for name in CONTROLLED if name != "log_ncde"),
    *(["experiment=latent_ode/spirals", "data.points=8", *words] for words in SERIES),
    ["data=moons"],  # with no word on the net
    ["data=moons", "model=resnet"],
    ["model=latent_ode", "data=point_process", "data.rate=5", "model.poisson=true", "model.lift=8"],
    ["model.augment=5"],
    ["model.head=flatten"],
    ["experiment=anode/crossing_1d"],
    ["experiment=anode/crossing_1d", "model.augment=1"],
    *(["model=flow_matching", "data=8gaussians", f"model.path={path}"] for path in ("linear", "vp")),
    ["model=flow_matching", "dynamics=unet", "dynamics.width=8", "model.test_divergence=hutchinson"],
    ["model=flow_matching", "data=moons", "data.source=8gaussians", "model.coupling=ot", "model.transport_points=8"],
    ["model=flow_matching", "data=pinwheel", "data.classes=true", "model.coupling=conditional_ot"],
    *([f"model={name}", "data=8gaussians"] for name in ("planar_nf", "realnvp", "nsf", "maf", "zuko_cnf")),
    *(["model=planar_nf", "model.objective=density_matching", f"data=u{n}", "model.formula=decode"] for n in (1, 4)),
    ["model=cnf", "model.objective=density_matching", "data=u2", "model.units=4"],
    *(["model=vae", f"model.posterior={name}"] for name in ("none", "planar", "ffjord")),
    *(["model=cnf", "data=8gaussians", *more] for more in [[], ["regularizer=error"]]),
    *(["model=ffjord", "data=8gaussians", *more] for more in FLOWS),
]


@pytest.mark.parametrize("words", CHOICES, ids=" ".join)
def test_what_can_be_chosen_makes_a_step(words):
    of_series = words[0] in OBSERVED
    shown = [] if of_series or any("experiment" in word or "data=" in word for word in words) else ["data=digits"]
    job = make_job(Composer("train", [config_folder()]), [*shown, "data.limit=8", "data.batch_size=4", *words])
    with isolated(CPU, 0):
        setup = make_setup(job.settings, CPU)
        before = [p.detach().clone() for p in setup.model.parameters()]
        numbers = train_step(setup, next(setup.batches("train", 0, 0)), step=10)
    assert torch.isfinite(numbers["loss/train"])
    penalized = any(word.startswith("regularizer=") and word != "regularizer=none" for word in words)
    assert ("regularizer/train" in numbers) == penalized
    assert any(not torch.equal(p, old) for p, old in zip(setup.model.parameters(), before, strict=True))
    setup.model.eval()
    with torch.no_grad():
        assert "regularizer" not in setup.values(next(setup.batches("test", 0, 0)))
