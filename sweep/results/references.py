"""What a sweep's front is shown beside: files of others, measured on its data set, and points that others have published."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.core import files, jsonfiles
from sweep.core.errors import ConfigError
from sweep.core.metric import Kind
from sweep.core.metrics import METRICS
from sweep.results.sweeps import number

RECORD = "references.json"
_COLUMNS = {"accuracy": "test_accuracy", "bytes": "size_bytes"}
"""Columns of published points to the metrics that they are: who publishes an accuracy means that of the official test split."""
_MOST_BYTES = 2**20


@dataclass(frozen=True)
class Reference:
    """A file that is no trial's, or a published point.

    Attributes:
        name: what people call it.
        source: where it is from: its path, or whatever its publisher wrote.
        measured: whether its metrics were measured here, on the sweep's data set; as published otherwise.
        metrics: those that are known, by name.
    """

    name: str
    source: str
    measured: bool
    metrics: Mapping[str, float]


def write(folder: Path, references: Sequence[Reference]) -> None:
    """Write the references of the sweep in a folder, which replace those of an earlier start.

    Raises:
        OSError: where the folder cannot be written.
    """
    files.write_json(folder / RECORD, {"references": [vars(reference) for reference in references]})


def read(folder: Path) -> tuple[Reference, ...]:
    """The references of the sweep in a folder; none where there is no record of any.

    Raises:
        ConfigError: for a record that is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        return ()
    records = jsonfiles.read(path).get("references")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ConfigError(f"{path}: references", "a list of objects", records)
    return tuple(_reference(path, record) for record in records)


def _reference(path: Path, record: Mapping[str, object]) -> Reference:
    metrics = jsonfiles.get(path, record, "metrics", dict)
    return Reference(
        name=jsonfiles.get(path, record, "name", str),
        source=jsonfiles.get(path, record, "source", str),
        measured=record.get("measured") is True,
        metrics={name: jsonfiles.get(path, metrics, name, float) for name in METRICS if name in metrics},
    )


def published(path: Path) -> tuple[Reference, ...]:
    """The points of a CSV file: `name`, `accuracy` in [0, 1], `bytes`, `source`, and whatever metrics are known besides.

    An empty cell is a value that is not known. `accuracy` is `test_accuracy`, `bytes` are `size_bytes`.

    Raises:
        ConfigError: naming file, row and column, for what cannot be read.
    """
    where = str(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(where, f"at most {_MOST_BYTES:,} bytes of CSV", f"{path.stat().st_size:,}")
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True, skipinitialspace=True)
        header = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = header
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(where, "a CSV file with the columns name, accuracy, bytes, source", str(error)) from error
    known = ("name", "source", *_COLUMNS, *METRICS)
    if absent := [name for name in ("name", "source", *_COLUMNS) if name not in header]:
        raise ConfigError(where, "the columns name, accuracy, bytes, source", f"no {absent[0]}")
    if wrong := [name for name in header if name not in known or header.count(name) > 1]:
        raise ConfigError(where, f"each column once, out of {', '.join(known)}", wrong[0])
    if clash := [name for name in _COLUMNS.values() if name in header]:
        raise ConfigError(where, f"{' and '.join(_COLUMNS)} alone for {' and '.join(_COLUMNS.values())}", clash[0])
    if not rows:
        raise ConfigError(where, "at least one row", "none")
    return tuple(_point(f"{where}, row {position}", row) for position, row in enumerate(rows, 2))


def _point(where: str, row: Mapping[str | None, str | None]) -> Reference:
    """One row of a CSV file."""
    if None in row or None in row.values():
        raise ConfigError(where, "as many cells as there are columns", f"{sum(cell is not None for cell in row.values())}")
    texts = {str(column): str(cell).strip() for column, cell in row.items()}
    name, source = texts.pop("name"), texts.pop("source")
    for column, text in (("name", name), ("source", source)):
        if not text or not text.isprintable():
            raise ConfigError(f"{where}: {column}", "a text on one line", repr(text))
    return Reference(name, source, measured=False, metrics=dict(_values(where, texts)))


def _values(where: str, texts: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    for column, text in texts.items():
        metric, value = _COLUMNS.get(column, column), number(text)
        if not text and column not in _COLUMNS:
            continue
        if math.isnan(value) or (METRICS[metric].kind is Kind.ACCURACY and not 0 <= value <= 1):
            expected = "a fraction in [0, 1]" if METRICS[metric].kind is Kind.ACCURACY else "a number"
            raise ConfigError(f"{where}: {column}", expected, repr(text))
        if METRICS[metric].logarithmic and value <= 0:
            raise ConfigError(f"{where}: {column}", "a number above 0", repr(text))
        yield metric, int(value) if value == int(value) and METRICS[metric].kind is Kind.FILE_SIZE else value
