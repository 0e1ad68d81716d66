"""The sentence that answers a study: what is equal is called so, and no two rows have one name."""

import pytest

from simgpu.review.subject import answer_of, best, row_words

COLUMNS = ["machine", "workload.batch", "step_s"]


def said(rows):
    return answer_of(rows, COLUMNS, "step_s", best(rows, "step_s")[0])


def row(machine, step, batch=1):
    return {"machine": machine, "workload.batch": batch, "step_s": step, "step_s_p10": step / 2, "step_s_p90": 2 * step}


@pytest.mark.parametrize(
    ("steps", "end"),
    [
        ((1.0, 1.0), "; b has the same."),
        ((1.0, 1.0004, 1.0001, 1.2), "; c and 1 more have the same."),
        ((1.0, 1.1), "; next b, 10.0 % higher; their intervals overlap."),
        ((1.0, 105.0), "; next b, 105 times as much; their intervals are apart."),
    ],
)
def test_the_second_is_told_by_how_far_it_is(steps, end):
    assert said([row(name, step) for name, step in zip("abcd", steps, strict=False)]).endswith(end)


def test_rows_of_one_machine_are_told_apart_by_what_else_differs():
    rows = [row("L4", 2.0, 1), row("L4", 1.0, 2), row("H100", 0.5, 1), row("H100", 0.4, 2)]
    words = [row_words(rows, COLUMNS, n) for n in range(4)]
    assert len(set(words)) == 4 and words[3] == "H100, batch 2"
    assert [row_words(rows[1:3], COLUMNS, n) for n in range(2)] == ["L4", "H100"]
