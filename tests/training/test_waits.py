"""A training step waits for its device where the solve does, and nowhere else; counted on a CPU."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training_problem import make_setup

from noderun.ode.solvers import METHODS
from noderun.ode.solvers.captured.runge_kutta import GRAPHS, captured
from noderun.training.loop import train_step
from noderun.training.progress import Progress

STEPS = 4  # eager, captured with a check of f, replayed
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "equal", "is_nonzero"}


def with_sgd(setup):
    """Adam counts its steps in tensors of the host on a CPU."""
    return replace(setup, optimizer=torch.optim.SGD(setup.model.parameters(), lr=0.01, momentum=0.9))


def of_steps(setup, before_last):
    """Make ``STEPS`` steps as the loop does on a GPU, and call ``before_last`` before the last one."""
    progress = Progress()
    for number, batch in zip(range(STEPS), setup.batches("train", 0, 0), strict=False):
        if number == STEPS - 1:
            before_last()
        numbers = train_step(setup, batch, number, with_norm=True)
        progress.advance(numbers, len(batch), 0.1)
    return progress


@pytest.mark.parametrize(("gradient", "reads"), [("backprop", 1), ("checkpointed", 1), ("adjoint", 3)])
def test_a_replayed_training_step_waits_in_its_solves_alone(gradient, reads, waits):
    setup = with_sgd(make_setup(gradient=gradient, solver=captured(METHODS["dopri5"])))
    progress = of_steps(setup, waits.clear)
    found = list(waits)
    assert any(graphs is not None for graphs in GRAPHS[setup.blocks[0].dynamics].values())
    # The output times, which the host itself has made; then the reports of the solves, and which outputs the loss used.
    assert found == ["tolist"] * (1 + reads)
    assert progress.take_window()["loss/train"] > 0


class Watched(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in WAITING:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_what_is_around_the_solve_waits_for_nothing():
    setup, watched = with_sgd(make_setup(solved=False)), Watched()
    with watched:
        of_steps(setup, lambda: None)
    assert not watched.found
