"""What a notebook's user meets: pages of help, names that complete, errors in a sentence, a folder left as it was."""

import inspect
import pydoc

import pytest

import simgpu

STUDY = """
scenario: {model: llama-3.1-8b, cluster: dgx-h100, workload: {kind: prefill, tokens: 128}}
vary: {plan.tp: [1, 2]}
"""
JOBS = [simgpu.Training, simgpu.Serving, simgpu.Inference, simgpu.Prefill, simgpu.Traffic, simgpu.Plan]


@pytest.mark.parametrize("job", JOBS)
def test_help_is_a_page_on_the_fields_and_nothing_of_a_library(job):
    page = pydoc.plain(pydoc.render_doc(job))
    assert "pydantic_" not in page and "__" not in page.replace("__init__", "") and "model_dump" not in page
    fields = getattr(job, "model_fields", None) or inspect.signature(job).parameters
    for name in fields:
        assert f"|  {name}\n" in page or f"|  {name}: " in page, name


@pytest.mark.parametrize("job", [simgpu.Training, simgpu.Serving])
def test_every_field_of_the_usual_jobs_says_what_it_means(job):
    lines = inspect.getdoc(job).splitlines()
    bare = [line for line, after in zip(lines, [*lines[1:], ""], strict=True)
            if ": " in line and not line.startswith(" ") and line.partition(":")[0] in job.model_fields
            and not after.startswith("    ")]  # fmt: skip
    assert {line.partition(":")[0] for line in bare} <= {"kind"}


def test_names_complete_and_those_of_the_library_do_not():
    job = simgpu.Training(tokens=128)
    assert {"batch", "tokens", "optimizer", "samples"} <= set(dir(job)) and "model_dump" not in dir(job)
    result = simgpu.simulate("dgx-h100", simgpu.Prefill(tokens=128), "llama-3.1-8b", {"tp": 2})
    assert {"step_s", "step_s_p10", "efficiency", "timeline", "to_pandas"} <= set(dir(result))


def test_nothing_is_written_unless_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIMGPU_STORE", raising=False)
    assert len(simgpu.sweep(STUDY, jobs=1).to_pandas()) == 2
    (tmp_path / "mine.yaml").write_text(STUDY)
    assert simgpu.sweep("mine.yaml", jobs=1).ran == 2 and simgpu.sweep("mine.yaml", jobs=1).ran == 2
    simgpu.run_experiment("mine.yaml").to_pandas()
    training = STUDY.partition("vary")[0].replace("prefill, tokens: 128", "training, batch: 8, tokens: 128")
    (tmp_path / "best.yaml").write_text(training + "search: {gpus: 8, space: {tp: [1, 2], dp: all}}\n")
    assert simgpu.search("best.yaml", jobs=1).rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.yaml", "mine.yaml"]
    simgpu.sweep("mine.yaml", store="kept.sqlite", jobs=1)
    assert simgpu.sweep("mine.yaml", store="kept.sqlite", jobs=1).ran == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: simgpu.simulate(simgpu.Prefill(tokens=1), "dgx-h100", "llama-3.1-8b"), "cluster"),
        (lambda: simgpu.simulate("dgx-h100"), "workload"),
        (lambda: simgpu.simulate("dgx-h100", simgpu.Prefill(tokens=1)), "model"),
        (lambda: simgpu.Serving(), "prompt"),
        (lambda: simgpu.Plan(tpp=2), "tpp"),
    ],
)
def test_a_swapped_or_missing_argument_is_one_sentence(call, said):
    with pytest.raises((simgpu.InputError, TypeError)) as caught:
        call()
    assert said in str(caught.value) and "\n" not in str(caught.value)
