"""`noderun compare`: several models on one budget, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from noderun.cli import planning
from noderun.cli.planning import Job, Plan, key_of
from noderun.cli.tasks.sweep import write_grid
from noderun.config.compose import Composer
from noderun.config.validation import ConfigError
from noderun.record import files, run_identity


def plan(composer: Composer, words: Sequence[str], multirun: bool) -> Plan:
    planned = planning.plan(composer, words, multirun)
    data = sorted({run_identity.data_of(job.identity) for job in planned.jobs})
    if len(data) > 1:
        raise ConfigError(f"compare wants one set of data for all, not {' and '.join(data)}; say data=NAME, or sweep")
    return planned


def finish(folder: Path, jobs: Sequence[Job], swept: Sequence[str]) -> None:
    """The table of Chen et al. 2018, with the values of the paper that an experiment reproduces."""
    from noderun.report.cells import print_table
    from noderun.report.paper_values import PAPERS, chen_table
    from noderun.report.summary import paper_note

    rows = write_grid(folder, jobs, swept)
    experiment = next((word.partition("=")[2] for word in jobs[0].overrides if key_of(word) == "experiment"), "")
    print_table(*chen_table(rows, swept, experiment))
    if experiment in PAPERS:
        print(paper_note(experiment, rows))
    print(f"tensorboard --logdir {folder}")
    print(f"report: {folder / files.REPORT}")
