"""A thousand runs: how long the ledger and the report take, and how much memory."""

import json
import subprocess
import sys

import pytest

from noderun.record import files
from noderun.record.run_folder import write_json, write_status
from noderun.report.curves import draw_learning

RUNS, EPOCHS, ROWS = 1000, 20, 5


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Runs of four learning rates, with 100 rows of metrics each."""
    place = tmp_path_factory.mktemp("many")
    for i in range(RUNS):
        rate, seed = 10.0 ** -(i % 4), i // 4
        folder = place / "outputs" / "sweep" / "many" / f"mlp-{i:08x}"
        (folder / files.HYDRA).mkdir(parents=True)
        (folder / files.HYDRA / "overrides.yaml").write_text(f"- optimizer.lr={rate}\n- seed={seed}\n")
        write_status(folder, "done", {"model.name": "mlp", "data.name": "moons", "optimizer.lr": rate, "seed": seed})
        result = {"model": "mlp", "data": "moons", "test_error": i * 7919 % 1000 / 1000, "test_loss": 1 + i % 37 / 10}
        write_json(folder / files.RESULT, result | {"nfe_forward": 20.0 + i % 5, "seconds": 3.0, "epochs": EPOCHS})
        write_json(folder / files.ENVIRONMENT, {"versions": {}, "identity": {}})
        rows = [
            {
                "step": s,
                "epoch": s // ROWS + 1,
                "loss/train": 2 / (s + 1),
                "loss/test": 1.0,
                "nfe/forward": 20.0,
                "error/test": 0.1,
                "time/step_ms": 1.5,
                "optim/lr": rate,
                "optim/grad_norm": 1.0,
            }
            for s in range(EPOCHS * ROWS)
        ]
        (folder / files.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


MEASURED = """
import sys, time
from noderun.cli.main import main
status = main(sys.argv[1:])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(status, time.process_time(), int(peak) / 1024, file=sys.stderr)
"""


def spent(place, *words):
    """(seconds of CPU, MiB at the peak, lines on stdout) of a command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *words], cwd=place, capture_output=True, text=True, check=True
    )
    status, seconds, memory = map(float, done.stderr.splitlines()[-1].split())
    assert status == 0
    return seconds, memory, done.stdout.splitlines()


@pytest.mark.long
def test_a_thousand_runs_are_listed_filtered_and_sorted_in_a_second(place):
    words = ("runs", "model=mlp", "--sort", "test_error")
    first, again = spent(place, *words), spent(place, *words)
    print(f"first {first[0]:.2f} s, {first[1]:.0f} MiB; then {again[0]:.2f} s, {again[1]:.0f} MiB")
    assert len(again[2]) > RUNS and again[2] == first[2]
    assert again[0] < 1 and max(first[1], again[1]) < 100


@pytest.mark.long
def test_a_thousand_runs_are_reported_with_figures_in_20_seconds(place):
    seconds, memory, lines = spent(place, "report", "outputs/sweep/many")
    print(f"{seconds:.2f} s, {memory:.0f} MiB")
    assert (place / "outputs/sweep/many/figures/learning.png").is_file() and lines[0].endswith("report.html")
    assert seconds < 20 and memory < 500


def test_a_figure_of_very_many_lines_keeps_its_room(tmp_path):
    row = {"seed": 0, "loss/train": 1.0, "loss/test": 1.0, "error/train": None, "error/test": None}
    rows = [row | {"label": f"lr {i}", "epoch": epoch} for i in range(60) for epoch in (1, 2)]
    draw_learning(rows, tmp_path / "learning.png")  # matplotlib warns if a legend takes all of it
