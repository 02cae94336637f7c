"""The files of a run: named in one place, removed by the next run of the same name, and nothing beside them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from sweep.core import files, trial_files
from sweep.core.trial_files import TrialFile

ROOT = Path(__file__).parents[2]
ELSEWHERE = {Path("sweep/core/trial_files.py"), Path("sweep/config/compose.py")}  # the latter's is conf/config.yaml


def test_what_a_run_left_goes_and_what_lies_beside_it_stays(tmp_path):
    for name in TrialFile:
        (tmp_path / name).touch()
    (tmp_path / f".{TrialFile.MODEL}.123.aside").touch()
    mine = ["trial.json", "notes.txt", "model.tflite.bak", ".hidden", "photos"]
    for name in mine[:-1]:
        (tmp_path / name).touch()
    (tmp_path / "photos").mkdir()
    trial_files.remove(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*mine}
    trial_files.remove(tmp_path)
    trial_files.remove(tmp_path / "absent")


def test_what_was_being_written_goes(tmp_path, monkeypatch):
    def killed(path, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / TrialFile.METRICS, "{}")
    assert len([*tmp_path.iterdir()]) == 1
    trial_files.remove(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_no_module_names_such_a_file_by_a_text_of_its_own():
    names = {str(name) for name in TrialFile if "." in name}
    named = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for path in sorted([*(ROOT / "sweep").rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py")])
        if path.relative_to(ROOT) not in ELSEWHERE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert named == []
