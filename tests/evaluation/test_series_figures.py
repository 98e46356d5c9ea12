"""Rows of the figures of series: they are what the model itself answers, and each figure is drawn."""

import pytest
import torch

from noderun.cli.planning import make_job
from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.data import DataError
from noderun.evaluation.rows import ROWS
from noderun.report.figures import FIGURES
from noderun.training.build import make_setup

WORDS = ["data=sinusoids", "data.examples=12", "data.points=10", "data.test_limit=5", "task=interpolate"]
SHARED = [*WORDS, "data.observed=0.9", "tolerance=1e-2"]
CONTROLLED = ["model.initial=0"]
MODELS = {
    "rnn": [],
    "gru_d": [],
    "ode_rnn": [],
    "ssm": [],
    "neural_cde": CONTROLLED,
    "linear_cde": CONTROLLED,
    "latent_ode": [],
    "neural_flow": [],
}


def setup_of(model, *words):
    job = make_job(Composer("train", [config_folder()]), [*SHARED, f"model={model}", *words])
    torch.manual_seed(0)
    return make_setup(job.settings, torch.device("cpu"))


def drawn(name, setup, folder):
    rows = ROWS[name](setup)
    FIGURES[name].draw(rows, folder / f"{name}.png")
    assert (folder / f"{name}.png").stat().st_size > 1000
    return rows


@pytest.mark.parametrize(("name", "words"), MODELS.items())
def test_answers_are_read_from_the_hidden_state_that_is_drawn(name, words, tmp_path):
    setup = setup_of(name, *words)
    rows = drawn("hidden", setup, tmp_path)
    batch = next(setup.batches("test", 0, 0)).rows(slice(2))
    times = sorted({row["time"] for row in rows if row["unit"] is not None})
    model = setup.model.eval()
    readout = model.decoder if hasattr(model, "decoder") else model.head
    states, seen = [], lambda _, inputs: states.append(inputs[0])
    with torch.no_grad(), readout.register_forward_pre_hook(seen):
        model(batch.inputs, batch.times, batch.mask, torch.tensor(times).expand(2, -1))
    state = states[0].reshape(2, len(times), -1)
    for unit in range(min(8, state.shape[-1])):
        line = [row["value"] for row in rows if row["example"] == 1 and row["unit"] == unit]
        assert line == pytest.approx(state[1, :, unit].tolist(), abs=1e-4)
    marks = [row["time"] for row in rows if row["unit"] is None and row["example"] == 1]
    assert marks == batch.times[1][batch.mask[1].any(-1)].tolist()


@pytest.mark.parametrize(
    ("model", "words"), [("latent_sde", ["data=ou", "data.points=5"]), ("log_ncde", ["task=regress"])]
)
def test_a_model_without_a_state_at_each_time_says_so(model, words):
    with pytest.raises((ValueError, DataError), match=r"no hidden state|one output per series"):
        ROWS["hidden"](setup_of(model, *words))


def test_a_latent_odes_path_is_its_answer_and_lies_within_its_draws(tmp_path):
    setup = setup_of("latent_ode")
    rows = drawn("series", setup, tmp_path)
    batch = next(setup.batches("test", 0, 0)).rows(slice(2))
    path = [row for row in rows if row["kind"] == "path" and row["example"] == 1]
    times = torch.tensor([row["time"] for row in path]).expand(2, -1)
    with torch.no_grad():
        answers = setup.model.eval()(batch.inputs, batch.times, batch.mask, times)
    assert [row["value"] for row in path] == pytest.approx(answers[1, :, 0].tolist(), abs=1e-4)
    assert all(row["low"] <= row["high"] for row in path)
    assert times.min() < batch.target_times.min() and times.max() > batch.target_times.max()
    drawn("latent", setup, tmp_path)
