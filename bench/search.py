"""What the search is worth: on a recorded space, its hypervolume after so many trials against random draws and a thinned grid.

    python bench/search.py            replay bench/space.csv over 20 seeds: about six minutes
    python bench/search.py --record   run the space's 200 trials for real and write bench/space.csv anew: about ten minutes

Replayed, a trial is a look into the table, so 20 seeds of every sampler see the very same trials. The hypervolume is that of
validation accuracy against the logarithm of the file's size, as a fraction of what the whole space has; the mean over the seeds
and its standard deviation are printed as a Markdown table. The thinned grid takes every k-th point of the whole one, beginning
somewhere else with each seed.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from sweep.results import pareto, ranking
from sweep.search.axes import Point
from sweep.search.space import Space
from sweep.search.study import Study

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "bench" / "space.csv"
OBJECTIVES = {"val_accuracy": "maximize", "size_bytes": "minimize"}
AXES = (
    "model.width=0.3,0.5,0.7,1",
    "prune=global,local",
    "prune.sparsity=0.1,0.3,0.5,0.7,0.9",
    "quant=none,ptq,qat",
    "quant.bits=4,8",
)
SEEDS = 20
TRIALS = (20, 40, 80)
SAMPLERS = ("tpe", "nsga2", "qmc", "random")

Table = dict[Point, dict[str, float]]


def record(folder: Path) -> None:
    """Run every point on the digits and keep what the objectives need."""
    command = [sys.executable, "-m", "sweep.main", "-m", *AXES, "hydra.sweeper.n_jobs=2", "tracking=none", "sweep.name=space"]
    subprocess.run([*command, f"output={folder}"], cwd=ROOT, check=True)
    with (folder / "sweeps" / "space" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [axis.partition("=")[0] for axis in AXES]
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*keys, *OBJECTIVES], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read() -> Table:
    """The recorded trials by point."""
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        tuple(f"{key}={text}" for key, text in row.items() if text and key not in OBJECTIVES): {
            name: float(row[name]) for name in OBJECTIVES
        }
        for row in rows
    }


def searched(space: Space, table: Table, sampler: str, seed: int) -> Iterator[Point]:
    """The points in the order in which a sampler asks for them."""
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder), space, objectives=OBJECTIVES, constraints=(), sampler=sampler, seed=seed, total=max(TRIALS))
        while (proposal := study.ask()) is not None:
            study.tell(proposal, table[proposal.point])
            yield proposal.point


def thinned(table: Table, seed: int, trials: int) -> list[Point]:
    """Every k-th point of the grid, from an offset on."""
    points = list(table)
    return [points[(seed + round(number * len(points) / trials)) % len(points)] for number in range(trials)]


def shares(table: Table, points: list[Point]) -> list[float]:
    """The fraction of the whole space's hypervolume that the first 1, 2, ... points have."""
    everything = _seen(table, list(table))
    reference = everything.max(axis=0) + 0.05 * np.ptp(everything, axis=0)
    whole = pareto.hypervolume(everything, reference)
    return (pareto.running_hypervolume(_seen(table, points), reference) / whole).tolist()


def _seen(table: Table, points: list[Point]) -> pareto.Floats:
    return ranking.objective_points({name: [table[point][name] for point in points] for name in OBJECTIVES}, OBJECTIVES)


def main() -> int:
    """Replay, or record first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="run the trials for real first")
    if parser.parse_args().record:
        with tempfile.TemporaryDirectory() as folder:
            record(Path(folder))
    table = read()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", list(AXES), run_mode=RunMode.MULTIRUN)
        space = Space.parse(loader, config, {}, AXES)
        rows = {
            sampler: [shares(table, list(searched(space, table, sampler, seed))) for seed in range(SEEDS)]
            for sampler in SAMPLERS
        }
    print(f"| of {len(table)} points | {' | '.join(f'{trials} trials' for trials in TRIALS)} |")
    print("|---|" + "---|" * len(TRIALS))
    for sampler, found in rows.items():
        print(_row(sampler, [[one[trials - 1] for one in found] for trials in TRIALS]))
    grids = [[shares(table, thinned(table, seed, trials))[-1] for seed in range(SEEDS)] for trials in TRIALS]
    print(_row("thinned grid", grids))
    return 0


def _row(name: str, columns: list[list[float]]) -> str:
    cells = (f"{100 * np.mean(column):.1f} ± {100 * np.std(column, ddof=1):.1f} %" for column in columns)
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
