"""The loss curve: what it shows, in which bounds, and that it is a picture that any browser reads."""

from xml.etree import ElementTree

import pytest

from tasks.reports.loss_curve import MOST_STRETCHES, loss_curve, numbered, smoothed, thinned, ticks

SVG = "{http://www.w3.org/2000/svg}"


def drawn(losses):
    picture = ElementTree.fromstring(loss_curve(losses))
    texts = ["".join(each.itertext()) for each in picture.iter(f"{SVG}text")]
    return texts, [each.get("class") for each in picture.iter(f"{SVG}polyline")]


def test_every_modality_has_a_raw_and_a_smoothed_line_and_a_name():
    texts, lines = drawn({"video": [(1, 2.0), (2, 1.0)], "audio": [(1, 0.5), (2, 0.25)]})
    assert lines == ["raw", "smoothed"] * 2
    assert {"video, smoothed", "audio, smoothed", "optimisation step", "loss (mean squared error)"} <= set(texts)


def test_axes_have_round_numbers():
    texts, _ = drawn({"video": [(1, 2.2), (2000, 0.1)]})
    assert {"0", "0.5", "1", "1.5", "2", "500", "1,000", "1,500", "2,000"} <= set(texts)


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [(0, 2.2, [0, 0.5, 1, 1.5, 2]), (0, 0.0031, [0, 0.001, 0.002, 0.003]), (1, 2000, [500, 1000, 1500, 2000])],
)
def test_ticks_are_1_2_or_5_times_a_power_of_ten_apart(low, high, found):
    assert ticks(low, high) == pytest.approx(found)


def test_a_long_training_is_thinned_and_keeps_its_extremes():
    points = [(step, 1.0 + step % 7 / 10) for step in range(1, 20_001)]
    points[12_345] = (12_346, 9.0)
    shown = thinned(points)
    assert len(shown) <= 2 * MOST_STRETCHES + 2
    assert (shown[0], shown[-1], max(value for _, value in shown)) == (points[0], points[-1], 9.0)
    assert shown == sorted(shown)


def test_smoothing_is_a_mean_over_a_window_and_reaches_both_ends():
    line = smoothed([(step, float(step)) for step in range(1, 8)])
    assert line == [(1, 2.0), (2, 2.5), (3, 3.0), (4, 4.0), (5, 5.0), (6, 5.5), (7, 6.0)]


def test_a_loss_that_is_not_finite_is_left_out():
    assert numbered({"video": [1.0, None, 3.0]}) == {"video": [(1, 1.0), (3, 3.0)]}
    assert drawn({"video": [(1, float("nan"))]})[0][-1] == "no finite loss yet"
