"""Tests and figures of a trained continuous flow, on a few points."""

import csv

import pytest
import torch

from noderun.cli.main import main
from noderun.evaluation import flows
from noderun.evaluation.load import load_run

FEW = """
import torch
from noderun.data import Batch, Dataset, Density

def few():
    points = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.5])
    return Dataset("few", (2,), Density(2), Batch(points), Batch(points))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, restored_process):
    place = tmp_path_factory.mktemp("flow")  # apart from the run, whose folder would be a group of options
    run = tmp_path_factory.mktemp("runs") / "flow"
    (place / "few_of_flows.py").write_text(FEW)
    (place / "data").mkdir()
    (place / "data/few.yaml").write_text("name: few\nclass: few_of_flows:few\nbatch_size: 50\n")
    words = "model=ffjord model.blocks=2 data=few dynamics.hidden=16 tolerance=1e-2 device=cpu"
    more = "trainer.epochs=3 optimizer.lr=1e-2 model.test_tolerance=1e-4 log=quiet"
    words = [*words.split(), *more.split(), f"hydra.run.dir={run}"]
    assert main(["train", "--config-dir", str(place), *words]) == 0
    return run, place


def evaluate(run, *words):
    assert main(["evaluate", "--config-dir", str(run[1]), f"run={run[0]}", *words, "device=cpu", "log=quiet"]) == 0
    return read(run[0] / "evaluate/results.csv")


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_divergences_agree_within_their_draws(run):
    rows = {row["divergence"]: row for row in evaluate(run, "divergence=exact,hutchinson", "draws=8")}
    exact, estimate = rows["exact"], rows["hutchinson"]
    assert float(exact["nll"]) == pytest.approx(load_run(run[0], config_dir=run[1]).result["nll"], abs=1e-6)
    assert exact["draws"] == exact["nll_draws_se"] == "" and estimate["draws"] == "8"
    off = abs(float(estimate["nll"]) - float(exact["nll"]))
    assert 0 < off < 5 * float(estimate["nll_draws_se"])


def test_a_tighter_tolerance_costs_more_and_inverts_better(run):
    rows = [row for row in evaluate(run, "tolerance=1e-1,1e-5") if not row["divergence"]]
    loose, tight = sorted(rows, key=lambda row: -float(row["rtol"]))
    assert [loose["tested with"], tight["tested with"]] == ["dopri5-tol0.1", "dopri5-tol1e-05"]
    assert float(tight["nfe_test"]) > float(loose["nfe_test"])
    assert float(tight["inverse_error"]) < 1e-4 and float(tight["inverse_error"]) < float(loose["inverse_error"])
    assert (run[0] / "evaluate/figures/nll_tolerance.png").is_file()


def test_figures_show_the_density_of_the_model(run, monkeypatch):
    for name, fewer in (("FRAMES", 3), ("COARSE", 11), ("FINE", 21)):
        monkeypatch.setattr(flows, name, fewer)
    evaluate(run, "figures=all")
    model = load_run(run[0], config_dir=run[1]).model
    folder = next((run[0] / "evaluate").glob("*/figures/density.csv")).parent
    density = [row for row in read(folder / "density.csv") if row["kind"] == "density"]
    points = torch.tensor([[float(row["x"]), float(row["y"])] for row in density])
    with torch.no_grad():
        exact = model.log_prob(points).exp()
    found = torch.tensor([float(row["density"]) for row in density])
    torch.testing.assert_close(found, exact, atol=1e-4, rtol=1e-2)
    frames = read(folder / "transport.csv")
    last = [row for row in frames if (row["block"], row["t"], row["kind"]) == ("2", "1.0", "density")]
    places = torch.tensor([[float(row["x"]), float(row["y"])] for row in last])
    with torch.no_grad():
        torch.testing.assert_close(
            torch.tensor([float(row["density"]) for row in last]), model.log_prob(places).exp(), atol=1e-4, rtol=1e-2
        )
    first = [row for row in frames if (row["block"], row["t"]) == ("1", "0.0")]
    normal = torch.tensor([[float(row[k]) for k in "xy"] for row in first if row["kind"] == "particle"])
    assert normal.mean(0).abs().max() < 0.25 and (normal.std(0) - 1).abs().max() < 0.2
    assert (folder / "transport.gif").read_bytes()[:3] == b"GIF" and (folder / "velocity.png").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["divergence=exat"], "did you mean 'exact'?"), (["divergence=hutchinson", "draws=0"], "draws must be a whole")],
)
def test_wrong_words_are_one_sentence(run, words, sentence, capsys):
    assert main(["evaluate", "--config-dir", str(run[1]), f"run={run[0]}", *words]) == 2
    assert sentence in capsys.readouterr().err
