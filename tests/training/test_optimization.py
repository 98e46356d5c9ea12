import pytest
import torch
from torch.optim import lr_scheduler as theirs

from noderun.training.optimization import OPTIMIZERS, SCHEDULES, make_optimizer, set_lr

STEPS, HORIZON = 5, 8
PEERS = {
    "constant": (lambda o: theirs.ConstantLR(o, factor=1.0), {}),
    "step": (
        lambda o: theirs.MultiStepLR(o, [3 * STEPS, 5 * STEPS], gamma=0.1),
        {"milestones": (3, 5), "gamma": 0.1},
    ),
    "cosine": (lambda o: theirs.CosineAnnealingLR(o, HORIZON * STEPS), {}),
    "one_cycle": (lambda o: theirs.OneCycleLR(o, 0.3, total_steps=HORIZON * STEPS, cycle_momentum=False), {}),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_is_torchs(name):
    factor = SCHEDULES[name](STEPS, HORIZON, **PEERS[name][1])
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    peer = PEERS[name][0](optimizer)
    for step in range(HORIZON * STEPS - 1):
        assert 0.3 * factor(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step
        optimizer.step()
        peer.step()


def test_a_cosine_that_starts_anew_is_torchs_with_warm_restarts():
    factor = SCHEDULES["cosine"](STEPS, 12, restarts=(4, 8))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    peer = theirs.CosineAnnealingWarmRestarts(optimizer, 4 * STEPS)
    for step in range(12 * STEPS):
        assert 0.3 * factor(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step
        optimizer.step()
        peer.step()
    uneven = SCHEDULES["cosine"](STEPS, 12, restarts=(9, 20))  # none after the horizon
    assert [uneven(9 * STEPS), uneven(12 * STEPS), uneven(25 * STEPS)] == [1, 0, 0]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_stays_where_it_ended(name):
    factor = SCHEDULES[name](STEPS, HORIZON)
    assert factor(10**6 if name != "step" else 10**3) == pytest.approx(factor(10**7), abs=1e-9)


def test_step_defaults_are_chen_et_al():
    factor = SCHEDULES["step"](2, None)
    assert [factor(2 * epoch) for epoch in (59, 60, 100, 140)] == pytest.approx([1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_moves_what_requires_gradients_only(name):
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    before = model.weight.detach().clone(), model.bias.detach().clone()
    optimizer = make_optimizer(name, model, 0.1, 0.0, {})
    set_lr(optimizer, 0.01)

    def loss():
        optimizer.zero_grad()
        value = model(torch.ones(1, 2)).sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert torch.equal(model.bias, before[1])
    moved = (model.weight.detach() - before[0]).abs().max().item()
    assert (
        moved > 0 if name == "lbfgs" else moved == pytest.approx(0.01, rel=1e-4)
    )  # which searches along its direction
