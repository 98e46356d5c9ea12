"""What is trained; every model is made from plain values, the dynamics' factory and a solve."""

from collections.abc import Callable

from torch import nn

from noderun.models.block import ODEBlock, statistics
from noderun.models.mlp import MLP
from noderun.models.odenet import ODENet
from noderun.models.plain import PlainNet
from noderun.models.resnet import ResNet
from noderun.models.revnet import Hamiltonian, RevNet
from noderun.models.rknet import RKNet
from noderun.models.stem import StemHead

# name -> factory(shape, classes, **options), and make_dynamics and solve where the model's file says that it uses them
MODELS: dict[str, Callable[..., nn.Module]] = {
    "odenet": ODENet,
    "resnet": ResNet,
    "rknet": RKNet,
    "mlp": MLP,
    "plain": PlainNet,
    "stem": StemHead,
    "revnet": RevNet,
    "hamiltonian": Hamiltonian,
}

__all__ = ["MODELS", "ODEBlock", "statistics"]
