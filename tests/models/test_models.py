"""The network families: the published parameter counts, the checks, and the way to a checkpoint and back."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import CONF
from omegaconf import OmegaConf

from sweep.config import build
from sweep.core.errors import ConfigError
from sweep.core.types import Spec
from sweep.models import checkpoints, families

CHOICES = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


def spec(choice: str) -> Spec:
    built: Spec = build.instantiate(OmegaConf.load(CONF / "model" / f"{choice}.yaml"), "model")
    return built


@pytest.fixture(autouse=True)
def _fresh(tensorflow: None) -> None:
    checkpoints.fresh(0)


@pytest.mark.parametrize(
    ("choice", "shape", "parameters"),
    [
        ("khan_teacher", (28, 28, 1), 1_551_958),
        ("khan_assistant", (28, 28, 1), 176_176),
        ("khan_student", (28, 28, 1), 20_490),
        ("khan_cifar_teacher", (32, 32, 3), 1_367_178),
        ("khan_cifar_assistant", (32, 32, 3), 1_109_898),
        ("khan_cifar_student", (32, 32, 3), 343_626),
    ],
)
def test_the_six_networks_of_the_study_have_its_parameter_counts(choice, shape, parameters):
    assert spec(choice).build(shape, 10).count_params() == parameters


@pytest.mark.parametrize(("choice", "published"), [("resnet20", 0.27e6), ("resnet56", 0.85e6)])
def test_resnets_have_about_the_published_size(choice, published):
    # He et al. 2016, table 6; ours add the projections of the two shortcuts.
    assert spec(choice).build((32, 32, 3), 10).count_params() == pytest.approx(published, rel=0.03)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_answers_digits_with_finite_logits(choice, digits):
    model = spec(choice).build(digits.input_shape, 7)
    answers = model(digits.test.images[:3] / np.float32(255)).numpy()
    assert answers.shape == (3, 7)
    assert np.isfinite(answers).all()


@pytest.mark.parametrize("choice", CHOICES)
def test_every_layer_of_a_family_is_named(choice):
    first = [layer.name for layer in spec(choice).build((32, 32, 3), 10).layers]
    again = [layer.name for layer in spec(choice).build((32, 32, 3), 10).layers]  # automatic names would count on
    assert first == again


@pytest.mark.parametrize("choice", CHOICES)
def test_kinds_are_those_of_the_built_network(choice):
    built = spec(choice).build((32, 32, 3), 10)
    found = {kind for kind in ("conv", "dense") if checkpoints.kernels(built, kind)}
    assert found == set(spec(choice).kinds())
    assert list(checkpoints.kernels(built)) == [
        layer.name for layer in built.layers if type(layer).__name__ in ("Conv2D", "Dense")
    ]


@pytest.mark.parametrize("family", [families.LeNet5(), families.ResNet(blocks=1), families.CNN(filters=(4, 4, 4), units=())])
def test_an_image_of_the_smallest_side_passes_and_a_smaller_one_is_refused(family):
    side = family.smallest_side
    family.check((side, side + 3, 1))
    family.build((side, side, 1), 10)
    with pytest.raises(ConfigError, match=f"at least {side}x{side} pixels; received {side - 1}x{side}"):
        family.check((side - 1, side, 1))


def test_the_width_multiplies_channels():
    narrow, wide = families.ResNet(blocks=1, width=0.5), families.ResNet(blocks=1, width=2)
    kernel = {spec.width: checkpoints.kernels(spec.build((8, 8, 1), 10))["s2b1a"].shape[-1] for spec in (narrow, wide)}
    assert kernel == {0.5: 16, 2: 64}
    assert checkpoints.kernels(families.ResNet(blocks=1, width=0.001).build((8, 8, 1), 10))["stem"].shape[-1] == 1


@pytest.mark.parametrize(
    ("family", "fields", "where"),
    [
        (families.LeNet5, {"width": 0}, "width"),
        (families.LeNet5, {"width": "1"}, "width"),
        (families.LeNet5, {"width": float("nan")}, "width"),
        (families.ResNet, {"blocks": 0}, "blocks"),
        (families.ResNet, {"blocks": True}, "blocks"),
        (families.CNN, {"filters": (8, 0), "units": ()}, "filters[1]"),
        (families.CNN, {"filters": 8, "units": ()}, "filters"),
        (families.Khan, {"filters": (8,), "units": (1.5,)}, "units[0]"),
        (families.MobileNet, {"stem": 8, "filters": (8, 8), "strides": (1,)}, "strides"),
        (families.MobileNet, {"stem": 8, "filters": (8,), "strides": (3,)}, "strides"),
    ],
)
def test_bad_values_are_refused_at_their_key(family, fields, where):
    with pytest.raises(ConfigError) as refused:
        family(**fields)
    assert refused.value.where == where


def test_a_checkpoint_brings_the_network_back_exactly(digits):
    model = families.MobileNet(stem=4, filters=(8, 8), strides=(1, 2)).build(digits.input_shape, 10)
    images = digits.test.images[:8] / np.float32(255)
    model(images, training=True)  # moves the moving statistics
    kept = checkpoints.snapshot(model, {"stem": np.ones((3, 3, 1, 4), bool)})
    back = type(kept).from_arrays(kept.to_arrays())
    assert back.masks.keys() == {"stem"}
    np.testing.assert_array_equal(checkpoints.restore(back)(images), model(images))


@pytest.mark.parametrize("choice", CHOICES)
def test_names_of_kernels_are_known_without_building(choice):
    model = spec(choice).build((32, 32, 3), 10)
    assert checkpoints.kernel_names(checkpoints.snapshot(model)) == list(checkpoints.every_kernel(model))
