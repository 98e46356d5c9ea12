"""Where batches come from: the whole set as tensors on the device, indexed."""

from noderun.data.batch import Batch
from noderun.data.dataset import Dataset, batch_count, batches
from noderun.data.files import DataError, DataMissing
from noderun.data.loading import check, examine, fetch, load, require
from noderun.data.sources import SETS, Source
from noderun.data.targets import TARGETS, Classes, Density, Energy, Levels, Series, Target, Values

__all__ = [
    "SETS",
    "TARGETS",
    "Batch",
    "Classes",
    "DataError",
    "DataMissing",
    "Dataset",
    "Density",
    "Energy",
    "Levels",
    "Series",
    "Source",
    "Target",
    "Values",
    "batch_count",
    "batches",
    "check",
    "examine",
    "fetch",
    "load",
    "require",
]
