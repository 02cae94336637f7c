"""The speed that the project holds itself to, each as a ratio against what a user would do instead, in one run.

    python bench/speed.py                  all of it, on the digits: about half an hour on two cores; nothing else may run
    python bench/speed.py epoch overhead   some of: sweep, epoch, overhead, workers, start
    python bench/speed.py sweep --words dataset=mnist dataset.path=FILE.npz dataset.limit=5000

`sweep` is a sweep of twelve points (sparsity 0.5, 0.7, 0.9 x none, ptq, qat, 4-bit qat) of a LeNet-5 taught by a ResNet-20:
with an empty cache, again with a full one, and as `by_hand.py` writes it, each point from scratch and with a dictionary of
shared stages. The same epochs, batches, rates and measurements on both sides. `epoch` is an epoch of training against
`model.fit` of the same network on the same images. `overhead` is what a further trial costs whose stages are all in the cache.
`workers` is a sweep of eight trainings with two workers of one thread against one of two threads. `start` is the command
line's help, and the two commands of `make demo` in an empty folder. Prints a Markdown table; a target that is missed says so.

Measured on two cores:

    12 points, each from scratch by hand        5.94x  (at least 12x)    399 s against 67 s
    the same, cache full                        28.7x  (at least 100x)   399 s against 14 s
    12 points, shared stages by hand            0.971  (at most 0.7)     67 s against 69 s
    an epoch of lenet5 against model.fit        0.995  (at most 1)
    an epoch of resnet8 against model.fit       0.996  (at most 1)
    a further trial, cache full                 408 ms (at most 150 ms)
    trials an hour, two workers against one     1.63x  (at least 1.3x)
    --help                                      1.55 s (at most 1.2 s)
    the two commands of make demo               38.4 s (at most 90 s)

On the digits a training takes seconds, so that what a sweep saves is small beside what every sweep costs: starting Python and
TensorFlow, tracing, converting.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir

from sweep.config import build

ROOT = Path(__file__).resolve().parents[1]
SWEEP = [
    "distill=kd",
    "prune.sparsity=0.5,0.7,0.9",
    "quant=none,ptq,qat,qat4",
    f"hydra.searchpath=[file://{ROOT / 'bench' / 'conf'}]",
    "train.epochs=20",
    "train.batch_size=64",
    "prune.finetune=4",
]
EPOCH = ("lenet5", "resnet8")


@dataclass(frozen=True)
class Line:
    """What was compared, what was found, and the target: at least or at most a number."""

    what: str
    found: float
    target: float
    least: bool
    unit: str = ""
    note: str = ""

    def __str__(self) -> str:
        kept = self.found >= self.target if self.least else self.found <= self.target
        bound = f"at {'least' if self.least else 'most'} {self.target:g}{self.unit}"
        return f"| {self.what} | {self.found:.3g}{self.unit} | {bound} | {'yes' if kept else '**no**'} | {self.note} |"


def timed(*words: str, folder: Path = ROOT) -> float:
    """Seconds that a command of Python takes."""
    began = time.perf_counter()
    process = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}:\n{process.stderr[-2000:]}")
    return time.perf_counter() - began


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def swept(output: Path, name: str, *words: str) -> float:
    """Seconds that a sweep takes."""
    return timed("-m", "sweep.main", "-m", *words, f"sweep.name={name}", f"output={output}")


def sweep(folder: Path, words: Sequence[str]) -> Iterator[Line]:
    """Twelve points, against the same by hand."""
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        data = build.plan(compose("config", [*words, "tracking=none"])).dataset.load()
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    arrays = {f"{name}_images": split.images for name, split in splits.items()}
    np.savez(folder / "data.npz", **arrays, **{f"{name}_labels": split.labels for name, split in splits.items()})
    cold, warm = (swept(folder / "mlruns", name, *SWEEP, *words) for name in ("cold", "warm"))
    by_hand = {}
    for name, more in (("scratch", []), ("shared", ["--share"])):
        results = folder / f"{name}.json"
        timed(str(ROOT / "bench" / "by_hand.py"), str(folder / "data.npz"), str(results), *more)
        by_hand[name] = json.loads(results.read_text())["seconds"]
    scratch, shared = by_hand.values()
    yield Line("12 points, each from scratch by hand", scratch / cold, 12, True, "x", f"{scratch:.0f} s against {cold:.0f} s")
    yield Line("the same, cache full", scratch / warm, 100, True, "x", f"{scratch:.0f} s against {warm:.0f} s")
    yield Line("12 points, shared stages by hand", cold / shared, 0.7, False, "", f"{cold:.0f} s against {shared:.0f} s")


def epoch(folder: Path, words: Sequence[str]) -> Iterator[Line]:
    """An epoch against `model.fit`, each in a process of its own."""
    for network in EPOCH:
        ours, theirs = (
            float(
                subprocess.run(
                    [sys.executable, __file__, "--epoch", network, side],
                    cwd=ROOT, env=environment(), capture_output=True, text=True, check=True,
                ).stdout.split()[-1]
            )
            for side in ("ours", "fit")
        )  # fmt: skip
        yield Line(
            f"an epoch of {network} against model.fit", ours / theirs, 1.0, False, "", f"{ours:.2f} s against {theirs:.2f} s"
        )


def one_epoch(network: str, side: str) -> float:
    """The median of five epochs after the first, in seconds: 4,096 images of CIFAR-10's shape, batches of 64."""
    from sweep.core.types import Arrays, Checkpoint, Data, Split
    from sweep.data import augment
    from sweep.models import checkpoints, families
    from sweep.train import goals, loop, recipes
    from sweep.train.context import Context

    spec = {"lenet5": families.LeNet5(), "resnet8": families.ResNet(blocks=1)}[network]
    draws = np.random.default_rng(0)
    images, labels = draws.integers(0, 256, (4096, 32, 32, 3), np.uint8), draws.integers(0, 10, 4096)
    ends: list[float] = []
    if side == "fit":
        import tf_keras as keras

        class Clock(keras.callbacks.Callback):  # type: ignore[misc]
            def on_epoch_end(self, epoch: int, logs: object = None) -> None:
                ends.append(time.perf_counter())

        model = spec.build((32, 32, 3), 10)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.001), loss, metrics=["accuracy"])
        model.fit(images / np.float32(255), labels, batch_size=64, epochs=6, verbose=0, callbacks=[Clock()])
    else:

        class Clocked:
            def stage(self, name: str, unit: str = "epoch") -> None:
                """Nothing is shown."""

            def advance(self, done: float, total: float, note: str) -> None:
                if done == int(done) and note.startswith("validation"):
                    ends.append(time.perf_counter())

            def finish(self, name: str, seconds: float, reused: bool) -> None:
                """Nothing is shown."""

        class Unused:
            def arrays(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
                raise NotImplementedError

            def file(self, network: Checkpoint, form: Any) -> bytes:
                raise NotImplementedError

        loop.start(build.cores())
        checkpoints.fresh(0)
        train, few = Split(images, labels), Split(images[:1], labels[:1])
        context = Context(
            data=Data("random", 10, train, few, few, "", ""),
            recipe=recipes.Recipe(
                epochs=6, batch_size=64, learning_rate=0.001, optimizer=recipes.Adam(), schedule=recipes.Constant()
            ),
            augment=augment.Augment(shift=0, flip=False),
            view=None,
            seed=0,
            model=spec,
            teacher=None,
            goal=goals.Labels(),
            results=Unused(),
            files=Unused(),
            progress=Clocked(),
        )
        model = spec.build((32, 32, 3), 10)
        loop.fit(model, context, epochs=6, learning_rate=0.001, goal=goals.Labels())
    return statistics.median(np.diff(ends))


def overhead(folder: Path, words: Sequence[str]) -> Iterator[Line]:
    """A further trial with a full cache: compose, look up, measure the latency, track, tell."""
    quick = ["train.epochs=1", "prune.finetune=0", *words]
    many = f"prune.sparsity={','.join(f'{number / 50}' for number in range(1, 41))}"
    swept(folder / "overhead", "first", many, *quick)
    one, all_of_them = (
        swept(folder / "overhead", name, axis, *quick) for name, axis in (("one", "prune.sparsity=0.02,0.04"), ("all", many))
    )
    cost = 1000 * (all_of_them - one) / 38
    yield Line("a further trial, cache full", cost, 150, False, " ms", f"40 trials {all_of_them:.1f} s, 2 trials {one:.1f} s")


def workers(folder: Path, words: Sequence[str]) -> Iterator[Line]:
    """Eight trainings, side by side and one by one."""
    eight = ["seed=0,1,2,3,4,5,6,7", "model=resnet8", "train.epochs=10", "prune=none", "quant=none", *words]
    one, two = (swept(folder / f"jobs{jobs}", "s", *eight, f"hydra.sweeper.n_jobs={jobs}") for jobs in (1, 2))
    yield Line("trials an hour, two workers against one", one / two, 1.3, True, "x", f"{two:.0f} s against {one:.0f} s")


def start(folder: Path, words: Sequence[str]) -> Iterator[Line]:
    """What a user waits for first."""
    yield Line("--help", statistics.median(timed("-m", "sweep.main", "--help") for _ in range(5)), 1.2, False, " s")
    began = time.perf_counter()
    timed("-m", "sweep.main", folder=folder)
    timed("-m", "sweep.main", "-m", "prune.sparsity=0.5,0.8", "quant=ptq,qat", folder=folder)
    yield Line("the two commands of make demo", time.perf_counter() - began, 90, False, " s")


PARTS: dict[str, Callable[[Path, Sequence[str]], Iterator[Line]]] = {
    "sweep": sweep, "epoch": epoch, "overhead": overhead, "workers": workers, "start": start,
}  # fmt: skip


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="which (all)")
    parser.add_argument("--words", nargs="*", default=[], metavar="override", help="handed on to the sweeps")
    parser.add_argument("--epoch", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.epoch:
        print(one_epoch(*options.epoch))
        return 0
    print("| what | found | target | met | |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts or PARTS:
            for line in PARTS[part](Path(folder), options.words):
                print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
