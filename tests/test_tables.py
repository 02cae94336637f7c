"""The measured tables: means, pairs and verdicts; what is missing or not as reported is said; every case has its words."""

from __future__ import annotations

import statistics

import combinations
import devices
import khan_mnist
import numpy as np
import prunings
import pytest
import tables
import yaml
from conftest import CONF
from fuzzing import CORPUS
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

ORDER = ("2", "0", "1")


def row(number=0, accuracy=0.9, seed="0", **more):
    """A complete trial, as the text of trials.csv."""
    numbers = {"test_accuracy": accuracy, "size_bytes": 2048, "gzip_bytes": 1024, "efficiency": 100 * accuracy / 2}
    texts = {"number": number, "state": "COMPLETE", "error": "", "seed": seed, "parameters": 7, "macs": 70}
    return {name: str(value) for name, value in {**numbers, **texts, **more}.items()}


def repeated(*accuracies, **more):
    return [row(accuracy=accuracy, seed=seed, **more) for accuracy, seed in zip(accuracies, ORDER, strict=False)]


def experiment(name):
    return yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text())


def test_a_spread_is_the_mean_and_the_sample_deviation():
    assert tables.spread([97.0, 98.0, 99.0]) == "98.00 ± 1.00"
    assert tables.spread([97.123]) == "97.12"


def test_pairs_are_of_the_same_seed_whatever_the_order_of_the_rows():
    ones, others = repeated(0.95, 0.90, 0.93), repeated(0.94, 0.80, 0.95)
    expected = [10.0, -2.0, 1.0]  # seeds 0, 1, 2
    assert tables.paired(ones, others[::-1]) == pytest.approx(expected)
    shown = tables.compared(tables.paired(ones, others))
    assert shown == f"+3.00 ± {statistics.stdev(expected):.2f} points, above with 2 of 3 seeds"


def test_pairs_of_different_seeds_are_refused():
    for others in (repeated(0.9, 0.9), [*repeated(0.9, 0.9), row(seed="2")], []):
        with pytest.raises(ValueError, match="the same seeds"):
            tables.paired(repeated(0.9, 0.9, 0.9), others)


@pytest.mark.parametrize(
    ("gains", "said"),
    [([1, 2], "yes"), ([1, -2], "the seeds do not agree"), ([-1, 0], "no"), ([1, 0], "the seeds do not agree")],
)
def test_a_verdict_needs_every_seed(gains, said):
    assert tables.verdict(gains) == said


def test_a_missing_or_failed_trial_is_named():
    rows = [row(0, seed="0", prune="none"), row(1, seed="1", prune="none", state="FAIL", error="killed")]
    wanted = [("none", "0"), ("none", "1"), ("global", "0")]
    assert list(tables.lacking(rows, ("prune", "seed"), wanted)) == [
        "prune=none seed=1: trial 1 FAIL killed",
        "prune=global seed=0: no such trial",
    ]


def test_a_number_that_is_not_as_reported_is_named():
    reported = row(sparsity=0.5)
    assert not list(tables.differing(reported, {"test_accuracy": 0.9, "size_bytes": 2048, "sparsity": 0.5}))
    assert list(tables.differing(reported, {"size_bytes": 2049})) == ["size_bytes 2048 reported, 2049 found"]


@pytest.mark.parametrize("script", [khan_mnist, prunings, combinations, devices])
def test_a_sweep_without_trials_ends_with_1_and_writes_nothing(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench", "--table-only", f"--output={tmp_path}", f"--docs={tmp_path / 'docs'}"])
    assert script.main() == 1
    assert capsys.readouterr().out
    assert not (tmp_path / "docs").exists()


def test_words_are_handed_on_wherever_they_stand(monkeypatch):
    monkeypatch.setattr("sys.argv", ["bench", "seed=0,1", "--output", "here", "dataset.path=x.npz", "--table-only"])
    options = tables.arguments("")
    assert (options.words, str(options.output), options.table_only) == (["seed=0,1", "dataset.path=x.npz"], "here", True)


def test_test_images_are_those_of_the_file_or_of_the_data_set(tmp_path):
    images, labels = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28), np.array([[3], [4]])
    np.savez(tmp_path / "own.npz", x_test=images, y_test=labels)
    read, told, reader = tables.test_images({"dataset": {"path": str(tmp_path / "own.npz")}})
    assert (read[..., 0] == images).all()
    assert told.tolist() == [3, 4]
    assert "but" not in reader
    config = yaml.safe_load((CONF / "dataset" / "digits.yaml").read_text())
    read, told, reader = tables.test_images({"dataset": config})
    for found, expected in zip((read, told), tables.INDEPENDENT["digits"](), strict=True):
        assert (found == expected).all()
    assert "but what reads the images" in reader


def test_every_case_of_the_study_has_its_words_and_its_epochs():
    axes = experiment("khan_mnist")["hydra"]["sweeper"]["params"]
    assert list(khan_mnist.CASES) == axes[khan_mnist.CASE].split(",")
    assert set(khan_mnist.CASES) == {path.stem for path in (CONF / "experiment" / "khan").glob("*.yaml")}
    found = {}
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for case in khan_mnist.CASES:
            config = compose("config", ["+experiment=khan_mnist", f"+experiment/khan={case}", "sweep.name=x"])
            found[case] = khan_mnist.epochs_of(config)
    assert {case: sum(map(int, text.split(" + "))) for case, text in found.items()} == {
        case: {"teacher": 6, "teacher_p": 8}.get(case, 10) for case in khan_mnist.CASES
    }
    assert found["p_d_qat"] == "3 + 3 + 2 + 2"


def test_the_answers_of_the_study_are_computed():
    accuracies = dict.fromkeys(khan_mnist.CASES, (0.97, 0.96, 0.95))
    accuracies |= {"d_p": (0.98, 0.97, 0.96), "p_d_q": (0.98, 0.95, 0.95), "d": (0.971, 0.962, 0.953), "p": (0.9, 0.9, 0.9)}
    rows = {case: repeated(*values) for case, values in accuracies.items()}
    rows["p"] = [one | {"gzip_bytes": "256"} for one in rows["p"]]
    text = "\n".join(khan_mnist.tables(rows, dict.fromkeys(rows, "7 + 3")))
    assert "| distilled | 7 + 3 | 96.20 ± 0.90 | 2,048 | 1,024 | 48.10 |  |  |" in text
    assert "| the teacher | 7 + 3 | 96.00 ± 1.00 | 2,048 | 1,024 | 48.00 | 97.74 | 6,210,224 |" in text
    assert "- float32: yes (+1.00 ± 0.00 points, above with 3 of 3 seeds)." in text
    assert "- int8 weights: the seeds do not agree (+0.00 ± 1.00 points, above with 1 of 3 seeds)." in text
    assert (
        "- distilled: yes (+0.20 ± 0.10 points, above with 3 of 3 seeds); 1.00 of the bytes, 1.00 of the gzipped ones." in text
    )
    assert "- pruned: no (-6.00 ± 1.00 points, above with 0 of 3 seeds); 1.00 of the bytes, 0.25 of the gzipped ones." in text
    assert "| case | seed 0 | seed 1 | seed 2 |" in text
    assert "| distilled | 96.20 | 95.30 | 97.10 |" in text


def test_the_points_of_the_prunings_are_those_of_the_experiments():
    axes = experiment("prunings")["hydra"]["sweeper"]["params"]
    assert axes["prune.sparsity"] == ",".join(prunings.SPARSITIES)
    assert axes["prune"] == ",".join(dict.fromkeys(pruning for pruning, _ in prunings.POINTS["prunings"][1]))
    axes = experiment("channels")["hydra"]["sweeper"]["params"]
    assert (axes["prune.layers"], axes["prune.sparsity"]) == (",".join(prunings.LAYERS), ",".join(prunings.FRACTIONS))


def test_the_tables_of_the_prunings():
    rows = {name: dict.fromkeys(wanted, repeated(0.97, 0.96, 0.95)) for name, (_, wanted) in prunings.POINTS.items()}
    rows["prunings"]["global", "0.9"] = repeated(0.98, 0.99, 0.95)
    deviation = f"{statistics.stdev([1, 3, 0]):.2f}"
    cells = f"| 97.33 ± 2.08 | 96.00 ± 1.00 | +1.33 ± {deviation} points, above with 2 of 3 seeds | 1,024 | 1,024 |"
    assert f"| 90 % {cells}" in "\n".join(prunings.weights_table(rows["prunings"]))
    channels = "\n".join(prunings.channels_table(rows["channels"]))
    assert "| nothing | 96.00 ± 1.00 | 7 | 70 | 2,048 | 1,024 |" in channels
    assert "| 25 % of the convolutions | 96.00 ± 1.00 | 7 | 70 | 2,048 | 1,024 |" in channels


def file_row(variant, **more):
    """The trial of a variant, whose int8 file is compiled to half its bytes by 80 % zeros, and to a quarter in clusters too."""
    part = {"0": 1, "0.5": 0.75, "0.8": 0.5}[variant.zeros] * (0.5 if variant.clusters else 1)
    stored = {"float32": 4000, "int8": 1000, "int4": 600}[variant.form]
    compiled = variant.form == "int8"
    numbers = {
        "size_bytes": stored,
        "arena_bytes": {"float32": 8000, "int8": 2000, "int4": 2500}[variant.form],
        "gzip_bytes": stored * part,
        "sparsity": variant.zeros,
        "sparse_bytes": "" if variant.form == "int4" else stored * part,
        "npu_bytes": 900 * part if compiled else "",
        "npu_ms": 0.25 if compiled else "",
        "npu_sram_bytes": 5000 if compiled else "",
    }
    return row(accuracy=0.5 if variant.form == "int4" else 0.6, **{**numbers, **more})


def device_files(**more):
    return {variant: [file_row(variant, **more)] for variant in devices.VARIANTS}


def test_the_variants_on_devices_are_those_of_the_experiment():
    axes = experiment("devices")["hydra"]["sweeper"]["params"]
    assert axes["model"] == ",".join(devices.NETWORKS)
    assert axes["prune.sparsity"] == ",".join(zeros for zeros in devices.PRUNINGS if zeros != "0")
    assert str(axes["cluster.levels"]) == max(devices.CLUSTERINGS)
    assert sorted(axes["quant.bits"].split(",")) == sorted(bits for _, bits in devices.FORMS.values() if bits)
    for key, choices in (("prune", devices.PRUNINGS), ("quant", devices.FORMS)):
        assert axes[key] == ",".join(dict.fromkeys(choice for choice, _ in choices.values()))
    assert axes["cluster"] == ",".join(devices.CLUSTERINGS.values())
    assert len(devices.BY_POINT) == 36


def kernel(kind="INT8", zeros=0, values=200, filters=4, operator="CONV_2D"):
    """As tests/independent.py counts a kernel of 100 weights a filter."""
    return {
        "name": "k", "operator": operator, "type": kind, "shape": [filters, 10, 10, 1], "zeros": zeros, "values": values
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "found", "sparsity", "fault"),
    [
        (("int8", "0", ""), kernel(), 0.01, ""),
        (("int8", "0", ""), kernel("INT4"), 0.01, "int8 asked for, INT4 found"),
        (("int8", "0", ""), kernel(values=16), 0.01, "clusters, which were not asked for"),
        (("int8", "0.5", ""), kernel(), 0.49, "a sparsity of 0.5 asked for, 0.49 found"),
        (("int8", "0.5", ""), kernel(), 0.6, ""),
        (("float32", "0.5", ""), kernel("FLOAT32"), 0.6, "a sparsity of 0.5 asked for, 0.6 found"),
        (("int8", "0", "16"), kernel(values=17), 0.0, "16 values of k asked for, 17 found"),
        (("int8", "0", "16"), kernel(values=200, operator="DEPTHWISE_CONV_2D"), 0.0, ""),
        (("float32", "0", "16"), kernel("FLOAT32", values=64), 0.0, ""),
        (("float32", "0", "16"), kernel("FLOAT32", values=65), 0.0, "64 values of k asked for, 65 found"),
        (("int4", "0", ""), kernel("INT4", values=15), 0.1, ""),
        (("int4", "0", ""), kernel("INT4", values=16), 0.1, "15 values of k asked for, 16 found"),
    ],
)
def test_a_file_that_is_not_as_asked_for_is_named(names, found, sparsity, fault):
    faults = list(devices.not_as_asked(devices.Variant("resnet8", *names), [found], sparsity))
    assert faults == ([fault] if fault else [])


def test_the_answers_about_devices_are_computed():
    text = "\n".join(devices.answers(device_files()))
    assert text.startswith(
        "- On a microcontroller (TFLM): **no**; zeros and clusters change flash by 0 bytes and RAM by 0 bytes at most, in "
        "float32, int8, int4.\n"
        "- On an Arm Ethos-U: **yes**; 80 % zeros in 16 clusters leave 25 % (ResNet-8) and 25 % (MobileNet) of an int8 file's "
        "flash."
    )
    assert "- In a download: **yes**; " in text
    assert "| Ethos-U: flash | 75 and 75 % | 50 and 50 % | 50 and 50 % | 25 and 25 % |" in text
    assert "| microcontroller (TFLM): RAM | 100 and 100 % | 100 and 100 % | 100 and 100 % | 100 and 100 % |" in text
    assert "- int8 instead of float32: 25 and 25 % of the flash, 25 and 25 % of the RAM, +0.0 and +0.0 points" in text
    assert "- int4 instead of int8: 60 and 60 % of the flash, 125 and 125 % of the RAM, -10.0 and -10.0 points" in text
    assert "16 clusters beside int4: 50 and 50 % of the gzipped bytes, +0.0 and +0.0 points of accuracy." in text


def test_the_answers_about_devices_turn_with_the_numbers():
    files = device_files(npu_bytes=900)
    assert "On an Arm Ethos-U: **no**" in "\n".join(devices.answers(files))
    pruned = devices.Variant("mobilenet", "int8", "0.8")
    files[pruned] = [file_row(pruned, npu_bytes=450, size_bytes=900)]
    text = "\n".join(devices.answers(files))
    assert "On an Arm Ethos-U: **it depends**" in text
    assert "On a microcontroller (TFLM): **yes**; zeros and clusters change flash by 100 bytes and RAM by 0 bytes" in text


def test_the_tables_of_devices_have_a_dash_where_there_is_no_number():
    text = "\n".join(devices.tables(device_files()))
    assert "| float32 | nothing | 0.0 | 60.0 | 4,000 | 4,000 | 4,000 | 8,000 | — | — |" in text
    assert "| int8 | 80 % zeros, 16 clusters | 80.0 | 60.0 | 1,000 | 250 | 250 | 2,000 | 225 | 0.250 |" in text
    assert "| int4 | 16 clusters | 0.0 | 50.0 | 600 | 300 | — | 2,500 | — | — |" in text
    assert text.count("\n| int") == 24


def test_why_an_npu_does_not_run_a_file(monkeypatch):
    def compiled(content, **options):
        assert options == {
            "accelerator": "ethos-u55-128", "system_config": "Ethos_U55_High_End_Embedded", "memory_mode": "Shared_Sram"
        }  # fmt: skip
        if content == b"int4":
            raise devices.vela.VelaError("Vela died")
        operators = int(content == b"int8")
        return devices.vela.Compiled(b"four", 20, 0.5, operators, 1, ("CONV_2D: Float32 (first)", "MEAN: Float32 (second)"))

    monkeypatch.setattr(devices.vela, "compiled", compiled)
    none = {"npu_bytes": "", "npu_ms": "", "npu_sram_bytes": ""}
    assert devices.on_the_npu(b"int8") == ({"npu_bytes": "4", "npu_ms": "0.5", "npu_sram_bytes": "20"}, "")
    assert devices.on_the_npu(b"int4") == (none, "Vela died")
    assert devices.on_the_npu(b"float32") == (none, "Vela leaves every operator to the processor (Float32)")


def test_a_file_that_is_stored_sparsely_has_the_same_weights():
    int8, sparse, int4 = ((CORPUS / "tflite" / f"{name}.tflite").read_bytes() for name in ("int8", "sparse", "int4"))
    as_int8, as_int4 = devices.Variant("resnet8", "int8"), devices.Variant("resnet8", "int4")
    assert not list(devices.sparse_faults(as_int8, int8, int8))
    assert not list(devices.sparse_faults(as_int8, sparse, sparse))
    assert list(devices.sparse_faults(as_int8, int8, sparse)) == ["stored sparsely, the file has other weights"]
    assert list(devices.sparse_faults(as_int4, int4, int8))[-1] == "int4 was stored sparsely"
