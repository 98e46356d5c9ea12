"""The data sets, each with what is known of it before it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from noderun.data import freyfaces, hopper, idx, papamakarios, physionet, series_files, silhouettes, uci, vision
from noderun.data.curves import damped_pendulum, lorenz, lotka_volterra, oscillators, sinusoids, spirals
from noderun.data.dataset import Dataset
from noderun.data.densities import POINTS, density
from noderun.data.digits import digits
from noderun.data.energies import ENERGIES, energy
from noderun.data.idx import fashion_mnist, mnist
from noderun.data.images import as_binary, as_density
from noderun.data.long_csv import long_csv
from noderun.data.mechanics import bouncing_ball, cubic_spiral, two_body
from noderun.data.mnist5k import mnist5k
from noderun.data.nested_shapes import nested_shapes
from noderun.data.pde import burgers, check_burgers, check_kuramoto_sivashinsky, kuramoto_sivashinsky
from noderun.data.point_process import point_process
from noderun.data.points import circles, crossing_1d, moons, sines, spheres
from noderun.data.poisson import poisson
from noderun.data.series import TASKS
from noderun.data.signature import signature
from noderun.data.stochastic import gbm, ou, stochastic_lorenz
from noderun.data.tables import table
from noderun.data.targets import TARGETS, Classes, Density, Energy, Levels, Values


@dataclass(frozen=True)
class Source:
    """``read(root, augment, **options)`` never writes.

    ``sample`` (image, vector or series) and ``target`` are known before anything is read, so that a model or an
    objective that does not fit them is refused before a run starts. ``others`` read the same set for other targets,
    with the same options: the objective decides. A set with a split for validation of its own is ``validated``; one
    whose options may ask for what its files do not hold is ``examined`` before a run starts. ``download`` and
    ``require`` are None for a set that has no files of its own; ``require(root)`` raises DataMissing if they are not
    there, without reading them.
    """

    read: Callable[..., Dataset]
    sample: str
    target: type = Classes
    download: Callable[[Path], None] | None = None
    require: Callable[[Path], None] | None = None
    others: Mapping[type, Callable[..., Dataset]] = field(default_factory=dict)
    validated: bool = False
    examined: bool = False
    tasks: Mapping[str, type] = field(default_factory=dict)  # of a series: task -> target; the first is the natural one
    check: Callable[..., None] | None = None  # DataError for options that cannot go together

    @property
    def readers(self) -> dict[type, Callable[..., Dataset]]:
        return {self.target: self.read, **self.others}

    def target_for(self, wanted: tuple[type, ...]) -> type | None:
        """The first of the ``wanted`` targets that the set has; its own one if any will do."""
        kinds = (self.target,) if wanted == TARGETS else wanted
        return next((target for kind in kinds for target in self.readers if issubclass(target, kind)), None)

    def targets_of(self, options: Mapping[str, Any]) -> tuple[type, ...]:
        """The kinds of target that the set has with these options: of a series that of its task."""
        if not self.tasks:
            return tuple(self.readers)
        labeled = "classify" if options.get("label") else None  # of a user's file
        return (self.tasks[options.get("task") or labeled or next(iter(self.tasks))],)


def gray(read: Callable[..., Dataset]) -> dict[type, Callable[..., Dataset]]:
    """The readers of gray images for other targets than their classes."""
    return {Density: as_density(read), Levels: as_binary(read)}


def tasks(*names: str) -> dict[str, type]:
    """The tasks of a set, the natural one first, with their targets."""
    return {name: TASKS[name] for name in names}


SETS: dict[str, Source] = {
    "mnist5k": Source(mnist5k, "image", others=gray(mnist5k)),
    "digits": Source(digits, "image", others=gray(digits)),
    "mnist": Source(
        mnist,
        "image",
        download=partial(idx.download, "mnist"),
        require=partial(idx.require, "mnist"),
        others=gray(mnist),
    ),
    "fashion_mnist": Source(
        fashion_mnist,
        "image",
        download=partial(idx.download, "fashion_mnist"),
        require=partial(idx.require, "fashion_mnist"),
        others=gray(fashion_mnist),
    ),
    "cifar10": Source(
        vision.cifar10,
        "image",
        download=partial(vision.download, "cifar10"),
        require=vision.require_cifar10,
        others={Density: as_density(vision.cifar10, alpha=0.05)},  # Dinh et al. 2017
    ),
    "caltech_silhouettes": Source(
        silhouettes.read, "image", Levels, silhouettes.download, silhouettes.require, validated=True
    ),
    "freyfaces": Source(
        freyfaces.read,
        "image",
        Levels,
        freyfaces.download,
        freyfaces.require,
        others={Density: as_density(freyfaces.read)},
        validated=True,
    ),
    "table": Source(table, "vector", Density, examined=True),
    **{
        name: Source(each.read, "vector", Density, each.download, each.require, examined=True)
        for name, each in uci.TABLES.items()
    },
    **{
        name: Source(each.read, "vector", Density, require=each.require, validated=True)
        for name, each in papamakarios.BENCHMARKS.items()
    },
    "crossing_1d": Source(crossing_1d, "vector", Values),
    "spheres": Source(spheres, "vector"),
    "sines": Source(sines, "vector"),
    "moons": Source(moons, "vector", others={Density: density("moons")}),
    "circles": Source(circles, "vector", others={Density: density("circles")}),
    **{name: Source(density(name), "vector", Density) for name in POINTS if name not in ("moons", "circles")},
    **{name: Source(energy(name), "vector", Energy) for name in ENERGIES},
    "nested_shapes": Source(nested_shapes, "vector", Values),
    "poisson": Source(poisson, "vector", Values),
    "spirals": Source(spirals, "series", tasks=tasks("forecast", "interpolate", "classify")),
    "signature": Source(signature, "series"),
    "sinusoids": Source(sinusoids, "series", tasks=tasks("interpolate", "forecast", "regress")),
    "oscillators": Source(oscillators, "series", tasks=tasks("interpolate", "forecast")),
    "damped_pendulum": Source(damped_pendulum, "series", tasks=tasks("interpolate", "forecast", "regress")),
    "lotka_volterra": Source(lotka_volterra, "series", tasks=tasks("forecast", "interpolate", "regress")),
    "lorenz": Source(lorenz, "series", tasks=tasks("forecast", "interpolate")),
    **{
        name: Source(
            getattr(series_files, name), "series", tasks=tasks(*chosen), require=partial(series_files.require, name)
        )
        for name, chosen in {
            "lynx_hare": ("interpolate", "forecast"),
            "japanese_vowels": ("classify", "interpolate", "forecast"),
            "mocap35": ("forecast", "interpolate"),
            "mujoco_forecast": ("forecast", "interpolate"),
        }.items()
    },
    "hopper": Source(hopper.hopper, "series", require=hopper.require, tasks=tasks("interpolate", "forecast")),
    "long_csv": Source(
        long_csv, "series", tasks=tasks("interpolate", "forecast", "classify", "regress"), examined=True
    ),
    "physionet2012": Source(
        physionet.physionet2012,
        "series",
        tasks=tasks("classify", "interpolate", "forecast"),
        require=physionet.require,
    ),
    "two_body": Source(two_body, "series", tasks=tasks("interpolate", "forecast")),
    "bouncing_ball": Source(bouncing_ball, "series", tasks=tasks("interpolate")),
    "cubic_spiral": Source(cubic_spiral, "series", tasks=tasks("interpolate")),
    "point_process": Source(point_process, "series", tasks=tasks("interpolate", "forecast")),
    "stochastic_lorenz": Source(stochastic_lorenz, "series", tasks=tasks("interpolate", "forecast")),
    "ou": Source(ou, "series", tasks=tasks("interpolate", "forecast")),
    "gbm": Source(gbm, "series", tasks=tasks("interpolate", "forecast")),
    "burgers": Source(burgers, "series", tasks=tasks("forecast"), check=check_burgers),
    "kuramoto_sivashinsky": Source(
        kuramoto_sivashinsky, "series", tasks=tasks("forecast"), check=check_kuramoto_sivashinsky
    ),
}
