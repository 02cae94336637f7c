"""Placement of the labels of a plot's points without overlap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sweep.reporting.marks import Mark
from sweep.reporting.picture import Picture
from sweep.reporting.style import GREY, INK

_Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""
_Line = tuple[float, float, float, float]
"""From x, y to x, y."""
_MOST_REFERENCES = 8
_DISTANCES = (8, 16, 28, 42, 60, 80)
"""The tried distances of a label from its point, in points (1/72 inch); beyond the first it has a leader line."""


def place_labels(axes: Any, picture: Picture) -> None:
    """Name up to eight points of the front: with their number alone, or not at all, where there is no room for more.

    As many references after them, in italics.
    """
    renderer = axes.figure.canvas.get_renderer()
    to_pixels, from_pixels = axes.transData.transform, axes.transData.inverted().transform
    room = _Room.of(picture, lambda x, y: to_pixels((x, y)).tolist(), axes.figure.dpi / 72, axes.bbox.extents.tolist())
    front = picture.chosen
    references = [mark for mark in itertools.chain(*picture.baselines.values()) if mark.label and picture.shows(mark)]
    for mark in (*front, *references[:_MOST_REFERENCES]):
        text = axes.text(0, 0, "", fontsize=8, color=INK, zorder=6, fontstyle="normal" if mark in front else "italic")
        for words in dict.fromkeys((mark.label, *([mark.label.partition(" ")[0]] if mark in front else []))):
            text.set_text(words)
            extent = text.get_window_extent(renderer)
            if placement := room.place(mark, extent.width, extent.height):
                box, leader = placement
                text.set(position=from_pixels(box[:2]), verticalalignment="bottom")
                if leader:
                    axes.plot(*zip((mark.x, mark.y), from_pixels(leader[2:]), strict=True), color=GREY, linewidth=0.6, zorder=2)
                break
        else:
            text.remove()


@dataclass(frozen=True, eq=False)
class _Room:
    """The occupied and free areas for labels, in pixels.

    Attributes:
        frame: the axes.
        scale: pixels in a point (1/72 inch).
        sides: the directions from a point to its label, the empty side of the front first.
        points: the positions of the points.
        obstacles: boxes that labels should not cover.
        labels: the boxes of placed labels.
        leaders: their leader lines.
    """

    frame: _Box
    scale: float
    sides: tuple[tuple[int, int], ...]
    points: Mapping[Mark, list[float]]
    obstacles: tuple[_Box, ...]
    labels: list[_Box]
    leaders: list[_Line]

    @staticmethod
    def of(picture: Picture, to_pixels: Callable[[float, float], list[float]], scale: float, frame: _Box) -> _Room:
        """The areas of a picture, with `to_pixels` from data to pixel coordinates."""
        side, up = (1 if picture.better[0] else -1), (1 if picture.better[1] else -1)
        sides = ((side, up), (0, up), (side, 0), (-side, up), (-side, 0), (side, -up), (0, -up), (-side, -up))
        points = {mark: to_pixels(mark.x, mark.y) for mark in picture.marks if picture.shows(mark)}
        return _Room(frame, scale, sides, points, tuple(_obstacles(picture, to_pixels, scale)), [], [])

    def place(self, mark: Mark, width: float, height: float) -> tuple[_Box, _Line | None] | None:
        """Places a label where it covers least, with a leader line if it would be ambiguous; None if there is no room."""
        x, y = self.points[mark]
        options: list[tuple[float, _Box, _Line | None]] = []
        for distance, box in self._positions(x, y, width, height):
            others = (point for other, point in self.points.items() if other is not mark)
            unclear = any(_gap(box, *point) < 1.5 * _gap(box, x, y) for point in others)
            leader = _leader(box, x, y) if unclear or distance > _DISTANCES[0] else None
            if self._free(box, leader):
                covered = sum(_overlap(box, other, self.scale) for other in self.obstacles)
                options.append((30 * covered + 15 * unclear + distance / 4, box, leader))
        if not options:
            return None
        _, box, leader = min(options, key=lambda option: option[0])
        self.labels.append(box)
        self.leaders.extend([leader] if leader else [])
        return box, leader

    def _positions(self, x: float, y: float, width: float, height: float) -> Iterator[tuple[float, _Box]]:
        """Yields the candidate boxes around a point, with their distance."""
        for distance, (across, along) in itertools.product(_DISTANCES, self.sides):
            reach = distance * self.scale * (0.75 if across and along else 1)
            left = x + across * (reach + width / 2) - width / 2
            bottom = y + along * (reach + height / 2) - height / 2
            yield distance, (left, bottom, left + width, bottom + height)

    def _free(self, box: _Box, leader: _Line | None) -> bool:
        """Whether a label is within the axes, and neither it nor its leader crosses another label or leader."""
        within = self.frame[0] <= box[0] and box[2] <= self.frame[2] and self.frame[1] <= box[1] and box[3] <= self.frame[3]
        crossed = any(_crosses(line, box, self.scale) for line in self.leaders)
        crossed = crossed or (leader is not None and any(_crosses(leader, other, self.scale) for other in self.labels))
        return within and not crossed and not any(_overlap(box, other, 2 * self.scale) for other in self.labels)


def _leader(box: _Box, x: float, y: float) -> _Line:
    """The leader line from a point to the nearest point of its label."""
    return x, y, min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])


def _crosses(line: _Line, box: _Box, margin: float) -> bool:
    """Whether a line crosses a box with a margin (Liang and Barsky 1984)."""
    x, y, to_x, to_y = line
    first, last = 0.0, 1.0
    for step, behind, ahead in (
        (to_x - x, box[0] - margin - x, box[2] + margin - x),
        (to_y - y, box[1] - margin - y, box[3] + margin - y),
    ):
        if step == 0:
            if behind > 0 or ahead < 0:
                return False
            continue
        enters, leaves = sorted((behind / step, ahead / step))
        first, last = max(first, enters), min(last, leaves)
    return first <= last


def _obstacles(picture: Picture, to_pixels: Callable[[float, float], list[float]], scale: float) -> Iterator[_Box]:
    """Yields the boxes that labels should not cover, in pixels: points with error bars, the knee's ring, the front's line."""
    for mark in filter(picture.shows, picture.marks):
        left, bottom = to_pixels(mark.x - mark.spread[0], mark.y - mark.spread[1])
        right, top = to_pixels(mark.x + mark.spread[0], mark.y + mark.spread[1])
        half = (9 if mark is picture.knee else 5) * scale
        yield left - half, bottom - half, right + half, top + half
    for (x, y), (to_x, to_y) in itertools.pairwise(to_pixels(*corner) for corner in picture.staircase):
        yield min(x, to_x) - scale, min(y, to_y) - scale, max(x, to_x) + scale, max(y, to_y) + scale
    for axis, value, _ in picture.limits:
        ends = ((value, low) if axis == "x" else (low, value) for low in picture.window[axis == "x"])
        (left, bottom), (right, top) = (to_pixels(*end) for end in ends)
        yield left - scale, bottom - scale, right + scale, top + scale


def _overlap(box: _Box, other: _Box, margin: float) -> bool:
    """Whether two boxes are closer than a margin."""
    beside = box[0] - margin >= other[2] or box[2] + margin <= other[0]
    return not beside and box[1] - margin < other[3] and box[3] + margin > other[1]


def _gap(box: _Box, x: float, y: float) -> float:
    """The distance of a point from a box."""
    return math.hypot(max(box[0] - x, 0.0, x - box[2]), max(box[1] - y, 0.0, y - box[3]))
