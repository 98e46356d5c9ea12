"""`noderun evaluate`: a finished run, or a sweep's, under other solvers and tolerances, without training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from noderun.cli.measurements import Measurement, make_measurement, solver_words
from noderun.cli.planning import Plan, combinations, distinct, key_of, swept_keys, taken_apart
from noderun.config.compose import Composer
from noderun.config.schema import Solver
from noderun.config.validation import ConfigError, as_type, warn_user
from noderun.evaluation.trained import finished, settings_of
from noderun.record import files, run_folder, run_identity
from noderun.record.metric import METRICS
from noderun.report.folders import Run, as_number, read_csv, runs_of


def plan(composer: Composer, words: Sequence[str], multirun: bool) -> Plan:
    """Each run of the folder under each combination of the words; raises ConfigError."""
    words, hydras = taken_apart(composer.parse(words))
    ours = composer.parse(words)
    said = {o.key_or_group: o for o in ours}
    swept = swept_keys(ours)
    if "run" not in said or "run" in swept:
        raise ConfigError("evaluate needs one run=FOLDER: that of a finished run, or of a sweep for all runs in it")
    folder = Path(str(said["run"].value())).absolute()
    found = finished_runs(folder)
    grid = combinations([o for o in ours if o.key_or_group not in ("run", "matrix")])
    solvers: list[Solver | None] = [None]
    if "matrix" in said and as_type(bool, said["matrix"].value(), "matrix") and "solver" not in said:
        solvers, swept = training_solvers(composer, found), ["solver", *swept]
        if len(solvers) == 1:
            warn_user("matrix=true changes nothing: all runs there were trained with one solver; give a sweep's folder")
    cells = [make_measurement(composer, *choice) for choice in product(found, grid, solvers)]
    return Plan(distinct(cells), hydras, swept, folder=folder / files.EVALUATE)


def make_job(composer: Composer, words: Sequence[str]) -> None:
    """For --help and --cfg: check the words as far as that is possible without a run."""
    composer.compose(words)


def finished_runs(folder: Path) -> list[Run]:
    found = [run for run in runs_of(folder) if run.folder == folder or run.status == "done"]
    if not found:
        raise ConfigError(f"{folder} holds no finished run")
    runs = [finished(run.folder) for run in found]
    for name in sorted({name for run in runs for name in run_identity.stale_files(run.identity)}):
        warn_user(f"{name} has changed since training: what is measured is of its present content")
    return runs


def training_solvers(composer: Composer, found: Sequence[Run]) -> list[Solver | None]:
    """Every solver that one of the runs was trained with, once."""
    solvers = [settings_of(run.folder, composer.allows).solver for run in found]
    return [solver for i, solver in enumerate(solvers) if solver and solver not in solvers[:i]] or [None]


def work(cell: Measurement, folder: Path) -> None:
    """Writes result.json and the figures that need the model."""
    from noderun.evaluation.drawing import draw_named
    from noderun.evaluation.measure import lesion_rows, measure
    from noderun.evaluation.trained import load_setup
    from noderun.report.depth import draw_lesions
    from noderun.training.precision import set_precision

    set_precision(cell.settings.trainer.precision)
    setup = load_setup(cell.run.folder, cell.settings)
    if cell.lesion is not None:
        draw_lesions(lesion_rows(setup, cell.lesion), folder / files.FIGURES / "lesions.png")
    draw_named(cell.figures, setup, folder / files.FIGURES, cell.plane)
    run_folder.write_json(folder / files.RESULT, measure(setup, cell.settings, cell.run.result, cell.draws))


def finish(folder: Path, jobs: Sequence[Measurement], swept: Sequence[str]) -> None:
    """One table of all cells, results.csv, and the figures across them; the paths of all figures."""
    from noderun.report.cells import print_table
    from noderun.report.figures import draw_possible, names_of, title_of
    from noderun.report.precision import Matrix, matrix_rows
    from noderun.report.table import comparison_cells, heading, troubles, varying, write_csv

    rows = [line for cell in jobs for line in with_lesions(row(folder, cell, swept), folder / cell.run_id)]
    known = [*measured_before(folder, jobs), *rows]
    write_csv(known, folder / files.RESULTS)
    others = [key for key in swept if key != "tolerance" and key.partition(".")[0] != "solver"]
    words = varying(rows, ["run", "removed block", "trained with", "tested with", *others]) + troubles(rows)
    shown = [name for name, metric in METRICS.items() if metric.better is not None]
    numbers = [name for name in shown if name != "test_loss" or not any(row.get("nll") is not None for row in rows)]
    numbers = [key for name in numbers for key in (name, f"{name}_se", f"{name}_draws_se")]
    keys = [*(words or ["tested with"]), *(k for k in numbers if any(row.get(k) is not None for row in rows))]
    print_table([heading(key) for key in keys], comparison_cells(rows, keys))
    if crossed := matrix_rows(rows):
        print_table(*Matrix.of(crossed).headings_and_cells())
    made = draw_possible(known, folder / files.FIGURES, names_of("measurements"))
    for path in [*made, *(p for cell in jobs for p in sorted((folder / cell.run_id / files.FIGURES).glob("*.png")))]:
        print(f"{title_of(path)}: {path}")


def measured_before(folder: Path, jobs: Sequence[Measurement]) -> list[dict[str, Any]]:
    """What earlier grids have measured of these runs as they are now, in cells that are not of this grid."""
    steps = {cell.run.folder.name: cell.run.result.get("steps") for cell in jobs}
    cells = {cell.run_id for cell in jobs}
    earlier = read_csv(folder / files.RESULTS)
    return [
        row
        for row in earlier
        if row.get("cell") not in cells and row.get("steps") == steps.get(str(row.get("run")), "")
    ]


def with_lesions(row: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The row, or one for each removed block in its place."""
    found = read_csv(folder / files.FIGURES / "lesions.csv")
    return [row | {"removed block": line.pop("block")} | line for line in found] or [row]


def row(folder: Path, cell: Measurement, swept: Sequence[str]) -> dict[str, Any]:
    place = folder / cell.run_id
    status, result = (
        ({}, {}) if cell.refusal else (run_folder.read_status(place), run_folder.read_json(place / files.RESULT))
    )
    state = {"status": "refused" if cell.refusal else status.get("status", "not started")}
    said = {
        key_of(text): as_number(text.partition("=")[2].strip("'")) for text in cell.overrides if key_of(text) in swept
    }
    solvers = {"trained with": solver_words(cell.trained), "tested with": solver_words(cell.settings)}
    reason = {"reason": cell.refusal or status.get("error")}
    return {"run": cell.run.folder.name, "cell": cell.run_id} | said | solvers | result | state | reason
