"""Splits, scaling and the choice of classes, on four images made by hand."""

import numpy as np
import pytest
import torch

from casebook.data import DataError, LabelledImages


@pytest.fixture
def fruit() -> LabelledImages:
    """Three training images and one test image, each of one grey: 0, 51, 102 and 255."""

    def grey(*values: int) -> np.ndarray:
        return np.stack([np.full((28, 28), value, dtype=np.uint8) for value in values])

    return LabelledImages(
        train_images=grey(0, 51, 102),
        train_labels=np.array([2, 0, 1], dtype=np.uint8),
        test_images=grey(255),
        test_labels=np.array([2], dtype=np.uint8),
        names=("apple", "fig", "pear"),
    )


def test_tensors_have_a_channel_and_lie_between_0_and_1(fruit: LabelledImages) -> None:
    images, labels = fruit.tensors("train")
    assert images.shape == (3, 1, 28, 28) and images.dtype == torch.float32
    torch.testing.assert_close(images[:, 0, 5, 7], torch.tensor([0.0, 0.2, 0.4]))
    assert labels.dtype == torch.int64 and labels.tolist() == [2, 0, 1]
    images, labels = fruit.tensors("test")
    assert images.shape == (1, 1, 28, 28) and (images == 1).all() and labels.tolist() == [2]


def test_tensors_share_nothing_with_the_arrays(fruit: LabelledImages) -> None:
    images, labels = fruit.tensors("train")
    images.fill_(1)
    labels.fill_(0)
    assert fruit.train_images[0].max() == 0 and fruit.train_labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize("split", ["valid", "Train", ""])
def test_wrong_split_says_which_there_are(fruit: LabelledImages, split: str) -> None:
    for method in (fruit.arrays, fruit.tensors):
        with pytest.raises(DataError, match=f'no split \'{split}\'; choose "train" or "test"'):
            method(split)


def test_only_renumbers_in_the_order_given_and_keeps_the_order_of_images(
    fruit: LabelledImages,
) -> None:
    two = fruit.only("pear", "apple")
    assert two.names == ("pear", "apple")
    assert two.train_images[:, 0, 0].tolist() == [0, 51] and two.train_labels.tolist() == [0, 1]
    assert two.test_images.shape == (1, 28, 28) and two.test_labels.tolist() == [0]
    assert two.train_labels.dtype == np.uint8
    fig = fruit.only("fig")
    assert fig.train_labels.tolist() == [0] and fig.tensors("test")[0].shape == (0, 1, 28, 28)


@pytest.mark.parametrize("names", [(), ("plum",), ("fig", "fig"), ("fig", "plum")])
def test_only_rejects_what_is_not_a_choice(fruit: LabelledImages, names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"give one or more of \('apple', 'fig', 'pear'\)"):
        fruit.only(*names)
