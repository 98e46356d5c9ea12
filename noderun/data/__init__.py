"""Where batches come from: one uint8 or float tensor on the device per part of an example, indexed."""

from noderun.data.dataset import Batch, Dataset, batch_count, batches
from noderun.data.files import DataError, DataMissing
from noderun.data.sources import SETS, Source, check, fetch, load, require

__all__ = [
    "SETS",
    "Batch",
    "DataError",
    "DataMissing",
    "Dataset",
    "Source",
    "batch_count",
    "batches",
    "check",
    "fetch",
    "load",
    "require",
]
