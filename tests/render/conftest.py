"""What must hold of every picture: no two texts touch, none is cut off by the edge, and there is a title."""

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from simgpu.render.style import style
from simgpu.render.text import quiet


def drawn_texts(figure):
    """(words, box) of every text that is really drawn, pixels."""
    found = []
    plain = Text.draw

    def draw(self, renderer, *args, **kwargs):
        if self.get_visible() and self.get_text().strip():
            found.append((self.get_text(), Text.get_window_extent(self, renderer)))
        return plain(self, renderer, *args, **kwargs)

    canvas = FigureCanvasAgg(figure)
    with style(), quiet(), pytest.MonkeyPatch.context() as patch:
        figure.draw_without_rendering()
        patch.setattr(Text, "draw", draw)
        canvas.draw()
    return found


@pytest.fixture
def readable():
    """A check of a figure; returns its texts."""

    def check(figure, tolerance=1.0):
        texts = drawn_texts(figure)
        assert figure.get_suptitle(), "no title"
        width, height = figure.bbox.width, figure.bbox.height
        for words, box in texts:
            inside = (
                box.x0 > -tolerance
                and box.y0 > -tolerance
                and box.x1 < width + tolerance
                and box.y1 < height + tolerance
            )
            assert inside, f"{words!r} is cut off: {box} of {width} x {height}"
        for (one, a), (other, b) in itertools.combinations(texts, 2):
            wide = min(a.x1, b.x1) - max(a.x0, b.x0)
            high = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert wide <= tolerance or high <= tolerance, f"{one!r} and {other!r} overlap by {wide:.0f} x {high:.0f}"
        return [words for words, _ in texts]

    return check
