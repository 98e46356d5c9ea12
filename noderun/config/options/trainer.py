"""The trainer: how long training goes on and what is recorded of it."""

from dataclasses import dataclass
from typing import Annotated, Literal

from noderun.config.options.option import Option
from noderun.config.options.types import Count, Index, Positive


@dataclass(frozen=True)
class Trainer(Option, group="trainer"):
    """How long training goes on and what is recorded of it."""

    epochs: Annotated[Count, "on mnist5k 8 reach less than 6 % error within five minutes on two cores"] = 8
    max_steps: Annotated[Count | None, "ends a run earlier; null: all epochs"] = None
    max_seconds: Annotated[
        Positive | None,
        "seconds of training, tests not counted, at which a run ends, however many epochs that takes; a schedule of "
        "the learning rate then spans them; null: all epochs",
    ] = None
    devices: Annotated[
        Count, "processes that train one model together, each on its part of every batch: one per GPU, or on a CPU"
    ] = 1
    patience: Annotated[
        Count | None, "tests in a row, one per epoch, without a better validation, after which a run ends; null: none"
    ] = None
    precision: Annotated[
        Literal["float32", "tf32", "bf16"],
        "float32: IEEE on every device; tf32: a GPU rounds products to 11 bits; bf16: f under autocast, while the "
        "state of the solve stays float32",
    ] = "float32"
    clip_norm: Annotated[Positive | None, "bound on the gradient's norm; null: none"] = None
    on_nonfinite: Annotated[
        Literal["stop", "skip", "restore"],
        "a loss or gradient that is not finite ends the run, is left out as a step, or takes the run back to its last "
        "checkpoint at half the learning rate, at most three times",
    ] = "stop"
    diagnostics_every: Annotated[
        Index,
        "epochs between measurements that cost extra solves, and pictures by epoch; 0: at the end only (the gradient's "
        "error is measured between epochs anyway, for 2 % of the training's time)",
    ] = 0
    profile: Annotated[
        Index,
        "training steps that torch.profiler watches once, after three others: where their time goes is in profile.csv "
        "and trace.json; 0: none",
    ] = 0
    recorders: Annotated[
        tuple[Literal["tensorboard", "wandb", "mlflow"], ...],
        "where the rows of metrics.jsonl go as well: files for TensorBoard, Weights & Biases, MLflow",
    ] = ("tensorboard",)
    log_every: Annotated[Count, "steps between rows of metrics.jsonl"] = 10
    checkpoint_seconds: Annotated[Positive, "seconds between checkpoints, which are also made after each epoch"] = 60.0


class Default(Trainer, name="default"):
    """How long training goes on and what is recorded of it."""
