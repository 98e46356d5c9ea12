"""What is compared of the runs that command lines leave."""

import json

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from noderun.record.metrics import read_metrics

TIMED = ("time/step_ms", "time/examples_per_s", "time/forward_ms", "memory/peak_mib")
CLOCK = ("seconds", "training_seconds", "examples_per_second", "memory_peak_mib")


def weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)["model"]


def rows(folder):
    return [{k: v for k, v in row.items() if k not in TIMED} for row in read_metrics(folder / "metrics.jsonl")]


def result(folder):
    return {k: v for k, v in json.loads((folder / "result.json").read_text()).items() if k not in CLOCK}


def assert_same_run(folder, whole):
    """Every bit of the weights, every row, every number that no clock decides, every event, and nothing left over."""
    torch.testing.assert_close(weights(folder), weights(whole), rtol=0, atol=0)
    assert rows(folder) == rows(whole)
    assert (folder / "metrics.jsonl").read_bytes().count(b"\n") == len(rows(whole))
    assert result(folder) == result(whole)
    assert json.loads((folder / "status.json").read_text())["status"] == "done"
    events = EventAccumulator(str(folder)).Reload().Scalars("loss/train")
    assert [event.step for event in events] == [row["step"] for row in rows(whole)]
    assert not list(folder.rglob("*.new"))
