"""What is measured of a trial's file."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Metrics:
    """What is known of one trial's file. The names are the same in JSON, CSV, MLflow and objectives.

    Attributes:
        val_accuracy: top-1 in [0, 1] of the file, run by LiteRT on the validation split.
        test_accuracy: the same on the test split.
        float_accuracy: validation top-1 of the Keras model just before conversion.
        conversion_gap: float_accuracy - val_accuracy.
        size_bytes: bytes of the file.
        gzip_bytes: bytes of the file deflated at level 9.
        efficiency: test accuracy in per cent per KiB of size_bytes.
        compression: bytes of the float32 file of the network one started from, over size_bytes.
        parameters: weights and biases, counted on the file's tensors.
        nonzero_parameters: those of them that are not zero.
        sparsity: the fraction of the weights of the convolutions, the dense layers or both (what `prune.layers` says; depthwise
            kernels and biases are no part of it) that are exactly zero in the file, in [0, 1]; where filters were removed, the
            fraction of those that could be.
        macs: multiply-accumulates for one image.
        weight_bits: mean stored bits per weight.
        distinct_weight_levels: the largest number of different values in one weight tensor.
        latency_ms: median single-image, single-thread LiteRT time in milliseconds.
        latency_p10_ms: its tenth percentile.
        latency_p90_ms: its ninetieth percentile.
        train_seconds: what the trial's stages took in this run, in seconds.
        stages_reused: how many stages came from the cache.
        seconds_saved: what those took when they were computed.
    """

    val_accuracy: float
    test_accuracy: float
    float_accuracy: float
    conversion_gap: float
    size_bytes: int
    gzip_bytes: int
    efficiency: float
    compression: float
    parameters: int
    nonzero_parameters: int
    sparsity: float
    macs: int
    weight_bits: float
    distinct_weight_levels: int
    latency_ms: float
    latency_p10_ms: float
    latency_p90_ms: float
    train_seconds: float
    stages_reused: int
    seconds_saved: float

    def as_dict(self) -> dict[str, float | int]:
        """Metric name to value, in the order above."""
        return asdict(self)

    def summary(self, sparse: str) -> str:
        """One line for people.

        Args:
            sparse: what the sparsity is a fraction of (`conv and dense weights zero`).
        """
        return (
            f"test {self.test_accuracy:.2%}, validation {self.val_accuracy:.2%}, {self.size_bytes:,} bytes"
            f" ({self.compression:.1f}x smaller), {self.sparsity:.0%} of {sparse}, {self.latency_ms:.2f} ms"
        )
