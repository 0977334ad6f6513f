"""Animal-Shape: complete, balanced, and no test image is a training image."""

import numpy as np
import pytest

from casebook.data import LabelledImages, animals


@pytest.fixture(scope="module")
def zoo() -> LabelledImages:
    return animals()


def test_every_animal_has_800_training_and_200_test_images(zoo: LabelledImages) -> None:
    assert len(zoo.names) == 10 and list(zoo.names) == sorted(zoo.names)
    assert zoo.train_images.shape == (8_000, 28, 28) and zoo.test_images.shape == (2_000, 28, 28)
    assert np.bincount(zoo.train_labels).tolist() == [800] * 10
    assert np.bincount(zoo.test_labels).tolist() == [200] * 10


def test_no_test_image_occurs_twice(zoo: LabelledImages) -> None:
    train = {image.tobytes() for image in zoo.train_images}
    test = {image.tobytes() for image in zoo.test_images}
    assert len(test) == 2_000 and not train & test
    assert len(train | test) == 9_716  # 284 of the 10,000 repeat another


def test_images_are_shuffled(zoo: LabelledImages) -> None:
    for labels in (zoo.train_labels, zoo.test_labels):
        counts = np.bincount(labels[: len(labels) // 2], minlength=10)
        assert counts.min() > 0.75 * counts.mean()


def test_silhouettes_are_white_on_black(zoo: LabelledImages) -> None:
    images, _ = zoo.tensors("train")
    assert (images.min(), images.max()) == (0, 1)
    edge = images[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]  # the four corners
    assert edge.mean() < 0.05
    assert ((images < 0.1) | (images > 0.9)).float().mean() > 0.8


def test_names_fit_the_pictures(zoo: LabelledImages) -> None:
    """Facts that a wrong order of names would break: giraffes are tall, zebras have greys."""

    def shape_of(name: str) -> tuple[float, float]:
        images = zoo.only(name).train_images
        height = (images > 127).any(axis=2).sum(axis=1).mean()
        width = (images > 127).any(axis=1).sum(axis=1).mean()
        return height / width, ((images > 50) & (images < 200)).mean()

    shapes = {name: shape_of(name) for name in zoo.names}
    assert max(shapes, key=lambda name: shapes[name][0]) == "giraffe"
    assert max(shapes, key=lambda name: shapes[name][1]) == "zebra"


def test_dogs_and_the_two_sides_of_cyclegan(zoo: LabelledImages) -> None:
    images, labels = zoo.only("dog").tensors("train")
    assert images.shape == (800, 1, 28, 28) and (labels == 0).all()
    pair = zoo.only("horse", "zebra")
    horses, zebras = (pair.train_images[pair.train_labels == label] for label in (0, 1))
    assert len(horses) == len(zebras) == 800
    assert (horses == zoo.train_images[zoo.train_labels == zoo.names.index("horse")]).all()
    assert (zebras == zoo.train_images[zoo.train_labels == zoo.names.index("zebra")]).all()
