"""What TensorFlow computes with on this machine. To be called in a process of its own, since it imports TensorFlow."""

from __future__ import annotations

import sys


def keras_version() -> str:
    """The version of the Keras that `tf.keras` is: the model-optimisation toolkit needs 2.

    Raises:
        RuntimeError: where TensorFlow cannot be imported.
    """
    try:
        import tensorflow as tf

        return str(sys.modules[tf.keras.Model.__module__.partition(".")[0]].__version__)
    except Exception as error:  # a damaged installation raises nearly anything
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def gpus() -> list[str]:
    """The names of the GPUs that TensorFlow can use.

    Raises:
        RuntimeError: where TensorFlow cannot be imported, or a driver fails.
    """
    try:
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
        return [str(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)) for gpu in found]
    except Exception as error:  # a damaged installation raises nearly anything
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
