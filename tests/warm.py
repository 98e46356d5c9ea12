"""A process in which everything is imported: it forks a child for each command line that it is given.

A request is a line of JSON: {"words", "cwd", "output", "fault", "job"} is answered by the child's process id, {"wait":
pid} by its exit status (minus the signal's number if one has killed it), {"plan": words} by the number of a job.
"""

import gc
import json
import logging
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

JOBS = []


def warm():
    import matplotlib.pyplot  # noqa: F401

    import noderun.cli.launching
    import noderun.cli.tasks.compare
    import noderun.cli.tasks.evaluate
    import noderun.evaluation.measure
    import noderun.evaluation.samples
    import noderun.report.summary
    import noderun.training.build  # noqa: F401
    from noderun.config import config_folder
    from noderun.config.compose import Composer
    from noderun.training.optimization import import_compiler

    import_compiler()
    Composer("train", [str(config_folder())]).known([])
    gc.collect()
    gc.freeze()  # no child looks through what all of them share


def dies_at_call(of, number, by, twice=False):
    """A signal to itself before the call ``number`` of a function of os, and perhaps one more a call later."""
    original, calls = getattr(os, of), iter(range(1, 1_000_000))

    def call(*args, **keywords):
        place = next(calls)
        if place == number or (twice and place == number + 1):
            os.kill(os.getpid(), by)
        return original(*args, **keywords)

    setattr(os, of, call)


def after_steps(steps, what):
    """Do something to the process once the run has made so many steps."""
    from noderun.training.run import Run

    original = Run.on_step_end

    def on_step_end(self):
        if self.progress.step == steps:
            what(self.folder)
        original(self)

    Run.on_step_end = on_step_end


def small_files(folder):
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))


def no_handles(folder):
    taken = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken, taken))


def full_disk(folder):
    with open(os.path.join(folder, "..", "filler"), "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def deleted(folder):
    import shutil

    shutil.rmtree(folder)


def replaced(folder):
    os.rename(folder, f"{folder}.away")
    with open(folder, "w"):
        pass


def waits(folder):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    open(os.path.join(folder, "waits"), "w").close()
    signal.sigtimedwait([signal.SIGUSR2], 60)


def child(request):
    """The exit status of a command line, or of the job that it stands for, without Hydra's second of composing."""
    os.chdir(request["cwd"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    name, arguments = request.get("fault") or (None, [])
    if name == "dies_at_call":
        dies_at_call(*arguments)
    elif name:
        after_steps(arguments[0], globals()[name])
    sys.argv = ["noderun", *request["words"]]
    from noderun.cli.main import main

    try:
        return job(*request["job"]) if request.get("job") else main()
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 70


def job(number, folder):
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from noderun.cli.launching import placed_in
    from noderun.cli.main import stoppable
    from noderun.cli.tasks import train
    from noderun.cli.tasks.job import JobRunner

    os.makedirs(os.path.join(folder, ".hydra"), exist_ok=True)
    HydraConfig.get = lambda: SimpleNamespace(runtime=SimpleNamespace(output_dir=folder))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        with stoppable(for_good=True):
            if reason := placed_in(Path(folder), JOBS[number]).refusal:
                print(reason)
                return 2
            state = JobRunner({Path(folder): JOBS[number]}, train.work, [])(OmegaConf.create({}))
    except KeyboardInterrupt:  # as main() does
        return 130
    return {"done": 0, "failed": 1, "busy": 2}[state]


def planned(words):
    """The number of the job that a command line stands for."""
    from noderun.cli.planning import plan
    from noderun.config import config_folder
    from noderun.config.compose import Composer

    JOBS.append(plan(Composer("train", [str(config_folder())]), words, False).jobs[0])
    return len(JOBS) - 1


def serve():
    warm()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)
            continue
        if "plan" in request:
            print(planned(request["plan"]), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            status = child(request)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        print(pid, flush=True)


if __name__ == "__main__":
    serve()
