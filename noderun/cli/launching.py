"""Runs a Hydra task: plans its jobs, gives each its folder, lets Hydra run them and returns the exit status."""

from __future__ import annotations

import errno
import glob
import importlib
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from noderun.cli.help import help_of
from noderun.cli.main import FAILED, INTERRUPTED, OK, WRONG
from noderun.cli.planning import Job, Plan, key_of, make_job, plan, swept_keys, taken_apart
from noderun.cli.tasks import train
from noderun.cli.tasks.job import JobRunner, reason
from noderun.config import user_code
from noderun.config.compose import Composer
from noderun.config.composed import known_keys, value_of
from noderun.config.option_files import first_line
from noderun.config.options import OPTIONS
from noderun.config.startup import without_collection
from noderun.config.unknown_keys import nearest_key
from noderun.config.validation import ConfigError, quoted, warn_user
from noderun.record import run_folder, run_identity
from noderun.record.folders import tried
from noderun.report.style import also_as
from noderun.training.compatibility import check_data, check_first_step


class NotStarted(ConfigError):
    """Hydra refused words that were planned."""


def launch(
    task: str,
    words: Sequence[str],
    flags: Sequence[str],
    own: Path,
    user: Path | None,
    multirun: bool,
    trust: bool = False,
) -> int:
    """The exit status. ``own`` and ``user`` are config folders, of which the user's wins; flags go to Hydra.

    With ``trust`` code that only a run's folder names may run.
    """
    folders = [str(folder.resolve()) for folder in (user, own) if folder]
    user_code.search_in([*folders[:-1], os.getcwd()])
    composer = Composer(task, folders)
    composer.trusting = trust
    if user:
        warn_of_overridden(user, own)
    if flags:
        show(composer, words, flags)
        return OK
    with without_collection():  # the plan's checks import torch
        planned = own_or("plan", task, plan)(composer, words, multirun)
    multirun = multirun or bool(planned.swept)
    if none_left(planned.jobs):
        return WRONG
    if planned.hydra_overrides:
        composer.compose(planned.hydra_overrides)
    folder = folder_of(composer, planned, multirun)
    places = [folder / job.run_id if multirun else folder for job in planned.jobs]
    placed = [placed_in(place, job) for place, job in zip(places, planned.jobs, strict=True)]
    if none_left(placed, planned.jobs):
        return WRONG
    if not multirun:
        check_same(folder, placed[0])
    for sentence in [*repeated(composer.parse(words)), *planned.remarks]:
        warn_user(sentence)
    for place, job in zip(places, placed, strict=True):
        say_changed_files(place, job)
    own_options = ["--config-dir", str(user)] if user else []
    command = shlex.join(["noderun", task, *words, *own_options])
    return carry_out(composer, replace(planned, jobs=placed), places, folder, command if multirun else None)


def none_left(jobs: Sequence[Job], told: Sequence[Job] = ()) -> bool:
    """Print why jobs were refused, unless ``told`` already; return whether all of them were."""
    refusals = list(dict.fromkeys(job.refusal for job in jobs if job.refusal and job not in told))
    shown = refusals if len(refusals) <= 3 else refusals[:2]
    for refusal in shown:
        warn_user(refusal)
    if len(shown) < len(refusals):
        warn_user(f"{len(refusals) - len(shown)} more jobs are refused for reasons of that kind")
    return all(job.refusal for job in jobs)


def placed_in(folder: Path, job: Job) -> Job:
    """The job, refused if its folder cannot be used or data that it still needs are missing."""
    try:
        (run_folder.check_may_clear if job.settings.fresh else run_folder.check_readable)(folder)
        if job.settings.fresh or not is_done(folder):
            check_data(job.settings)
            check_first_step(job.settings)
    except ConfigError as error:
        return replace(job, refusal=str(error))
    return job


def own_or(name: str, task: str, usual: Any) -> Any:
    """The function ``name`` of a task's module, or training's if the module has none."""
    return getattr(importlib.import_module(f"noderun.cli.tasks.{task}"), name, usual)


def carry_out(
    composer: Composer, planned: Plan, places: Sequence[Path], folder: Path, grids_command: str | None
) -> int:
    """Let Hydra run the planned jobs in their ``places``, print the task's table and the folder; the exit status."""
    multirun = grids_command is not None
    module = importlib.import_module(f"noderun.cli.tasks.{composer.task}")
    done: list[bool] = []
    with ExitStack() as at_the_end:
        at_the_end.callback(print, folder, flush=True)
        try:
            if not multirun:
                run_folder.check_free(folder)  # before Hydra writes there; a grid's other jobs run on
            with closed_logs():
                jobs = dict(zip(places, planned.jobs, strict=True))
                call_hydra(composer, arguments(planned, folder, grids_command), jobs, planned.swept)
            done = [is_under_way(place, job) for place, job in zip(places, planned.jobs, strict=True)]
            figures = also_as(planned.jobs[0].settings.figure_format)
            with figures, run_folder.locked(folder, wait=True):  # others may share a grid's work
                module.finish(folder, planned.jobs, planned.swept)
            return OK if all(done) else FAILED
        except run_folder.FolderInUse as busy:
            warn_user(str(busy))
            return WRONG
        except NotStarted:
            at_the_end.pop_all()
            raise
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:  # of stdout
            raise
        except OSError as error:
            if multirun or all(done):  # a run that has failed has said why
                warn_user(reason(error, folder))
            return FAILED


def is_under_way(folder: Path, job: Job) -> bool:
    """Whether a job is done, or a cluster goes on with it when this command has ended."""
    from hydra_plugins.noderun_grid import Grid

    return not job.refusal and (job.words in Grid.queued or is_done(folder))


def is_done(folder: Path) -> bool:
    return run_folder.read_status(folder).get("status") == "done"


def folder_of(composer: Composer, planned: Plan, multirun: bool) -> Path:
    """The folder of the run or grid; ConfigError if it cannot be written to."""
    key, default = ("sweep", planned.name) if multirun else ("run", planned.jobs[0].run_id)
    folder = planned.folder or Path("outputs", composer.task, default)
    if any(key_of(override) == f"hydra.{key}.dir" for override in planned.hydra_overrides):
        folder = Path(str(value_of(composer.compose(planned.hydra_overrides), f"hydra.{key}.dir")))
    return writable(folder.absolute(), f"give another with hydra.{key}.dir=FOLDER")


def writable(folder: Path, remedy: str) -> Path:
    """The folder, which need not exist yet; ConfigError if it cannot be made or written to."""
    try:
        with tried(folder):  # there is no other way to know
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
        reason = os.strerror(errno.EACCES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    raise ConfigError(f"{there} is not a folder that can be written to ({reason}); {remedy}")


def check_same(folder: Path, job: Job) -> None:
    """ConfigError if the folder holds another run than the job's."""
    try:
        differing = run_folder.differences(folder, job.identity)
    except ConfigError:  # damaged: only fresh=true comes this far
        return
    if differing:
        raise ConfigError(f"{folder} holds another run, which differs in {', '.join(differing)}")


def say_changed_files(folder: Path, job: Job) -> None:
    """Why a run is a new one, if all that tells it from an earlier one is the content of a file that it reads."""
    if folder.exists() or not job.run_id.endswith(digest := run_identity.digest(job.identity)):
        return
    for other in folder.parent.glob(f"{glob.escape(job.run_id.removesuffix(digest))}????????"):
        with suppress(ConfigError):  # damaged
            before = run_folder.read_status(other).get("identity", {})
            if changed := run_identity.changed_files(before, job.identity):
                warn_user(f"{', '.join(changed)} has changed since {other.name}: a new run")
                return


def arguments(planned: Plan, folder: Path, grids_command: str | None) -> list[str]:
    """Hydra's command line; the words of a grid's jobs reach it through the sweeper instead."""
    from hydra_plugins.noderun_grid import Grid

    jobs = [job for job in planned.jobs if not job.refusal]
    quiet = ["++hydra.job_logging.handlers.terminal.level=WARNING"]
    ours = [*planned.hydra_overrides, *(quiet if jobs[0].settings.log == "quiet" else [])]
    Grid.queued = ()
    if grids_command is None:
        return [*jobs[0].overrides, *ours, f"hydra.run.dir={quoted(folder)}"]
    Grid.planned, Grid.command = [job.words for job in jobs], grids_command
    return [*ours, "hydra.mode=MULTIRUN", f"hydra.sweep.dir={quoted(folder)}"]


def call_hydra(
    composer: Composer,
    arguments: Sequence[str],
    jobs: Mapping[Path, Job] | None = None,
    swept: Sequence[str] = (),
) -> None:
    """Run Hydra's own main on these arguments; ``jobs`` are what it may start, by folder."""
    import hydra

    task, folders = composer.task, list(map(str, composer.folders))
    runner = JobRunner(jobs or {}, own_or("work", task, train.work), [*folders[:-1], os.getcwd()], swept)
    # Hydra looks into --config-dir after config_path, so the user's folder takes the first place and ours the second
    second = ["--config-dir", folders[1]] if folders[1:] else []
    before = sys.argv
    sys.argv = ["noderun", *arguments, *second]
    try:
        hydra.main(version_base="1.3", config_path=folders[0], config_name=task)(runner)()
    except (HydraException, OmegaConfBaseException) as error:
        raise NotStarted(first_line(error)) from None
    finally:
        sys.argv = before


def show(composer: Composer, words: Sequence[str], flags: Sequence[str]) -> None:
    """Answer --help, --cfg and --info: check the words, start nothing."""
    ours, hydras = taken_apart(composer.parse(words))
    swept = swept_keys(composer.parse(ours))
    if swept:
        raise ConfigError(f"{flags[0]} shows one configuration: give {swept[0]} one value")
    own_or("make_job", composer.task, make_job)(composer, ours)
    config = composer.compose([*ours, *hydras])
    if "--help" in flags:
        print(help_of(composer, config, "--resolve" in flags))
        return
    if "--package" in flags:
        check_package(config, flags[flags.index("--cfg") + 1], flags[flags.index("--package") + 1])
    try:
        call_hydra(composer, [*words, *flags])
    except SystemExit as end:
        if end.code:
            raise


def check_package(config: DictConfig, shown: str, key: str) -> None:
    """ConfigError if the part of a configuration that --cfg shows has no such key."""
    of_hydra = key.partition(".")[0] == "hydra"
    if value_of(config, key) is None or (shown != "all" and of_hydra != (shown == "hydra")):
        raise ConfigError(f"--package: --cfg {shown} has no '{key}'{nearest_key(key, known_keys(config))}")


def warn_of_overridden(user: Path, own: Path) -> None:
    paths = sorted(user.rglob("*.yaml"))
    if not paths:
        warn_user(f"--config-dir changes nothing: {user} holds no option, a file GROUP/NAME.yaml")
    for path in paths:
        place = path.relative_to(user)
        if (own / place).exists() or place.stem in OPTIONS.get(str(place.parent), {}):
            warn_user(f"{path} is used in place of ours of the same name")


def repeated(parsed: Sequence[Override]) -> list[str]:
    """What is said of keys that are given more than once."""
    keys = [override.key_or_group for override in parsed]
    last = {override.key_or_group: override for override in parsed}
    return [f"{key} is given more than once: {last[key].input_line} counts" for key in last if keys.count(key) > 1]


@contextmanager
def closed_logs() -> Iterator[None]:
    """Close the run.log of the last job, which Hydra leaves open."""
    try:
        yield
    finally:
        root = logging.getLogger()
        for handler in [handler for handler in root.handlers if isinstance(handler, logging.FileHandler)]:
            root.removeHandler(handler)
            with suppress(OSError):  # a full disk, of which the job has said
                handler.close()
