"""A sweep's records with anything in them: they are read, or refused by name."""

from __future__ import annotations

import pytest
from fuzzing import CORPUS, corpus, damaged, fuzz
from hypothesis import strategies as st
from test_recorder import finished, folder, loader, opened, refusal  # noqa: F401 - fixtures

from sweep.reporting import report
from sweep.results import reader

KINDS = {"sweep.json": "sweep.json", "trial.json": "trial-001/trial.json", "metrics.json": "trial-001/metrics.json"}


@pytest.fixture
def read(folder, opened):  # noqa: F811
    """Read the sweep with other content in one of its records, as its commands and its next start do."""
    originals = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def check(kind, content):
        for name, original in originals.items():
            (folder / name).write_bytes(original)
        place = KINDS.get(kind, kind)
        (folder / place).write_bytes(content)
        if kind == "study.journal":
            told = [refusal(lambda: opened(folder))]
        else:
            told = [refusal(lambda: reader.read(folder)), refusal(lambda: opened(folder))]
        # A record that is sound and of another sweep is refused at the sweep's name.
        assert all(place in line or line.startswith("sweep.name: ") for line in told if line)

    return check


@pytest.mark.parametrize("path", corpus("records"), ids=lambda path: path.name)
def test_the_corpus_is_read_or_refused_by_name(path, read):
    for kind in (*KINDS, "study.journal"):
        read(kind, path.read_bytes())


def test_a_report_of_the_corpus_is_written(folder):  # noqa: F811
    assert report.write(folder).paths


@pytest.mark.slow
def test_damaged_records_are_read_or_refused_by_name(read):
    kinds = (*KINDS, "study.journal")
    inputs = st.sampled_from(kinds).flatmap(
        lambda kind: st.tuples(st.just(kind), damaged([(CORPUS / "records" / kind).read_bytes()]))
    )
    fuzz(inputs, lambda example: read(*example))
