"""Subjects whose names, notes and sources are hostile, for tests of what is written of them."""

from simgpu.render.fields import PlotFields
from simgpu.render.rows import figure_of_rows
from simgpu.review.subject import Given, Picture, Subject, answer_of, best

HOSTILE = (
    "</script><script>window.hit=1</script>",
    "<img src=http://evil.example/x onerror=window.hit=1>",
    "\"' onmouseover=window.hit=1 x='",
    "<a href='https://evil.example'>name</a> & <b>bold</b>",
    "]]>--><!-- \x00\x1b[31m\u202e\u2028",
    "=cmd|' /C calc'!A0 | pipe `tick` *star*",
)


def rows_of(count=6):
    """Rows with a time, its interval and a hostile label."""
    return [
        {
            "split": HOSTILE[n % len(HOSTILE)], "n": n, "workload": "training", "step_s": 1.0 + 0.137 * n,
            "step_s_p10": 0.9 + 0.137 * n, "step_s_p90": 1.2 + 0.137 * n, "mfu": 0.5 / (1 + n), "memory_fits": True,
        }
        for n in range(count)
    ]  # fmt: skip


def subject(count=6, pictures=True, **more):
    """A subject of hostile rows."""
    rows, columns = rows_of(count), ["split", "n", "step_s", "mfu", "memory_fits"]
    plot = PlotFields(kind="bar", x="split", y=["step_s"])
    few = rows[:6]
    drawn = [Picture("p", HOSTILE[0], figure_of_rows(few, plot), plot=plot, rows=few)] if pictures else []
    chosen = best(rows, "step_s")[0]
    inputs = [Given(HOSTILE[1], HOSTILE[0], HOSTILE[3], how) for how in ("asked", "catalogue", "default")]
    made = {
        "name": HOSTILE[0], "question": HOSTILE[0], "description": HOSTILE[3], "columns": columns, "rows": rows,
        "answer": answer_of(rows, columns, "step_s", chosen), "column": "step_s", "chosen": chosen, "pictures": drawn,
        "inputs": inputs, "distances": [HOSTILE[4]], "notes": list(HOSTILE), "commands": [HOSTILE[5]],
        "text": HOSTILE[0],
    }  # fmt: skip
    return Subject(**{**made, **more})
