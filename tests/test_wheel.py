"""The wheel, installed in an empty environment, works from an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def succeed(*words: object, cwd: Path = ROOT) -> str:
    """Run a command; returns what it writes to stdout."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # nothing but what is installed
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=900, cwd=cwd, env=own, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of the commands of an environment with the wheel, and with what pip installs for it in the lock's versions."""
    folder = tmp_path_factory.mktemp("wheel")
    succeed(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (wheel,) = folder.glob("*.whl")
    lock = (ROOT / "requirements.lock").read_text()
    (folder / "constraints").write_text("\n".join(re.findall(r"^([\w.-]+==[^\\\n]+)", lock, re.MULTILINE)))
    venv.create(folder / "venv", with_pip=True)
    commands = folder / "venv" / "bin"
    # Bytecode is made at the first import, of what is imported only.
    succeed(commands / "pip", "install", "--quiet", "--no-compile", "--constraint", folder / "constraints", wheel)
    return commands


@pytest.mark.slow
def test_a_wheel_sweeps_from_an_empty_folder(installed, tmp_path):
    succeed(installed / "sweep", "-m", "prune.sparsity=0.5,0.8", "quant=ptq,qat", "sweep.name=first", cwd=tmp_path)
    assert len(list(tmp_path.glob("mlruns/sweeps/first/trial-*/model.tflite"))) == 4
    succeed(installed / "sweep", "report", "first", cwd=tmp_path)
    assert "test" in succeed(installed / "sweep", "best", "first", cwd=tmp_path)
    assert "entries" in succeed(installed / "sweep", "cache", "ls", cwd=tmp_path)
    code = "import sweep; print(sweep.__file__)"
    package = Path(succeed(installed / "python", "-c", code, cwd=tmp_path).strip()).parent
    assert package.is_relative_to(installed.parent)
    assert (package / "py.typed").is_file()


@pytest.mark.slow
def test_a_wheel_composes_as_the_checkout_does(installed, tmp_path):
    words = ["--cfg", "job", "model=resnet8", "sweep.name=x"]
    here = succeed(sys.executable, "-m", "sweep.main", *words)
    assert succeed(installed / "python", "-m", "sweep", *words, cwd=tmp_path) == here
