"""hydra/launcher=submitit_slurm and submitit_local: the jobs of a grid as an array of Slurm's, or as processes here.

The words are those of Hydra's submitit launcher, which waits for the array and believes what Slurm says of its jobs.
This one returns once the jobs are submitted, and only the folders of the runs say which of them are done.
"""

# no annotations from __future__: Hydra runs this file outside of sys.modules, where dataclasses cannot resolve them
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

SHARED = ("name", "timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb")  # the words that are not Slurm's alone
STATES = "PENDING,CONFIGURING,RUNNING,SUSPENDED,STOPPED,REQUEUED,REQUEUE_HOLD,SIGNALING,RESIZING"
log = logging.getLogger(__name__)


@dataclass
class SubmititLocal:
    """All jobs at once, each a process on this machine."""

    _target_: str = "hydra_plugins.noderun_submitit.Submitit"
    cluster: str = "local"
    name: str = "noderun"
    timeout_min: int = 60  # then a job is saved and queued again
    max_num_timeout: int = 20  # how often
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    mem_gb: float | None = None


@dataclass
class SubmititSlurm(SubmititLocal):
    """One array of jobs; what is null is left to the cluster."""

    cluster: str = "slurm"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gres: str | None = None
    comment: str | None = None
    signal_delay_s: int = 90  # a job is told that its time ends so long before
    array_parallelism: int = 256  # so many jobs run at once
    setup: list[str] | None = None  # shell commands before each job
    additional_parameters: dict[str, Any] = field(default_factory=lambda: {"requeue": True})  # more of sbatch's


# the place of Hydra's own plugin is taken in noderun's tasks, not in other programs that use Hydra
if "noderun.config.compose" in sys.modules and importlib.util.find_spec("submitit"):
    for name, node in (("submitit_local", SubmititLocal), ("submitit_slurm", SubmititSlurm)):
        ConfigStore.instance().store(group="hydra/launcher", name=name, node=node, provider="noderun")


class Submitit(BasicLauncher):
    """Submits the jobs that are neither done nor in the queue; inside a job it is the launcher of that one."""

    def __init__(self, cluster: str, max_num_timeout: int, **parameters: Any) -> None:
        super().__init__()
        self.cluster, self.max_num_timeout = cluster, max_num_timeout
        plain = {key: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for key, v in parameters.items()}
        self.parameters = {key if key in SHARED else f"slurm_{key}": v for key, v in plain.items() if v is not None}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        if self.cluster == "slurm" and not shutil.which("sbatch"):
            raise HydraException(
                "hydra/launcher=submitit_slurm submits to Slurm, and this machine has no sbatch; run it where that is, "
                "or say hydra/launcher=joblib"
            )

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Submits what is missing and returns at once; each job's value is ``done`` or ``queued``."""
        from noderun.cli.tasks.job import QUEUED
        from noderun.record import files, run_folder

        jobs: Mapping[Path, Any] = self.task_function.jobs
        folder = Path(self.config.hydra.sweep.dir)
        place_of = {job.words: place for place, job in jobs.items()}
        places = [place_of[tuple(words)] for words in job_overrides]
        done = {place for place in places if not jobs[place].settings.fresh and jobs[place].is_done(place)}
        with run_folder.locked(folder, wait=True):  # nobody submits the same jobs meanwhile
            queue = {run: str(number) for run, number in run_folder.read_json(folder / files.QUEUE).items()}
            there = self.in_queue(queue.values())
            waiting = {place for place in places if queue.get(place.name) in there} - done
            missing = [place for place in places if place not in done | waiting]
            numbers = self.submit(folder / files.SUBMITIT, missing)
            new = dict(zip([place.name for place in missing], numbers, strict=True))
            run_folder.write_json(folder / files.QUEUE, queue | new)
        log.info("%d jobs are done, %d were in the queue, %d were submitted", len(done), len(waiting), len(missing))
        if len(done) < len(places):
            log.info("the same command collects them and submits what is missing then")
        return [returned("done" if place in done else QUEUED) for place in places]

    def in_queue(self, numbers: Iterable[str]) -> set[str]:
        """Those of the submitted jobs that wait or run; HydraException if Slurm does not say."""
        if self.cluster == "local":
            return set(filter(is_process, numbers))
        asked = ["squeue", "--me", "--noheader", "--array", f"--states={STATES}", "--format=%i"]
        told = subprocess.run(asked, capture_output=True, text=True, check=False)
        if told.returncode:
            raise HydraException(f"Slurm does not say what is in its queue: {last_line(told.stderr)}")
        return set(told.stdout.split())

    def submit(self, folder: Path, places: Sequence[Path]) -> list[str]:
        """The numbers of the jobs, which are one array; HydraException if Slurm does not take them."""
        import submitit
        from submitit.core.utils import FailedJobError

        if not places:
            return []
        executor = submitit.AutoExecutor(folder, self.cluster)
        executor.update_parameters(**self.parameters)
        state = Singleton.get_state()
        try:
            return [job.job_id for job in executor.submit_array([self.alone(place, state) for place in places])]
        except FailedJobError as error:
            raise HydraException(f"Slurm does not take these jobs: {last_line(str(error))}") from None

    def alone(self, place: Path, state: Mapping[Any, Any]) -> Callable[[], None]:
        """What one job does, with its own plan alone: a thousand jobs are not to carry each other's."""
        one, job = copy(self), self.task_function.jobs[place]
        one.task_function = replace(self.task_function, jobs={place: started_over(job, place)})
        return partial(one.run, job.words, state)

    def run(self, words: Sequence[str], state: Mapping[Any, Any]) -> None:
        """In the job: runs it, and puts it back into the queue if it was told that its time is over."""
        import submitit

        from noderun.cli.main import stoppable

        Singleton.set_state(state)
        # submitit's name for Slurm's warning; its own handler would leave a run without saving it
        signal.signal(signal.SIGUSR2, lambda number, frame: os.kill(os.getpid(), signal.SIGUSR1))
        try:
            with stoppable(for_good=True):
                super().launch([words], 0)
        except KeyboardInterrupt as stop:
            restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
            if signal.SIGUSR1 in stop.args and restarts < self.max_num_timeout:
                submitit.JobEnvironment()._requeue(self.max_num_timeout - restarts)


def started_over(job: Any, place: Path) -> Any:
    """The job with fresh=true obeyed: once, when it is submitted, and not each time that Slurm starts it."""
    from noderun.record import run_folder

    if not job.settings.fresh:
        return job
    place.mkdir(exist_ok=True)
    with run_folder.locked(place):
        run_folder.clear(place)
    return replace(job, settings=replace(job.settings, fresh=False))


def returned(value: str) -> JobReturn:
    return JobReturn(status=JobStatus.COMPLETED, _return_value=value)


def is_process(number: str) -> bool:
    """Whether a process of this number is there."""
    with suppress(ProcessLookupError, ValueError, PermissionError):
        os.kill(int(number), 0)
        return True
    return False


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
