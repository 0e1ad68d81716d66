"""Every answer has rows, a DataFrame, a table for notebooks, figures, and files."""

from pathlib import Path
from typing import Any

import pytest

import simgpu
from simgpu.render.html import MOST_ROWS, table_html
from simgpu.tabular import Tabular

TEXT: dict[str, Any] = {
    "experiment": "small",
    "scenario": {"cluster": "dgx-h100", "model": "llama-3.2-1b", "workload": {"kind": "prefill", "tokens": 512}},
    "vary": {"plan.tp": [1, 2]},
}
ASKED = {
    "simulate": lambda: simgpu.simulate("dgx-h100", {"kind": "prefill", "tokens": 512}, "llama-3.2-1b", {"tp": 2}),
    "run_experiment": lambda: simgpu.run_experiment(TEXT),
    "sweep": lambda: simgpu.sweep(TEXT, store="s.sqlite", jobs=1),
    "explain": lambda: simgpu.explain(TEXT)[0],
    "sensitivity": lambda: simgpu.sensitivity(TEXT, case="1")[0],
    "diff": lambda: simgpu.diff({**TEXT, "vary": {"plan.tp": [1]}}, {**TEXT, "vary": {"plan.tp": [2]}}),
    "fit": lambda: simgpu.fit("llama-3.2-1b", gpu="l4", precision="fp8"),
}


@pytest.mark.parametrize("asked", ASKED)
def test_every_answer_has_the_same_ways(asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = ASKED[asked]()
    assert isinstance(answer, Tabular) and answer.rows
    assert "\n" not in repr(answer) and len(repr(answer)) < 120
    assert len(answer.to_pandas()) == len(answer.rows)
    assert answer._repr_html_().count("<tr>") >= 1
    written = answer.save("out", formats=("svg",))
    assert written[0].name == "rows.csv" and [file.stem for file in written[1:]] == list(answer.figures())


def test_columns_of_a_result_complete_and_have_their_interval() -> None:
    result = ASKED["simulate"]()
    assert {"step_s", "mfu", "rows", "to_pandas"} <= set(dir(result))
    low, high = result.interval("step_s")
    assert low < result.step_s < high and result.interval("step_s").value == result.step_s
    with pytest.raises(simgpu.SimgpuError, match="'tp' has no interval; expected one of step_s, "):
        result.interval("tp")
    with pytest.raises(simgpu.SimgpuError, match="did you mean 'step_s'"):
        result.interval("stepp_s")


def test_html_escapes_every_text_and_says_what_it_leaves_out() -> None:
    rows = [{"<b>": "<script>", "model": "&", "step_s": 1.0}] * (MOST_ROWS + 7)
    shown = table_html(rows)
    assert "<script>" not in shown and "<b>" not in shown and "&lt;script&gt;" in shown
    assert "7 more rows" in shown and shown.count("<tr>") == MOST_ROWS + 1
