"""The distillation loss against a numpy closed form, its limits, and who teaches whom."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import RECIPE
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep import data, distill, fit, models
from sweep.records import ConfigError

pytestmark = pytest.mark.usefixtures("tensorflow")

CLASSES = 5


def batch(seed: int):
    rng = np.random.default_rng(seed)
    labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, 8)]
    teacher, student = (
        (3 * rng.normal(size=(8, CLASSES))).astype(np.float32),
        (3 * rng.normal(size=(8, CLASSES))).astype(np.float32),
    )
    return labels, teacher, student


def loss(labels, teacher, student, temperature, alpha, smoothing=0.0):
    targets = np.concatenate([labels, teacher], axis=1)
    return float(distill.DistillationLoss(CLASSES, temperature, alpha, smoothing)(targets, student))


def log_softmax(logits):
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def closed_form(labels, teacher, student, temperature, alpha):
    hard = -(labels * log_softmax(student)).sum(1)
    p, q = log_softmax(teacher / temperature), log_softmax(student / temperature)
    soft = (np.exp(p) * (p - q)).sum(1)
    return (alpha * hard + (1 - alpha) * temperature**2 * soft).mean()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), temperature=st.floats(0.5, 20), alpha=st.floats(0, 1))
def test_the_loss_is_hintons(seed, temperature, alpha):
    labels, teacher, student = batch(seed)
    assert loss(labels, teacher, student, temperature, alpha) == pytest.approx(
        closed_form(labels, teacher, student, temperature, alpha), rel=2e-3, abs=1e-4
    )


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_does_not_feel_a_shift_of_the_logits(temperature):
    labels, teacher, student = batch(0)
    assert loss(labels, teacher + 7, student - 3, temperature, 0.3) == pytest.approx(
        loss(labels, teacher, student, temperature, 0.3), rel=1e-4
    )


def test_a_student_that_equals_its_teacher_has_nothing_to_learn_from_it():
    labels, teacher, _ = batch(1)
    assert loss(labels, teacher, teacher, 4.0, 0.0) == pytest.approx(0, abs=1e-5)


def test_alpha_goes_to_both_ends_without_a_jump():
    labels, teacher, student = batch(2)
    for end, near in ((0.0, 1e-6), (1.0, 1 - 1e-6)):
        assert loss(labels, teacher, student, 6.0, end) == pytest.approx(loss(labels, teacher, student, 6.0, near), rel=1e-3)
    assert loss(labels, teacher, student, 6.0, 1.0) == pytest.approx(float(fit.CrossEntropy()(labels, student)), rel=1e-6)
    assert loss(labels, teacher, student, 6.0, 0.0) > 0


def test_the_gradient_keeps_its_scale_at_high_temperature():
    # Hinton et al. 2015, eq. 4: for T large the soft gradient is (z - v) / (N T^2), which T^2 undoes (centred logits).
    import tensorflow as tf

    labels, teacher, student = batch(3)
    teacher, student = teacher - teacher.mean(1, keepdims=True), student - student.mean(1, keepdims=True)
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = distill.DistillationLoss(CLASSES, 300.0, 0.0)(np.concatenate([labels, teacher], axis=1), variable)
    np.testing.assert_allclose(tape.gradient(value, variable), (student - teacher) / CLASSES / len(labels), atol=3e-3)


def test_label_smoothing_touches_the_labels_only():
    labels, teacher, student = batch(4)
    assert loss(labels, teacher, student, 2.0, 0.0, smoothing=0.5) == loss(labels, teacher, student, 2.0, 0.0)
    assert loss(labels, teacher, student, 2.0, 1.0, smoothing=0.5) == pytest.approx(
        float(fit.CrossEntropy(0.5)(labels, student))
    )


@pytest.fixture
def taught(context):
    """A context with a teacher, and a memory that counts what it computes."""
    models.fresh(0)
    teacher = models.snapshot(models.CNN(filters=(4,), units=()).build((8, 8, 1), 10))
    # Untrained, so its answers are known to nobody else; loud, so that they can be learnt in a few steps.
    teacher = replace(teacher, weights=(*teacher.weights[:-2], 30 * teacher.weights[-2], teacher.weights[-1]))
    kept, computed = {}, []

    def remember(key, compute):
        name = str(sorted(key.items()))
        if name not in kept:
            computed.append(key)
            kept[name] = compute()
        return kept[name]

    def make(**fields):
        return context(teacher=("teacher-key", teacher), remember=remember, **fields)

    return make, computed, teacher


def test_the_teacher_is_asked_once_for_all_students_on_plain_images(taught):
    make, computed, _ = taught
    distill.Distill(distill.Taught(4.0, 0.1), epochs=1).apply(None, make())
    distill.Distill(distill.Taught(2.0, 0.9), epochs=1).apply(None, make(seed=9))
    assert len(computed) == 1


def test_the_teacher_is_asked_once_for_each_augmented_view(taught):
    make, computed, teacher = taught
    made = make(augment=data.Augment(shift=1, flip=False), view={"shift": 1})
    for temperature in (1.0, 4.0):
        distill.Distill(distill.Taught(temperature, 0.1), epochs=1).apply(None, made)
    assert [key["epoch"] for key in computed] == [0, 1]
    soft = distill.SoftTargets("teacher-key", teacher, made)(1)
    wanted = models.restore(teacher)(made.images(1) / np.float32(255)).numpy()
    np.testing.assert_allclose(soft, wanted, rtol=1e-4, atol=1e-5)


def test_a_student_comes_to_agree_with_its_teacher(taught):
    make, _, teacher = taught
    made = make(recipe=replace(RECIPE, epochs=15, learning_rate=0.01))
    models.fresh(1)
    student = models.restore(distill.Distill(distill.Taught(2.0, 0.0), epochs=0).apply(None, made).network)
    images = made.data.validation.images / np.float32(255)
    agreement = np.mean(models.restore(teacher)(images).numpy().argmax(1) == student(images).numpy().argmax(1))
    assert agreement > 0.7


WORDS = {"temperature": 4.0, "alpha": 0.1, "epochs": 1, "finetune": False}


def unasked(model):
    raise AssertionError("nothing is to be chosen")


def test_an_assistant_stands_between_teacher_and_student():
    big, middle, small = models.ResNet(blocks=3), models.ResNet(blocks=1), models.LeNet5()
    named = distill.Assistants(teacher=big, assistants={"first": middle, "last": small}, **WORDS)
    chain = named.tutors(small, unasked)
    assert [(lesson.role, lesson.model) for lesson in chain] == [("teacher", big), ("first", middle), ("last", small)]
    assert [type(lesson.stage) for lesson in chain] == [distill.Train, distill.Distill, distill.Distill]
    assert list(named.networks()) == ["distill.teacher", "distill.assistants.first", "distill.assistants.last"]
    direct = distill.KD(teacher=big, **WORDS)
    assert [lesson.role for lesson in direct.tutors(small, unasked)] == ["teacher"]
    assert distill.NoDistillation().tutors(small, unasked) == ()
    none = distill.Assistants(teacher=big, assistants=0, **WORDS)
    assert none.tutors(small, unasked) == direct.tutors(small, unasked)


def count(model):
    return model.build((8, 8, 1), 10).count_params()


@pytest.mark.parametrize("number", [1, 2, 4])
def test_assistants_of_a_number_are_the_teacher_in_even_ratios_of_parameters(number):
    teacher, student = models.ResNet(blocks=2, width=1.5), models.ResNet(blocks=1, width=0.5)
    chain = distill.Assistants(teacher=teacher, assistants=number, **WORDS).tutors(student, count)
    assert len({lesson.role for lesson in chain}) == number + 1
    sizes = [*(count(lesson.model) for lesson in chain), count(student)]
    ratios = np.divide(sizes[:-1], sizes[1:])
    assert ratios == pytest.approx((sizes[0] / sizes[-1]) ** (1 / (number + 1)), rel=0.1)
    assert all(type(lesson.model) is models.ResNet and lesson.model.blocks == 2 for lesson in chain)


def test_a_teacher_no_larger_than_the_student_has_no_assistants():
    chain = distill.Assistants(teacher=models.LeNet5(), assistants=1, **WORDS)
    with pytest.raises(
        ConfigError, match=r"distill.teacher: expected more than the [\d,]+ parameters of the student; received"
    ):
        chain.tutors(models.LeNet5(), count)


@pytest.mark.parametrize(
    ("assistants", "where"),
    [(-1, "assistants"), ("two", "assistants"), ({"teacher": models.LeNet5()}, "assistants"),
     ({"prune_2": models.LeNet5()}, "assistants"), ({"first": 3}, "assistants.first")],
)  # fmt: skip
def test_bad_assistants_are_refused(assistants, where):
    with pytest.raises(ConfigError) as refused:
        distill.Assistants(teacher=models.LeNet5(), assistants=assistants, **WORDS)
    assert refused.value.where == where


def test_fine_tuning_is_towards_the_teacher_only_when_asked():
    words = {"teacher": models.LeNet5(), "temperature": 2.0, "alpha": 0.3, "epochs": 1}
    assert distill.KD(**words, finetune=False).finetuning() is None
    assert distill.KD(**words, finetune=True).finetuning() == distill.Taught(2.0, 0.3)
    assert distill.NoDistillation().finetuning() is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 0), ("temperature", -1), ("alpha", 1.5), ("alpha", "0.1"), ("epochs", -1), ("finetune", 1)],
)
def test_bad_numbers_are_refused(field, value):
    with pytest.raises(ConfigError) as refused:
        distill.KD(
            **{"teacher": models.LeNet5(), "temperature": 4.0, "alpha": 0.1, "epochs": 1, "finetune": False, field: value}
        )
    assert refused.value.where == field
