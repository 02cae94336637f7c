"""The distillation losses against a numpy closed form, their limits, which layers are compared, and who teaches whom."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import RECIPE
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.compress.distill import attention, losses, stages, teachers
from sweep.compress.distill.targets import AttentionMaps, SoftTargets
from sweep.core.errors import ConfigError
from sweep.data import augment
from sweep.models import checkpoints, families
from sweep.train import goals

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
    return float(losses.DistillationLoss(CLASSES, temperature, alpha, smoothing)(targets, student))


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
    assert loss(labels, teacher, student, 6.0, 1.0) == pytest.approx(float(goals.CrossEntropy()(labels, student)), rel=1e-6)
    assert loss(labels, teacher, student, 6.0, 0.0) > 0


def test_the_gradient_keeps_its_scale_at_high_temperature():
    # Hinton et al. 2015, eq. 4: for T large the soft gradient is (z - v) / (N T^2), which T^2 undoes (centred logits).
    import tensorflow as tf

    labels, teacher, student = batch(3)
    teacher, student = teacher - teacher.mean(1, keepdims=True), student - student.mean(1, keepdims=True)
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = losses.DistillationLoss(CLASSES, 300.0, 0.0)(np.concatenate([labels, teacher], axis=1), variable)
    np.testing.assert_allclose(tape.gradient(value, variable), (student - teacher) / CLASSES / len(labels), atol=3e-3)


def test_label_smoothing_touches_the_labels_only():
    labels, teacher, student = batch(4)
    assert loss(labels, teacher, student, 2.0, 0.0, smoothing=0.5) == loss(labels, teacher, student, 2.0, 0.0)
    assert loss(labels, teacher, student, 2.0, 1.0, smoothing=0.5) == pytest.approx(
        float(goals.CrossEntropy(0.5)(labels, student))
    )


def test_class_weights_weight_both_terms():
    labels, teacher, student = batch(5)
    weights = np.linspace(0.5, 2, CLASSES)
    targets = np.concatenate([labels, teacher], axis=1)
    of_image = [
        float(losses.DistillationLoss(CLASSES, 3.0, 0.3)(targets[number : number + 1], student[number : number + 1]))
        for number in range(len(labels))
    ]
    expected = np.mean(np.array(of_image) * weights[labels.argmax(axis=1)])
    found = losses.DistillationLoss(CLASSES, 3.0, 0.3, 0.0, tuple(weights.tolist()))(targets, student)
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def taught(context):
    """A context with a teacher, and a memory that counts what it computes."""
    checkpoints.fresh(0)
    teacher = checkpoints.snapshot(families.CNN(filters=(4,), units=()).build((8, 8, 1), 10))
    # Untrained, so its answers are known to nobody else; loud, so that they can be learnt in a few steps.
    teacher = replace(teacher, weights=(*teacher.weights[:-2], 30 * teacher.weights[-2], teacher.weights[-1]))
    kept, computed = {}, []

    class Kept:
        def arrays(self, key, compute):
            name = str(sorted(key.items()))
            if name not in kept:
                computed.append(key)
                kept[name] = compute()
            return kept[name]

    def make(**fields):
        return context(teacher=("teacher-key", teacher), results=Kept(), **fields)

    return make, computed, teacher


def test_the_teacher_is_asked_once_for_all_students_on_plain_images(taught):
    make, computed, _ = taught
    stages.Distill(stages.LogitDistillation(4.0, 0.1), epochs=1).apply(None, make())
    stages.Distill(stages.LogitDistillation(2.0, 0.9), epochs=1).apply(None, make(seed=9))
    assert len(computed) == 1


def test_the_teacher_is_asked_once_for_each_augmented_view(taught):
    make, computed, teacher = taught
    made = make(augment=augment.Augment(shift=1, flip=False), view={"shift": 1})
    for temperature in (1.0, 4.0):
        stages.Distill(stages.LogitDistillation(temperature, 0.1), epochs=1).apply(None, made)
    assert [key["epoch"] for key in computed] == [0, 1]
    soft = SoftTargets("teacher-key", teacher, made)(1)
    wanted = checkpoints.restore(teacher)(made.images(1) / np.float32(255)).numpy()
    np.testing.assert_allclose(soft, wanted, rtol=1e-4, atol=1e-5)


def test_a_student_comes_to_agree_with_its_teacher(taught):
    make, _, teacher = taught
    made = make(recipe=replace(RECIPE, epochs=15, learning_rate=0.01))
    checkpoints.fresh(1)
    student = checkpoints.restore(stages.Distill(stages.LogitDistillation(2.0, 0.0), epochs=0).apply(None, made).network)
    images = made.data.validation.images / np.float32(255)
    agreement = np.mean(checkpoints.restore(teacher)(images).numpy().argmax(1) == student(images).numpy().argmax(1))
    assert agreement > 0.7


def averaged(map_, size):
    """The means over `size` parts of a map, each pixel first cut into so many that every part has whole ones."""
    fine = np.kron(map_, np.ones(size))
    height, width = map_.shape
    return fine.reshape(size[0], height, size[1], width).mean((1, 3))


def closed_attention(features, size):
    maps = np.stack([averaged(one, size).ravel() for one in (features.astype(np.float64) ** 2).sum(-1)])
    return maps / np.linalg.norm(maps, axis=1, keepdims=True)


def features(seed, *shape):
    return np.random.default_rng(seed).normal(size=(8, *shape)).astype(np.float32)


@pytest.mark.parametrize("size", [(8, 8), (4, 8), (3, 5), (1, 1)])
def test_attention_is_the_mean_energy_of_each_part_at_length_one(size):
    one = features(5, 8, 8, 3)
    np.testing.assert_allclose(attention.attention(one, size), closed_attention(one, size), rtol=1e-5, atol=1e-6)


def test_attention_does_not_feel_how_loud_the_activations_are():
    one = features(6, 8, 8, 3)
    np.testing.assert_allclose(attention.attention(0.1 * one, (4, 4)), attention.attention(one, (4, 4)), rtol=1e-5)
    assert not attention.attention(0 * one, (4, 4)).numpy().any()


SHAPES = ((8, 8, 3), (4, 4, 5))


def attention_loss(alpha, beta, student, teacher, smoothing=0.0):
    """The loss, and its gradient by the student's activations: of logits and maps as in `batch` and `features`."""
    import tensorflow as tf

    labels, soft, logits = batch(7)
    sizes = [shape[:2] for shape in SHAPES]
    maps = [attention.attention(one, size).numpy() for one, size in zip(teacher, sizes, strict=True)]
    targets = np.concatenate([labels, soft, *maps], axis=1)
    loss = losses.AttentionLoss(losses.DistillationLoss(CLASSES, 3.0, alpha, smoothing), beta)
    activations = [tf.Variable(one) for one in student]
    with tf.GradientTape() as tape:
        value = loss(targets, [logits, *(attention.attention(one, size) for one, size in zip(activations, sizes, strict=True))])
    return float(value), tape.gradient(value, activations)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), alpha=st.floats(0, 1), beta=st.floats(0, 100))
def test_the_attention_loss_is_zagoruykos(seed, alpha, beta):
    student, teacher = ([features(seed + more, *shape) for shape in SHAPES] for more in (0, 1))
    apart = sum(
        np.linalg.norm(closed_attention(one, shape[:2]) - closed_attention(other, shape[:2]), axis=1)
        for one, other, shape in zip(student, teacher, SHAPES, strict=True)
    )
    wanted = closed_form(*batch(7), 3.0, alpha) + beta / 2 * apart.mean()
    assert attention_loss(alpha, beta, student, teacher)[0] == pytest.approx(wanted, rel=2e-3, abs=1e-4)


def test_without_beta_the_attention_loss_is_that_of_the_logits():
    student, teacher = ([features(seed, *shape) for shape in SHAPES] for seed in (1, 2))
    value, gradients = attention_loss(0.3, 0.0, student, teacher, smoothing=0.1)
    assert value == loss(*batch(7), 3.0, 0.3, smoothing=0.1)
    assert not any(gradient.numpy().any() for gradient in gradients)


@pytest.mark.parametrize("louder", [1, 3])
def test_a_student_that_attends_as_its_teacher_has_nothing_to_learn_from_it(louder):
    teacher = [features(3, *shape) for shape in SHAPES]
    value, gradients = attention_loss(1.0, 50.0, [louder * one for one in teacher], teacher)
    assert value == pytest.approx(attention_loss(1.0, 0.0, teacher, teacher)[0], abs=1e-3)
    assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients)


def test_a_student_without_a_single_activation_keeps_a_finite_gradient():
    teacher = [features(4, *shape) for shape in SHAPES]
    value, gradients = attention_loss(0.5, 10.0, [0 * one for one in teacher], teacher)
    assert np.isfinite(value)
    assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients)


def paired(student, teacher, side, layers=None):
    checkpoints.fresh(0)
    return attention.pairs(student.build((side, side, 1), 10), teacher.build((side, side, 1), 10), layers)


def test_the_last_layers_of_every_height_and_width_in_common_are_paired():
    assert paired(families.ResNet(blocks=1, width=0.5), families.ResNet(blocks=3), 32) == [
        ("s1b1_relu", "s1b3_relu", (8, 8)), ("s2b1_relu", "s2b3_relu", (8, 8)), ("s3b1_relu", "s3b3_relu", (8, 8)),
    ]  # fmt: skip
    # 12x12, 6x6 and, in the student only, 3x3; a pooling belongs to the block before it.
    assert paired(families.CNN(filters=(4, 4), units=()), families.CNN(filters=(4,), units=()), 12) == [
        ("conv1_relu", "conv1_relu", (8, 8)), ("conv2_relu", "pool1", (6, 6)),
    ]  # fmt: skip


def test_without_a_height_and_width_in_common_the_last_layers_are_paired_at_the_smaller_size():
    student, teacher = families.CNN(filters=(4,), units=()), families.Khan(filters=(4, 4), units=())
    assert paired(student, teacher, 7) == [("pool1", "pool2", (2, 2))]  # of 7, 3 and of 4, 2


def test_layers_by_name_are_paired_as_they_are():
    student, teacher = families.CNN(filters=(4,), units=()), families.ResNet(blocks=1)
    assert paired(student, teacher, 12, {"pool1": "stem", "conv1": "s3b1_add"}) == [
        ("conv1", "s3b1_add", (3, 3)), ("pool1", "stem", (6, 6)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "received"),
    [({"conv2": "stem"}, "conv2"), ({"conv1": "conv1"}, "conv1"), ({"logits": "stem"}, "logits"), ({"pool": "stem"}, "pool"),
     ({"image": "stem"}, "image"), ({"conv1": "pool"}, "pool")],
)  # fmt: skip
def test_layers_that_have_no_feature_map_are_refused(layers, received):
    student, teacher = families.CNN(filters=(4,), units=()), families.ResNet(blocks=1)
    words = {"teacher": teacher, "beta": 1.0, "layers": layers, **WORDS}
    checkpoints.fresh(0)
    with pytest.raises(ConfigError, match=r"layers: expected layers of the (student|teacher) with") as refused:
        teachers.Features(**words).require(student, (8, 8, 1), 10)
    assert (refused.value.where, refused.value.received) == ("layers", received)


def test_networks_without_feature_maps_are_refused():
    flat, other = families.CNN(filters=(), units=(8,)), families.LeNet5()
    for student, teacher, role in ((flat, other, "student"), (other, flat, "teacher")):
        checkpoints.fresh(0)
        with pytest.raises(ConfigError, match=f"layers: expected a {role} with layers of .*; received none in cnn"):
            teachers.Features(teacher=teacher, beta=1.0, **WORDS).require(student, (8, 8, 1), 10)


def test_the_other_choices_ask_nothing_of_the_student():
    for other in (teachers.NoDistillation(), teachers.KD(teacher=families.LeNet5(), **WORDS)):
        other.require(families.CNN(filters=(), units=(8,)), (8, 8, 1), 10)


def test_the_teachers_maps_are_computed_once_for_every_beta_and_are_true(taught):
    make, computed, teacher = taught
    made = make()
    for beta in (0.5, 20.0):
        stages.Distill(stages.AttentionDistillation(4.0, 0.1, beta, None), epochs=1).apply(None, made)
    stages.Distill(stages.LogitDistillation(4.0, 0.1), epochs=1).apply(None, made)
    assert sorted(next(iter(key)) for key in computed) == ["attention maps of", "soft targets of"]
    maps = AttentionMaps("teacher-key", teacher, made, [("conv1_relu", (8, 8)), ("pool1", (4, 4))])(0)
    assert len(computed) == 2
    assert maps.dtype == np.float16
    seen = attention.feature_maps(model := checkpoints.restore(teacher))
    import tf_keras as keras

    images = made.images(0) / np.float32(255)
    first, second = keras.Model(model.input, [seen["conv1_relu"], seen["pool1"]])(images)
    wanted = [closed_attention(first.numpy(), (8, 8)), closed_attention(second.numpy(), (4, 4))]
    np.testing.assert_allclose(maps, np.concatenate(wanted, axis=1), atol=1e-3)


def test_with_beta_zero_the_student_is_bit_for_bit_that_of_the_logits(taught):
    make, _, _ = taught
    networks = []
    for goal in (
        stages.LogitDistillation(4.0, 0.1),
        stages.AttentionDistillation(4.0, 0.1, 0.0, None),
        stages.AttentionDistillation(4.0, 0.1, 5.0, None),
    ):
        checkpoints.fresh(2)
        networks.append(stages.Distill(goal, epochs=0).apply(None, make()).network)
    logits, nothing, attended = networks
    assert logits.architecture == nothing.architecture == attended.architecture
    assert all(np.array_equal(one, other) for one, other in zip(logits.weights, nothing.weights, strict=True))
    assert not any(np.array_equal(one, other) for one, other in zip(logits.weights[:1], attended.weights[:1], strict=True))


def test_a_student_comes_to_attend_as_its_teacher_and_its_statistics_move(taught):
    make, _, teacher = taught
    made = make(recipe=replace(RECIPE, epochs=8, learning_rate=0.01))
    images = made.data.validation.images / np.float32(255)

    def apart(beta):
        checkpoints.fresh(1)
        goal = stages.AttentionDistillation(2.0, 0.0, beta, {"conv1_relu": "conv1_relu"})
        student = checkpoints.restore(stages.Distill(goal, epochs=0).apply(None, made).network)
        assert student.get_layer("conv1_bn").moving_mean.numpy().any()
        import tf_keras as keras

        mine, theirs = (
            keras.Model(model.input, attention.attention_maps(model, [("conv1_relu", (8, 8))])[0])(images).numpy()
            for model in (student, checkpoints.restore(teacher))
        )
        return np.linalg.norm(mine - theirs, axis=1).mean()

    assert apart(20.0) < 0.6 * apart(0.0)


WORDS = {"temperature": 4.0, "alpha": 0.1, "epochs": 1, "finetune": False}


def unasked(model):
    raise AssertionError("nothing is to be chosen")


def test_an_assistant_stands_between_teacher_and_student():
    big, middle, small = families.ResNet(blocks=3), families.ResNet(blocks=1), families.LeNet5()
    named = teachers.Assistants(teacher=big, assistants={"first": middle, "last": small}, **WORDS)
    chain = named.teacher_chain(small, unasked)
    assert [(lesson.role, lesson.model) for lesson in chain] == [("teacher", big), ("first", middle), ("last", small)]
    assert [type(lesson.stage) for lesson in chain] == [stages.Train, stages.Distill, stages.Distill]
    assert list(named.networks()) == ["distill.teacher", "distill.assistants.first", "distill.assistants.last"]
    direct = teachers.KD(teacher=big, **WORDS)
    assert [lesson.role for lesson in direct.teacher_chain(small, unasked)] == ["teacher"]
    assert teachers.NoDistillation().teacher_chain(small, unasked) == ()
    none = teachers.Assistants(teacher=big, assistants=0, **WORDS)
    assert none.teacher_chain(small, unasked) == direct.teacher_chain(small, unasked)


def count(model):
    return model.build((8, 8, 1), 10).count_params()


@pytest.mark.parametrize("number", [1, 2, 4])
def test_assistants_of_a_number_are_the_teacher_in_even_ratios_of_parameters(number):
    teacher, student = families.ResNet(blocks=2, width=1.5), families.ResNet(blocks=1, width=0.5)
    chain = teachers.Assistants(teacher=teacher, assistants=number, **WORDS).teacher_chain(student, count)
    assert len({lesson.role for lesson in chain}) == number + 1
    sizes = [*(count(lesson.model) for lesson in chain), count(student)]
    ratios = np.divide(sizes[:-1], sizes[1:])
    assert ratios == pytest.approx((sizes[0] / sizes[-1]) ** (1 / (number + 1)), rel=0.1)
    assert all(type(lesson.model) is families.ResNet and lesson.model.blocks == 2 for lesson in chain)


def test_a_teacher_no_larger_than_the_student_has_no_assistants():
    chain = teachers.Assistants(teacher=families.LeNet5(), assistants=1, **WORDS)
    with pytest.raises(
        ConfigError, match=r"distill.teacher: expected more than the [\d,]+ parameters of the student; received"
    ):
        chain.teacher_chain(families.LeNet5(), count)


@pytest.mark.parametrize(
    ("assistants", "where"),
    [(-1, "assistants"), ("two", "assistants"), ({"teacher": families.LeNet5()}, "assistants"),
     ({"prune_2": families.LeNet5()}, "assistants"), ({"first": 3}, "assistants.first")],
)  # fmt: skip
def test_bad_assistants_are_refused(assistants, where):
    with pytest.raises(ConfigError) as refused:
        teachers.Assistants(teacher=families.LeNet5(), assistants=assistants, **WORDS)
    assert refused.value.where == where


def test_fine_tuning_is_towards_the_teacher_only_when_asked():
    words = {"teacher": families.LeNet5(), "temperature": 2.0, "alpha": 0.3, "epochs": 1}
    assert teachers.KD(**words, finetune=False).finetuning() is None
    assert teachers.KD(**words, finetune=True).finetuning() == stages.LogitDistillation(2.0, 0.3)
    assert teachers.NoDistillation().finetuning() is None


def test_attention_is_a_matter_of_distilling_alone():
    words = {"teacher": families.LeNet5(), "temperature": 2.0, "alpha": 0.3, "epochs": 1, "beta": 5.0}
    assert teachers.Features(**words, finetune=True).stage().goal == stages.AttentionDistillation(2.0, 0.3, 5.0, None)
    assert teachers.Features(**words, finetune=True).finetuning() == stages.LogitDistillation(2.0, 0.3)
    assert teachers.Features(**words, finetune=False).finetuning() is None


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("beta", -1, "beta"), ("beta", "1", "beta"), ("beta", None, "beta"), ("beta", np.inf, "beta"), ("layers", {}, "layers"),
        ("layers", "conv1", "layers"), ("layers", ("conv1",), "layers"), ("layers", {"conv1": 3}, "layers.conv1"),
        ("alpha", 2, "alpha"), ("teacher", None, "teacher"),
    ],
)  # fmt: skip
def test_bad_features_are_refused(field, value, where):
    with pytest.raises(ConfigError) as refused:
        teachers.Features(**{"teacher": families.LeNet5(), **WORDS, "beta": 5.0, field: value})
    assert refused.value.where == where


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 0), ("temperature", -1), ("alpha", 1.5), ("alpha", "0.1"), ("epochs", -1), ("finetune", 1)],
)
def test_bad_numbers_are_refused(field, value):
    with pytest.raises(ConfigError) as refused:
        teachers.KD(
            **{"teacher": families.LeNet5(), "temperature": 4.0, "alpha": 0.1, "epochs": 1, "finetune": False, field: value}
        )
    assert refused.value.where == field
