"""Quality of narrower weights is published, not predicted: every figure has a source, and nothing is made up."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import simgpu
from simgpu import Catalogue, InputError
from simgpu.operations.quality import NONE, Published, figures, quality_columns, quality_notes, quality_of
from simgpu.plan.precision import PRECISIONS

CATALOGUE = Catalogue()
ROOT = Path(__file__).parents[2]
MACHINES = {
    "scenario": {
        "model": "llama-3.1-8b", "cluster": "rtx-4090",
        "workload": {"kind": "inference", "batch": 8, "prompt": 512, "output": 32, "runtime": "vllm"},
    },
    "cases": [{"labels": {"machine": of}, "workload.precision": of} for of in ("bf16", "fp8", "int4", "int4-g64")],
    "recommend": {},
}  # fmt: skip


def kept(precision, model="llama-3.1-8b", parameters=8.03e9, own=False):
    return quality_of(precision, model, parameters, own, CATALOGUE)


def test_every_figure_is_of_a_known_precision_with_date_and_source():
    found = figures(CATALOGUE)
    assert len(found) > 40
    for one, source in found:
        assert one.precision in PRECISIONS and one.date and len(source) > 20
        assert 0.5 < one.kept < 1.01, one


def test_a_score_and_a_perplexity_keep_more_the_closer_they_are():
    like = {"precision": "int4", "method": "m", "model": "a", "parameters": 8, "date": "2025", "source": "s"}
    assert Published(**like, measure="score", wide=80, narrow=78).kept == pytest.approx(0.975)
    assert Published(**like, measure="perplexity", wide=6, narrow=6.3).kept == pytest.approx(6 / 6.3)


def test_sixteen_bits_lose_nothing_and_what_nobody_measured_is_not_known():
    assert kept("bf16").share == kept("fp32").share == 1.0
    assert kept("int4-g64") == kept("fp8-block") == kept("mxfp4")
    assert kept("int4-g64").share is None and kept("int4-g64").words == NONE
    assert kept("fp8-block", own=True).share == 1.0
    assert kept("fp8", own=True).share < 1.0  # published in fp8 may mean made narrow afterwards


def test_the_models_own_figures_come_first_and_the_lowest_counts():
    mine = [one.kept for one, _ in figures(CATALOGUE) if (one.precision, one.model) == ("int4", "llama-3.1-8b")]
    assert len(mine) == 2 and kept("int4").share == min(mine) and "lowest of 2" in kept("int4").words
    assert kept("int4-g128") == kept("int4")


@pytest.mark.parametrize("parameters", [0.5e9, 8e9, 30e9, 1e12])
def test_more_bits_keep_more_in_each_size(parameters):
    shares = [kept(name, "nobodys", parameters).share for name in ("q8_0", "q6_k", "q4_k_m", "q2_k")]
    assert shares == sorted(shares, reverse=True)


def test_a_ranking_that_a_narrower_precision_wins_says_so():
    answer = simgpu.recommend(MACHINES)
    first = answer.rows[0]
    assert first["precision"] != "bf16" and any(note.startswith("Quality differs:") for note in answer.notes)
    assert "quality_kept" in answer.shown
    assert sum("model card" in note for note in answer.notes) == 2  # fp8 and int4, each with its source


def test_a_limit_of_quality_leaves_out_what_keeps_less_or_is_not_known():
    rows = simgpu.recommend(MACHINES, min_quality="98 %").rows
    assert [row["machine"] for row in rows if row["why"] == "first" or "x" in row["why"].split()] == ["fp8", "bf16"]
    why = {row["machine"]: row["why"] for row in rows}
    assert "quality kept 97.5 % < 98.0 %" in why["int4"] and NONE in why["int4-g64"]
    tighter = simgpu.recommend(MACHINES, min_quality=0.995).rows
    assert [row["machine"] for row in tighter if row["why"] == "first"] == ["bf16"]
    limited = MACHINES | {"recommend": {"limits": {"min_quality": "98 %"}}}
    assert [row["why"] for row in simgpu.recommend(limited).rows] == [row["why"] for row in rows]


def test_a_search_keeps_the_limit_too():
    space = {"search": {"space": {"workload.precision": ["bf16", "fp8", "int4"]}, "gpus": 1}}
    asked = {"scenario": MACHINES["scenario"], **space}
    answer = simgpu.search(asked, jobs=1)
    assert answer.rows[0]["precision"] != "bf16" and any("Quality differs" in note for note in answer.notes)
    least = simgpu.search(asked, jobs=1, min_quality="98%")
    assert {row["precision"] for row in least.rows} == {"bf16", "fp8"}
    asked["search"] = {**space["search"], "limits": {"min_quality": 0.98}}
    assert [row["plan"] for row in simgpu.search(asked, jobs=1).rows] == [row["plan"] for row in least.rows]


def test_rankings_in_one_precision_say_nothing_of_quality():
    assert quality_notes([{"precision": "bf16", "quality_used": "a"}] * 2, ["a", "b"]) == []
    assert quality_columns({"model": "a"}, SimpleNamespace(), CATALOGUE) == {}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("precision: fp8", "precision: fp9", "precision 'fp9' is not known"),
        ("source: page", "source: pgae", "'pgae' is not one of the file's sources"),
        (", date: 2025-01", "", "figures.0.date: this key is missing"),
        ("narrow: 78", "narrow: -78", "-78"),
    ],
)
def test_a_bad_file_of_figures_is_refused_with_its_line(tmp_path, old, new, problem):
    text = """name: ours
title: Ours
sources: {page: a page}
figures:
  - {precision: fp8, method: m, model: a, parameters: 8, measure: score, wide: 80, narrow: 78, date: 2025-01,
     source: page}
"""
    (tmp_path / "quality").mkdir()
    (tmp_path / "quality" / "ours.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=r"ours\.yaml") as error:
        figures(Catalogue(tmp_path))
    assert problem in str(error.value)


@pytest.mark.parametrize("given", ["130%", "much", -1])
def test_a_share_that_is_none_is_refused(given):
    with pytest.raises(InputError, match="min_quality"):
        simgpu.recommend(MACHINES, min_quality=given)
