"""The ranks beside rank 0: started by it or by torchrun, told by it what to train, silent, and gone with it."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cache

import torch
from torch import distributed as dist
from torch.distributed import rendezvous

from noderun.config import user_code
from noderun.config.schema import Settings
from noderun.config.startup import rank_of_torchrun
from noderun.training.checkpoint import load_run, unpacked
from noderun.training.interrupts import STOPPING
from noderun.training.loop import fit, run_test
from noderun.training.optimization import halved
from noderun.training.progress import make_budget
from noderun.training.ranks import PATIENCE, RankLost, Ranks, joined
from noderun.training.setup import Setup

HERE = "127.0.0.1"


class Followers:
    """What rank 0 knows of the others: the store in which it leaves their jobs, and the processes, if they are its."""

    def __init__(
        self, count: int, store: dist.Store | None = None, processes: Sequence[subprocess.Popen[bytes]] = ()
    ) -> None:
        self.count, self.store, self.processes = count, store, processes

    @contextmanager
    def attempt(self, settings: Settings, device: torch.device) -> Iterator[Ranks]:
        """The ranks of one attempt at a run; only this one if there are no others."""
        if self.store is None:
            yield Ranks()
            return
        number = self.store.add("jobs", 1)
        job = pickle.dumps((settings, user_code.searched()))
        self.store.set(f"job{number}", b64encode(job).decode())
        own = dist.PrefixStore(str(number), self.store)
        self.wait(own)
        if self.processes and device.type == "cpu":
            torch.set_num_threads(threads_each(self.count))
        with joined(0, self.count, device, own) as ranks:
            yield ranks

    def wait(self, own: dist.Store) -> None:
        """Until all ranks have read their job; RankLost if one of them has ended."""
        while not own.check([f"rank{index}" for index in range(1, self.count)]):
            if any(process.poll() is not None for process in self.processes):
                raise RankLost("a rank of this run has ended before it began")
            time.sleep(0.02)


@contextmanager
def started(count: int) -> Iterator[Followers]:
    """The followers of rank 0 of ``count``; those that it starts itself end with the context."""
    if count == 1:
        yield Followers(1)
        return
    if rank_of_torchrun() is not None:
        yield Followers(count, store_of_torchrun())
        return
    store = dist.TCPStore(HERE, 0, is_master=True, wait_for_workers=False)
    meeting = {"MASTER_ADDR": HERE, "MASTER_PORT": str(store.port), "WORLD_SIZE": str(count)}
    meeting |= {"OMP_NUM_THREADS": str(threads_each(count)), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    # in a session of their own, since a Ctrl-C is for rank 0 alone
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "noderun"],
            env=os.environ | meeting | {"RANK": str(index), "LOCAL_RANK": str(index)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        for index in range(1, count)
    ]
    try:
        yield Followers(count, store, processes)
    finally:
        for process in processes:  # they have nothing to save
            process.kill()
            process.wait()


def threads_each(count: int) -> int:
    return max(1, torch.get_num_threads() // count)


@cache
def store_of_torchrun() -> dist.Store:
    store, _, _ = next(rendezvous("env://"))
    store.set_timeout(PATIENCE)
    return store


def dismiss() -> None:
    """Let the followers that torchrun has started end: there are no more jobs."""
    with suppress(dist.DistError):  # torchrun has ended them, and itself
        store = store_of_torchrun()
        store.set(f"job{store.add('jobs', 1)}", "")


def follow() -> None:
    """What a process does whose rank is not 0, until it is dismissed or rank 0 is gone."""
    for number in STOPPING:  # rank 0 hears them, and ends the others
        signal.signal(number, signal.SIG_IGN)
    logging.disable()
    warnings.simplefilter("ignore")
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    with suppress(dist.DistError):  # rank 0 holds the store
        store = store_of_torchrun()
        for job in itertools.count(1):
            content = store.get(f"job{job}")
            if not content:
                return
            settings, folders = pickle.loads(b64decode(content))
            user_code.search_in(folders)
            own = dist.PrefixStore(str(job), store)
            own.set(f"rank{rank}", "")
            with suppress(Exception):  # of which rank 0 has been told
                train_share(settings, rank, count, own)


def train_share(settings: Settings, rank: int, count: int, store: dist.Store) -> None:
    """Train as rank 0 does, and write nothing."""
    from noderun.training.build import computing, make_device, make_setup

    device = make_device(settings.device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    with computing(settings, device), joined(rank, count, device, store) as ranks:
        Follower(ranks.among(make_setup(settings, device), settings), settings).complete()


class Follower:
    """The loop's Callbacks of a rank that writes nothing."""

    def __init__(self, setup: Setup, settings: Settings) -> None:
        self.progress = load_run(unpacked(setup.ranks.sent(b"")), setup, ())
        self.setup = replace(setup, lr_schedule=halved(setup.lr_schedule, self.progress.restores))
        self.trainer = settings.trainer
        self.budget = make_budget(settings.trainer, setup.steps_per_epoch)

    def complete(self) -> None:
        fit(self.setup, self.progress, self.budget, self.trainer.log_every, self)

    def on_epoch_start(self) -> None:
        pass

    def leavable(self) -> nullcontext[None]:
        return nullcontext()

    def on_log(self, row: dict[str, float | None]) -> None:
        pass

    def on_step_end(self) -> None:
        pass

    def on_epoch_end(self) -> None:
        tested = self.budget.test_due(self.progress)
        if tested:
            run_test(self.setup, self.progress)
            self.progress.take_window()
        self.progress.next_epoch(self.setup.steps_per_epoch)
        if tested:
            self.progress.count_test()
