"""Small greyscale images with labels, in two splits: what `mnist` and `animals` return."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from casebook.data.store import DataError


@dataclass(frozen=True, eq=False, repr=False)
class LabelledImages:
    """Greyscale images of 28 × 28 pixels, each with a label, in a training and a test split.

    The arrays are as stored: pixels from 0 (background) to 255, labels from 0 to
    `len(names) - 1`. `tensors` turns a split into what a network takes.
    """

    train_images: UInt8[np.ndarray, "train 28 28"]
    """The training images."""
    train_labels: UInt8[np.ndarray, " train"]
    """The label of each training image."""
    test_images: UInt8[np.ndarray, "test 28 28"]
    """The test images."""
    test_labels: UInt8[np.ndarray, " test"]
    """The label of each test image."""
    names: tuple[str, ...]
    """What the labels mean: the images with label i show `names[i]`."""

    def arrays(self, split: str) -> tuple[UInt8[np.ndarray, "N 28 28"], UInt8[np.ndarray, " N"]]:
        """The images and labels of one split ("train" or "test") as stored.

        Raises DataError for any other split.
        """
        if split == "train":
            return self.train_images, self.train_labels
        if split == "test":
            return self.test_images, self.test_labels
        raise DataError(f'there is no split {split!r}; choose "train" or "test"')

    def tensors(self, split: str) -> tuple[Float32[Tensor, "N 1 28 28"], Int64[Tensor, " N"]]:
        """The images of one split ("train" or "test") in [0, 1], and their labels.

        Raises DataError for any other split.
        """
        images, labels = self.arrays(split)
        scaled = torch.from_numpy(images).unsqueeze(1).to(torch.float32).div_(255)
        return scaled, torch.from_numpy(labels).to(torch.int64)

    def only(self, *names: str) -> "LabelledImages":
        """The same images restricted to the classes `names`, which get the labels 0, 1, ... in
        the order given: after `animals().only("horse", "zebra")` a horse is 0 and a zebra 1.

        The order of the images is kept. Raises DataError if no name is given, if one is given
        twice, or if the data set has no such class.
        """
        if not names or len(set(names)) < len(names) or not set(names) <= set(self.names):
            raise DataError(
                f"there is no choice of classes {names!r}; "
                f"give one or more of {self.names}, each once"
            )
        new_label = np.full(len(self.names), len(names), dtype=np.uint8)
        new_label[[self.names.index(name) for name in names]] = np.arange(len(names))
        chosen = {}
        for split in ("train", "test"):
            images, labels = self.arrays(split)
            keep = new_label[labels] < len(names)
            chosen[f"{split}_images"] = images[keep]
            chosen[f"{split}_labels"] = new_label[labels[keep]]
        return LabelledImages(**chosen, names=names)

    def __repr__(self) -> str:
        return (
            f"LabelledImages({len(self.train_labels):,} training and "
            f"{len(self.test_labels):,} test images of {', '.join(self.names)})"
        )
