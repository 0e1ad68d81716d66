"""Vision towers: how a model that sees cuts an image into patches, and how many tokens it becomes.

A tower is a vision transformer with a projector behind it. Three rules are in use. An image keeps its shape and its
sides become whole patches: rounded (Qwen-VL: models/qwen2_vl/image_processing_qwen2_vl.py, `smart_resize`),
filled up, and scaled down alone (Kimi K2.5: models/kimi_k25/image_processing_kimi_k25.py, `navit_resize`), or scaled to
as many patches as there may be (Gemma 4: models/gemma4/image_processing_gemma4.py). It is scaled to one square (LLaVA,
Gemma 3). Or it is cut into squares with a view of all of it beside them: as many as fit its shape best (InternVL:
modeling_internvl_chat.py, `dynamic_preprocess`), or those that it fits into with the least change of its size (Llama 4:
models/llama4/image_processing_llama4.py, `get_best_fit`). Tokens that frame an image in a prompt, one or two of them,
are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, sqrt


@dataclass(frozen=True)
class Tower:
    """A vision tower with its projector.

    `out` is the width of the text model, `merge` patches of a side become one token: side by side, or their mean where
    `pooled`. `side` are the pixels of the square that an image or a tile is scaled to (0: it keeps its shape, between
    `least_pixels` and `most_pixels`), `tiles` the most that it is cut into. `inner` is the width inside the projector
    (0: one matrix), `deep` how many more projectors layers in the middle have (DeepStack). `window` are the pixels of a
    side that attention sees, but in `whole_layers` (0: all see the whole image). `frames` of a film are in a patch, of
    which an image fills all. `fills`: an image is scaled to `most_pixels`; `pads`: its sides are filled up, and it is
    never enlarged; `canvas`: tiles are those that change its size least. `between` is the width behind a second matrix
    of the projector, where that has three.
    """

    layers: int
    hidden: int
    heads: int
    ffn: int
    patch: int
    out: int
    merge: int = 1
    pooled: bool = False
    side: int = 0
    tiles: int = 1
    least_pixels: int = 0
    most_pixels: int = 0
    frames: int = 1
    channels: int = 3
    gated: bool = False
    rms_norm: bool = False
    patch_bias: bool = True
    class_token: bool = False
    first_norm: bool = False
    last_norm: bool = True
    merged_norm: bool = False
    scales: bool = False  # a learned factor of each channel behind attention and feed-forward
    positions: int = 0  # rows of a table of learned positions
    inner: int = 0
    deep: int = 0
    window: int = 0
    whole_layers: int = 0
    fills: bool = False
    pads: bool = False
    canvas: bool = False
    between: int = 0
    linear_bias: bool = True  # of the layers' matrices
    inner_bias: bool = True  # of the projector's
    four_norms: bool = False  # norms behind attention and feed-forward too

    def pictures(self, height: int, width: int) -> tuple[int, int, int]:
        """(pictures, rows, columns of patches of each) that an image of `height` x `width` pixels becomes."""
        if self.side:
            return self._tiles(height, width), self.side // self.patch, self.side // self.patch
        high, wide = self._rounded(height, width)
        return 1, high // self.patch, wide // self.patch

    def tokens(self, height: int, width: int) -> int:
        """Tokens of the prompt that an image takes."""
        count, rows, columns = self.pictures(height, width)
        return count * (rows // self.merge) * (columns // self.merge)

    def _rounded(self, height: int, width: int) -> tuple[int, int]:
        """The sides in pixels, rounded to whole tokens, within the limits of the area."""
        unit = self.patch * self.merge
        if self.fills:
            by = sqrt(self.most_pixels / (height * width))
            return max(floor(height * by / unit), 1) * unit, max(floor(width * by / unit), 1) * unit
        if self.pads:
            by = min(1.0, sqrt(self.most_pixels / max((height // self.patch) * (width // self.patch), 1)) / self.patch)
            return ceil(int(height * by) / unit) * unit, ceil(int(width * by) / unit) * unit
        high, wide = (max(round(side / unit), 1) * unit for side in (height, width))
        if self.most_pixels and high * wide > self.most_pixels:
            by = sqrt(height * width / self.most_pixels)
            return max(floor(height / by / unit), 1) * unit, max(floor(width / by / unit), 1) * unit
        if high * wide < self.least_pixels:
            by = sqrt(self.least_pixels / (height * width))
            return ceil(height * by / unit) * unit, ceil(width * by / unit) * unit
        return high, wide

    def _tiles(self, height: int, width: int) -> int:
        """Squares of an image: those of the grid whose shape is nearest, and the whole beside them."""
        if self.tiles == 1:
            return 1
        if self.canvas:
            return self._canvas(height, width)
        grids = {(i, j) for i in range(1, self.tiles + 1) for j in range(1, self.tiles // i + 1)}
        best, least = (1, 1), float("inf")
        for i, j in sorted(grids, key=lambda grid: (grid[0] * grid[1], grid)):
            off = abs(width / height - i / j)
            if off < least or (off == least and height * width > 0.5 * self.side**2 * i * j):
                best, least = (i, j), off
        count = best[0] * best[1]
        return count + (count > 1)

    def _canvas(self, height: int, width: int) -> int:
        """Squares of the canvas that an image fits into with the least enlargement, else the least reduction."""
        grids = [(i, j) for i in range(1, self.tiles + 1) for j in range(1, self.tiles // i + 1)]
        scales = {grid: min(grid[0] * self.side / height, grid[1] * self.side / width) for grid in grids}
        larger = [scale for scale in scales.values() if scale >= 1]
        chosen = min(larger) if larger else max(scales.values())
        count = min(i * j for (i, j), scale in scales.items() if scale == chosen)
        return count + (count > 1)
