"""MNIST, the handwritten digits of LeCun, Cortes and Burges."""

from casebook.data.images import LabelledImages
from casebook.data.store import load_arrays


def mnist() -> LabelledImages:
    """The MNIST digits in full: 60,000 training and 10,000 test images of 28 × 28 pixels.

    Pixels are 0 (paper) to 255 (ink), labels the digits 0 to 9, splits and order the original's;
    nobody's handwriting is in both splits. By Yann LeCun, Corinna Cortes and Christopher J. C.
    Burges, from forms collected by NIST; CC BY-SA 3.0.

    Raises DataError if the bundled file is missing or damaged.
    """
    return LabelledImages(**load_arrays("mnist"), names=tuple("0123456789"))
