"""TensorFlow Lite for Microcontrollers driven by hand. It can abort: it is called in a process of its own."""

from __future__ import annotations

import numpy as np

ARENA = 1 << 20  # bytes


def tflm_answers(content: bytes, count: int) -> list[bytes]:
    """The bytes of the outputs for random inputs, the same each time.

    Raises:
        RuntimeError: for a file that it cannot run.
    """
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(content, arena_size=ARENA)
    draws, answers = np.random.default_rng(0), []
    taken = interpreter.get_input_details(0)
    for _ in range(count):
        if taken["dtype"] == np.float32:
            image = draws.standard_normal(taken["shape"]).astype(np.float32)
        else:
            image = draws.integers(-128, 128, taken["shape"]).astype(taken["dtype"])
        interpreter.set_input(image, 0)
        interpreter.invoke()
        answers.append(interpreter.get_output(0).tobytes())
    return answers
