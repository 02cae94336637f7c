"""The measured tables: means, pairs and verdicts; what is missing or not as reported is said; every case has its words."""

from __future__ import annotations

import statistics

import combinations
import khan_mnist
import numpy as np
import prunings
import pytest
import tables
import yaml
from conftest import CONF
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


@pytest.mark.parametrize("script", [khan_mnist, prunings, combinations])
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
