"""The worked examples of docs/extending.md, taken out of the page and run word by word."""

import csv
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image

from noderun.ode.configured import ConfiguredSolve
from noderun.record.metric import RESULT_KEYS
from noderun.record.metrics import read_metrics
from noderun.report import figures

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"


def write_files(folder, page=PAGE):
    """What the page shows under a file's name, appended where it says `continued`."""
    for name, text in re.findall(r"^`(mine/[\w/.]+)`[^\n]*\n\n```\w+\n(.*?)```", page.read_text(), re.M | re.S):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.read_text() + "\n\n" + text if path.exists() else text)


def commands(page=PAGE):
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.S)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def write_data(folder):
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(80, 2, generator=generator)
    with (folder / "petals.csv").open("w", newline="") as file:
        csv.writer(file).writerows([*p.tolist(), int(p[0] > p[1])] for p in points)
    for label in ("bright", "dark"):
        (folder / "photos" / label).mkdir(parents=True)
        for i in range(4):
            shade = 200 if label == "bright" else 40
            Image.new("L", (32, 32), shade + i).save(folder / "photos" / label / f"{i}.png")


@pytest.fixture(scope="module")
def page(warm, tmp_path_factory):
    """The folder in which every command of the page was run, and what each printed, by its last word."""
    folder = tmp_path_factory.mktemp("page")
    write_files(folder)
    write_data(folder)
    outputs = []
    for command in commands():
        assert command[0] == "noderun"
        status, told = warm.run(command[1:], folder)
        assert status == 0, told
        outputs.append(told)
    return folder, outputs


def run_of(page, data, solver="dopri5"):
    """Folder and result of the run on a data set."""
    found = {path.parent: json.loads(path.read_text()) for path in page[0].glob("outputs/train/*/result.json")}
    ((folder, result),) = [(f, r) for f, r in found.items() if (r["data"], r["solver"]) == (data, solver)]
    return folder, result


def test_a_classifier(page):
    assert "class: parts:Swirl" in page[1][0]
    _, pair = run_of(page, "petals")
    assert (pair["model"], pair["dynamics"], pair["data"]) == ("pair", "swirl", "petals") and pair["nfe_forward"] > 0
    assert pair["test_error"] <= 0.3  # chance is one half
    _, photos = run_of(page, "photos", "rk4")
    assert photos["data"] == "photos" and photos["steps"] == 1


def test_a_density_with_a_nested_state(page):
    folder, result = run_of(page, "ring")
    assert list(result) == [*RESULT_KEYS, "nll_se"] and 0 < result["nll_se"] < 0.2
    # a standard normal of these points has an NLL of log(2 pi) + (2^2 + 2 0.3^2) / 2 = 3.93
    assert result["nll"] == result["test_loss"] < 3.5
    assert 0 < result["numerical_error"] < 1e-2 and 0 < result["reconstruction_error"] < 1e-2
    assert 0 < result["gradient_error"] < 1e-1 and result["memory_saved_mib"] is not None
    *_, last = read_metrics(folder / "metrics.jsonl")
    assert last["nll/test"] == result["nll"] and last["regularizer/train"] > 0
    assert "NLL (nats)" in page[1][3]


def test_the_density_of_the_page_integrates_to_one(page, monkeypatch):
    monkeypatch.syspath_prepend(str(page[0] / "mine"))
    flow = importlib.import_module("flow")
    torch.manual_seed(0)
    model = flow.Flow((2,), 2, flow.ExactTrace, ConfiguredSolve(rtol=1e-6, atol=1e-6))
    line = torch.linspace(-6, 6, 121)
    with torch.no_grad():
        total = model(torch.cartesian_prod(line, line)).exp().sum() * 0.1**2
    assert total.item() == pytest.approx(1.0, abs=1e-3)


def test_a_series_with_an_objective_of_its_own(page):
    folder, result = run_of(page, "decays")
    assert list(result) == [*RESULT_KEYS, "pinball"]
    assert result["pinball"] == result["test_loss"] < 0.05
    assert 0 < result["numerical_error"] < 1e-2 and 0 < result["gradient_error"] < 1e-1
    *_, last = read_metrics(folder / "metrics.jsonl")
    assert last["pinball/test"] == result["pinball"] and "pinball/train" in last
    trained, ledger = page[1][4:6]
    assert "pinball loss" in trained and "pinball loss" in ledger and f"{result['pinball']:.4f}" in ledger


def test_a_change_of_an_objectives_code_is_another_run(page):
    folder, _ = run_of(page, "decays")
    identity = json.loads((folder / "status.json").read_text())["identity"]
    assert re.fullmatch(r"curves:Pinball [0-9a-f]{8}", identity["model.objective.class"])


def test_a_run_of_such_parts_is_evaluated_with_the_options_that_name_them(warm, page):
    folder, result = run_of(page, "decays")
    status, told = warm.run(["evaluate", f"run={folder}"], page[0])
    assert status == 2 and "names code of its own" in told
    status, told = warm.run(["evaluate", "--config-dir", "mine", f"run={folder}"], page[0])
    assert status == 0, told
    (found,) = folder.glob("evaluate/*/result.json")
    assert json.loads(found.read_text())["pinball"] == pytest.approx(result["pinball"], rel=1e-6)
    assert "pinball loss" in told


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data=decays"], "model=flow takes vector data; data=decays is series"),
        (["data=petals", "data.path=petals.csv"], "needs Density as the target; data=petals asks for Classes"),
        (["data=spheres"], "model.objective=density needs Density as the target; data=spheres asks for Classes"),
        (["data=digits"], "model=flow takes vector data; data=digits is image"),
    ],
)
def test_data_that_a_model_cannot_learn_from_is_refused_in_one_sentence(warm, page, words, sentence):
    command = ["train", "--config-dir", "mine", "model=flow", "dynamics=exact_trace", *words]
    status, told = warm.run(command, page[0])
    assert status == (1 if "path" in words[-1] or "decays" in words[0] else 2)
    assert sentence in re.sub(r"\s+", " ", told) and "Traceback" not in told


def test_a_solver(page):
    _, result = run_of(page, "petals", "ralston3")
    assert result["nfe_forward"] == 2 * 5 * 3  # two blocks, five steps, three stages
    assert 0 < result["numerical_error"] < 1e-2


def test_a_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", dict(figures.FIGURES))
    text = PAGE.read_text().partition("## A figure")[2]
    exec(compile(re.search(r"```python\n(.*?)```", text, re.S).group(1), "docs/extending.md", "exec"), {})
    rows = [{"steps_accepted": 4.0, "test_error": 0.2}, {"steps_accepted": 9.0, "test_error": 0.1}]
    figures.FIGURES["steps_against_error"].draw(rows, tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").is_file() and "9.0,0.1" in (tmp_path / "drawn.csv").read_text()


def test_a_gradient_method():
    (block,) = re.findall(
        r"```python\n(from dataclasses import dataclass\n\nimport torch\nimport noderun.*?)```", PAGE.read_text(), re.S
    )
    run: dict[str, object] = {}
    exec(compile(block, "docs/extending.md", "exec"), run)
    assert run["rate"].grad.item() == pytest.approx(0.3 * torch.tensor(0.5).exp().item(), rel=1e-3)
