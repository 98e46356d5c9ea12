"""`noderun rerun`: what differs from the time of a run, and whether its rows come again."""

import json

import pytest

from noderun.cli.main import main

WORDS = """train data=moons data.examples=64 data.batch_size=32 model.stem=none dynamics=mlp trainer.epochs=1
trainer.log_every=1 tolerance=1e-2 device=cpu log=quiet""".split()


@pytest.mark.usefixtures("restored_process")
def test_a_run_is_repeated_and_compared_row_by_row(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*WORDS, "hydra.run.dir=first"]) == 0
    capsys.readouterr()
    assert main(["rerun", "run=first"]) == 0
    out = capsys.readouterr().out
    assert "environment: nothing differs" in out and "settings: nothing differs" in out
    assert "metrics: all 2 rows are identical" in out

    path = tmp_path / "first" / "environment.json"
    path.write_text(path.read_text().replace('"numpy": "', '"numpy": "0.'))
    path = tmp_path / "first" / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["loss/train"] += 1e-9
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["rerun", "run=first"]) == 1
    out = capsys.readouterr().out
    assert "environment: versions.numpy was 0." in out
    assert "metrics: they differ from step 2 on, first in loss/train" in out


def test_words_that_look_something_up_are_not_repeated(tmp_path, monkeypatch, capsys):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- name=x\n- data.root=${oc.env:HOME}\n")
    (tmp_path / "status.json").write_text('{"status": "interrupted", "error": null, "identity": {}}')
    assert main(["rerun", f"run={tmp_path}"]) == 2
    assert "was made with data.root=${oc.env:HOME}, which is not looked up" in capsys.readouterr().err
