"""The process of TFLM's interpreter: prints the allocations of a file, and writes its outputs.

    python -P tflm_process.py FOLDER ARENA

FOLDER has `network.tflite` and optionally `images.npy`, of the type of the input tensor, (n, height, width, channels). The
outputs go to `outputs.npy`, (n, classes), of the type of the output tensor. ARENA is the size of the tensor arena in bytes. The
process is started for every file, so it imports nothing of this project.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np


def main(folder: Path, arena: int) -> int:
    """Returns the exit code."""
    # The package imports its compressor eagerly, which takes a fifth of this process's time. It is not needed here.
    sys.modules["tflite_micro.tensorflow.lite.micro.compression"] = ModuleType("compression")
    from tflite_micro.python.tflite_micro.runtime import Interpreter

    content, images = (folder / "network.tflite").read_bytes(), folder / "images.npy"
    try:
        interpreter = Interpreter.from_bytes(content, arena_size=arena)
        if images.exists():
            rows = []
            for image in np.load(images):
                interpreter.set_input(image[np.newaxis], 0)
                interpreter.invoke()
                rows.append(interpreter.get_output(0)[0].copy())
            np.save(folder / "outputs.npy", np.stack(rows))
        interpreter.print_allocations()
    except (RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
