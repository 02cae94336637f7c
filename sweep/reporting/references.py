"""Others' files and published points beside a sweep's front: as points of its plot, and in the report.

An axis of validation accuracy shows a file of others twice. On the validation split, as the trials: but that is cut from the
official training images, which the file may have learnt from. And on the test split, as published points are.
"""

from __future__ import annotations

from collections.abc import Iterator

from sweep.core.errors import shortened
from sweep.core.metric import Kind, Prominence
from sweep.core.metrics import METRICS, seen_in
from sweep.core.text import table
from sweep.reporting.marks import Mark
from sweep.results.references import Reference
from sweep.results.sweeps import Sweep

PLAIN, VALIDATION, TEST = "reference", "reference, validation", "reference, test accuracy"
"""The names of references in a legend: TEST where the axis has the trials' validation accuracy."""
_CAVEAT = (
    "A file of others may have learnt from the images of the validation split, which is cut from the official training images;"
    " the test split it has not seen."
)


def reference_marks(sweep: Sweep, across: str, lead: str) -> dict[str, tuple[Mark, ...]]:
    """The references as points of a plane, by the split of their accuracy.

    Args:
        sweep: the sweep.
        across: the metric to the right.
        lead: that upwards.
    """
    marks = {
        kind: tuple(
            Mark(
                reference.metrics[shown[across]] * METRICS[across].factor,
                reference.metrics[shown[lead]] * METRICS[lead].factor,
                label=shortened(reference.name, 32),
                hover=tuple(_hover(reference)),
            )
            for reference in sweep.references
            if set(shown.values()) <= reference.metrics.keys()
        )
        for kind, shown in _kinds(across, lead).items()
    }
    return {kind: members for kind, members in marks.items() if members}


def notes(sweep: Sweep, across: str, lead: str) -> Iterator[str]:
    """Notes on the points: references without a value on an axis, and the limits of their validation accuracy."""
    kinds = _kinds(across, lead)
    for reference in sweep.references:
        if not any(set(shown.values()) <= reference.metrics.keys() for shown in kinds.values()):
            yield f"{reference.name} (reference) without a value on an axis"
    if VALIDATION in kinds and any(set(kinds[VALIDATION]) <= reference.metrics.keys() for reference in sweep.references):
        yield "references may have learnt from validation images"


def section(sweep: Sweep) -> Iterator[str]:
    """The section of the report on the references."""
    if not sweep.references:
        return
    accuracies = [name for name, metric in METRICS.items() if metric.kind is Kind.ACCURACY]
    columns = dict.fromkeys([*sweep.objectives, *seen_in(Prominence.HOVER), *accuracies])
    shown = [name for name in columns if any(name in reference.metrics for reference in sweep.references)]
    rows = [
        [
            reference.name,
            *(METRICS[name].text(reference.metrics[name]) if name in reference.metrics else "" for name in shown),
            "measured" if reference.measured else "as published",
            reference.source,
        ]
        for reference in sweep.references
    ]
    parts = ["## References", table(["name", *shown, "", "source"], rows)]
    if any(reference.measured for reference in sweep.references):
        parts.append(_CAVEAT)
    yield "\n\n".join(parts)


def _kinds(across: str, lead: str) -> dict[str, dict[str, str]]:
    """Kind of reference point to the metric on each axis of a plane."""
    own = {axis: axis for axis in (across, lead)}
    if "val_accuracy" not in own:
        return {PLAIN: own}
    return {TEST: own | {"val_accuracy": "test_accuracy"}, VALIDATION: own}


def _hover(reference: Reference) -> Iterator[str]:
    yield reference.name
    yield f"{'measured' if reference.measured else 'as published'}: {reference.source}"
    for name in seen_in(Prominence.HOVER):
        if name in reference.metrics:
            yield f"{METRICS[name].title}: {METRICS[name].text(reference.metrics[name])}"
