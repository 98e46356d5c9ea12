"""Signals in the middle of a step: the run is saved as it was before it, within moments."""

import os
import signal
import time

import pytest
import torch
from training_problem import Field, make_settings, make_setup

from noderun.record import notice
from noderun.training import run as run_module
from noderun.training.interrupts import STOPPING, Interrupts
from noderun.training.isolation import isolated
from noderun.training.run import Run

CPU = torch.device("cpu")


class Slow(Field):
    """Sends itself a signal at a call of f, and would then take a minute."""

    number, at, calls = None, None, 0

    def forward(self, t, y):
        Slow.calls += 1
        if Slow.calls == Slow.at:
            os.kill(os.getpid(), Slow.number)
            time.sleep(60)
        return super().forward(t, y)


def train(folder, number=None, at=None):
    Slow.number, Slow.at, Slow.calls = number, at, 0
    folder.mkdir(exist_ok=True)
    with isolated(CPU, 0):
        setup = make_setup(field=Slow)
        setup.model.insert(0, torch.nn.BatchNorm1d(3))  # with buffers, which a pass changes
        Run(setup, make_settings(epochs=1), folder).complete()
    return torch.load(folder / "checkpoint.pt", weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    state = train(tmp_path_factory.mktemp("whole"))
    return state, Slow.calls


@pytest.mark.parametrize("number", STOPPING)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])  # the first step, a later one, the measurements at the end
def test_a_long_solve_is_left_and_the_run_saved_as_it_was_before(part, number, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "SHORT", 0.0)
    state, calls = whole
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, number, int(part * calls))
    assert time.monotonic() - start < 30
    stopped = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["scheduler"]["step"]
    assert stopped == 0 if part < 0.1 else stopped <= 6
    after = train(tmp_path)
    for name in ("model", "optimizer", "random"):
        torch.testing.assert_close(after[name], state[name], rtol=0, atol=0)


@pytest.mark.parametrize("number", STOPPING)
def test_a_short_pass_is_waited_for_and_later_signals_cannot_stop_the_saving(number):
    with Interrupts() as interrupts:
        signal.raise_signal(number)
        assert interrupts.pending
        with pytest.raises(KeyboardInterrupt) as stopped:
            interrupts.check()
        assert stopped.value.args == (number,)
        for again in STOPPING:
            signal.raise_signal(again)


def test_a_second_ctrl_c_is_obeyed_at_once():
    with Interrupts():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_that_the_caller_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGHUP)
            assert not interrupts.pending
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_first_signal_says_what_it_does_if_the_step_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(notice, "SOON", 0.02)
    with pytest.raises(KeyboardInterrupt), Interrupts() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        assert "stopping after this step; Ctrl-C again stops now" in caplog.text
        signals.check()


def test_a_short_step_ends_without_a_word(monkeypatch, caplog):
    monkeypatch.setattr(notice, "SOON", 0.02)
    with pytest.raises(KeyboardInterrupt), Interrupts() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        signals.check()
    time.sleep(0.1)
    assert caplog.text == ""
