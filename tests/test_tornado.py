"""A tornado shows the widest bar on top, says every number, and no text lies on another."""

from __future__ import annotations

from itertools import combinations

import pytest

from simgpu.render.tornado import Tornado, TornadoBar, tornado_figure


def texts(figure):
    """Boxes of all text that is drawn; ticks beyond the limits of an axis are not."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    beyond = set()
    for panel in figure.axes:
        low, high = panel.get_xlim()
        beyond |= {tick for tick in panel.get_xticklabels() if not low <= tick.get_position()[0] <= high}
    found = [one for one in figure.findobj(Text) if one.get_visible() and one.get_text().strip() and one not in beyond]
    return [(one.get_text(), one.get_window_extent(canvas.get_renderer())) for one in found]


def overlapping(figure):
    return [
        (a, b)
        for (a, one), (b, other) in combinations(texts(figure), 2)
        if one.x0 < other.x1 - 1 and other.x0 < one.x1 - 1 and one.y0 < other.y1 - 1 and other.y0 < one.y1 - 1
    ]


MANY = [TornadoBar(f"Input number {n} ({n} GB/s)", 0.09 / (n + 1), -0.08 / (n + 1)) for n in range(20)]
CASES = {
    "many": MANY,
    "one side": [TornadoBar("Power limit (700 W)", 0.05, 0.0), TornadoBar("HBM", None, -0.04)],
    "same side": [TornadoBar("A choice", -0.012, -0.03), TornadoBar("Peak", 0.09, -0.07)],
    "tiny": [TornadoBar("Latency", -0.0006, 0.0006)],
    "none": [TornadoBar("Nothing", 0.0, 0.0)],
    "huge": [TornadoBar("Queueing", 4.0, -0.5), TornadoBar("Peak", 0.1, -0.1)],
}


@pytest.mark.parametrize("name", CASES)
def test_no_text_lies_on_another(name):
    panel = Tornado(name, "step, 1.2 s as it is", "step", CASES[name])
    assert overlapping(tornado_figure([panel], 0.1, "A heading")) == []
    assert overlapping(tornado_figure([panel, panel], 0.1, "A heading")) == []


def test_the_widest_bar_is_on_top_and_every_end_has_its_number():
    bars = [TornadoBar("small", 0.01, -0.0095), TornadoBar("large", 0.083, -0.071), TornadoBar("unseen", 1e-5, 0.0)]
    figure = tornado_figure([Tornado("row", "step", "step", bars)], 0.1)
    words = [text for text, _ in texts(figure)]
    labels = [text for text in words if text in ("large", "small", "unseen")]
    assert labels == ["large", "small"]
    assert {"+8.3 %", "-7.1 %", "+1.0 %"} <= set(words)
    assert (
        "10 % more of it" in words and "large matters most: step +8.3 % with 10 % less, -7.1 % with 10 % more" in words
    )
    (panel,) = figure.axes
    top, bottom = panel.get_ylim()[::-1]
    assert top < bottom  # first bar on top


def test_numbers_stand_outside_of_their_bars():
    figure = tornado_figure([Tornado("row", "step", "step", [TornadoBar("one", 0.05, -0.04)])], 0.1)
    found = dict(texts(figure))
    (panel,) = figure.axes
    ends = {value: panel.transData.transform((value, 0))[0] for value in (5, -4)}
    assert found["+5.0 %"].x0 >= ends[5] and found["-4.0 %"].x1 <= ends[-4]
