"""The models; each is made from plain values, the factory of its dynamics and a solve."""

from collections.abc import Callable
from functools import partial

from torch import nn

from noderun.models.block import ODEBlock, SolveBlock
from noderun.models.cnf import CNF
from noderun.models.continuous import ContinuousFlow
from noderun.models.ffjord import FFJORD
from noderun.models.flow import Flow
from noderun.models.flow_matching import FlowMatching
from noderun.models.latent import LatentSeries
from noderun.models.latent_ode import LatentODE
from noderun.models.latent_sde import LatentSDE
from noderun.models.linear_cde import LinearCDE
from noderun.models.log_ncde import LogNCDE
from noderun.models.mlp import MLP
from noderun.models.neural_cde import NeuralCDE
from noderun.models.neural_flow import NeuralFlow
from noderun.models.observed import ConvNetStepper, HamiltonianNN, NeuralODE
from noderun.models.odenet import ODENet
from noderun.models.physics import Hybrid, Physics
from noderun.models.plain import PlainNet
from noderun.models.planar import PlanarNF
from noderun.models.recurrent import GRUD, ODERNN, RNN
from noderun.models.resnet import ResNet
from noderun.models.revnet import Hamiltonian, RevNet
from noderun.models.ssm import SSM
from noderun.models.stem import StemHead
from noderun.models.vae import VAE
from noderun.models.zuko import ZukoFlow

# name -> factory(shape, outputs, **options), with make_dynamics and solve if the option's file says that it uses them
MODELS: dict[str, Callable[..., nn.Module]] = {
    "odenet": ODENet,
    "resnet": ResNet,
    "rknet": ODENet,  # Chen et al. 2018, table 1: fixed steps of an explicit method and backprop through them
    "mlp": MLP,
    "plain": PlainNet,
    "stem": StemHead,
    "revnet": RevNet,
    "hamiltonian": Hamiltonian,
    "cnf": CNF,
    "ffjord": FFJORD,
    "rnn": RNN,
    "flow_matching": FlowMatching,
    "planar_nf": PlanarNF,
    "vae": VAE,
    "realnvp": partial(ZukoFlow, "RealNVP"),
    "nsf": partial(ZukoFlow, "NSF"),
    "maf": partial(ZukoFlow, "MAF"),
    "zuko_cnf": partial(ZukoFlow, "CNF"),
    "neural_cde": NeuralCDE,
    "linear_cde": LinearCDE,
    "log_ncde": LogNCDE,
    "ssm": SSM,
    "gru_d": GRUD,
    "ode_rnn": ODERNN,
    "latent_ode": LatentODE,
    "neural_ode": NeuralODE,
    "hamiltonian_nn": HamiltonianNN,
    "physics": Physics,
    "hybrid": Hybrid,
    "latent_sde": LatentSDE,
    "neural_flow": NeuralFlow,
    "neural_pde": NeuralODE,  # the method of lines: the values on a grid are the state
    "convnet_stepper": ConvNetStepper,
}

__all__ = ["MODELS", "ContinuousFlow", "Flow", "FlowMatching", "LatentSDE", "LatentSeries", "ODEBlock", "SolveBlock"]
