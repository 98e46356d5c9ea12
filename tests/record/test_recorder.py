"""One row, two places: metrics.jsonl and TensorBoard, read back by TensorBoard's own reader."""

import json
import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import plugin_data_pb2

from noderun.record import metrics
from noderun.record.metric import METRICS
from noderun.record.metrics import read_metrics
from noderun.record.recorder import Recorder

SETTINGS = {"data": "digits", "optimizer.betas": [0.9, 0.999], "data.limit": None, "seed": 1}


def written(folder, steps, mark=None, beyond=()):
    """Writes rows and returns what vouches for them; ``beyond`` are the steps of rows that nothing vouches for."""
    recorder = Recorder(folder, mark)
    recorder.describe(SETTINGS, "seed: 1", [METRICS["test_error"]])
    for step in steps:
        recorder.log({"loss/train": 1.0 / step, "nfe/backward": None}, step, epoch=1)
    mark = recorder.flush()
    for step in beyond:
        recorder.log({"loss/train": 1.0 / step}, step, epoch=1)
    recorder.close()
    return mark


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
    mark = written(tmp_path, [1, 2], beyond=[3])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "epo')
    written(tmp_path, [3, 4], mark)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]
    assert [event.step for event in events(tmp_path).Scalars("loss/train")] == [1, 2, 3, 4]


def test_opening_writes_nothing_that_was_there(tmp_path, monkeypatch):
    """Rows that are vouched for stay where they are: a kill while a run is taken up can lose none."""
    mark = written(tmp_path, [1, 2], beyond=[3])
    before = (tmp_path / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(metrics.Path, "write_text", None)
    monkeypatch.setattr(metrics.Path, "write_bytes", None)
    opened = metrics.Metrics(tmp_path / "metrics.jsonl", mark)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before[: mark["bytes"]] and mark["rows"] == 2
    opened.close()


DAMAGE = {
    "a row is missing": lambda lines: lines[:1] + lines[2:],
    "the last row is missing": lambda lines: lines[:2],
    "a row is doubled": lambda lines: lines[:1] + lines,
    "a row is another": lambda lines: [lines[0].replace("1.0", "1.5"), *lines[1:]],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_rows_that_are_not_as_they_were_are_said_and_left_alone(damage, tmp_path):
    mark, path = written(tmp_path, [1, 2, 3]), tmp_path / "metrics.jsonl"
    damaged = "".join(DAMAGE[damage](path.read_text().splitlines(keepends=True)))
    path.write_text(damaged)
    with pytest.raises(ValueError, match="metrics.jsonl has lost or changed some of the 3 rows .* move it away"):
        Recorder(tmp_path, mark)
    assert path.read_text() == damaged


def test_a_file_that_was_moved_away_is_begun_again_with_a_word(tmp_path, caplog):
    mark = written(tmp_path, [1, 2])
    (tmp_path / "metrics.jsonl").rename(tmp_path / "old.jsonl")
    again = written(tmp_path, [3], mark)
    assert "metrics.jsonl is gone, and its 2 rows with it" in caplog.text
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [3] and again["rows"] == 1
    assert [event.step for event in events(tmp_path).Scalars("loss/train")] == [3]


def test_a_torn_file_of_tensorboard_is_made_whole(tmp_path):
    mark = written(tmp_path, [1, 2])
    (file,) = tmp_path.glob("events.*")
    with file.open("r+b") as torn:
        torn.truncate(file.stat().st_size // 2)
    written(tmp_path, [3], mark)
    assert len(list(tmp_path.glob("events.*"))) == 1
    assert [event.step for event in events(tmp_path).Scalars("loss/train")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"step": 2, "epo', "line 2: Invalid control character"),
        ('{"epoch": 1}', "line 2: a row has a step and an epoch"),
        ('{"step": null, "epoch": 1}', "line 2: a row has a step and an epoch"),
        ("[1, 2]", "line 2: a row has a step and an epoch"),
        ("\xff", "line 2: 'utf-8' codec can't decode"),
    ],
)
def test_a_damaged_row_is_said_with_its_line(line, reason, tmp_path):
    written(tmp_path, [1])
    with (tmp_path / "metrics.jsonl").open("a", encoding="latin-1") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=reason):
        list(read_metrics(tmp_path / "metrics.jsonl"))


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
    assert parameters["seed"].number_value == 1 and parameters["data"].string_value == "digits"
    assert parameters["data.limit"].string_value == "null"
    content = reader.summary_metadata["_hparams_/experiment"].plugin_data.content
    columns = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.hparam_infos
    assert [column.name for column in columns] == list(SETTINGS)  # in their order


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
