"""The convolution: a linear map that shares its weights, and what a stack of them sees."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A layer that looks through a moving window: a convolution or a pooling.

    kernel: width and height of the window, in pixels of its input.
    stride: by how many pixels it moves.
    padding: rows and columns of zeros around the input, on each side.

    Raises ValueError for a window or stride below 1, or a negative padding.
    """

    kernel: int
    stride: int = 1
    padding: int = 0

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.stride < 1 or self.padding < 0:
            raise ValueError(
                f"{self} cannot be moved over an image; kernel and stride must be at least 1, "
                "padding at least 0"
            )

    def output_size(self, size: int) -> int:
        """Width of the output for an input that is `size` pixels wide: floor((n + 2p - k)/s) + 1.

        Raises ValueError if the window does not fit into the padded input.
        """
        if size + 2 * self.padding < self.kernel:
            raise ValueError(
                f"a window of {self.kernel} pixels does not fit into {size} pixels with "
                f"{self.padding} of padding on each side; pad more, or take a smaller window"
            )
        return (size + 2 * self.padding - self.kernel) // self.stride + 1


@dataclass(frozen=True)
class ReceptiveField:
    """Which pixels of the image one output of a stack of windows can see.

    size: width of the field, in pixels.
    jump: by how many pixels the fields of two neighbouring outputs are apart.
    start: column of the first output's leftmost pixel; negative where that is padding.
    """

    size: int = 1
    jump: int = 1
    start: int = 0

    def columns(self, position: int) -> range:
        """The columns of the image that output number `position` (0, 1, ...) sees, unclipped."""
        left = self.start + position * self.jump
        return range(left, left + self.size)


def receptive_field(stack: Sequence[Window]) -> ReceptiveField:
    """The field of one output of the whole stack, first layer first.

    Each window widens the field by (kernel - 1) jumps and multiplies the jump by its stride.
    """
    size, jump, start = 1, 1, 0
    for window in stack:
        size += (window.kernel - 1) * jump
        start -= window.padding * jump
        jump *= window.stride
    return ReceptiveField(size, jump, start)
