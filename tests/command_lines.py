"""Command lines in children of a warm process: whole ones, without the seconds that the imports take."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path


class Warm:
    """The warm process; one child or several at a time."""

    def __init__(self):
        command = [sys.executable, Path(__file__).with_name("warm.py")]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "500"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, words, cwd, fault=None, name="output", job=None):
        """Begin a command line, or a planned job in the folder ``run``, and return its process id."""
        where = job if job is None else [job, str(cwd / "run")]
        return self.ask(words=list(words), cwd=str(cwd), output=str(cwd / name), fault=fault, job=where)

    def wait(self, pid):
        return self.ask(wait=pid)

    def run(self, words, cwd, fault=None, name="output", job=None):
        """The exit status of a command line or job, and what it printed."""
        (cwd / name).unlink(missing_ok=True)
        status = self.wait(self.start(words, cwd, fault, name, job))
        return status, (cwd / name).read_text()

    def signalled(self, words, cwd, seconds, number, again=None, job=None):
        """Signal a command line or job after some seconds, and perhaps once more; its exit status."""
        pid = self.start(words, cwd, job=job)
        for wait in (seconds,) if again is None else (seconds, again):
            time.sleep(wait)
            os.kill(pid, number)  # a process that has ended is there until it was waited for
        return self.wait(pid)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
