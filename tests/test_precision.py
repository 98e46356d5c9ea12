"""trainer.precision=bf16 from the command line to the result."""

import json
from pathlib import Path

from noderun import cli


def test_a_run_in_bf16_ends_with_its_diagnostics(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "train data=digits data.limit=64 trainer.precision=bf16 trainer.max_steps=1 log=quiet".split()
    assert cli.main(words) == 0
    result = json.loads((Path(capsys.readouterr().out.splitlines()[-1]) / "result.json").read_text())
    assert result["status"] == "done" and 0 < result["numerical_error"] < 0.1
