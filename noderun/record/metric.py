"""The numbers that describe a run: the one list that results, tables, the ledger and TensorBoard are made from.

This module imports nothing heavy: tables and the ledger are shown without torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from noderun.record import files


@dataclass(frozen=True)
class Metric:
    """One number about a run.

    ``name`` is its key in result.json, ``tag`` the one in metrics.jsonl and TensorBoard that its value is read from
    ("name/test" by default). ``label`` (with ``unit`` in parentheses) heads its column in tables, ``format`` is a
    format specification of Python. ``better`` tells which way is better; None marks a number that was chosen.
    A ``headline`` is shown when runs are compared.
    """

    name: str
    label: str
    format: str = ".4g"
    unit: str = ""
    better: Literal["lower", "higher"] | None = "lower"
    tag: str = ""
    headline: bool = True
    of: Callable[[float], float] | None = None  # from the mean that stands under the tag to the value

    def __post_init__(self) -> None:
        if not self.tag:
            object.__setattr__(self, "tag", f"{self.name}/test")

    @property
    def heading(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def error_tag(self) -> str:
        """The tag of the standard error of a mean over examples."""
        return self.tag.replace("/", "_se/")

    def value(self, numbers: Mapping[str, float | None]) -> float | None:
        """The metric out of a run's numbers by tag; None if it is not among them or not finite."""
        number = numbers.get(self.tag)
        if number is None:
            return None
        number = self.of(number) if self.of else number
        return number if math.isfinite(number) else None


def _cost(name: str, label: str, format: str, tag: str, unit: str = "", headline: bool = False) -> Metric:
    return Metric(name, label, format, unit, tag=tag, headline=headline)


# Every result.json has these, null if they do not apply. A tag without a slash is not in metrics.jsonl.
_SHARED = (
    Metric("parameters", "parameters", ",", better=None, tag="parameters", headline=False),
    Metric("epochs", "epochs", "", better=None, tag="epochs", headline=False),
    Metric("steps", "steps", "", better=None, tag="steps", headline=False),
    Metric("train_loss", "train loss", ".4f", tag="loss/train", headline=False),
    Metric("test_loss", "test loss", ".4f", tag="loss/test"),
    Metric("test_error", "test error", ".2%", tag="error/test"),
    Metric("nll", "NLL", ".3f", unit="nats"),
    Metric("bits_per_dim", "bits/dim", ".3f"),
    Metric("rmse", "RMSE", tag="mse/test", of=math.sqrt),
    _cost("nfe_forward", "NFE forward", ".1f", "nfe/forward", headline=True),
    _cost("nfe_backward", "NFE backward", ".1f", "nfe/backward", headline=True),
    _cost("nfe_test", "NFE test", ".1f", "nfe/test"),
    _cost("nfe_sampling", "NFE sampling", ".1f", "nfe_sampling/test"),
    _cost("inverse_error", "inverse error", ".1e", "inverse_error/test"),
    _cost("steps_accepted", "accepted", ".1f", "steps/accepted"),
    _cost("steps_rejected", "rejected", ".1f", "steps/rejected"),
    _cost("numerical_error", "numerical error", ".1e", "solve/numerical_error", headline=True),
    _cost("gradient_error", "gradient error", ".1e", "solve/gradient_error"),
    _cost("reconstruction_error", "reconstruction error", ".1e", "solve/reconstruction_error"),
    _cost("memory_saved_mib", "saved for backward", ".2f", "memory/saved_mib", "MiB", headline=True),
    _cost("memory_peak_mib", "peak memory", ".0f", "memory/peak_mib", "MiB", headline=True),
    _cost("seconds", "seconds", ".1f", "seconds", headline=True),
    _cost("training_seconds", "seconds of training", ".1f", "training_seconds"),
    Metric("examples_per_second", "examples/s", ".1f", better="higher", tag="examples_per_second", headline=False),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _SHARED}  # and those that ``know`` adds
CHOICES = ("task", "model", "dynamics", "data", "solver", "gradient", "rtol", "atol", "seed")
RESULT_KEYS = (*CHOICES, *METRICS, "device", "status")


def know(metrics: Iterable[Metric]) -> None:
    """Add an objective's own metrics to METRICS, so that this process can show them; a known name stays as it is."""
    for metric in metrics:
        METRICS.setdefault(metric.name, metric)


def describe(metrics: Iterable[Metric], folder: Path) -> None:
    """Write a run's own metrics into its folder, if it has any, for those who read it without its objective."""
    own = [asdict(metric) | {"of": None} for metric in metrics if metric.name not in RESULT_KEYS]
    if own:
        with files.replacing(folder / files.OWN_METRICS) as new:
            new.write_text(json.dumps({"metrics": own}, indent=2) + "\n")


def know_those_of(folder: Path) -> None:
    """``know`` the metrics that a run has described in its folder."""
    path = folder / files.OWN_METRICS
    if path.is_file():
        content: dict[str, Any] = json.loads(path.read_text())
        know(Metric(**described) for described in content["metrics"])
