"""The pictures of an evaluation say the numbers they were given, and say in words what they cannot draw."""

import copy
from itertools import combinations, pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Annotation, Text
from scipy.optimize import isotonic_regression

from taut.commands.evaluate import comparison_figure
from taut.report import figures
from taut.report.figures.style import BLUE, GREY, INK, ORANGE, legible, precise, spread
from taut.report.tables.evaluation import interval_words

KS = np.array([1, 2, 5, 10, 50, 100, 1000, 5000])
CURVE = np.array([-95.5, -94.0, -92.5, -92.0, -90.75, -90.5, -89.75, -89.0])
BETAS = np.linspace(0, 1, 5)
INTEGRAND = np.array([-95.0, -92.0, -90.0, -88.5, -87.5])


def texts(figure):
    found = [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]
    return [text.replace("\u2212", "-") for text in found]


def said(figure):
    return "\n".join(texts(figure))


def level(label, value, kind, **more):
    return {"label": label, "value": value, "kind": kind, **more}


def bracketed(*levels, curve=CURVE, ends=None, **settings):
    """Between the best of these levels, unless the ends are given."""
    by_kind = {kind: [one["value"] for one in levels if one["kind"] == kind] for kind in ("exact", "lower", "upper")}
    finite = [value for value in by_kind["upper"] if value is not None]
    best = max([float(curve[-1]), *by_kind["lower"]]), min(finite, default=np.inf)
    ends = ends or (tuple(2 * by_kind["exact"]) if by_kind["exact"] else best)
    return figures.bracket(KS, curve, elbo=float(curve[0]), levels=levels, ends=ends, title="t", **settings)


def at_right(axes):
    return [one for one in axes.texts if isinstance(one, Annotation) and one.xyann[0] > 1]


BOTH = (level("ais", -88.5, "lower"), level("bdmc", -87.75, "upper"))


def thermodynamic(**settings):
    known = {"elbo": -95.0, "log_px": -90.0, "log_px_kind": "exact", "trusted": True, "title": "t"}
    values = settings.pop("integrand", INTEGRAND)
    return figures.thermodynamic(BETAS, values, **{**known, **settings})


def histogram(low, high=None, *, exact=False, images=None, rows=()):
    return figures.gap_histogram(low, high, exact=exact, images=images, image_rows=rows, title="t")


def bar(approximation=2.0, amortisation=4.0, *, sign="", errors=(0.1, 0.3), label="run"):
    return {
        "label": label,
        "approximation": approximation,
        "amortisation": amortisation,
        "approximation_error": errors[0],
        "amortisation_error": errors[1],
        "sign": sign,
    }


def stacked(*rows):
    return figures.stacked_gaps(rows, title="t")


def cost(ks=(1, 10, 100), *, exact=-88.0, **means):
    curves = {name: {"mean": np.array(mean), "error": np.ones(len(mean))} for name, mean in means.items()}
    return figures.equal_cost(np.array(ks), curves, exact=exact, title="t")


class TestBracket:
    def test_the_curve_is_drawn_as_given(self):
        axes = bracketed(*BOTH, curve_errors=np.full(8, 0.25)).axes[0]
        line, _, (bars,) = axes.containers[0]
        np.testing.assert_array_equal(line.get_xdata(), KS)
        np.testing.assert_array_equal(line.get_ydata(), CURVE)
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends, np.stack([CURVE - 0.25, CURVE + 0.25], 1))
        assert axes.get_xscale() == "log"
        assert axes.get_ylabel() == "nats per datum"

    @pytest.mark.parametrize(
        ("levels", "words"),
        [
            (BOTH, "gap in [7.000, 7.750] nats"),
            ((*BOTH, level("exact", -88.25, "exact")), "gap = 7.250 nats"),
            ((BOTH[0],), "gap ≥ 7.000 nats"),
            ((), "gap ≥ 6.500 nats"),
            ((BOTH[0], level("struski", None, "upper")), "gap ≥ 7.000 nats"),
            ((BOTH[0], level("struski", np.inf, "upper"), BOTH[1]), "gap in [7.000, 7.750] nats"),
            ((level("ais", -93.0, "lower"), level("sumo", -80.0, "estimate")), "gap ≥ 6.500 nats"),
            (
                (level("ais", -88.0, "lower"), level("struski", -88.5, "upper")),
                "gap about 7.250 nats, ends cross by noise",
            ),
        ],
    )
    def test_the_gap_is_the_ends_less_the_elbo(self, levels, words):
        assert f"ELBO -95.500\n{words}" in said(bracketed(*levels))

    @pytest.mark.parametrize(
        ("high", "exact"), [(0.3318, False), (None, False), (0.3282, False), (0.3284, True)], ids=str
    )
    def test_the_gap_has_the_digits_of_the_terminal(self, high, exact):
        """The words of the table of an evaluation, in the signs of a figure."""
        low, elbo = 0.3284, -24.0
        levels = [level("e", elbo + low, "exact" if exact else "lower")]
        levels += [] if high is None or exact else [level("u", elbo + high, "upper")]
        gap = {"low": {"value": low}, "high": None if high is None else {"value": high}, "exact": exact}
        words = interval_words(gap).replace(">=", "≥").partition(", ends")[0]
        assert f"gap {words} nats" in said(bracketed(*levels, curve=elbo + np.linspace(0, 0.3, 8)))

    def test_the_band_runs_from_the_lower_to_the_upper_end(self):
        looser = (level("sumo", -88.0, "estimate"), level("struski", -87.0, "upper"), level("naive", -90.0, "lower"))
        (band,) = bracketed(*BOTH, *looser).axes[0].patches
        assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((-88.5, -87.75))

    def test_the_band_runs_between_ends_that_were_chosen_elsewhere(self):
        """The gap is not always taken from the least upper bound: one of heavy-tailed weights gives way."""
        figure = bracketed(*BOTH, level("struski", -89.0, "upper"), ends=(-88.5, -87.75))
        (band,) = figure.axes[0].patches
        assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((-88.5, -87.75))
        assert "gap in [7.000, 7.750] nats" in said(figure)

    def test_the_band_is_open_above_without_a_finite_upper_bound(self):
        figure = bracketed(BOTH[0], level("struski", np.inf, "upper"))
        axes = figure.axes[0]
        (band,) = axes.patches
        assert band.get_y() == pytest.approx(-88.5)
        assert band.get_y() + band.get_height() == pytest.approx(axes.get_ylim()[1])
        assert "is in here, open above" in said(figure)
        assert "↑ struski: no finite value (upper)" in said(figure)

    def test_an_exact_value_needs_no_band(self):
        assert not bracketed(level("exact", -88.25, "exact")).axes[0].patches

    def test_levels_look_like_their_kind(self):
        kinds = {"exact": INK, "lower": BLUE, "upper": ORANGE, "estimate": GREY}
        values = dict(zip(kinds, (-88.25, -88.5, -87.75, -88.0), strict=True))
        figure = bracketed(*(level(kind, value, kind) for kind, value in values.items()))
        lines = {float(line.get_ydata()[0]): line for line in figure.axes[0].lines if len(set(line.get_ydata())) == 1}
        for kind, colour in kinds.items():
            line = lines[values[kind]]
            assert to_hex(line.get_color()).upper() == colour
            assert (line.get_linestyle() == "-") == (kind == "exact")
            label = next(one for one in at_right(figure.axes[0]) if one.get_text().startswith(kind))
            assert label.get_color() == colour

    def test_labels_keep_their_distance_their_order_and_the_picture(self):
        close = [level(f"l{i}", -88.0 + 1e-3 * i, "estimate") for i in range(8)]
        figure = bracketed(*close, level("m", -88.0, "upper"), level("n", -88.0, "lower"), level("o", -88.0, "lower"))
        figure.draw_without_rendering()
        boxes = [Text.get_window_extent(one) for one in at_right(figure.axes[0])]
        boxes = sorted(boxes, key=lambda box: box.y0)
        assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))
        heights = {one.get_text()[:2]: one.xyann[1] for one in at_right(figure.axes[0])}
        assert [heights[f"l{i}"] for i in range(8)] == sorted(heights[f"l{i}"] for i in range(8))
        bottom, top = figure.axes[0].get_ylim()
        assert all(bottom <= one.xyann[1] <= top + 1e-9 for one in at_right(figure.axes[0]))
        assert max(box.x1 for box in boxes) <= figure.bbox.x1

    def test_far_levels_do_not_squash_the_curve(self):
        far = (level("u_k", -12.0, "upper"), level("naive", -500.0, "lower"), level("uniform", -np.inf, "lower"))
        figure = bracketed(BOTH[0], *far)
        bottom, top = figure.axes[0].get_ylim()
        assert top - bottom < 3 * (CURVE[-1] - CURVE[0])
        for words in (
            "↑ u_k -12.000 (upper)",
            "↓ naive -500.000 (lower)\n↓ uniform: no finite value (lower)",
            "gap in [7.000, 83.500]",
        ):
            assert words in said(figure)
        assert {one.get_text()[:3] for one in at_right(figure.axes[0])} == {"imp", "ais"}

    def test_words_do_not_touch(self):
        far = [
            level(f"{kind} {i}", sign * 900.0, kind) for kind, sign in (("upper", 1), ("lower", -1)) for i in range(3)
        ]
        crossed = (level("ais", -88.0, "lower"), level("struski", -88.5, "upper"))
        alone = [level(f"the lower bound that is number {i}", -900.0, "lower") for i in range(3)]
        for levels in (alone, far, (*far, *BOTH), (*far, *crossed)):
            figure = bracketed(*levels)
            figure.draw_without_rendering()
            inside = [one for one in figure.axes[0].texts if one not in at_right(figure.axes[0])]
            boxes = [Text.get_window_extent(one) for one in inside]
            assert len([box for box in boxes if box.width]) == (3 if levels is alone else 4)
            assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
        assert "the bounds cross here, by noise" in said(figure)

    def test_small_gaps_get_the_decimals_that_tell_them_apart(self):
        figure = bracketed(level("ais", -28.6882, "lower", error=0.0004), curve=-28.69 + 1e-4 * np.arange(8))
        assert "ais -28.68820 ± 0.00040 (lower)" in said(figure)
        assert "gap ≥ 0.0018 nats" in said(figure)

    def test_a_flat_curve_is_a_flat_line(self):
        figure = bracketed(level("exact", -3.2, "exact"), curve=np.full(8, -3.2) + 1e-15 * np.arange(8))
        bottom, top = figure.axes[0].get_ylim()
        assert top - bottom > 0.05
        assert "gap = 0.000 nats" in said(figure)
        assert "exact -3.200" in texts(figure)

    def test_an_elbo_of_minus_infinity_is_said(self):
        figure = bracketed(*BOTH, curve=np.r_[-np.inf, CURVE[1:]])
        assert "ELBO not finite\nno finite gap" in said(figure)
        assert np.isfinite(figure.axes[0].get_ylim()).all()

    def test_the_common_error_is_said_at_the_axis(self):
        assert "(± 10.221 over the data, for all alike)" in bracketed(error=10.221).axes[0].get_ylabel()


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (-1.0, 1.1), (0.5, 3.0)])
def test_spread_is_the_least_squares_answer(bounds):
    values, distance = np.random.default_rng(0).normal(size=9), 0.25
    placed = np.array(spread(values, distance, *bounds))
    order = np.argsort(values)
    assert np.diff(placed[order]).min() >= distance - 1e-12
    steps = distance * np.arange(9)
    witness = np.clip(isotonic_regression(values[order] - steps).x, bounds[0], bounds[1] - steps[-1]) + steps
    np.testing.assert_allclose(placed[order], witness, atol=1e-12)


def test_spread_shares_what_room_there_is():
    np.testing.assert_allclose(spread([0.0, 0.0, 0.0], 1.0, 0.0, 1.0), [0, 0.5, 1])
    assert spread([5.0], 1.0) == [5.0]
    assert spread([], 1.0) == []
    assert spread([3.0, 1.0], 1.0) == [3.0, 1.0]


@pytest.mark.parametrize(
    ("value", "scale", "words"),
    [(-6.0, 6.0, "\u22126.000"), (0.00977, 0.00977, "0.0098"), (-1e-9, 1.0, "0.000"), (1e-16, 1e-16, "0.000"),
     (np.inf, 1.0, "not finite"), (1.0, np.nan, "1.000"), (2.0, 1e9, "2.000")],
)  # fmt: skip
def test_precise_shows_two_digits_of_the_scale(value, scale, words):
    assert precise(value, scale) == words


def test_ticks_do_not_touch_and_keep_both_ends():
    ks = np.array([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000])
    shown = legible(ks)
    assert {1, 5000} <= set(shown.tolist()) <= set(ks.tolist())
    assert np.diff(np.log10(shown)).min() > np.log10(5000) / 12
    np.testing.assert_array_equal(legible(np.array([7])), [7])


class TestThermodynamic:
    def test_area_levels_and_sums_are_those_of_the_curve(self):
        figure = thermodynamic()
        (caption,) = [figure.get_supxlabel().replace("\u2212", "-")]
        trapezoid = (-95 / 2 - 92 - 90 - 88.5 - 87.5 / 2) / 4
        assert f"area = gap\n≈ {trapezoid + 95:.3f} nats" in texts(figure)
        assert "ELBO -95.000" in texts(figure)
        assert "$\\log p(x)$ -90.000, exact" in texts(figure)
        assert f"left sum (solid steps) {(-95 - 92 - 90 - 88.5) / 4:.3f}: a lower bound" in caption
        right = (-92 - 90 - 88.5 - 87.5) / 4
        assert f"right sum (dotted steps) {right:.3f}: no bound when made from q-samples" in caption
        assert "estimate" not in caption

    def test_the_shaded_region_is_between_the_curve_and_the_elbo(self):
        (shade,) = thermodynamic().axes[0].collections
        x, y = shade.get_paths()[0].vertices.T
        shoelace = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
        assert shoelace == pytest.approx(np.trapezoid(INTEGRAND + 95, BETAS))

    def test_the_left_sum_steps_below_and_the_right_sum_above(self):
        steps = {line.get_drawstyle(): line for line in thermodynamic().axes[0].lines}
        assert steps["steps-post"].get_linestyle() == "-"
        assert steps["steps-pre"].get_linestyle() == ":"

    def test_the_band_is_the_errors(self):
        figure = thermodynamic(errors=np.full(5, 0.5))
        band = figure.axes[0].collections[1].get_paths()[0].vertices
        for beta, value in zip(BETAS, INTEGRAND, strict=True):
            heights = band[np.isclose(band[:, 0], beta), 1]
            assert (heights.min(), heights.max()) == pytest.approx((value - 0.5, value + 0.5))

    def test_distrust_is_said(self):
        caption = thermodynamic(trusted=False).get_supxlabel()
        assert "self-normalised from q-samples with few that count: an estimate, too low near β = 1" in caption

    @pytest.mark.parametrize(
        ("kind", "words"), [("lower", "best lower bound"), ("upper", "best upper bound"), ("estimate", "estimate")]
    )
    def test_the_level_says_its_kind(self, kind, words):
        assert f"$\\log p(x)$ -90.000, {words}" in texts(thermodynamic(log_px_kind=kind))

    @pytest.mark.parametrize("log_px", [None, np.inf, -np.inf])
    def test_no_level_without_a_finite_value(self, log_px):
        figure = thermodynamic(log_px=log_px)
        assert not any("log p(x)" in text for text in texts(figure))
        assert np.isfinite(figure.axes[0].get_ylim()).all()

    def test_an_infinite_curve_has_no_area(self):
        figure = thermodynamic(integrand=np.r_[-np.inf, INTEGRAND[1:]], elbo=-np.inf)
        assert "the curve is not finite: no area" in texts(figure)
        figure.draw_without_rendering()

    def test_rounding_errors_are_not_a_curve(self):
        figure = thermodynamic(integrand=-5 + 1e-15 * np.array([0, 1, -1, 2, 0]), elbo=-5.0, log_px=-5.0)
        bottom, top = figure.axes[0].get_ylim()
        assert top - bottom == pytest.approx(0.1)
        assert "area = gap\n≈ 0.000 nats" in texts(figure)


class TestHistogram:
    LOW = np.random.default_rng(0).gamma(4.0, 1.5, 200)

    def drawn(self, figure):
        return [sum(bar.get_height() for bar in container) for container in figure.axes[0].containers]

    def test_every_datum_is_counted_and_the_mean_is_marked(self):
        figure = histogram(self.LOW, exact=True)
        assert self.drawn(figure)[-1] == 200
        assert texts(figure) == [f"gap: mean {self.LOW.mean():.3f} (solid line)"]
        (line,) = figure.axes[0].lines
        assert line.get_xdata()[0] == pytest.approx(self.LOW.mean())
        assert figure.axes[0].get_xlabel() == "gap of a datum, nats"

    def test_upper_ends_are_drawn_counted_and_never_averaged_over_infinity(self):
        high = self.LOW + 1
        high[:3], high[3:5] = np.inf, 900.0
        figure = histogram(self.LOW, high)
        assert self.drawn(figure) == [195, 200]
        mean = high[3:].mean()
        first, second = texts(figure)
        assert first == f"lower end of the gap: mean {self.LOW.mean():.3f} (solid line)"
        assert second == (
            f"upper end of the gap: mean of the finite {mean:.3f} (dashed line), 3 infinite, 2 beyond the edge"
        )
        assert figure.axes[0].get_xlim()[1] < 100

    def test_no_finite_upper_end_is_said(self):
        assert "upper end of the gap: none finite" in texts(histogram(self.LOW, np.full(200, np.inf)))

    def test_an_exact_gap_has_no_upper_end(self):
        assert len(texts(histogram(self.LOW, self.LOW, exact=True))) == 1

    @pytest.mark.parametrize(
        "low", [np.array([5.0]), np.zeros(4), 1e-15 * np.array([1.0, -2.0, 0.5]), np.array([-0.5, -0.1])]
    )
    def test_few_equal_or_negative_gaps(self, low):
        figure = histogram(low, exact=True)
        assert self.drawn(figure)[-1] == len(low)
        assert np.ptp(figure.axes[0].get_xlim()) > 0.3
        assert f"mean {low.mean() + 0.0:.3f} ".replace("-0.000", "0.000") in said(figure)

    def test_gaps_that_are_infinite_are_counted(self):
        low = np.r_[self.LOW, np.inf]
        assert said(histogram(low)).endswith("1 infinite")
        assert texts(histogram(np.array([np.inf]))) == ["lower end of the gap: none finite"]

    def test_the_worst_images_carry_their_row_and_gap(self):
        worst = np.argsort(-self.LOW)[:10]
        images = np.random.default_rng(1).random((10, 4, 3))
        figure = histogram(self.LOW, images=images, rows=worst.tolist())
        tiles = figure.axes[1:]
        assert len(tiles) == 8
        for tile, image, row in zip(tiles, images, worst, strict=False):
            np.testing.assert_array_equal(tile.images[0].get_array(), image)
            assert tile.images[0].get_clim() == (0, 1)
            assert tile.get_xlabel() == f"row {row}\n{self.LOW[row]:.3f}"

    def test_no_images_no_strip(self):
        assert len(histogram(self.LOW, rows=[1, 2]).axes) == 1


class TestStackedGaps:
    def spans(self, figure):
        """Left and right end of the bars of each part, in the order of the rows."""
        bars = [one for one in figure.axes[0].containers if hasattr(one, "patches")]
        return {
            one.get_label(): [tuple(sorted((b.get_x(), b.get_x() + b.get_width()))) for b in one.patches]
            for one in bars
        }

    def test_parts_are_stacked_and_the_total_is_said(self):
        figure = stacked(bar(2.25, 4.0), bar(1.0, 0.5, sign="≥", label="other"))
        assert self.spans(figure) == {
            "amortisation gap": [(0, 4), (0, 0.5)],
            "approximation gap": [(4, 6.25), (0.5, 1.5)],
        }
        assert {"6.250", "≥ 1.500"} <= set(texts(figure))
        assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["run", "other"]

    @pytest.mark.parametrize(
        ("high", "exact", "total"),
        [(2.5, False, "≥ 6.000"), (None, False, "≥ 6.000"), (1.5, False, "≈ 5.750"), (2.0, True, "6.000")],
        ids=["an interval", "no upper end", "ends that cross", "exact"],
    )
    def test_the_total_says_what_the_table_says(self, high, exact, total):
        """Noise can make the ends of the approximation gap cross: then it is neither, but near their middle."""
        ends = {"low": {"value": 2.0, "standard_error": 0.1}, "high": None if high is None else {"value": high}}
        part = {"approximation": ends, "amortisation": {"value": 4.0, "standard_error": 0.3}, "exact": exact}
        figure = comparison_figure([{"apart": {"test": part}}], ["run"])
        assert texts(figure)[-1] == total

    def test_the_first_row_is_on_top(self):
        ticks = stacked(bar(), bar(label="other")).axes[0].get_yticks()
        assert ticks[0] > ticks[1]

    @pytest.mark.parametrize(
        ("approximation", "amortisation", "spans", "total"),
        [
            (-0.5, 4.0, ((0, 4), (-0.5, 0)), "3.500"),
            (2.0, -1.0, ((-1, 0), (0, 2)), "1.000"),
            (-2.0, -1.0, ((-1, 0), (-3, -1)), "-3.000"),
        ],
    )
    def test_negative_parts_are_left_of_zero(self, approximation, amortisation, spans, total):
        figure = stacked(bar(approximation, amortisation))
        found = self.spans(figure)
        assert (found["amortisation gap"][0], found["approximation gap"][0]) == spans
        assert texts(figure)[-1] == total

    def test_whiskers_end_one_standard_error_from_the_end_of_their_part(self):
        axes = stacked(bar(2.0, 4.0, errors=(0.25, 0.5))).axes[0]
        whiskers = [
            one[2][0].get_segments()[0][:, 0].tolist() for one in axes.containers if not hasattr(one, "patches")
        ]
        assert whiskers == [[3.5, 4.5], [5.75, 6.25]]

    def test_totals_stand_clear_of_bars_and_whiskers(self):
        figure = stacked(bar(errors=(3.0, 0.1)), bar(-1.0, 0.2, errors=(0.1, 4.0)))
        figure.draw_without_rendering()
        axes = figure.axes[0]
        for text, reach in zip(axes.texts[-2:], (9.0, 4.2), strict=True):
            box = text.get_window_extent()
            assert box.x0 > axes.transData.transform((reach, 0))[0]
            assert box.x1 <= axes.bbox.x1

    @pytest.mark.parametrize("zero", [0.0, 1e-16, -1e-16])
    def test_no_gap_is_shown_as_zero(self, zero):
        figure = stacked(bar(zero, 0.0, errors=(0.0, None)))
        assert texts(figure) == ["0.000"]
        assert figure.axes[0].get_xlim()[1] > 0.1

    def test_what_is_not_finite_is_said(self):
        figure = stacked(bar(np.inf, 2.0, sign="≥", errors=(np.nan, 0.1)), bar())
        assert "not finite" in texts(figure)
        assert np.isfinite(figure.axes[0].get_xlim()).all()

    def test_twenty_rows_do_not_touch(self):
        figure = stacked(*(bar(label=f"vae mnist dynamic normal diagonal k={k} seed=0, validation") for k in range(20)))
        figure.draw_without_rendering()
        boxes = [tick.get_window_extent() for tick in figure.axes[0].get_yticklabels()]
        assert all(below.y1 <= above.y0 for above, below in pairwise(boxes))
        assert figure.bbox.x0 <= min(box.x0 for box in boxes)


class TestEqualCost:
    def curves(self, figure):
        return [line for line in figure.axes[0].lines if line.get_marker() == "o"]

    def marked(self, figure, marker):
        return [line.get_xdata().tolist() for line in figure.axes[0].lines if line.get_marker() == marker]

    def test_the_axis_is_the_distance_to_log_px(self):
        figure = cost(naive=[-488.0, -288.0, -188.0], importance=[-94.0, -90.0, -88.5])
        axes = figure.axes[0]
        naive, importance = self.curves(figure)
        np.testing.assert_allclose(naive.get_ydata(), [400, 200, 100])
        np.testing.assert_allclose(importance.get_ydata(), [6, 2, 0.5])
        assert axes.get_ylabel().replace("\u2212", "-") == "nats below log p(x), -88.000"
        assert axes.yaxis_inverted()
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert texts(figure) == ["z from the prior\n-188.000 ± 1.000", "z from q\n-88.500 ± 1.000"]
        assert self.marked(figure, "^") == self.marked(figure, "X") == [[], []]

    def test_without_an_exact_value_the_best_stands_in_and_is_marked(self):
        figure = cost(exact=None, naive=[-488.0, -288.0, -188.0], importance=[-94.0, -90.0, -88.5])
        assert figure.axes[0].get_ylabel().replace("\u2212", "-") == "nats below the best of these, -88.500"
        assert self.marked(figure, "^") == [[], [100]]
        assert "z from q\n-88.500 ± 1.000\n▲ the best of these" in texts(figure)

    def test_the_best_is_the_best_of_all_curves_wherever_it_is(self):
        figure = cost(exact=None, importance=[-94.0, -88.5, -89.0], naive=[-488.0, -288.0, -188.0])
        assert self.marked(figure, "^") == [[10], []]
        np.testing.assert_allclose(self.curves(figure)[1].get_ydata(), [399.5, 199.5, 99.5])

    def test_the_axis_ends_near_the_closest_point_but_spans_few_decades(self):
        assert cost(naive=[-488.0, -92.0, -90.0]).axes[0].get_ylim()[1] == pytest.approx(1.0)
        assert cost(naive=[-488.0, -92.0, -88.0 - 1e-9]).axes[0].get_ylim()[1] == pytest.approx(400e-4 / 2)

    def test_what_exceeds_log_px_is_marked_at_the_edge(self):
        figure = cost(importance=[-94.0, -87.9, -88.0], naive=[-100.0, -90.0, -89.0])
        assert self.marked(figure, "^") == [[10, 100], []]
        edge = figure.axes[0].get_ylim()[1]
        assert self.curves(figure)[0].get_ydata().tolist() == [6, edge, edge]
        assert "▲ at or above log p(x)" in said(figure)

    def test_minus_infinity_is_a_cross_at_the_bottom_and_said(self):
        lost = -np.inf
        figure = cost(uniform=[lost, lost, -700.0], naive=[lost] * 3, importance=[-94.0, -90.0, -88.5])
        assert self.marked(figure, "X") == [[1, 10], [1, 10, 100], []]
        bottom, top = figure.axes[0].get_ylim()
        for line in figure.axes[0].lines:
            assert all(top <= y <= bottom for y in line.get_ydata())
        uniform, naive, _ = texts(figure)
        assert uniform == "z uniform\n-700.000 ± 1.000\n✕ -∞ at 2 of 3"
        assert naive == "z from the prior\n✕ -∞: only zero weights\nfor at least one x"

    def test_all_lost_is_still_a_picture(self):
        figure = cost(exact=None, naive=[-np.inf] * 3)
        assert np.isfinite(figure.axes[0].get_ylim()).all()
        figure.draw_without_rendering()

    def test_a_narrow_range_still_has_numbers_at_the_axis(self):
        figure = cost(naive=[-88.14, -88.08, -88.06])
        bottom, top = figure.axes[0].get_ylim()
        assert len([tick for tick in figure.axes[0].get_yticks() if top <= tick <= bottom]) >= 3

    def test_one_size_and_one_curve(self):
        figure = cost(ks=(1,), exact=None, naive=[-5.0])
        assert self.marked(figure, "^") == [[1]]

    def test_labels_do_not_touch(self):
        figure = cost(naive=[-100.0, -98.0, -97.0], uniform=[-100.0, -98.1, -97.1], importance=[-99.9, -98.0, -97.05])
        figure.draw_without_rendering()
        boxes = sorted((Text.get_window_extent(one) for one in figure.axes[0].texts), key=lambda box: box.y0)
        assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))
        assert max(box.x1 for box in boxes) <= figure.bbox.x1


EVERY = {
    "bracket": ((KS, CURVE, np.ones(8)), {"elbo": -95.5, "levels": list(BOTH), "ends": (-88.5, -87.75), "title": "t"}),
    "thermodynamic": (
        (BETAS, INTEGRAND, np.ones(5)),
        {"elbo": -95.0, "log_px": -90.0, "log_px_kind": "exact", "trusted": False, "title": "t"},
    ),
    "gap_histogram": (
        (np.arange(4.0), np.array([1.0, 2.0, np.inf, 50.0])),
        {"exact": False, "images": np.ones((2, 3, 3)), "image_rows": [3, 2], "title": "t"},
    ),
    "stacked_gaps": (([bar(-1.0), bar(np.inf)],), {"title": "t"}),
    "equal_cost": (
        (np.array([1, 10]), {"naive": {"mean": np.array([-np.inf, -3.0]), "error": np.ones(2), "kind": "lower"}}),
        {"exact": -2.0, "title": "t"},
    ),
}


@pytest.mark.parametrize("name", EVERY)
def test_pictures_change_neither_their_numbers_nor_matplotlib(name):
    args, settings = EVERY[name]
    before, given = dict(matplotlib.rcParams), copy.deepcopy((args, settings))
    figure = getattr(figures, name)(*args, **settings)
    figure.draw_without_rendering()
    np.testing.assert_equal((args, settings), given)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", EVERY)
def test_a_long_title_stays_inside(name):
    args, settings = EVERY[name]
    title = "vae fashion_mnist dynamic mixture diagonal k=50 seed=12, validation, first 1000 data of it"
    figure = getattr(figures, name)(*args, **{**settings, "title": title})
    figure.draw_without_rendering()
    shown = [axes.title for axes in figure.axes] + [axes._left_title for axes in figure.axes]
    shown += [figure._suptitle] if figure._suptitle else []
    boxes = [one.get_window_extent() for one in shown if one.get_text()]
    assert boxes
    assert all(box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 + 1 for box in boxes)
