"""The wheel works from any folder, its configs included."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, **more)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT)
    return next(folder.glob("*.whl"))


def test_everything_is_inside(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    for path in [*(ROOT / "configs").rglob("*.yaml"), *(ROOT / "noderun").rglob("*.py")]:
        name = path.relative_to(ROOT)
        assert str(Path("noderun") / name if name.parts[0] == "configs" else name) in inside


def test_it_runs_installed(wheel, tmp_path):
    place = tmp_path / "environment"
    venv.create(place, with_pip=False)
    python = place / "bin/python"
    site = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).stdout.strip())
    zipfile.ZipFile(wheel).extractall(site)
    # what it depends on is seen from the development environment, after the wheel's own
    (site / "development.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def noderun(*words):
        return run([python, "-m", "noderun", *words], cwd=tmp_path, env=environment).stdout

    where = run([python, "-c", "import noderun; print(noderun.__file__)"], cwd=tmp_path, env=environment).stdout
    assert Path(where.strip()).is_relative_to(site)
    assert "odenet" in noderun("list", "model")
    assert "name: rk4" in noderun("train", "--cfg", "job", "solver=rk4")
