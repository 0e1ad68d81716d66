"""Searches on several clusters as one answer: their plans ranked together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from simgpu.columns import sign
from simgpu.study.search.answer import Answer
from simgpu.study.search.reasons import why


def together(answers: Sequence[Answer], top: int, objective: str) -> Answer:
    """One answer of several.

    It holds the `top` plans of all clusters that are best in the column `objective`, the front of each, and the text of
    each search.
    """
    first = answers[0]
    ranked = [(row, case) for one in answers for row, case in zip(one.rows, one.cases, strict=True)]
    ranked.sort(key=lambda pair: (bool(pair[0].get("saturated")), -sign(objective) * pair[0][objective]))
    ranked = ranked[:top]
    best = ranked[0][0] if ranked else {}
    rows = [{**row, "rank": n, "lost_by": why(row, best) if n > 1 else ""} for n, (row, _) in enumerate(ranked, 1)]
    counts: Counter[str] = Counter()
    for one in answers:
        counts.update(one.counts)
    shown, front_shown = (
        ["rank", "plan", "cluster", *(name for name in names if name not in ("rank", "plan", "cluster"))]
        for names in (dict.fromkeys(name for one in answers for name in one.shown), first.front_shown)
    )
    words = f"{best['model']}: {best['plan']} on {best['cluster']} is best" if best else "no plan meets the limits"
    return replace(
        first, rows=rows, cases=[case for _, case in ranked], scenarios=[case.scenario for _, case in ranked],
        front=[row for one in answers for row in one.front], every=[row for one in answers for row in one.every],
        counts=counts, seconds=sum(one.seconds for one in answers), exact=all(one.exact for one in answers),
        complete=all(one.complete for one in answers), shown=shown, front_shown=front_shown[1:],
        front_title=f"{first.front_title}, on each cluster", heading=words, front_heading=words,
        notes=[note for one in answers for note in one.notes],
    )  # fmt: skip
