"""The suite flows: a training step of continuous flows, of flow matching and of planar flows, beside their peers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from noderun.benchmarks import libraries
from noderun.benchmarks.case import Case, Contenders, as_arrays, errors_of
from noderun.benchmarks.flow_peers import (
    TorchdiffeqFlow,
    diffrax_gradient,
    noderun_flow,
    with_weights_of,
    zuko_flow,
)
from noderun.data.densities import POINTS
from noderun.dynamics.mlp import MLP
from noderun.models.flow_matching import FlowMatching
from noderun.models.planar import PlanarNF
from noderun.ode.configured import ConfiguredSolve

TOL = 1e-5
OURS = {  # contender -> its gradient, and whether its steps are compiled
    "noderun backprop": ("backprop", None),
    "noderun checkpointed": ("checkpointed", None),
    "noderun adjoint": ("adjoint", None),
    "noderun compiled checkpointed": ("checkpointed", True),
}


def flow_cases(device: str, quick: bool) -> Iterator[Case]:
    batch = 8 if quick else 512
    yield likelihood_case(batch, device, 1e-3 if quick else TOL, quick)
    for coupling in ("independent", "ot"):
        yield matching_case(batch, device, coupling)
    yield planar_case(batch, device)


def eight_gaussians(batch: int, device: str) -> Tensor:
    return POINTS["8gaussians"](batch, torch.Generator().manual_seed(0)).inputs.to(device)


def likelihood_case(batch: int, device: str, tol: float, quick: bool) -> Case:
    """The gradient of the mean of -log p(x) in all weights of a continuous flow: a training step but the update."""
    x = eight_gaussians(batch, device)
    there = libraries.installed("flows")
    ours = {name: chosen for name, chosen in OURS.items() if not (quick and chosen[1])}  # compilation takes minutes
    nets = {name: noderun_flow(tol, gradient, compiled).to(device) for name, (gradient, compiled) in ours.items()}
    first = nets["noderun backprop"]
    if there["torchdiffeq"]:
        nets["torchdiffeq odeint_adjoint"] = with_weights_of(first, TorchdiffeqFlow(tol).to(device))
    contenders: Contenders = {name: partial(nll_gradient, net, x) for name, net in nets.items()}
    if there["diffrax"]:
        contenders["diffrax jit"] = diffrax_gradient(first, x, tol)
    exact = with_weights_of(first, noderun_flow(1e-3 * tol, "checkpointed")).double()
    errors = errors_of(contenders, lambda: as_arrays(nll_gradient(exact, x.double())))
    if there["zuko"]:  # a net of its own, so there is nothing to agree on
        contenders["zuko.flows.CNF"] = partial(nll_gradient, zuko_flow(tol).to(device), x)
    return Case("flows", f"continuous flow, 8gaussians, B = {batch}, tol = {tol:g}", contenders, errors, 1000 * tol)


def matching_case(batch: int, device: str, coupling: str) -> Case:
    """A step of Adam of flow matching, at a rate of 0; each draws its own source points, so nothing is to agree on."""
    x = eight_gaussians(batch, device)
    torch.manual_seed(0)
    net = partial(MLP, hidden=64, layers=4, activation="silu")
    ours = FlowMatching((2,), 2, net, ConfiguredSolve("dopri5"), coupling=coupling).to(device)
    steps: Contenders = {"noderun": stepper(ours.velocity, lambda: ours.regression(x, None)["loss"])}
    if libraries.installed("flows")["torchcfm"]:
        theirs = copy.deepcopy(ours.velocity)
        steps["torchcfm"] = stepper(theirs, partial(torchcfm_loss, theirs, x, coupling))
    return Case("flows", f"flow matching, {coupling} coupling, 8gaussians, B = {batch}", steps, {}, 0.0)


def torchcfm_loss(net: nn.Module, x: Tensor, coupling: str) -> Tensor:
    import torchcfm

    matcher = (
        torchcfm.ConditionalFlowMatcher
        if coupling == "independent"
        else torchcfm.ExactOptimalTransportConditionalFlowMatcher
    )
    t, point, velocity = matcher(sigma=0.0).sample_location_and_conditional_flow(torch.randn_like(x), x)
    loss: Tensor = (net(t[:, None], point) - velocity).square().mean()
    return loss


def planar_case(batch: int, device: str) -> Case:
    """The gradient in all weights of 32 planar layers, for matching an energy |x|^2 / 2: E[|x|^2 / 2 - log det]."""
    z = torch.randn(batch, 2, generator=torch.Generator().manual_seed(0)).to(device)
    torch.manual_seed(0)
    ours = PlanarNF((2,), 2, formula="decode").to(device)
    contenders: Contenders = {"noderun": lambda: planar_gradient(ours.through(z), [ours.u, ours.w, ours.b])}
    if libraries.installed("flows")["normflows"]:
        contenders["normflows Planar"] = normflows_planar(ours, z)
    exact, doubled = copy.deepcopy(ours).double(), z.double()
    errors = errors_of(
        contenders, lambda: as_arrays(planar_gradient(exact.through(doubled), [exact.u, exact.w, exact.b]))
    )
    return Case("flows", f"32 planar layers, B = {batch}", contenders, errors, 1e-4)


def planar_gradient(through: tuple[Tensor, Tensor], weights: list[Tensor]) -> list[Tensor]:
    x, log_det = through
    return list(torch.autograd.grad((0.5 * x.square().sum(1) - log_det).mean(), weights))


def normflows_planar(ours: PlanarNF, z: Tensor) -> Callable[[], list[Tensor]]:
    """The same layers; their weights are [1, D], or [1] of the bias."""
    import normflows

    layers = [
        normflows.flows.Planar(
            (2,), act="tanh", u=nn.Parameter(u[None]), w=nn.Parameter(w[None]), b=nn.Parameter(b[None])
        )
        for u, w, b in zip(ours.u.detach(), ours.w.detach(), ours.b.detach(), strict=True)
    ]

    def gradient() -> list[Tensor]:
        x, log_det = z, z.new_zeros(len(z))
        for layer in layers:
            x, change = layer(x)
            log_det = log_det + change
        found = planar_gradient((x, log_det), [weight for layer in layers for weight in (layer.u, layer.w, layer.b)])
        return [torch.cat(found[i::3]) for i in range(3)]

    return gradient


def stepper(net: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], float]:
    optimizer = torch.optim.Adam(net.parameters(), lr=0.0)

    def step() -> float:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        return value.item()

    return step


def nll_gradient(model: nn.Module, x: Tensor) -> list[Tensor]:
    loss: Callable[..., Tensor] = model
    return list(torch.autograd.grad(-loss(x).mean(), list(model.parameters())))
