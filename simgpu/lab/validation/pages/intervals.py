"""The section of a page on intervals: whether they hold and how wide they are.

A table by class and distance, one number for an outsider, and the reliability diagram.
"""

from __future__ import annotations

from collections.abc import Iterator

from simgpu.lab.validation.intervals import interval_rows, outsider
from simgpu.lab.validation.run import Validation
from simgpu.render.validation import outsider_words

PICTURE = "![Promised against measured coverage](images/reliability.png)"

WORDS = """\
An interval is to hold 80 % of measurements, and to be no wider than that takes. *Distance* is how far rows are from
what chose the constants: those of this GPU (*calibrated*) or of its *same architecture*, by rows of the same source; a
*new machine*, whose source chose none; *new software*, or experts in it, without any row; a *new architecture*. Rows
that made the table of intervals do not count. *By source* each source counts once: a thousand rows of one publisher are
one draw of a machine. P90 / P10 is the width of the median row, the interval score its width plus ten times what lies
outside, in the logarithm of the time: lower is better, and neither wide nor narrow intervals win it.
"""


def intervals_section(done: Validation, picture: bool = False) -> Iterator[str]:
    """Lines of the section."""
    rows = interval_rows(done.scored)
    if not rows:
        return
    yield "## Error bars\n"
    yield WORDS
    found = outsider(done.scored)
    if found is not None:
        yield f"**{outsider_words(found)}.**\n"
    yield "| class | distance | rows | sources | inside | by source | P90 / P10 | interval score |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for row in rows:
        cells = [row["class"], row["standing"], f"{row['rows']:,}", str(row["sources"])]
        cells += [f"{100 * row[name]:.0f} %" for name in ("inside", "inside_by_source")]
        yield f"| {' | '.join(cells)} | {row['width']:.2f} | {row['interval_score']:.2f} |"
    yield ""
    if picture:
        yield f"{PICTURE}\n"
