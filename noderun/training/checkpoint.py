"""checkpoint.pt: everything that a run needs to continue as if it had never stopped."""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noderun.record.files import replacing
from noderun.training.callbacks import Callback
from noderun.training.setup import Setup


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` so that ``path`` holds either the old or the new checkpoint whole, whatever happens."""
    with replacing(path) as new, new.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """What was saved, on the CPU, or None; ValueError if the file is not as it was written."""
    if not path.exists():
        return None
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(
            io.BytesIO(content)
        ) as archive:  # holds a checksum of each tensor, which torch.load does not look at
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the damage makes the readers stumble over
        raise ValueError(f"{path} is damaged and cannot be resumed from; fresh=true starts over") from error


def load_model(state: dict[str, Any], setup: Setup, callbacks: Iterable[Callback]) -> None:
    """Load the callbacks' states and then the weights, which have to fit a model that a callback has changed."""
    for callback in callbacks:
        if (own := state["callbacks"].get(callback_name(callback))) is not None:
            callback.load_state_dict(own)
    setup.model.load_state_dict(state["model"])


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
