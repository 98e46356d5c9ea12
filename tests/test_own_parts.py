"""The worked example of docs/own_parts.md, taken out of the page and run word by word."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image

PAGE = Path(__file__).parent.parent / "docs" / "own_parts.md"


def write_files(folder):
    """What the page shows under a file's name, appended where it says `continued`."""
    for name, text in re.findall(r"^`(mine/[\w/.]+)`[^\n]*\n\n```\w+\n(.*?)```", PAGE.read_text(), re.M | re.S):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.read_text() + "\n\n" + text if path.exists() else text)


def commands():
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.S)
    return [shlex.split(line) for line in block.splitlines()]


def write_data(folder):
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(80, 2, generator=generator)
    with (folder / "petals.csv").open("w", newline="") as file:
        csv.writer(file).writerows([*p.tolist(), int(p[0] > p[1])] for p in points)
    for label in ("bright", "dark"):
        (folder / "photos" / label).mkdir(parents=True)
        for i in range(8):
            shade = 200 if label == "bright" else 40
            Image.new("L", (32, 32), shade + i).save(folder / "photos" / label / f"{i}.png")


def test_the_page_runs_as_it_is_written(tmp_path):
    write_files(tmp_path)
    write_data(tmp_path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    outputs = []
    for command in commands():
        assert command[0] == "noderun"
        line = [sys.executable, "-m", "noderun", *command[1:]]
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert "class: parts:Swirl" in outputs[0]
    pair, photos = (json.loads((Path(out.splitlines()[-1]) / "result.json").read_text()) for out in outputs[1:])
    assert (pair["model"], pair["dynamics"], pair["data"]) == ("pair", "swirl", "petals") and pair["nfe_forward"] > 0
    assert pair["test_error"] <= 0.3  # chance is one half
    assert photos["data"] == "photos" and photos["steps"] == 1
