import io
import logging

import pytest
from rich.console import Console

from noderun.record import terminal
from noderun.record.terminal import Terminal, live_text

ROW = {"time/step_ms": 25.0, "loss/train": 0.0834, "nfe/forward": 26.0, "nfe/backward": 32.0, "memory/peak_mib": 1229.0}
CELLS = {"Epoch": "1/2", "Time": "3.1 s", "NFE-F": "26.0", "NFE-B": "-", "Train Loss": "0.5", "Test Error": "7.20%"}


@pytest.fixture
def shown(monkeypatch):
    def show(mode, is_terminal):
        console = Console(file=io.StringIO(), force_terminal=is_terminal, width=120)
        monkeypatch.setattr(terminal, "CONSOLE", console)
        with Terminal(mode, epochs=2, total=10) as shown:
            for epoch in (1, 2):
                shown.advance(5 * epoch)
                shown.state(epoch, ROW)
                shown.epoch(CELLS)
        return console.file.getvalue()

    return show


@pytest.mark.parametrize(("mode", "is_terminal"), [("plain", True), ("plain", False), ("live", False)])
def test_one_plain_line_an_epoch_under_one_header(mode, is_terminal, shown):
    lines = shown(mode, is_terminal).splitlines()
    assert [[cell.strip() for cell in line.split("|")] for line in lines] == [list(CELLS), *[list(CELLS.values())] * 2]
    assert len({len(line) for line in lines}) == 1


def test_live_line(shown):
    text = shown("live", True)
    for part in ("epoch 2/2", "10/10", "40 it/s loss 0.0834 nfe 26+32 mem 1.2 GiB eta", "Test Error", "7.20%"):
        assert part in text, part


def test_quiet_says_nothing(shown):
    assert shown("quiet", True) == ""


def test_nfe_backward_is_left_out_where_there_is_none():
    assert live_text({"nfe/forward": 26.0}) == "nfe 26"
    assert live_text({}) == ""


def test_a_speed_by_a_clock_that_stands_still_is_left_out():
    assert live_text({"time/step_ms": 0.0, "loss/train": 0.5}) == "loss 0.5"


def test_logs_share_the_console(monkeypatch):
    monkeypatch.setattr(terminal, "CONSOLE", Console(file=io.StringIO(), width=80, force_terminal=True))
    handler = terminal.handler()
    handler.emit(logging.LogRecord("noderun", logging.INFO, "", 0, "a word", None, None))
    assert "a word" in terminal.CONSOLE.file.getvalue()


def test_the_rows_of_a_job_bear_its_number_and_go_to_the_log(shown, caplog):
    with terminal.of_job("3/8"), caplog.at_level(logging.INFO):
        lines = shown("plain", False).splitlines()
    assert {line[:6] for line in lines} == {"3/8 | "}
    assert [record.name for record in caplog.records] == [terminal.STORY.name] * 2
    assert "Epoch 1/2, Time 3.1 s" in caplog.text
    assert not terminal.handler().filter(caplog.records[0])  # the screen has shown them


def test_a_message_is_one_line_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "CONSOLE", Console(file=io.StringIO(), width=80))
    terminal.handler().emit(logging.LogRecord("noderun", logging.WARNING, "", 0, "word " * 40, None, None))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING " + "word " * 40)
