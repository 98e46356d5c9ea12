"""One row, two places: metrics.jsonl and TensorBoard, read back by TensorBoard's own reader."""

import json
import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import plugin_data_pb2

from noderun.record.metrics import read_metrics
from noderun.record.recorder import Recorder

CONFIG = {"seed": 1, "data": {"name": "digits", "limit": None}, "model": {"takes": ("image",)}, "fresh": False}


def written(folder, steps, last_step=-1):
    recorder = Recorder(folder, last_step)
    if last_step < 0:
        recorder.describe(CONFIG, "seed: 1")
    for step in steps:
        recorder.log({"loss/train": 1.0 / step, "nfe/backward": None}, step, epoch=1)
    recorder.flush()
    recorder.close()


def events(folder):
    return EventAccumulator(str(folder)).Reload()


def test_rows_are_in_both_places(tmp_path):
    written(tmp_path, [1, 2])
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        {"step": 1, "epoch": 1, "loss/train": 1.0, "nfe/backward": None},
        {"step": 2, "epoch": 1, "loss/train": 0.5, "nfe/backward": None},
    ]
    assert set(events(tmp_path).Tags()["scalars"]) == {"loss/train", "epoch"}
    assert [(e.step, e.value) for e in events(tmp_path).Scalars("loss/train")] == [(1, 1.0), (2, 0.5)]


def test_a_row_is_one_event(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.log({f"loss/{i}": 1.0 for i in range(20)}, step=3, epoch=1)
    recorder.close()
    (file,) = tmp_path.glob("events.*")
    rows = [event for event in EventFileLoader(str(file)).Load() if event.HasField("summary")]
    assert len(rows) == 1 and rows[0].step == 3 and len(rows[0].summary.value) == 21


def test_resuming_cuts_both_after_the_last_row_that_counts(tmp_path):
    written(tmp_path, [1, 2, 3])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "epo')
    written(tmp_path, [3, 4], last_step=2)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]
    assert [event.step for event in events(tmp_path).Scalars("loss/train")] == [1, 2, 3, 4]


def test_one_run_with_hyper_parameters_config_and_layout(tmp_path):
    written(tmp_path, [1])
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]  # a subfolder would be another run
    assert len(list(tmp_path.glob("events.*"))) == 1
    reader = events(tmp_path)
    assert "custom_scalars__config__" in reader.Tags()["tensors"]
    text = reader.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text == "```yaml\nseed: 1\n```"
    content = reader.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    parameters = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert set(parameters) == {"seed", "data.name", "data.limit", "model.takes", "fresh"}
    assert parameters["seed"].number_value == 1 and parameters["data.name"].string_value == "digits"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_metrics_stay_json_where_a_number_is_none(value, tmp_path):
    recorder = Recorder(tmp_path)
    recorder.log({"loss/train": value}, 1, 1)
    recorder.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss/train"] is None


def test_row_is_in_the_file_at_once(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.log({"loss/train": 0.5}, 1, 1)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1]
    recorder.close()
