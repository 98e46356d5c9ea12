"""TensorBoard from the same rows as metrics.jsonl: one event stream a run.

add_hparams and add_scalars are avoided on purpose: both open further runs in subfolders (pytorch #32651,
tensorboardX #45).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

LAYOUT = {
    "what it learns": {"loss": ["Multiline", ["loss/.*"]], "error": ["Multiline", ["error/.*"]]},
    "what it costs": {
        "function evaluations": ["Multiline", ["nfe/.*"]],
        "steps": ["Multiline", ["steps/.*"]],
        "memory (MiB)": ["Multiline", ["memory/.*"]],
    },
    "how well it is solved": {"relative errors": ["Multiline", ["solve/.*"]]},
}
HEADLINES = ("loss/test", "error/test", "nfe/forward", "nfe/backward", "memory/peak_mib")


class TensorBoard:
    """Scalars of one run, x-axis the optimiser step; events beyond ``last_step`` are purged."""

    def __init__(self, folder: Path, last_step: int = -1) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=last_step + 1)

    def describe(self, config: Mapping[str, Any], yaml: str) -> None:
        """Writes hyper-parameters, the configuration as text and the layout of the custom scalars tab."""
        assert self._writer.file_writer is not None
        for summary in hparams(_flat(config), dict.fromkeys(HEADLINES, 0.0)):
            self._writer.file_writer.add_summary(summary)
        self._writer.add_text("config", f"```yaml\n{yaml}\n```", 0)
        self._writer.add_custom_scalars(LAYOUT)

    def write(self, row: Mapping[str, float | None], step: int, epoch: int) -> None:
        """One event a row: an event a number would be the most that a small model's step costs."""
        assert self._writer.file_writer is not None
        numbers = {tag: value for tag, value in row.items() if value is not None} | {"epoch": epoch}
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        self._writer.file_writer.add_summary(Summary(value=values), step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, int | float | str | bool]:
    """Nested settings as one level of dotted keys; lists and None become text, which hparams would refuse."""
    flat: dict[str, int | float | str | bool] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat
