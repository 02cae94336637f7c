"""What the default launcher keeps in memory over hundreds of trials: resident bytes of the sweep's process and of its workers.

    python bench/memory.py                       200 trials with one worker, then 200 with two
    python bench/memory.py --seeds 20 --jobs 2   40 trials with two workers

Every trial is a real one: a LeNet-5 is trained on 200 digits for an epoch, quantised (half the trials with
quantisation-aware training, which TensorFlow never gives the memory of back), converted, measured and logged to MLflow.
Writes `memory-JOBS.csv` into `--output`, a row for each look at the processes, and prints the table. It reads /proc (Linux).

The parent must not grow with the trials, and a worker must stay below what `recycle_after` trials leave behind. Measured on
two cores that had other work too:

    jobs  minutes  workers  a worker's peak  parent, after 40 and after 199 trials  grows by       peak, with the report's
       1       30        8         1434 MiB                        303 and 304 MiB  8 KiB a trial                  369 MiB
       2       24        9         1430 MiB                        303 and 304 MiB  8 KiB a trial                  371 MiB
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20
SECONDS_BETWEEN_LOOKS = 0.5
# The fraction of the trials after which growth of the parent counts: the first ones load libraries. At the end the report does.
WARM_UP = 0.2


@dataclass(frozen=True)
class Look:
    """The processes at one moment.

    Attributes:
        seconds: since the start.
        trials: how many are complete.
        parent: resident MiB of the sweep's process.
        workers: pid to resident MiB of each process that runs trials.
    """

    seconds: float
    trials: int
    parent: float
    workers: dict[int, float]


def main() -> int:
    """Run, record, print. Returns the exit code: 1 when the sweep failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds; each is two trials")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="numbers of workers, one sweep each")
    parser.add_argument("--output", type=Path, help="a folder for the sweeps and the CSV files; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        output = (arguments.output or Path(temporary)).absolute()
        print("                                worker peak  parent, after a    grows by  its peak, with the", flush=True)
        print("jobs  trials  minutes  workers          MiB  fifth; last MiB  KiB a trial        report's MiB", flush=True)
        for jobs in arguments.jobs:
            code, looks = measure(jobs, arguments.seeds, output / f"jobs-{jobs}")
            write(looks, output / f"memory-{jobs}.csv")
            if code:
                print(f"the sweep with {jobs} workers ended with exit code {code}: {output}", file=sys.stderr)
                return 1
            print(row(jobs, looks), flush=True)
    return 0


def measure(jobs: int, seeds: int, output: Path) -> tuple[int, list[Look]]:
    """One sweep from an empty folder; its exit code and what was seen of it."""
    words = [
        f"seed=range({seeds})", "quant=ptq,qat", "dataset=digits", "dataset.limit=200", "model=lenet5", "prune=none",
        "train.epochs=1", "sweep.name=memory", f"output={output}", f"hydra.sweeper.n_jobs={jobs}", "hydra/launcher=workers",
    ]  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    with (output / "terminal").open("w") as terminal:
        sweep = subprocess.Popen([sys.executable, "-m", "sweep.main", "-m", *words], cwd=ROOT, stdout=terminal, stderr=terminal)
        with sweep:
            looks = list(watch(sweep, output))
    return sweep.returncode, looks


def watch(sweep: subprocess.Popen[bytes], output: Path) -> Iterator[Look]:
    """Look at the processes until the sweep ends."""
    began = time.monotonic()
    while sweep.poll() is None:
        trials = sum(1 for _ in output.glob("sweeps/memory/trial-*/metrics.json"))
        workers = {pid: resident(pid) for pid in workers_of(sweep.pid)}
        yield Look(time.monotonic() - began, trials, resident(sweep.pid), workers)
        time.sleep(SECONDS_BETWEEN_LOOKS)


def workers_of(parent: int) -> list[int]:
    """The pids of a process's spawned children."""
    found = []
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        try:
            pids = [int(text) for text in children.read_text().split()]
            found += [pid for pid in pids if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
        except OSError:  # one of them is gone already
            continue
    return found


def resident(pid: int) -> float:
    """Resident MiB of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
    except (OSError, IndexError):
        return 0.0


def write(looks: list[Look], path: Path) -> None:
    """A CSV row for each look; of several workers the largest."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["seconds", "trials", "parent_mib", "workers", "largest_worker_mib"])
        for look in looks:
            largest = max(look.workers.values(), default=0.0)
            rows.writerow([f"{look.seconds:.1f}", look.trials, f"{look.parent:.1f}", len(look.workers), f"{largest:.1f}"])


def row(jobs: int, looks: list[Look]) -> str:
    """The table's line for one sweep."""
    trials, minutes = looks[-1].trials, looks[-1].seconds / 60
    processes = len({pid for look in looks for pid in look.workers})
    worker = max(size for look in looks for size in look.workers.values())
    running = [look for look in looks if WARM_UP * trials <= look.trials < trials]
    parent = [look.parent for look in running]
    slope = np.polyfit([look.trials for look in running], parent, 1)[0]
    peak = max(look.parent for look in looks)
    return (
        f"{jobs:4}  {trials:6}  {minutes:7.1f}  {processes:7}  {worker:11.0f}  "
        f"{parent[0]:6.0f} to {parent[-1]:4.0f}  {slope * 1024:12.0f}  {peak:17.0f}"
    )


if __name__ == "__main__":
    sys.exit(main())
