"""The losses of knowledge distillation and attention transfer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweep.compress.distill.attention import EPSILON
from sweep.train import goals


@dataclass(frozen=True)
class DistillationLoss:
    """alpha * CE(labels, student) + (1 - alpha) * T^2 * KL(softmax(teacher / T) || softmax(student / T)).

    Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2. T^2 keeps the gradients of both terms on the same scale. The
    divergence equals their cross-entropy with soft targets up to a constant.

    Args:
        classes: the number of classes: the targets have that many columns of one-hot labels, then of teacher logits.
        temperature: T, above 0.
        alpha: the weight of the labels, in [0, 1].
        label_smoothing: the probability mass of the labels spread over all classes, in [0, 1).
        class_weights: the weight of each class in both terms; None for 1.
    """

    classes: int
    temperature: float
    alpha: float
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    def __call__(self, targets: Any, logits: Any) -> Any:
        """Computes the mean over the batch.

        Args:
            targets: float32 (batch, 2 * classes), one-hot labels, then the teacher's logits.
            logits: float32 (batch, classes), the student's.

        Returns:
            A float32 scalar, in nats.
        """
        import tensorflow as tf

        labels, teacher = targets[:, : self.classes], targets[:, self.classes :]
        log_student = tf.nn.log_softmax(logits / self.temperature)
        log_teacher = tf.nn.log_softmax(teacher / self.temperature)
        divergences = tf.reduce_sum(tf.exp(log_teacher) * (log_teacher - log_student), axis=1)
        divergence = goals.weighted_mean(divergences, labels, self.class_weights)
        hard = goals.CrossEntropy(self.label_smoothing, self.class_weights)(labels, logits)
        return self.alpha * hard + (1.0 - self.alpha) * self.temperature**2 * divergence


@dataclass(frozen=True)
class AttentionLoss:
    """`logits` + beta / 2 * the sum over the pairs of ||Q_S / ||Q_S||_2 - Q_T / ||Q_T||_2||_2.

    Zagoruyko and Komodakis 2017 (arXiv 1612.03928), eq. 2 with p = 2; Q is a map of `attention`. Their code has the mean
    squared difference in place of the last norm, with a beta of 1000. Its gradient vanishes as the maps approach each other,
    and equals this one at a distance of `beta * elements of a map / 4000`.

    Args:
        logits: the distillation loss, on the first columns of the targets.
        beta: the weight of the attention loss, at least 0.
    """

    logits: DistillationLoss
    beta: float

    def __call__(self, targets: Any, outputs: Any) -> Any:
        """Computes the mean over the batch.

        Args:
            targets: float32 (batch, 2 * classes + elements of all maps): one-hot labels, the teacher's logits and its maps.
            outputs: the student's logits, float32 (batch, classes), then each of its maps, float32 (batch, elements).

        Returns:
            A float32 scalar.
        """
        import tensorflow as tf

        logits, *maps = outputs
        sizes = [2 * self.logits.classes, *(student.shape[1] for student in maps)]
        logit_targets, *teacher_maps = tf.split(targets, sizes, axis=1)
        squares = [
            tf.reduce_sum(tf.square(student - teacher), axis=1) for student, teacher in zip(maps, teacher_maps, strict=True)
        ]
        # The gradient of the square root is infinite at zero.
        distance = tf.add_n([tf.sqrt(tf.maximum(square, EPSILON)) for square in squares])
        return self.logits(logit_targets, logits) + self.beta / 2 * tf.reduce_mean(distance)
