"""Command lines as a user types them."""

import json
from pathlib import Path

from noderun.cli.main import main


def noderun(line):
    return main(line.split())


def status(folder):
    return json.loads((Path(folder) / "status.json").read_text())
