"""The choice within a budget on made-up sweeps, and the export: its bytes in C and C++, its card, its command."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import CONF
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from made_files import tflite
from omegaconf import OmegaConf
from test_report import ROOT, Made, configured, measured

from sweep import best
from sweep.core.errors import ConfigError
from sweep.reporting.firmware import header
from sweep.results import examples, reader, sweeps
from sweep.results.budget import Budget, choose

FILES = {"MODEL_CARD.md", "model.h", "model.tflite"}
SOURCES = FILES | {"resolver.h", "example.h", "main.cc"}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Five files (their sizes as recorded are made up but for the last one's), one failure, one NaN."""
    made = Made(tmp_path / "runs")
    for accuracy, test, size, latency in ((0.9, 0.5, 100, 4), (0.8, 0.9, 50, 3), (0.8, 0.9, 40, 2), (0.7, 0.6, 20, 1)):
        made.trial(
            {"quant": "ptq"}, measured(accuracy, size * 1024, test_accuracy=test, latency_ms=latency, gzip_bytes=size * 500)
        )
    made.trial({"quant": "qat"}, state="FAIL", error="no")
    made.trial({"quant": "qat"}, measured(float("nan"), 10))
    content = tflite()
    made.trial({"quant": "ptq", "prune.sparsity": "0.5"}, measured(0.6, len(content), latency_ms=0.5), content=content)
    return made


@pytest.fixture
def devices(tmp_path: Path) -> Made:
    """Four files: one that no device was asked about, two that TFLM runs, and one for an Ethos-U, whose SRAM is not known."""
    made = Made(tmp_path / "runs", "devices")
    content = tflite()
    images = np.random.default_rng(0).integers(0, 256, (1, 4), np.uint8)
    for accuracy, extra in (
        (0.9, {}),
        (0.8, {"arena_bytes": 30_000}),
        (0.7, {"arena_bytes": 9_600}),
        (0.6, {"arena_bytes": 9_000, "npu_ms": 0.5}),
    ):
        folder = made.trial({"quant": "ptq"}, measured(accuracy, len(content), latency_ms=2, **extra), content=content)
        output = np.array([1, 3, 2], np.int8)
        shown = examples.Example(4, 1, images.tobytes(), output.tobytes())
        (folder / "example.json").write_text(json.dumps(shown.record(content)))
    (folder / "config.yaml").write_text(
        yaml.safe_dump(
            configured({}) | {"target": {"_target_": "sweep.devices.ethos_u.EthosU", "accelerator": "ethos-u55-128"}}
        )
    )
    return made


def sweep_of(made: Made) -> sweeps.Sweep:
    return reader.read(made.folder)


def run(made: Made, *arguments: str) -> int:
    return best.main([made.name, "--output", str(made.output), *arguments])


# The choice.


@pytest.mark.parametrize(
    ("budget", "number"),
    [
        ({}, 0),
        ({"max_kib": 100}, 0),
        ({"max_kib": 99.9}, 2),
        ({"max_kib": 39}, 3),
        ({"max_kib": 20 * 500 / 1024, "metric": "gzip_bytes"}, 3),
        ({"min_accuracy": 0.75}, 2),
        ({"min_accuracy": 0.8}, 2),
        ({"min_accuracy": 0.81}, 0),
        ({"min_accuracy": 0.6}, 6),
        ({"min_accuracy": 0.6, "max_kib": 60}, 2),
        ({"max_ms": 1}, 3),
        ({"max_ms": 2, "min_accuracy": 0.65}, 3),
    ],
)
def test_the_most_accurate_within_a_size_or_the_smallest_above_an_accuracy(made, budget, number):
    assert choose(sweep_of(made), Budget(**budget)).number == number


def test_the_choice_never_sees_the_test_split(made):
    assert choose(sweep_of(made), Budget()).metrics["test_accuracy"] == 0.5


def test_memory_is_told_where_it_is_known(tmp_path, capsys):
    made = Made(tmp_path)
    content = tflite()
    made.trial({"quant": "ptq"}, measured(0.9, len(content), arena_bytes=9600), content=content)
    assert run(made) == 0
    assert "arena_bytes 9.38 KiB" in capsys.readouterr().out
    assert "| `arena_bytes` | 9.38 KiB |" in (made.folder / "best" / "MODEL_CARD.md").read_text()
    assert "npu_bytes" not in (made.folder / "best" / "MODEL_CARD.md").read_text()


def test_the_sweeps_constraints_hold_beside_the_budget(made):
    made.record["constraints"] = {"size_bytes": "<=51200"}
    made.save()
    assert choose(sweep_of(made), Budget(max_kib=200)).number == 2


def test_where_nothing_fits_the_nearest_are_named_with_what_they_miss(made, capsys):
    assert run(made, "--max-kib", "30", "--min-accuracy", "0.78") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "error: no trial of made keeps the budget; the nearest of 6:",
        "  trial 3: val_accuracy 70.00%, needed 78.00%  (quant=ptq)",
        "  trial 6: val_accuracy 60.00%, needed 78.00%  (quant=ptq prune.sparsity=0.5)",
        "  trial 2: size_bytes 40.00 KiB, allowed 30.00 KiB  (quant=ptq)",
        "  left out, since what was not measured cannot be said to keep a bound: 1 of 6 without val_accuracy",
    ]
    assert not (made.folder / "best").exists()


def test_a_sweep_without_a_complete_trial_has_no_best(tmp_path, capsys):
    made = Made(tmp_path)
    made.trial({}, state="FAIL", error="no")
    assert run(made) == 1
    assert capsys.readouterr().err == "error: made has no complete trial\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--max-kib", "0"], "--max-kib: expected a number above 0; received 0.0"),
        (["--max-kib", "nan"], "--max-kib: expected a number above 0; received nan"),
        (["--min-accuracy", "97"], "--min-accuracy: expected a number in [0, 1]; received 97.0"),
        (["--max-latency-ms", "-1"], "--max-ms: expected a number above 0; received -1.0"),
        (["--max-ms", "0"], "--max-ms: expected a number above 0; received 0.0"),
        (["--max-ram-kib", "inf"], "--max-ram-kib: expected a number above 0; received inf"),
        (["--target", "tpu"], "--target: expected litert, tflm or an Ethos-U such as ethos_u55_128; received tpu"),
        (["--max-kib", "much"], "argument --max-kib: invalid float value: 'much'"),
        (["--metric", "macs"], "argument --metric: invalid choice: 'macs'"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_a_bad_argument_is_refused_in_one_line(made, capsys, arguments, told):
    try:
        code: Any = run(made, *arguments)
    except SystemExit as left:
        code = left.code
    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert told in error


def test_an_unknown_name_is_refused_with_the_nearest(made, capsys):
    assert best.main(["mad", "--output", str(made.output)]) == 2
    assert "such as made; received mad" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("budget", "number"),
    [
        ({}, 0),
        ({"target": "litert"}, 0),
        ({"target": "tflm"}, 1),
        ({"max_ram_kib": 30}, 1),
        ({"max_ram_kib": 20}, 2),
        ({"max_ram_kib": 9600 / 1024, "target": "tflm"}, 2),
        ({"max_ram_kib": 9, "target": "tflm", "max_ms": 2}, 3),
        ({"target": "ethos_u55_128"}, 3),
        ({"target": "ethos_u55_128", "max_ms": 0.5}, 3),
    ],
)
def test_the_budgets_of_a_device(devices, budget, number):
    assert choose(reader.read(devices.folder), Budget(**budget)).number == number


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--max-ram-kib", "8"],
            [
                "error: no trial of devices keeps the budget; the nearest of 4:",
                "  trial 3: arena_bytes 8.79 KiB, allowed 8.00 KiB  (quant=ptq)",
                "  trial 2: arena_bytes 9.38 KiB, allowed 8.00 KiB  (quant=ptq)",
                "  trial 1: arena_bytes 29.30 KiB, allowed 8.00 KiB  (quant=ptq)",
                "  left out, since what was not measured cannot be said to keep a bound: 1 of 4 without arena_bytes",
            ],
        ),
        (
            ["--target", "ethos_u55_128", "--max-ram-kib", "8"],
            [
                "error: no trial of devices keeps the budget",
                "  left out, since what was not measured cannot be said to keep a bound: 1 of 1 without npu_sram_bytes",
            ],
        ),
        (
            ["--target", "ethos_u55_128", "--max-ms", "0.4"],
            [
                "error: no trial of devices keeps the budget; the nearest of 1:",
                "  trial 3: npu_ms 0.5, allowed 0.4  (quant=ptq)",
            ],
        ),
        (
            ["--target", "ethos_u85_256"],
            ["error: no trial of devices is known to run on ethos_u85_256: none of 4 has `npu_ms` measured with that target"],
        ),
    ],
)
def test_a_trial_without_the_metric_of_a_bound_is_left_out_and_that_is_told(devices, capsys, arguments, told):
    assert run(devices, *arguments) == 1
    assert capsys.readouterr().err.splitlines() == told


def test_a_sweep_that_no_device_was_asked_about_has_nothing_for_it(made, capsys):
    assert run(made, "--target", "tflm") == 1
    assert capsys.readouterr().err == "error: no trial of made is known to run on tflm: none of 6 has `arena_bytes`\n"


# The export.


def test_an_export_for_a_device_has_its_source_and_a_card_with_every_budget(devices, capsys):
    assert run(devices, "--target", "tflm", "--max-kib", "1", "--max-ram-kib", "20", "--max-latency-ms", "10") == 0
    assert "arena_bytes 9.38 KiB, latency_ms 2" in capsys.readouterr().out
    folder = devices.folder / "best"
    assert {path.name for path in folder.iterdir()} == SOURCES
    card = (folder / "MODEL_CARD.md").read_text()
    size = int((folder / "resolver.h").read_text().partition("kTensorArenaSize = ")[2].partition(";")[0])
    for text in (
        "| flash: `size_bytes` | at most 1.00 KiB | 0.65 KiB |",
        "| RAM: `arena_bytes` | at most 20.00 KiB | 9.38 KiB |",
        "| time: `latency_ms` | at most 10 | 2 |",
        "| accuracy: `val_accuracy` | nothing | 70.00% |",
        "| target | tflm | |",
        f"`kTensorArenaSize` is {size:,} bytes: the 9,600 that TensorFlow Lite Micro used",
        "a margin of ",
        "differ from LiteRT's by 4 quantisation steps",
    ):
        assert text in card
    assert size % 16 == 0
    assert size > 9_600
    for name in ("resolver.h", "example.h", "main.cc"):
        assert f"sha256 `{hashlib.sha256((folder / name).read_bytes()).hexdigest()}`" in card


def test_what_is_not_written_the_card_says_why(devices):
    (devices.folder / "trial-001" / "example.json").unlink()
    assert run(devices, "--target", "tflm") == 0
    folder = devices.folder / "best"
    assert {path.name for path in folder.iterdir()} == FILES | {"resolver.h"}
    assert "| no `main.cc` | the trial left no `example.json`" in (folder / "MODEL_CARD.md").read_text()
    assert run(devices) == 0
    assert {path.name for path in folder.iterdir()} == FILES
    card = (folder / "MODEL_CARD.md").read_text()
    assert "| no `resolver.h` | the trial's records have no `arena_bytes`" in card
    assert "| RAM: `arena_bytes` | nothing | not measured |" in card
    assert "kTensorArenaSize" not in card


def test_source_that_one_has_worked_on_is_never_written_over(devices, capsys):
    folder = devices.folder / "best"
    assert run(devices, "--target", "tflm") == 0
    assert run(devices) == 0  # another trial, without source: what is to be replaced is as it was written
    (folder / "main.cc").write_text("int main() {}\n")  # in an export of the earlier format, or one without source
    assert run(devices) == 2
    assert (folder / "main.cc").read_text() == "int main() {}\n"
    (folder / "main.cc").unlink()
    assert run(devices, "--target", "tflm") == 0
    for name in ("main.cc", "resolver.h", "example.h"):
        kept = (folder / name).read_text()
        (folder / name).write_text(kept + "// mine\n")
        assert run(devices, "--target", "tflm") == 2
        assert (folder / name).read_text().endswith("// mine\n")
        (folder / name).write_text(kept)
    assert run(devices, "--target", "tflm") == 0
    assert "an earlier export; received" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("example.json", {"output": "AAAA"}, "example of the trial's file; received label: expected 0"),
        ("example.json", {"input": "AAAA"}, "received input: expected the file's 4 bytes; received 3"),
        ("example.json", {"sha256": "0"}, "example.json: sha256: expected"),
        ("metrics.json", {"arena_bytes": 0}, "metrics.json: arena_bytes: expected an integer of at least 1"),
        ("metrics.json", {"arena_bytes": 1.5}, "metrics.json: arena_bytes: expected an integer of at least 1"),
        ("metrics.json", {"arena_bytes": 2**40}, "and at most 2147483647; received 1099511627776"),
    ],
)
def test_a_damaged_record_of_a_device_is_named(devices, capsys, file, change, told):
    path = devices.folder / "trial-001" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert run(devices, "--target", "tflm") == 2
    assert told in capsys.readouterr().err
    assert not (devices.folder / "best").exists()


def test_an_export_is_the_file_a_header_and_a_card(made, capsys):
    assert run(made, "--max-kib", "1") == 0
    folder = made.folder / "best"
    assert {path.name for path in folder.iterdir()} == FILES
    assert (folder / "model.tflite").read_bytes() == tflite()
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "trial 6 (quant=ptq prune.sparsity=0.5): val_accuracy 60.00%, test_accuracy 59.00%, size_bytes 0.65 KiB",
        str(folder),
    ]
    assert not [path for path in made.folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("language", [("c", "c11"), ("c", "c17"), ("c++", "c++17"), ("c++", "c++20")])
def test_the_header_compiles_and_holds_the_bytes(tmp_path, language):
    content = tflite()
    (tmp_path / "model.h").write_text(header(content))
    (tmp_path / "other.c").write_text(
        '#include "model.h"\nunsigned other(void);\nunsigned other(void) { return model_tflite[0]; }\n'
    )
    (tmp_path / "main.c").write_text(
        '#include <stdint.h>\n#include <stdio.h>\n#include "model.h"\n#include "model.h"\n'
        "int main(void) {\n"
        "    if ((uintptr_t)model_tflite % 16 != 0 || sizeof(model_tflite) != model_tflite_len) return 1;\n"
        "    return fwrite(model_tflite, 1, model_tflite_len, stdout) != model_tflite_len;\n}\n"
    )
    kind, standard = language
    flags = ["-x", kind, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", "main", "main.c", "other.c"], cwd=tmp_path, check=True)
    subprocess.run(["gcc", *flags, "-c", "-o", "alone.o", "model.h"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout == content


def test_the_card_says_how_it_was_made_what_it_measures_and_how_to_feed_it(made):
    record = {"dataset": "cifar10", "data_hash": "ab12", "class_names": ["air`plane", "a|b\n"]}
    (made.folder / "trial-006" / "data.json").write_text(json.dumps(record))
    assert run(made, "--max-kib", "1") == 0
    assert '"air`plane",' in (made.folder / "best" / "model.h").read_text()
    card = (made.folder / "best" / "MODEL_CARD.md").read_text()
    for text in (
        "# model.tflite: trial 6 of the sweep made",
        "An image classifier for `cifar10`: 60.00% right on the validation split, 59.00% on the test",
        hashlib.sha256(tflite()).hexdigest(),
        f"| `size_bytes` | {len(tflite())} ({len(tflite()) / 1024:.2f} KiB) |",
        "| `macs` | 2,500,000 |",
        "| `train` | Recipe: epochs 20, optimizer Adam, optimizer.weight_decay 0.0 |",
        "given as int8 on the grid of the input tensor: q = round(p / 255 / scale) + zero_point",
        "resolver needs: FULLY_CONNECTED.",
        "the class is the index of the largest. In the order of the scores: `air'plane`, `a|b `.",
        "sha256 of its official arrays: `ab12`; of its splits: not recorded.",
        "chosen by validation accuracy (complete trials: 6), which flatters it",
        "It was trained under one seed",
        "python -m sweep.main model=resnet8 quant=ptq prune.sparsity=0.5 seed=0",
    ):
        assert text in card
    assert "train_seconds" not in card


def test_a_metric_that_is_not_known_does_not_stop_an_export(tmp_path):
    made, content = Made(tmp_path), tflite()
    made.trial({}, measured(0.6, len(content), test_accuracy=float("nan"), latency_ms=float("nan")), content=content)
    assert run(made) == 0
    card = (made.folder / "best" / "MODEL_CARD.md").read_text()
    assert "60.00% right on the validation split, nan% on the test" in card
    assert "| time: `latency_ms` | nothing | not measured |" in card


def test_a_float_file_is_fed_floats(tmp_path):
    made, content = Made(tmp_path), tflite(kind="FLOAT32")
    for seed in range(2):
        made.trial({"quant": "none", "seed": str(seed)}, measured(0.6, len(content)), content=content)
    assert run(made) == 0
    card = (made.folder / "best" / "MODEL_CARD.md").read_text()
    assert "given as float32." in card
    assert "It is one of 2 repeats under different seeds" in card


def test_an_export_replaces_an_earlier_one_and_nothing_else(made, tmp_path, capsys):
    target = tmp_path / "deep" / "out"
    assert run(made, "--max-kib", "1", "--to", str(target)) == 0
    (target / "model.h").write_text("old")
    assert run(made, "--max-kib", "1", "--to", str(target)) == 0
    assert (target / "model.h").read_text() == header(tflite())
    (target / "notes.txt").write_text("mine")
    assert run(made, "--max-kib", "1", "--to", str(target)) == 2
    assert (target / "notes.txt").read_text() == "mine"
    file = tmp_path / "file"
    file.write_text("mine")
    assert run(made, "--max-kib", "1", "--to", str(file)) == 2
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "model.tflite").write_text("mine")
    assert run(made, "--max-kib", "1", "--to", str(foreign)) == 2
    assert "--to: expected a new or empty folder, or an earlier export; received" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(made, "--max-kib", "1", "--to", str(tmp_path / "empty")) == 0
    assert {path.name for path in (tmp_path / "empty").iterdir()} == FILES


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "expected the file that the trial measured; received nothing"),
        (b"short", "bytes that the trial measured; received 5 bytes"),
        (b"x" * len(tflite()), "expected the .tflite file that the trial measured; received expected a .tflite file"),
    ],
)
def test_a_file_that_is_not_what_was_measured_is_not_exported(made, capsys, content, told):
    path = made.folder / "trial-006" / "model.tflite"
    path.unlink() if content is None else path.write_bytes(content)
    assert run(made, "--max-kib", "1") == 2
    assert told in capsys.readouterr().err
    assert not (made.folder / "best").exists()


# The command that makes it again.


@pytest.fixture
def loader() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.mark.parametrize(
    ("overrides", "fixed"),
    [
        ({}, {}),
        ({"quant": "qat", "quant.bits": "4", "seed": "3"}, {"dataset": "mnist", "threads": "1"}),
        ({"pipeline.order": "[train,prune,distill,quant]"}, {"distill": "kd", "model@distill.teacher": "resnet8"}),
        ({"dataset.path": "'/a b/it''s.npz'".replace("''", r"\'")}, {"dataset": "cifar10", "train": "strong"}),
        ({"prune.sparsity": "0.25"}, {"+experiment": "smoke", "hydra.sweeper.params": "{}", "sweep.name": "x"}),
    ],
)
def test_the_command_composes_the_trials_configuration_again(tmp_path, loader, overrides, fixed):
    given = [f"{key}={text}" for key, text in {**fixed, **overrides}.items() if not key.startswith(("hydra.", "sweep."))]
    config = OmegaConf.to_container(compose("config", [*given, "threads=1"] if "threads" not in fixed else given))
    made, content = Made(tmp_path), tflite()
    folder = made.trial(overrides, measured(0.6, len(content)), content=content, fixed=fixed)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert run(made) == 0
    card = (made.folder / "best" / "MODEL_CARD.md").read_text()
    (line,) = (line for line in card.splitlines() if line.startswith("    python -m sweep.main"))
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "sweep.main"]
    assert OmegaConf.to_container(compose("config", words[3:])) == config
    assert "threads=1" in words
    assert not any("hydra" in word or "sweep.name" in word for word in words[3:])


def test_a_missing_configuration_is_told(made, capsys):
    (made.folder / "trial-006" / "config.yaml").unlink()
    assert run(made, "--max-kib", "1") == 2
    assert "config.yaml: expected the composed configuration in YAML; received nothing" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        sweep_of(made).trials[6].config()


def test_help_is_quick():
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "sweep.best", "--help"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert time.perf_counter() - began < 1.2
    assert "--max-kib" in done.stdout
