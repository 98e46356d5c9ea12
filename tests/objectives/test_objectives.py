"""Objectives: what they report, of which targets, and how masks count."""

import pytest
import torch
from torch import nn

from noderun.data import Batch, Classes, DataError, Density, Energy, Levels, Series, Values
from noderun.data.system import System
from noderun.objectives import OBJECTIVES, Objective
from noderun.record.metric import METRICS, Metric, describe, know_those_of
from noderun.training.loop import evaluate
from noderun.training.setup import Setup

TARGETS = {"classify": Classes(3), "regress": Values((2, 2)), "sign": Classes(2), "density": Density(5)}
OUTPUTS = {"classify": 3, "regress": 4, "sign": 1, "density": 5}
TARGETS |= {
    "series": Values((2, 2)),
    "flow_matching": Density(5),
    "density_matching": Energy(2, torch.sum, 0.0),
    "elbo": Levels(6, 256),
    "trajectory": Series(2),
    "derivative": Series(2, system=System(field=lambda y: -y)),
    "rollout": Series(2),
    "energy": Values((3,), lambda c, u: (u - c).square().sum(1)),
    "sde_matching": Series(2),
}
OUTPUTS |= {"series": 4, "flow_matching": 5, "density_matching": 2, "elbo": 6 * 256, "trajectory": 2, "derivative": 2}
OUTPUTS |= {"rollout": 2, "energy": 3, "sde_matching": 0}
BETTER = {"elbo": {"higher"}, "sde_matching": {"higher", "lower"}}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_its_metrics_have_a_better_side(name):
    objective = OBJECTIVES[name]().for_target(TARGETS[name])
    assert objective.metrics
    assert {metric.better for metric in objective.metrics} == BETTER.get(name, {"lower"})
    assert isinstance(TARGETS[name], objective.targets) and objective.outputs(TARGETS[name]) == OUTPUTS[name]


@pytest.mark.parametrize("name", ["density", "flow_matching"])
def test_a_density_of_known_entropy_reports_it(name):
    objective = OBJECTIVES[name]().for_target(Density(2, entropy=1.5))
    assert [metric.name for metric in objective.metrics if metric.better is None] == ["entropy"]
    assert objective.over_split(nn.Identity(), iter(()))["entropy"] == 1.5
    assert OBJECTIVES[name]().for_target(Density(2)).over_split(nn.Identity(), iter(())) == {}


def test_regression_on_a_series_counts_observed_values_and_every_example_the_same():
    targets = torch.tensor([[[1.0], [2.0], [torch.nan]], [[1.0], [torch.nan], [torch.nan]]])
    mask = targets[..., 0].isfinite()
    outputs = nn.Parameter(torch.zeros(2, 3, 1))
    values = OBJECTIVES["regress"]()(
        lambda inputs, times, seen: outputs, Batch(targets, targets, torch.arange(3.0).expand(2, 3), mask)
    )
    values["loss"].backward()
    assert values["mse"].mean().item() == pytest.approx(((1 + 4) / 2 + 1) / 2)  # not (1 + 4 + 1) / 3
    assert torch.isfinite(outputs.grad).all() and outputs.grad[~mask].abs().max() == 0


@pytest.mark.parametrize("name", ["regress", "elbo"])
def test_of_channels_whose_extent_is_known_the_error_scaled_by_it_is_reported_over_all_values(name):
    series = Series(2, scale=(2.0, 3.0), mean=(0.0, 0.0), system=System(extent=(4.0, 30.0)))
    objective = OBJECTIVES[name]().for_target(series)
    targets = torch.tensor([[[1.0, torch.nan], [2.0, torch.nan]], [[torch.nan, 10.0], [torch.nan, torch.nan]]])
    times = torch.arange(2.0).expand(2, 2)
    batch = Batch(targets, targets, times, targets.isfinite(), target_times=times, target_mask=targets.isfinite())
    found = objective.over_split(lambda *given: torch.zeros(2, 2, 2), iter([batch]))["mse_minmax"].item()
    assert found == pytest.approx((0.5**2 + 1.0**2 + 1.0**2) / 3)  # 2 * 1 / 4, 2 * 2 / 4, 3 * 10 / 30
    assert "mse_minmax" in [metric.name for metric in objective.metrics]


@pytest.mark.parametrize(
    ("target", "reported"),
    [(Classes(3), {"test_error", "accuracy"}), (Classes(2), {"test_error", "accuracy", "auc"}), (Series(2), {"rmse"})],
)
def test_a_series_objective_is_that_of_its_target(target, reported):
    assert {metric.name for metric in OBJECTIVES["series"]().for_target(target).metrics} == reported


def test_the_area_under_the_curve_is_of_the_whole_test():
    logits = torch.tensor([[0.0, 1.0], [0.0, 3.0], [0.0, 2.0], [0.0, 0.0]])
    rows = Batch(logits, torch.tensor([0, 1, 1, 0]))
    objective = OBJECTIVES["series"]().for_target(Classes(2))
    halves = [rows.rows(slice(2)), rows.rows(slice(2, 4))]
    setup = Setup(nn.Identity(), [], objective, None, None, lambda *which: iter(halves), 1, torch.device("cpu"))
    found = evaluate(setup)
    assert found["auc/test"] == 1.0 and found["accuracy/test"] == 0.75 and found["accuracy_se/test"] > 0


def test_regression_refuses_to_broadcast():
    with pytest.raises(ValueError, match=r"returns \(4, 1\) for targets of shape \(4,\)"):
        OBJECTIVES["regress"]()(nn.Linear(2, 1), Batch(torch.ones(4, 2), torch.ones(4)))


def test_a_metric_that_is_never_reported_is_an_error():
    class Silent(Objective):
        metrics = (Metric("gain", "gain"),)

        def __call__(self, model, batch):
            return {"loss": model(batch.inputs).sum()}

    rows = Batch(torch.ones(4, 2))
    setup = Setup(nn.Linear(2, 1), [], Silent(), None, None, lambda *which: iter([rows]), 1, torch.device("cpu"))
    with pytest.raises(ValueError, match="metric gain is made from gain/test; it reports"):
        evaluate(setup)


def test_an_own_metric_is_known_again_from_the_runs_folder(tmp_path, monkeypatch):
    gain = Metric("gain", "gain", ".1f", unit="dB", better="higher")
    describe([METRICS["nll"], gain], tmp_path)
    monkeypatch.setattr("noderun.record.metric.METRICS", known := dict(METRICS))
    know_those_of(tmp_path)
    assert known == METRICS | {"gain": gain} and known["gain"].heading == "gain (dB)"
    assert gain.value({"gain/test": 2.0}) == 2.0 and gain.value({}) is gain.value({"gain/test": torch.inf}) is None
    describe([METRICS["nll"]], empty := tmp_path / "empty")
    assert not empty.exists()


def test_a_value_per_example_is_reported_with_its_standard_error():
    class Each(Objective):
        def __call__(self, model, batch):
            value = batch.inputs[:, 0]
            return {"loss": value.mean(), "gain": value}

    values = 100 + torch.randn(7, 1, generator=torch.Generator().manual_seed(0))
    parts = [Batch(values[:4]), Batch(values[4:])]
    setup = Setup(nn.Linear(1, 1), [], Each(), None, None, lambda *which: iter(parts), 1, torch.device("cpu"))
    found = evaluate(setup)
    assert found["gain/test"] == pytest.approx(values.mean().item())
    assert found["gain_se/test"] == pytest.approx(values.std().item() / 7**0.5, rel=1e-4)
    assert "loss_se/test" not in found


def test_a_rollouts_error_is_relative_to_the_truth_at_each_step_in_the_datas_units():
    target = Series(2, scale=(2.0, 2.0), mean=(1.0, 1.0))
    truth = torch.tensor([[[3.0, 4.0], [6.0, 8.0], [0.0, 5.0]]])
    off = torch.tensor([[[0.3, 0.4], [3.0, 4.0], [9.0, 9.0]]])
    seen = torch.tensor([[True, True, False]]).unsqueeze(-1).expand(1, 3, 2)
    last = torch.tensor([[[3.0, 9.0]]])
    times = torch.arange(1.0, 4.0).view(1, 3)
    batch = Batch((last - 1) / 2, (truth - 1) / 2, torch.zeros(1, 1), target_times=times, target_mask=seen)
    values = OBJECTIVES["rollout"]().for_target(target)(lambda *given: (truth + off - 1) / 2, batch)
    assert values["nrmse_at_1"].item() == pytest.approx(0.1) and values["nrmse_at_2"].item() == pytest.approx(0.5)
    assert values["nrmse"].item() == pytest.approx(0.3)
    assert values["nrmse_persistence"].item() == pytest.approx((5 / 5 + 10**0.5 / 10) / 2)
    assert values["loss"].item() == pytest.approx((0.25 + 25) / 4 / 4)
    assert values["mse"].item() == pytest.approx((0.25 + 25) / 4)


def test_an_energys_loss_does_not_see_the_targets():
    objective = OBJECTIVES["energy"]().for_target(TARGETS["energy"])
    inputs, net = torch.randn(4, 3), nn.Linear(3, 3)
    found = [objective(net, Batch(inputs, targets)) for targets in (inputs, inputs + 1)]
    assert found[0]["loss"] == found[1]["loss"] == (net(inputs) - inputs).square().sum(1).mean()
    torch.testing.assert_close(found[0]["excess_energy"], (net(inputs) - inputs).square().sum(1).detach())
    assert not torch.equal(found[0]["mse"], found[1]["mse"])
    with pytest.raises(DataError, match="targets minimize an energy"):
        OBJECTIVES["energy"]().for_target(Values((3,)))
