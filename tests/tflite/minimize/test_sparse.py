"""Kernels as sparse tensors, in real files and in closed form."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_files import written

from sweep.compress.distill import stages
from sweep.compress.prune import magnitude, schedules
from sweep.compress.quantize import formats, ptq
from sweep.core.types import Storage
from sweep.models import checkpoints, families
from sweep.tflite import audit, convert
from sweep.tflite.minimize import lossless, smallest, sparse

pytestmark = pytest.mark.usefixtures("tensorflow")

INDEPENDENT = runpy.run_path(str(Path(__file__).parents[2] / "independent.py"))


@settings(deadline=None)
@given(
    hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=4, max_side=6), elements=st.sampled_from([0, 0, 0, 1, -5, 127]))
)
def test_dense_inverts_the_compression(values):
    sparsity, stored = sparse._to_csr(schema, values)
    assert len(stored) == np.count_nonzero(values)
    np.testing.assert_array_equal(sparse.dense(stored.view(np.int8), sparsity, values.shape), values)


def test_numbers_are_stored_in_the_smallest_type():
    for largest, name in ((255, "Uint8Vector"), (256, "Uint16Vector"), (65535, "Uint16Vector"), (65536, "Int32Vector")):
        kind, vector = sparse._vector(schema, np.array([0, largest]))
        assert kind == getattr(schema.SparseIndexVector, name)
        assert vector.values.tolist() == [0, largest]


def test_another_sparse_format_is_refused():
    sparsity, stored = sparse._to_csr(schema, np.eye(3, dtype=np.int8))
    for change in ({"blockMap": [0]}, {"traversalOrder": [1, 0]}, {"dimMetadata": sparsity.dimMetadata[::-1]}):
        with pytest.raises(ValueError, match="compressed along the last dimension"):
            sparse.dense(stored.view(np.int8), SimpleNamespace(**{**vars(sparsity), **change}), (3, 3))


FORMS = {
    "float32": formats.Float32(),
    "float16": formats.Float16(),
    "dynamic": formats.Dynamic(),
    "int8": ptq.PTQ(8, 64),
    "5 bits": ptq.PTQ(5, 64),
    "int4": ptq.PTQ(4, 64),
}
NETWORKS = {
    "resnet8": families.ResNet(blocks=1, width=0.5),
    "mobilenet": families.MobileNet(stem=8, filters=(48, 96), strides=(1, 2)),
    "lenet5": families.LeNet5(),
}


@pytest.fixture(scope="module", params=NETWORKS)
def pruned(request, context):
    made = context(model=NETWORKS[request.param])
    checkpoints.fresh(0)
    stage = magnitude.GlobalMagnitude(
        sparsity=0.85, layers="all", schedule=schedules.ConstantSparsity(), finetune=1, learning_rate=0.003
    )
    return stage.apply(stages.Train().apply(None, made).network, made).network, made


# Where it pays for certain; elsewhere int8 kernels are few, or dense layers'. Nothing takes INT4.
PAYS = {(network, name) for network in NETWORKS for name in ("float32", "float16")} | {
    ("resnet8", "int8"),
    ("resnet8", "5 bits"),
}


def network_name(made):
    return next(name for name, spec in NETWORKS.items() if spec == made.model)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_a_sparse_file_is_smaller_and_its_outputs_are_unchanged(pruned, name):
    network, made = pruned
    form = FORMS[name]
    network = form.apply(network, made).network
    _, content = written(form, network, made)
    packed = sparse.compress(content)
    if packed == content:
        assert (network_name(made), name) not in PAYS
        return
    images = made.data.validation.images[:50]
    smaller = smallest.smallest(content, images, allow_sparse=True, strip=False)
    assert smaller == lossless.packed(packed, strip=False)
    assert len(smaller) < len(smallest.smallest(content, images, allow_sparse=False, strip=False))
    assert smallest.same_outputs(content, smaller, images)
    assert name != "int4"
    assert len(packed) < (0.8 if form.storage in (Storage.FLOAT32, Storage.FLOAT16) else 1.0) * len(content)
    assert smallest.same_outputs(content, packed, images)
    before, after = audit.read(content), audit.read(packed)
    assert audit.same(before, after)
    assert after.zeros("all") == before.zeros("all") == network.zeros
    assert after.weight_bits < before.weight_bits
    independent = INDEPENDENT["weights"](packed)
    assert [(kernel["zeros"], kernel["values"]) for kernel in independent] == [
        (kernel.zeros, kernel.levels) for kernel in after.kernels
    ]


def test_a_dense_network_is_unchanged(context):
    checkpoints.fresh(0)
    content = convert.convert(families.LeNet5().build((8, 8, 1), 10), Storage.FLOAT32)
    assert sparse.compress(content) == content
