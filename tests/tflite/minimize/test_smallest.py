"""The smallest file of a network: which candidate is returned, and the comparison of outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sweep.core.types import Storage
from sweep.models import checkpoints, families
from sweep.tflite import audit, convert, external, tflm
from sweep.tflite.minimize import lossless, smallest, sparse

pytestmark = pytest.mark.usefixtures("tensorflow")


@pytest.fixture(scope="module")
def lenet5(tensorflow):
    checkpoints.fresh(0)
    return convert.convert(families.LeNet5().build((8, 8, 1), 10), Storage.FLOAT32)


@pytest.fixture(scope="module")
def images(context):
    return context().data.validation.images[:20]


def test_every_file_is_packed_and_names_stay_without_strip(lenet5, images):
    packed = smallest.smallest(lenet5, images, allow_sparse=False, strip=False)
    stripped = smallest.smallest(lenet5, images, allow_sparse=False, strip=True)
    assert len(stripped) < len(packed) - 300
    assert len(packed) < len(lenet5) - 500
    assert b"lenet5" in packed
    assert b"lenet5" not in stripped
    for file in (packed, stripped):
        assert smallest.same_outputs(lenet5, file, images)
        assert audit.same(audit.read(lenet5), audit.read(file))


@pytest.mark.parametrize("broken", [lambda content: content[: len(content) // 2], lambda content: content[:16] + bytes(99)])
def test_a_broken_file_with_sparse_kernels_is_discarded(lenet5, images, monkeypatch, broken, caplog):
    monkeypatch.setattr(sparse, "compress", broken)
    for strip in (False, True):
        assert smallest.smallest(lenet5, images, allow_sparse=True, strip=strip) == lossless.packed(lenet5, strip=strip)
    assert "a packed file is discarded: the .tflite file is damaged" in caplog.text


def test_a_packed_file_whose_outputs_differ_is_discarded(lenet5, images, monkeypatch, caplog):
    monkeypatch.setattr(lossless, "packed", lambda content, strip: content[:-8])
    assert smallest.smallest(lenet5, images, allow_sparse=False, strip=False) == lenet5
    assert "a packed file is discarded: its outputs differ" in caplog.text


def test_no_file_grows(lenet5, images, monkeypatch):
    monkeypatch.setattr(lossless, "packed", lambda content, strip: content + b"\0")
    assert smallest.smallest(lenet5, images, allow_sparse=False, strip=False) == lenet5


def test_outputs_are_compared_in_every_runtime_that_runs_the_file(lenet5, images):
    def no_runtime(content, pixels):
        raise RuntimeError("it has no such kernel")

    def by_length(content, pixels):
        return np.float32(len(content))

    def smaller(runtimes):
        return smallest.smallest(lenet5, images, allow_sparse=False, strip=False, runtimes=runtimes) != lenet5

    assert smaller([smallest.with_litert, no_runtime])
    assert not smaller([smallest.with_litert, by_length])


@pytest.mark.skipif(not external.installed(tflm.MODULE), reason="the extra tflm is not installed")
def test_a_packed_file_whose_outputs_differ_only_in_tflm_is_discarded(lenet5, images, monkeypatch, caplog):
    packed = lossless.packed(lenet5, strip=False)
    both = [smallest.with_litert, smallest.with_tflm]
    assert smallest.smallest(lenet5, images, allow_sparse=False, strip=False, runtimes=both) == packed
    raw = tflm.raw_outputs
    monkeypatch.setattr(tflm, "raw_outputs", lambda content, images: raw(content, images) + (content == packed))
    assert smallest.smallest(lenet5, images, allow_sparse=False, strip=False, runtimes=both) == lenet5
    assert "its outputs differ" in caplog.text


def test_nan_outputs_are_compared_too(lenet5, images):
    def runtime(content, pixels):
        return np.float32([np.nan, 2 if content == b"different" else 1])

    assert smallest.same_outputs(lenet5, b"equal", images, [runtime])
    assert not smallest.same_outputs(lenet5, b"different", images, [runtime])


def test_files_that_differ_have_different_counts_or_outputs(images):
    checkpoints.fresh(0)
    model = families.LeNet5(width=0.5).build((8, 8, 1), 10)
    content = convert.convert(model, Storage.FLOAT32)
    first = audit.read(content)
    assert not audit.same(first, replace(first, macs=1))
    kernel = checkpoints.kernels(model)["dense1"]
    kernel.assign(np.where(np.arange(kernel.shape[1]) > 2, kernel, 0))
    other = convert.convert(model, Storage.FLOAT32)
    assert not audit.same(first, audit.read(other))
    assert not smallest.same_outputs(content, other, images)
