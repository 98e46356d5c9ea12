"""checkpoint.pt: everything that a run needs to continue as if it had never stopped."""

from __future__ import annotations

import io
import logging
import os
import random
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import nn

from noderun.config.validation import Incompatible
from noderun.record import files
from noderun.record.metrics import check_rows
from noderun.record.seal import seal, unsealed
from noderun.training.best_weights import BestWeights
from noderun.training.callbacks import Callback
from noderun.training.progress import Progress
from noderun.training.setup import Setup

log = logging.getLogger(__name__)


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write ``state`` so that the folder holds the last checkpoint whole, whatever happens, and the one before it.

    Raises OSError if it cannot be written.
    """
    path = folder / files.CHECKPOINT
    with files.replacing(path) as new:
        with new.open("w+b") as file:
            write_archive(state, file)
            seal(file)
        files.sync(new)  # before the last one gives up its name
        if path.exists():
            os.replace(path, folder / files.PREVIOUS)


def write_archive(state: dict[str, Any], file: IO[bytes]) -> None:
    """torch.save, which hides the error of the file in one of its own if the disk is full."""
    try:
        torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The last checkpoint that is as it was written, and whose rows of metrics.jsonl are; None if there is none yet.

    The one before it is used, with a warning, if the last one is not. ValueError if that is not whole either.
    """
    trouble: ValueError | None = None
    for path in (folder / files.CHECKPOINT, folder / files.PREVIOUS):
        try:
            state = load_checkpoint(path)
            if state is None:
                continue
            if trouble is None and path.name == files.PREVIOUS:  # a kill between two names, or somebody's hand
                trouble = ValueError(f"{folder / files.CHECKPOINT} is gone")
            check_rows(folder / files.METRICS, state.get("metrics"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # the last three: of a stranger's making
            trouble = trouble or (error if isinstance(error, ValueError) else damaged(path))
        else:
            if trouble:
                log.warning("%s; this run goes on from the checkpoint before it", trouble)
            return state
    if trouble:
        raise ValueError(f"{trouble}; fresh=true starts over") from trouble
    return None


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """What was saved, on the CPU, or None if there is no file; ValueError if it is not as it was written."""
    if not path.exists():
        return None
    if (archive := unsealed(path)) is None:
        raise damaged(path)
    try:
        return unpacked(archive)
    except Exception as error:  # a stranger can make a right sum of anything
        raise damaged(path) from error


def packed(state: dict[str, Any]) -> bytes:
    """The state as a file that torch.save makes; pickle alone cannot take the uint32 of numpy's generator."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def unpacked(archive: bytes) -> dict[str, Any]:
    """What was saved, on the CPU."""
    state: dict[str, Any] = torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
    return state


def load_weights_of(folder: Path, model: nn.Module) -> None:
    """Start ``model`` from the weights of another run: its last ones or, if it has a validation split, its best.

    Raises Incompatible if they are not of this model, naming the first that differs, ValueError if they are damaged.
    """
    state = load_checkpoint(folder / files.CHECKPOINT)
    if state is None:
        raise ValueError(f"init_from={folder}: it has no {files.CHECKPOINT}")
    best = state.get("callbacks", {}).get(BestWeights.__name__, {})
    theirs, ours = best.get("weights") or state.get("model", {}), model.state_dict()
    for name in ours | theirs:
        if name not in theirs or name not in ours:
            raise Incompatible(
                f"init_from={folder}: the weight '{name}' is in {'that' if name in theirs else 'this'} model alone"
            )
        if theirs[name].shape != ours[name].shape:
            there, here = (tuple(weights[name].shape) for weights in (theirs, ours))
            raise Incompatible(f"init_from={folder}: the weight '{name}' is {there} there and {here} in this model")
    model.load_state_dict(theirs)


def damaged(path: Path) -> ValueError:
    return ValueError(f"{path} is damaged, or of another version")


def load_model(state: dict[str, Any], setup: Setup, callbacks: Iterable[Callback]) -> None:
    """Load the callbacks' states and then the weights, which have to fit a model that a callback has changed."""
    for callback in callbacks:
        if (own := state["callbacks"].get(callback_name(callback))) is not None:
            callback.load_state_dict(own)
    setup.model.load_state_dict(state["model"])


def load_run(state: dict[str, Any], setup: Setup, callbacks: Iterable[Callback]) -> Progress:
    """Load the state of a run into everything that it was made of; returns its position."""
    load_model(state, setup, callbacks)
    setup.optimizer.load_state_dict(state["optimizer"])
    set_random_state(state["random"], setup.device)
    return Progress.from_state(state["progress"] | state["scheduler"] | state["data"])


def callback_states(callbacks: Iterable[Callback]) -> dict[str, Any]:
    return {callback_name(callback): callback.state_dict() for callback in callbacks}


def callback_name(callback: Callback) -> str:
    return type(callback).__name__


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of every generator that a model or data set may draw from, as weights_only can read it."""
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(np.array(keys)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy(), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
