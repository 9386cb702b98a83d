"""The pictures hold the numbers they were given, and leave nothing behind but a PNG."""

import matplotlib
import numpy as np
import pytest
from helpers.pictures import fine
from matplotlib.patches import Ellipse
from PIL import Image
from scipy.stats import multivariate_normal, norm
from sklearn.decomposition import PCA

from taut.report import figures
from taut.report.figures.images import tile_row

KS = np.array([1, 2, 5, 10, 50])
MEAN = np.array([-94.5, -93.25, -92.0, -91.5, -90.75])
ERROR = np.array([0.5, 0.4, 0.3, 0.2, 0.1])


def texts(figure):
    return [text.get_text().replace("\u2212", "-") for axes in figure.axes for text in axes.texts]


def curve(**settings):
    return figures.bound_versus_k(KS, MEAN, ERROR, **settings)


def test_the_bound_curve_holds_the_means_and_says_the_error_they_share():
    """Whiskers over the data would be as long for all K, and say nothing about the rise of the curve."""
    axes = curve(log_px=-90.25).axes[0]
    assert not axes.containers
    line = next(line for line in axes.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(line.get_xdata(), KS)
    np.testing.assert_array_equal(line.get_ydata(), MEAN)
    assert axes.get_xscale() == "log"
    assert axes.get_ylabel() == "nats per datum\n(± 0.100 over the data, for all K alike)"


@pytest.mark.parametrize("unknown", [np.nan, np.inf])
def test_an_error_that_is_unknown_is_not_said(unknown):
    axes = figures.bound_versus_k(KS, MEAN, np.full(5, unknown)).axes[0]
    assert axes.get_ylabel() == "nats per datum"


@pytest.mark.parametrize(
    ("settings", "gap", "ceiling"),
    [
        ({"log_px": -90.25}, "gap = 4.250 nats", "exact $\\log p(x)$ -90.250"),
        (
            {"log_px": -90.5, "log_px_kind": "lower"},
            "gap $\\geq$ 4.000 nats",
            "$\\log p(x)$, lower bound -90.500",
        ),
        ({}, "gap $\\geq$ 3.750 nats", "$\\log p(x)$, lower bound -90.750"),
    ],
)
def test_the_gap_is_an_equality_only_where_log_px_is_exact(settings, gap, ceiling):
    figure = curve(**settings)
    assert gap in texts(figure)
    assert ceiling in texts(figure)
    band = figure.axes[0].patches[0]
    height = settings.get("log_px", MEAN[-1]) - MEAN[0]
    assert (band.get_y(), band.get_height()) == pytest.approx((MEAN[0], height))


def test_image_rows_show_every_image_on_one_scale():
    rng = np.random.default_rng(0)
    inputs, samples = rng.random((5, 1, 4, 3)), rng.random((3, 1, 4, 3))
    figure = figures.image_rows({"inputs": inputs, "samples": samples})
    assert [axes.get_ylabel() for axes in figure.axes] == ["inputs", "samples"]
    for axes, images in zip(figure.axes, (inputs, samples), strict=True):
        strip = axes.images[0].get_array()
        assert strip.shape == (4, 5 * 4 - 1)
        for i, image in enumerate(images):
            np.testing.assert_array_equal(strip[:, 4 * i : 4 * i + 3], image[0])


def test_image_rows_keep_colours_and_rescale_what_is_no_pixel():
    colour = np.random.default_rng(1).random((2, 3, 4, 4))
    np.testing.assert_array_equal(tile_row(colour, 2, 0, 1)[:, :4], colour[0].transpose(1, 2, 0))
    wide = figures.image_rows({"x": np.array([-2.0, 0.0, 2.0, 2.0]).reshape(1, 1, 2, 2)})
    np.testing.assert_array_equal(wide.axes[0].images[0].get_array(), [[0, 0.5], [1, 1]])


@pytest.mark.parametrize("rows", [{}, {"flat": np.zeros((3, 8, 8))}, {"planes": np.zeros((3, 2, 8, 8))}])
def test_image_rows_refuse_other_shapes(rows):
    with pytest.raises(ValueError, match="image"):
        figures.image_rows(rows)


WEIGHTS = np.array([0.3, 0.7])


def blobs(d):
    rng = np.random.default_rng(2)
    means = rng.normal(size=(2, d)) * 3
    roots = rng.normal(size=(2, d, d))
    covariances = roots @ roots.transpose(0, 2, 1) + np.eye(d)
    x = np.concatenate([rng.multivariate_normal(means[c], covariances[c], size=40 + 20 * c) for c in range(2)])
    densities = np.stack([WEIGHTS[c] * multivariate_normal(means[c], covariances[c]).pdf(x) for c in range(2)], 1)
    return x, densities / densities.sum(1, keepdims=True), WEIGHTS, means, covariances


def ellipses(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Ellipse)]


def test_ellipses_are_one_and_two_sigma_contours():
    x, r, weights, means, covariances = blobs(2)
    shown = ellipses(figures.mixture_scatter(x, r, weights, means, covariances))
    assert len(shown) == 4
    for i, ellipse in enumerate(shown):
        c, sigmas = divmod(i, 2)
        path = ellipse.get_patch_transform().transform(ellipse.get_path().vertices[::3])
        offset = path - means[c]
        distance = np.sqrt(np.einsum("ni,ij,nj->n", offset, np.linalg.inv(covariances[c]), offset))
        np.testing.assert_allclose(distance, sigmas + 1, rtol=1e-9)


def test_points_take_the_blend_of_their_components():
    x, r, *rest = blobs(2)
    r[0], r[1], r[2] = (1, 0), (0, 1), (0.5, 0.5)
    points = figures.mixture_scatter(x, r, *rest).axes[0].collections[0]
    np.testing.assert_array_equal(points.get_offsets(), x)
    first, second, middle = points.get_facecolors()[:3, :3]
    np.testing.assert_allclose(middle, (first + second) / 2)
    assert np.abs(first - second).max() > 0.3


def test_more_dimensions_are_projected_on_the_principal_axes():
    x, r, weights, means, covariances = blobs(5)
    figure = figures.mixture_scatter(x, r, weights, means, covariances)
    axes = figure.axes[0]
    pca = PCA(2).fit(x)
    share = pca.explained_variance_ratio_
    assert axes.get_xlabel() == f"principal axis 1 of 5 ({share[0]:.0%} of variance)"
    shown = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(np.abs(shown), np.abs(pca.transform(x)), atol=1e-9)
    ellipse = ellipses(figure)[0]
    projected = pca.components_ @ covariances[0] @ pca.components_.T
    widths = sorted([ellipse.width / 2, ellipse.height / 2])
    np.testing.assert_allclose(widths, np.sqrt(np.linalg.eigvalsh(projected)))
    np.testing.assert_allclose(np.abs(ellipse.center), np.abs(pca.transform(means)[0]), atol=1e-9)


def test_one_dimension_is_a_histogram_under_the_densities():
    x, r, weights, means, covariances = blobs(1)
    axes = figures.mixture_scatter(x, r, weights, means, covariances, columns=["minutes"]).axes[0]
    total = next(line for line in axes.lines if line.get_label() == "mixture density")
    grid = total.get_xdata()
    expected = sum(
        w * norm(m[0], np.sqrt(v[0, 0])).pdf(grid) for w, m, v in zip(weights, means, covariances, strict=True)
    )
    np.testing.assert_allclose(total.get_ydata(), expected)
    assert axes.get_xlabel() == "minutes"
    area = sum(bar.get_width() * bar.get_height() for bar in axes.patches)
    assert area == pytest.approx(1)


def test_the_latent_plane_puts_large_z2_on_top():
    rng = np.random.default_rng(3)
    mean, elbo = rng.normal(size=(50, 2)), rng.normal(size=50)
    grid = np.zeros((3, 3, 1, 2, 2))
    grid[2, 0] = 1.0  # z_2 largest, z_1 smallest
    figure = figures.latent_plane(mean, np.full((50, 2), 0.1), colour=elbo, grid=grid)
    plane = figure.axes[0]
    points = plane.collections[1]
    np.testing.assert_array_equal(points.get_offsets(), mean)
    np.testing.assert_array_equal(points.get_array(), elbo)
    np.testing.assert_allclose(plane.collections[0].get_widths(), 0.2)
    right = figure.axes[1]
    decoded = np.array(right.images[0].get_array())
    assert decoded.shape == (3 * 3 - 1, 3 * 3 - 1), "a line between neighbours"
    assert decoded[2::3].min() == decoded[:, 2::3].min() == 1
    tiles = [[decoded[3 * i : 3 * i + 2, 3 * j : 3 * j + 2].mean() for j in range(3)] for i in range(3)]
    assert tiles == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    left, end, bottom, top = right.images[0].get_extent()
    # three tiles of equal width, whose centres are at -3, 0 and 3
    assert (left, end, bottom, top) == (-4.5, 4.5, -4.5, 4.5)


def test_history_draws_what_was_validated_and_leaves_holes():
    rows = [
        {"epoch": 0, "val/elbo": -3.0, "val/bound": -2.5, "val/log_px": -2.0},
        {"epoch": 1},
        {"epoch": 2, "val/elbo": -1.0, "val/bound": -0.8, "val/log_px": -0.5},
    ]
    axes = figures.history(rows, log_px_kind="exact").axes[0]
    drawn = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(drawn["ELBO"].get_xdata(), [1, 3])
    np.testing.assert_array_equal(drawn["ELBO"].get_ydata(), [-3, -1])
    np.testing.assert_array_equal(drawn["bound at k"].get_ydata(), [-2.5, -0.8])
    np.testing.assert_array_equal(drawn[r"$\log p(x)$, exact"].get_ydata(), [-2, -0.5])
    labels = axes.get_legend_handles_labels()[1]
    assert "gap" in labels
    lower = figures.history(rows).axes[0].get_legend_handles_labels()[1]
    assert "gap, at least" in lower


def test_a_history_without_validation_is_still_a_picture():
    assert figures.history([{"epoch": 0}]).axes[0].get_legend() is None


def test_pictures_leave_matplotlib_as_it_was(tmp_path):
    before = dict(matplotlib.rcParams)
    figures.save(curve(), tmp_path / "deep" / "curve.png")
    assert dict(matplotlib.rcParams) == before
    pyplot = __import__("sys").modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_saving_is_all_or_nothing(tmp_path, monkeypatch):
    with fine():
        path = figures.save(curve(), tmp_path / "curve.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 600
    whole = path.read_bytes()
    figure = curve()

    def full_disk(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", full_disk)
    with pytest.raises(OSError, match="No space"):
        figures.save(figure, path)
    assert path.read_bytes() == whole
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"]


def test_the_same_numbers_give_the_same_file(tmp_path):
    first, second = (figures.save(curve(), tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second
