"""MNIST is the original, complete and in its order."""

import hashlib
import struct

import numpy as np
import pytest

from casebook.data import LabelledImages, mnist
from casebook.data.make import MNIST_MD5


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    return mnist()


def test_shapes_and_class_counts(digits: LabelledImages) -> None:
    assert digits.train_images.shape == (60_000, 28, 28)
    assert digits.test_images.shape == (10_000, 28, 28)
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(digits.train_labels).tolist() == train
    assert np.bincount(digits.test_labels).tolist() == test
    assert digits.names == tuple("0123456789")


def test_files_rebuilt_from_the_arrays_have_the_published_checksums(
    digits: LabelledImages,
) -> None:
    for prefix, split in (("train", "train"), ("t10k", "test")):
        images, labels = digits.arrays(split)
        image_file = struct.pack(">4i", 2051, len(images), 28, 28) + images.tobytes()
        label_file = struct.pack(">2i", 2049, len(labels)) + labels.tobytes()
        assert hashlib.md5(image_file).hexdigest() == MNIST_MD5[f"{prefix}-images-idx3-ubyte"]
        assert hashlib.md5(label_file).hexdigest() == MNIST_MD5[f"{prefix}-labels-idx1-ubyte"]


def test_familiar_facts(digits: LabelledImages) -> None:
    assert digits.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert digits.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    images, _ = digits.tensors("train")
    assert (images.min(), images.max()) == (0, 1)
    assert images.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert images.std().item() == pytest.approx(0.3081, abs=5e-5)
