"""The pictures of a completion: holes are tinted, rows are labelled, numbers are those given."""

import warnings

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from taut.completion.lecture.run import lecture_figure
from taut.report import figures
from taut.report.figures.style import HOLE


def _images(n=3, size=6):
    rng = np.random.default_rng(0)
    truth = (rng.random((n, 1, size, size)) < 0.5).astype(float)
    observed = truth.copy()
    observed[:, :, size // 2 :] = np.nan
    return observed, truth


def test_holes_are_tinted_and_what_was_hidden_is_outlined():
    observed, truth = _images()
    figure = figures.completions({"observed": observed, "truth": truth}, title="t")
    first, second = figure.axes[0], figure.axes[3]
    shown, filled = (np.asarray(axes.images[0].get_array()) for axes in (first, second))
    assert np.allclose(shown[3:], to_rgb(HOLE))
    assert np.allclose(shown[:3, :, 0], truth[0, 0, :3])
    assert np.allclose(filled[..., 0], truth[0, 0])
    assert first.collections
    assert second.collections
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["observed", "truth"]


def test_the_outline_runs_between_pixels_and_cuts_no_corner():
    truth = np.zeros((1, 1, 5, 6))
    observed = truth.copy()
    observed[:, :, :2] = observed[:, :, :, 4:] = np.nan
    figure = figures.completions({"observed": observed})
    (outline,) = figure.axes[0].collections
    edges = {tuple(map(tuple, segment.tolist())) for segment in outline.get_segments()}
    across = {((x - 0.5, 1.5), (x + 0.5, 1.5)) for x in range(4)}
    assert edges == across | {((3.5, y - 0.5), (3.5, y + 0.5)) for y in range(2, 5)}
    assert figure.axes[0].get_xlim() == (-0.5, 5.5)
    assert figure.axes[0].get_ylim() == (4.5, -0.5)


def test_scattered_holes_have_no_outline_and_colour_has_three_channels():
    rng = np.random.default_rng(0)
    truth = rng.random((2, 3, 8, 8))
    observed = np.where(rng.random((2, 1, 8, 8)) < 0.5, np.nan, truth)
    figure = figures.completions({"observed": observed, "mean": truth})
    assert not figure.axes[0].collections
    assert np.allclose(np.asarray(figure.axes[2].images[0].get_array()), truth[0].transpose(1, 2, 0))


def test_rows_of_images_tint_holes_too():
    observed, _ = _images()
    figure = figures.image_rows({"inputs": observed})
    array = figure.axes[0].images[0].get_array()
    assert np.ma.getmaskarray(array).sum() == 3 * 18
    assert np.allclose(figure.axes[0].images[0].get_cmap().get_bad()[:3], to_rgb(HOLE))


def test_columns_show_what_is_observed_and_what_fills_the_holes():
    x = np.array([[0.0, 1.0], [1.0, np.nan], [2.0, np.nan]])
    draws = np.stack([np.where(np.isnan(x), 5.0, x), np.where(np.isnan(x), 7.0, x)])
    figure = figures.completed_columns(x, draws, ["first", "a name that is far too long"])
    first, second = figure.axes[:2]
    assert first.get_title(loc="left") == "first, 0% missing"
    assert second.get_title(loc="left").endswith("\u2026, 67% missing")
    assert len(first.patches) == 24  # observed only
    edges = second.patches[-1].get_xy()
    assert edges[:, 0].max() == pytest.approx(7.0)


@pytest.mark.parametrize("hidden", [[1], [0, 1]])
def test_a_column_of_which_nothing_is_observed_is_drawn_without_a_warning(hidden):
    x = np.arange(6.0).reshape(3, 2)
    x[:, hidden] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.completed_columns(x, np.nan_to_num(x, nan=7.0)[None], ["a", "b"])
    assert figure.axes[1].get_title(loc="left") == "b, 100% missing"
    assert [len(axes.patches) for axes in figure.axes] == [1 if i in hidden else 24 for i in range(2)]
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert labels[-1:] == ["filled in"]


@pytest.mark.parametrize("columns", [1, 5, 30])
def test_any_number_of_columns_fits(columns):
    x = np.random.default_rng(0).normal(size=(20, columns))
    x[0] = np.nan
    figure = figures.completed_columns(x, np.nan_to_num(x)[None], [f"c{i}" for i in range(columns)])
    assert sum(axes.get_visible() for axes in figure.axes) == min(columns, 12)


def test_the_lecture_shows_every_method_and_its_gap():
    sizes, image = [1, 10, 100], np.eye(4)
    seen = np.ones((4, 4), dtype=bool)
    seen[1:3, 1:3] = False
    methods = {
        name: {
            "mean": np.array([-gap, -gap / 2, -0.1 * gap]),
            "low": np.array([-2 * gap, -gap, -0.2 * gap]),
            "high": np.array([0.5, 0.2, 0.1]),
            "gap": gap,
            "shown": np.stack([image] * 4),
        }
        for name, gap in {"uniform": 6.0, "learned q": 1.25, "posterior": 0.0}.items()
    }
    figure = lecture_figure(sizes, methods, image=image, seen=seen, title="t")
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert said.count("?") == 4
    assert {f"gap at K = 1: {gap} nats" for gap in ("6.000", "1.250", "0.000")} <= set(said)
    names = [axes.get_ylabel() for axes in figure.axes]
    assert [name for name in names if name in methods] == list(methods)
    panels = [axes for axes in figure.axes if axes.get_xscale() == "log"]
    for axes, method in zip(panels, methods.values(), strict=True):
        assert np.allclose(axes.lines[1].get_ydata(), method["mean"])
        (band,) = axes.collections
        assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(method["high"].max())
        assert axes.get_ylim() == panels[0].get_ylim()
    assert not [axes for axes in figure.axes if not axes.get_visible()], "no empty place"
