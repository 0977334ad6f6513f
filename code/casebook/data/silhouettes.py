"""Animal-Shape, silhouettes of ten animals by Sina Mohammadi."""

from casebook.data.images import LabelledImages
from casebook.data.store import load_arrays

NAMES = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")


def animals() -> LabelledImages:
    """Animal-Shape: white silhouettes on black, 28 × 28 pixels, of ten animals.

    800 training and 200 test images of each animal, shuffled; pixels are 0 (background) to 255.
    Zebras keep their stripes, in greys. The author publishes no split, so this one is the
    casebook's, seeded: because 284 images repeat another, the test images are drawn from those
    that occur once, and none is also a training image. By Sina Mohammadi, MIT licence.

    `animals().only("dog")` and `animals().only("horse", "zebra")` select animals.

    Raises DataError if the bundled file is missing or damaged.
    """
    return LabelledImages(**load_arrays("animals"), names=NAMES)
