"""A Slurm cluster of this one machine: munged, slurmctld and slurmd with their own ports and folders."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CONFIGURATION = """
ClusterName=noderun
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus}
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def obstacle():
    """Why there can be no cluster here, or None."""
    path = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))
    absent = [name for name in PROGRAMS if not shutil.which(name, path=path)]
    if absent:
        return f"{', '.join(absent)} not installed: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "starting a cluster takes root"


@contextmanager
def cluster():
    """Inside, Slurm's commands reach the cluster through SLURM_CONF."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    controller, node = free_ports(2)
    configuration = folder / "slurm.conf"
    settings = {"host": socket.gethostname().split(".")[0], "controller": controller, "node": node}
    configuration.write_text(CONFIGURATION.format(folder=folder, cpus=os.cpu_count(), **settings))
    places = {
        "key-file": key,
        "socket": "munge.socket",
        "pid-file": "munge.pid",
        "log-file": "munge.log",
        "seed-file": "munge.seed",
    }
    commands = [
        ["munged", "--foreground", "--force", *(f"--{name}={folder / place}" for name, place in places.items())],
        ["slurmctld", "-D", "-f", configuration],
        ["slurmd", "-D", "-f", configuration],
    ]
    environment = os.environ | {"PATH": os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))}
    running = []
    before = os.environ.get("SLURM_CONF")
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("wb") as output:
                running.append(subprocess.Popen(command, stdout=output, stderr=output, env=environment))
            wait_until((folder / "munge.socket").exists, 10, "munge socket")  # the first one's; the others use it
        os.environ["SLURM_CONF"] = str(configuration)
        wait_until(lambda: "idle" in slurm("sinfo", "--noheader", "--format=%T", check=False), 30, "idle node")
        yield
    finally:
        slurm("scancel", "--me", check=False)
        for process in reversed(running):
            stop(process)
        os.environ.pop("SLURM_CONF") if before is None else os.environ.update(SLURM_CONF=before)
        shutil.rmtree(folder)


def stop(process):
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def slurm(*command, check=True):
    return subprocess.run(command, capture_output=True, text=True, check=check).stdout


def wait_until(holds, seconds, what):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"no {what} after {seconds} s"
        time.sleep(0.1)
