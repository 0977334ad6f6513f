"""The pictures: with a text alternative, fit for dark pages, drawn from what was given."""

import re

import altair
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from casebook import plotting


@pytest.fixture(autouse=True)
def style() -> None:
    plotting.use_house_style()


def line() -> Figure:
    figure, axes = plt.subplots()
    plotting.curves(axes, [0, 1, 2], {"a": [1, 2, 3]}, xlabel="step", ylabel="loss")
    return figure


def test_a_still_figure_is_an_svg_with_a_name() -> None:
    picture = plotting.show(line(), alt='Loss rises from 1 to "3".')
    assert picture.html.startswith('<svg class="casebook-figure" role="img" aria-label="Loss')
    assert "&quot;3&quot;" in picture.html
    assert picture._repr_mimebundle_()["text/plain"] == 'Loss rises from 1 to "3".'
    assert not plt.get_fignums(), "the figure stays open and would be shown twice"


def test_ink_follows_the_page_and_nothing_leaks_out_of_the_figure() -> None:
    html = plotting.show(line(), alt="Loss rises with steps.").html
    assert "currentColor" in html
    assert plotting.INK not in html
    assert "<style" not in html
    assert "#ffffff" not in html.lower(), "a white background"


def test_ids_of_two_figures_differ_and_are_all_resolved() -> None:
    first = plotting.show(line(), alt="Loss rises with steps.").html
    figure, axes = plt.subplots()
    axes.plot([3, 1])
    second = plotting.show(figure, alt="Loss falls with steps.").html
    ids = [set(re.findall(r'\bid="([^"]+)"', html)) for html in (first, second)]
    assert not ids[0] & ids[1]
    for html, own in zip((first, second), ids, strict=True):
        used = set(re.findall(r'href="#([^"]+)"', html)) | set(re.findall(r"url\(#([^)]+)", html))
        assert used
        assert used <= own


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert plotting.show(line(), alt="a b c").html == plotting.show(line(), alt="a b c").html


def test_a_chart_carries_its_description() -> None:
    data = altair.Data(values=[{"x": 1, "y": 2}])
    chart = altair.Chart(data).mark_point().encode(x="x:Q", y="y:Q")
    html = plotting.show(chart, alt="One point at 1 and 2.").html
    assert "One point at 1 and 2." in html
    assert '"actions": false' in html


@pytest.mark.parametrize("alt", ["", "loss", "a plot"])
def test_a_figure_needs_words(alt: str) -> None:
    with pytest.raises(ValueError, match="say in a sentence"):
        plotting.show(line(), alt=alt)


def test_show_refuses_other_things() -> None:
    with pytest.raises(ValueError, match=r"matplotlib figure or an Altair chart.*list"):
        plotting.show([1, 2], alt="a list of numbers")  # type: ignore[arg-type]


def test_curves_draw_mean_and_range() -> None:
    _, axes = plt.subplots()
    plotting.curves(
        axes, [0, 1], {"a": [[0, 2], [2, 4]], "b": [5, 6]}, xlabel="x", ylabel="y", log=True
    )
    mean, single = axes.get_lines()
    assert mean.get_ydata().tolist() == [1, 3]
    assert single.get_ydata().tolist() == [5, 6]
    (band,) = axes.collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert {(0, 0), (0, 2), (1, 2), (1, 4)} <= corners
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


def test_smooth_by_hand() -> None:
    assert plotting.smooth([2, 4, 6, 8], 2).tolist() == [2, 3, 5, 7]
    assert plotting.smooth([2, 4, 6], 10).tolist() == [2, 3, 4]
    with pytest.raises(ValueError, match="window is 0"):
        plotting.smooth([1], 0)


def test_image_grid_lays_out_rows() -> None:
    figure = plotting.image_grid(np.zeros((5, 4, 4)), columns=3, titles=list("abcde"))
    assert len(figure.axes) == 6
    assert [axes.get_title() for axes in figure.axes[:5]] == list("abcde")
    assert len(figure.axes[5].images) == 0


def test_signed_images_share_a_scale_around_zero() -> None:
    images = np.stack([np.full((2, 2), -3.0), np.full((2, 2), 1.0)])
    figure = plotting.image_grid(images, signed=True)
    assert [axes.images[0].get_clim() for axes in figure.axes] == [(-3.0, 3.0)] * 2


def test_image_grid_refuses_bad_input() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 4\)"):
        plotting.image_grid(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="1 titles for 2 images"):
        plotting.image_grid(np.zeros((2, 4, 4)), titles=["a"])


def test_confusion_colours_mistakes_only() -> None:
    _, axes = plt.subplots()
    plotting.confusion(axes, [[90, 3], [0, 80]], ["cat", "dog"])
    assert axes.images[0].get_array().tolist() == [[0, 3], [0, 0]]
    assert sorted(text.get_text() for text in axes.texts) == ["3", "80", "90"]
