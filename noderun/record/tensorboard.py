"""TensorBoard from the same rows as metrics.jsonl: one event stream per run.

add_hparams and add_scalars are avoided on purpose: both open further runs in subfolders (pytorch #32651,
tensorboardX #45).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from noderun.record import files
from noderun.record.metric import METRICS, Metric

COSTS = {
    "what it costs": {
        "function evaluations": ["Multiline", ["nfe/.*"]],
        "steps": ["Multiline", ["steps/.*"]],
        "saved for backward (MiB)": ["Multiline", ["memory/saved_mib"]],
        "peak memory (MiB)": ["Multiline", ["memory/peak_mib"]],  # a thousand times as much
    },
    "how well it is solved": {"relative errors": ["Multiline", ["solve/.*"]]},
}
SHARED = ("test_loss", "nfe_forward", "nfe_backward", "memory_peak_mib")


class TensorBoard:
    """Scalars of one run, x-axis the optimizer step, in one file.

    It is written anew with the rows of before: a kill or a power cut may have torn the file that was there.
    """

    def __init__(self, folder: Path, earlier: Sequence[Mapping[str, Any]] = ()) -> None:
        torn = list(folder.glob(files.EVENTS))
        self._writer = SummaryWriter(str(folder))
        for row in earlier:
            numbers = {tag: value for tag, value in row.items() if tag not in ("step", "epoch")}
            self.write(numbers, row["step"], row["epoch"])
        self.flush()
        for path in torn:
            path.unlink()

    def describe(self, settings: Mapping[str, Any], yaml: str, metrics: Sequence[Metric]) -> None:
        """Write hyper-parameters by key, the configuration as text and the layout of the custom scalars tab.

        ``metrics`` are the objective's own: they join the loss among what is learned.
        """
        assert self._writer.file_writer is not None
        tags = [metric.tag for metric in (*(METRICS[name] for name in SHARED), *metrics)]
        for summary in hparams(as_scalars(settings), dict.fromkeys(tags, 0.0)):
            self._writer.file_writer.add_summary(summary)
        self._writer.add_text("config", f"```yaml\n{yaml}\n```", 0)
        names = ["loss", *(metric.tag.partition("/")[0] for metric in metrics)]
        learned = {name: ["Multiline", [f"{name}/.*"]] for name in names}
        self._writer.add_custom_scalars({"what it learns": learned} | COSTS)

    def write(self, row: Mapping[str, float | None], step: int, epoch: int) -> None:
        """One event per row: one per number would be the largest cost of a small model's step."""
        assert self._writer.file_writer is not None
        numbers = {tag: value for tag, value in row.items() if value is not None} | {"epoch": epoch}
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        self._writer.file_writer.add_summary(Summary(value=values), step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self, failed: bool) -> None:
        self._writer.close()


def as_scalars(settings: Mapping[str, Any]) -> dict[str, int | float | str | bool]:
    """The settings, lists and None as text, which hparams would refuse."""
    return {key: v if isinstance(v, int | float | str | bool) else json.dumps(v) for key, v in settings.items()}
