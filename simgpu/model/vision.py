"""Vision towers: how a model that sees cuts an image into patches, and how many tokens it becomes.

A tower is a vision transformer with a projector behind it. Three rules are in use. An image keeps its shape and is only
rounded to whole patches (Qwen-VL: transformers, models/qwen2_vl/image_processing_qwen2_vl.py, `smart_resize`); it is
scaled to one square (LLaVA, Gemma 3); or it is cut into squares, as many as fit its shape best, with a view of all of
it beside them (InternVL: modeling_internvl_chat.py, `dynamic_preprocess`). Tokens that frame an image in a prompt, one
or two of them, are not counted.
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
    which an image fills all.
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
        grids = {(i, j) for i in range(1, self.tiles + 1) for j in range(1, self.tiles // i + 1)}
        best, least = (1, 1), float("inf")
        for i, j in sorted(grids, key=lambda grid: (grid[0] * grid[1], grid)):
            off = abs(width / height - i / j)
            if off < least or (off == least and height * width > 0.5 * self.side**2 * i * j):
                best, least = (i, j), off
        count = best[0] * best[1]
        return count + (count > 1)
