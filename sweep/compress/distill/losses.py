"""The losses of distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweep.compress.distill.attention import LEAST
from sweep.train import goals


@dataclass(frozen=True)
class DistillationLoss:
    """alpha * CE(labels, student) + (1 - alpha) * T^2 * KL(softmax(teacher / T) || softmax(student / T)).

    Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2; T^2 keeps the gradients of both terms on one scale.

    Args:
        classes: how many columns of the targets are one-hot labels; as many columns of teacher logits follow.
        temperature: T, above 0.
        alpha: the weight of the labels, in [0, 1].
        label_smoothing: of the labels, in [0, 1).
    """

    classes: int
    temperature: float
    alpha: float
    label_smoothing: float = 0.0

    def __call__(self, targets: Any, logits: Any) -> Any:
        """The mean over the batch, in nats: targets (batch, 2 * classes) and logits (batch, classes), float32."""
        import tensorflow as tf

        labels, teacher = targets[:, : self.classes], targets[:, self.classes :]
        log_student = tf.nn.log_softmax(logits / self.temperature)
        log_teacher = tf.nn.log_softmax(teacher / self.temperature)
        divergence = tf.reduce_mean(tf.reduce_sum(tf.exp(log_teacher) * (log_teacher - log_student), axis=1))
        hard = goals.CrossEntropy(self.label_smoothing)(labels, logits)
        return self.alpha * hard + (1.0 - self.alpha) * self.temperature**2 * divergence


@dataclass(frozen=True)
class AttentionLoss:
    """`logits` + beta / 2 * the sum over the pairs of ||Q_S / ||Q_S||_2 - Q_T / ||Q_T||_2||_2.

    Zagoruyko and Komodakis 2017 (arXiv 1612.03928), eq. 2 with p = 2; Q is a map of `attention`. Their code squares the last
    norm and divides by the map's numbers, with a beta of 1000: the pull then fades as the maps come closer, and is the same as
    here where they are `beta * numbers / 4000` apart.

    Args:
        logits: the loss on the logits, and on the targets' columns for them.
        beta: at least 0.
    """

    logits: DistillationLoss
    beta: float

    def __call__(self, targets: Any, answers: Any) -> Any:
        """The mean over the batch: targets (batch, 2 * classes + numbers of all maps), answers the logits and each map."""
        import tensorflow as tf

        logits, *maps = answers
        taught, *wanted = tf.split(targets, [2 * self.logits.classes, *(one.shape[1] for one in maps)], axis=1)
        squares = [tf.reduce_sum(tf.square(one - other), axis=1) for one, other in zip(maps, wanted, strict=True)]
        # The gradient of a root is not finite at zero.
        distance = tf.add_n([tf.sqrt(tf.maximum(square, LEAST)) for square in squares])
        return self.logits(taught, logits) + self.beta / 2 * tf.reduce_mean(distance)
