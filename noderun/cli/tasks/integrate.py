"""`noderun integrate`: a classical problem through one solver, or one of the labs."""

from __future__ import annotations

import csv
import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from noderun.cli.planning import (
    Job,
    Plan,
    combinations,
    distinct,
    given_keys,
    grid_name,
    key_of,
    swept_keys,
    taken_apart,
    with_refusal,
)
from noderun.config.compose import Composer
from noderun.config.composed import resolved
from noderun.config.validation import warn_user
from noderun.lab.settings import Conservation, Settings, typed
from noderun.record import files, run_folder, run_identity
from noderun.record.metric import RESULT_KEYS

READS = {  # lab -> the groups that it reads; the solvers of the others are in lab.solvers
    "trajectory": ("problem", "solver"),
    "order": ("problem",),
    "work_precision": ("problem",),
    "stability": (),
    "steps": ("problem", "solver"),
    "conservation": ("problem", "solver"),
    "gradient": ("solver",),
    "divergence": (),
}
NOT_IN_IDENTITY = {"name", "log", "device", "figure_format", "fresh"}


def plan(composer: Composer, words: Sequence[str], multirun: bool) -> Plan:
    """One job, or a grid if a word has several values.

    Raises ConfigError if the words are wrong; a job whose words cannot work together carries its refusal.
    """
    ours, hydras = taken_apart(composer.parse(words))
    parsed = composer.parse(ours)
    swept = swept_keys(parsed)
    jobs = [with_refusal(make_job(composer, job), check_lab) for job in (combinations(parsed) if swept else [ours])]
    return Plan(distinct(jobs), hydras, swept, grid_name(jobs[0].settings, swept, ours))


def check_lab(job: Job) -> None:
    from noderun.lab.checks import check
    from noderun.training.build import make_device

    make_device(job.settings.device)
    check(job.settings)


def make_job(composer: Composer, overrides: Sequence[str]) -> Job:
    config, defaults = composer.known(overrides)
    given_keys(config, defaults)
    settings, usual = typed(resolved(config)), typed(resolved(defaults))
    chosen = {override.key_or_group for override in composer.parse(overrides)}
    if "solver" in chosen and getattr(settings.lab, "solvers", ()) is None and type(settings.lab) is not Conservation:
        settings = replace(settings, lab=replace(settings.lab, solvers=(settings.solver.name,)))
        chosen.discard("solver")
    for key in sorted(chosen):
        if key.partition(".")[0] in {"problem", "solver"} - set(READS[settings.lab_name]):
            warn_user(f"{key} changes nothing: lab={settings.lab_name} does not read it")
    known = identity(settings, usual)
    return Job(overrides=tuple(overrides), settings=settings, identity=known, run_id=run_id(settings, known))


def run_id(settings: Settings, identity: Mapping[str, Any]) -> str:
    solver, lab = settings.solver, settings.lab_name
    step = f"tol{solver.rtol:g}" if solver.dt is None else f"dt{solver.dt:g}"
    words = [] if lab == "trajectory" else [lab]
    words += [settings.problem.name] if "problem" in READS[lab] else []
    words += [solver.name, step] if "solver" in READS[lab] else getattr(settings.lab, "solvers", None) or ()
    return "-".join([*words[:4], run_identity.digest(identity)])


def identity(settings: Settings, usual: Settings) -> dict[str, Any]:
    unread = {"problem", "solver"} - set(READS[settings.lab_name])
    known = run_identity.identity(settings, usual, NOT_IN_IDENTITY | unread)
    return {"lab.name": settings.lab_name} | known


def work(job: Job, folder: Path) -> None:
    measure(job.settings, folder)


def measure(settings: Settings, folder: Path) -> dict[str, Any]:
    """Runs the lab; writes figures/, results.csv and result.json, whose content it returns."""
    from noderun.lab.context import LabContext
    from noderun.report.table import write_csv

    start = time.perf_counter()
    findings = importlib.import_module(f"noderun.lab.{settings.lab_name}").run(
        LabContext(settings, folder / files.FIGURES)
    )
    solver, reads = settings.solver, READS[settings.lab_name]
    facts = {
        "task": "integrate",
        "lab": settings.lab_name,
        "problem": settings.problem.name if "problem" in reads else None,
        "solver": solver.name if "solver" in reads else None,
        "rtol": solver.rtol if "solver" in reads and solver.dt is None else None,
        "atol": solver.atol if "solver" in reads and solver.dt is None else None,
        "seed": settings.seed,
        "seconds": time.perf_counter() - start,
        "device": settings.device,
        "status": "done",
    }
    result = dict.fromkeys(RESULT_KEYS) | facts | findings.values
    write_csv(findings.rows, folder / files.RESULTS)
    run_folder.write_json(folder / files.RESULT, result)
    return result


def finish(folder: Path, jobs: Sequence[Job], swept: Sequence[str]) -> None:
    """Print the table, of a grid that of all its jobs, and the paths of the figures."""
    from noderun.report.cells import print_table
    from noderun.report.rows import headings_and_cells
    from noderun.report.table import write_csv

    places = [folder / job.run_id for job in jobs] if swept else [folder]
    if swept:
        found = [row for place, job in zip(places, jobs, strict=True) for row in rows_of(place, job, swept)]
        write_csv(found, folder / files.RESULTS)
    elif run_folder.read_status(folder).get("status") != "done":
        return
    with (folder / files.RESULTS).open(newline="") as file:
        print_table(*headings_and_cells(list(csv.DictReader(file))))
    lab = importlib.import_module(f"noderun.lab.{jobs[0].settings.lab_name}")
    what = (lab.__doc__ or "").partition(": ")[2].rstrip(".").capitalize()
    for figure in [path for place in places for path in sorted((place / files.FIGURES).glob("*.png"))]:
        print(f"{what}: {figure}")


def rows_of(folder: Path, job: Job, swept: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of one job of a grid, with the values that tell it apart; one that was not done has its reason."""
    from noderun.report.folders import as_number, read_csv

    said = {key_of(word): as_number(word.partition("=")[2]) for word in job.overrides if key_of(word) in swept}
    status = {} if job.refusal else run_folder.read_status(folder)
    if status.get("status") == "done":
        return [said | row for row in read_csv(folder / files.RESULTS)]
    state = "refused" if job.refusal else status.get("status", "not started")
    return [said | {"status": state, "reason": job.refusal or status.get("error")}]
