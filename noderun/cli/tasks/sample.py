"""`noderun sample FOLDER [key=value]`: draws from a finished generative run, as an array and as a picture."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from noderun.config.options.types import Count, Device, Index, Positive, Seed
from noderun.config.validation import ConfigError, as_type, nearest, warn_user
from noderun.record import files
from noderun.report.folders import as_number

if TYPE_CHECKING:
    from noderun.training.setup import Setup

FAILED = 1
KEYS = """keys:
  n=1000              how many to draw, or how many points of the way between two examples
  seed=0              the draw is a function of it
  temperature=1       scales the normal that the model starts from; below 1 is nearer to the mode
  between=I,J         from test example I to J through the latent space of a normalizing flow, instead of a draw
  device=auto         auto, cpu, cuda or cuda:N
  data.root=PATH      where the data lie now, if not where they lay in training
"""
DATA_SHOWN = 2000  # test examples beside which the samples are shown


@dataclass(frozen=True)
class Asked:
    """What was asked for: the keys of the command line."""

    n: Count = 1000
    seed: Seed = 0
    temperature: Positive = 1.0
    between: Annotated[tuple[Index, ...] | None, "two numbers of test examples"] = None
    device: Device = "auto"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "noderun sample",
        description="Draw from a finished generative run: samples.npz (samples, seed, settings) and a picture.",
        epilog=KEYS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a finished run")
    parser.add_argument(
        "words", nargs="*", default=[], metavar="key=value", help="n, seed, temperature, between, device, data.root"
    )
    parser.add_argument("--config-dir", type=Path, help="your own options, if the run has code of yours")
    parser.add_argument("--trust", action="store_true", help="run the code that the run's own configuration names")
    return parser


def main(words: list[str]) -> int:
    chosen = parser().parse_intermixed_args(words)
    asked, root = read(chosen.words)
    setup = load(chosen.folder, asked, root, chosen.config_dir, chosen.trust)
    folder = chosen.folder.absolute()
    try:
        made = drawn(setup, asked, folder)
    except (ValueError, OSError) as error:
        warn_user(str(error))
        print(folder)
        return FAILED
    for path in made:
        print(path)
    print(folder)
    return 0


def read(words: Sequence[str]) -> tuple[Asked, str | None]:
    """The keys, and data.root; ConfigError if one is unknown or its value is wrong."""
    hints = get_type_hints(Asked, include_extras=True)
    known = known_keys()
    values: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"cannot read '{word}'; expected key=value")
        if key not in known:
            raise ConfigError(f"no setting '{key}' of sample{nearest(key, known)}")
        numbers = [as_number(part) for part in value.strip("[]").split(",")]
        values[key] = numbers if key == "between" else value if key == "data.root" else numbers[0]
    root = values.pop("data.root", None)
    asked = Asked(**{key: as_type(hints[key], value, key) for key, value in values.items()})
    if asked.between is not None and len(asked.between) != 2:
        raise ConfigError(f"between must be two numbers of test examples such as 0,7, not {len(asked.between)}")
    return asked, root


def known_keys() -> list[str]:
    return [*(f.name for f in fields(Asked)), "data.root"]


def load(folder: Path, asked: Asked, root: str | None, config_dir: Path | None, trust: bool = False) -> Setup:
    """The run's model and data; ConfigError if the folder holds no finished run, or its data or code are not there."""
    from noderun.data import DataError
    from noderun.evaluation.load import composer_for
    from noderun.evaluation.samples import generates
    from noderun.evaluation.trained import finished, load_setup, settings_of

    finished(folder)
    settings = settings_of(folder, composer_for(config_dir, trust).allows)
    data = settings.data if root is None else replace(settings.data, root=root)
    try:
        setup: Setup = load_setup(folder, replace(settings, device=asked.device, data=data))
    except DataError as error:
        raise ConfigError(str(error)) from None
    if not generates(setup.model):
        raise ConfigError(
            f"{folder.absolute()} is a run of model={settings.model.name}, which generates nothing: sample draws from "
            "normalizing flows and from model=vae"
        )
    return setup


def drawn(setup: Setup, asked: Asked, folder: Path) -> list[Path]:
    """Write the array and the picture; return their paths."""
    import numpy as np

    from noderun.evaluation.samples import draw, first_test_batches, interpolate
    from noderun.report.samples import draw_interpolation, draw_samples

    data = first_test_batches(setup, DATA_SHOWN).inputs.cpu().numpy()
    if asked.between is None:
        array, show = files.SAMPLES, draw_samples
        samples = draw(setup, asked.n, asked.seed, asked.temperature)
    else:
        array, show = files.INTERPOLATION, draw_interpolation
        samples = interpolate(setup, (asked.between[0], asked.between[1]), asked.n)
    made = [folder / array, folder / files.FIGURES / f"{Path(array).stem}.png"]
    with files.replacing(made[0]) as new, new.open("wb") as file:
        np.savez(file, samples=samples.cpu().numpy(), seed=asked.seed, settings=json.dumps(asdict(asked)))
    show(data, samples.cpu().numpy(), made[1])
    return made
