"""`simgpu validate inference`: what is printed and written about rows."""

import csv
import json

from inference_tables import CEILINGS, FORWARD, LAYER, LLAMA, SERVED, folder, found, run

from simgpu.catalog import Catalogue
from simgpu.lab.validation.adapters.inference_runs import DECODE, E2E, OPERATIONS, PREFILL, TPOT, TTFT
from simgpu.lab.validation.command import PUBLISHED
from simgpu.lab.validation.run import validate
from simgpu.lab.validation.score import OPERATOR
from simgpu.lab.validation.steps import errors_of, step_rows

# ---- what it says ------------------------------------------------------------------------------------


def test_whole_runs_are_grouped_by_runtime_and_operators_by_name(tmp_path):
    served = [SERVED, SERVED | {"framework": "sglang"}, SERVED | {"concurrency": 16}]
    place = folder(tmp_path, llmservingsim_ops=[LAYER], aic_e2e_inference=served)
    keys = [(group["op"], group["part"], group["rows"]) for group in found(place)["groups"]]
    whole = [(op, part, rows) for op in (E2E, TPOT, TTFT) for part, rows in (("sglang", 1), ("vllm", 2))]
    assert keys == [*whole, (OPERATOR, "activation", 1)]
    (group,) = found(place, "kernels")["groups"]
    assert (group["op"], group["part"]) == ("activation", "")


def test_training_and_inference_read_their_own_tables_and_share_one(tmp_path):
    backward = FORWARD | {"mode": "training_fwd_bwd", "num_gpus": 3}
    tables = {"llamacpp_inference": [LLAMA], "neusight_e2e": [FORWARD, backward], "aic_e2e_inference": [SERVED]}
    folder(tmp_path, llmfoundry_training=[{"a": 1}], aic_gemm=[{"a": 1}], mlengineering_links=[{"a": 1}], **tables)
    inferred = found(tmp_path)
    assert [(entry["file"], entry["reason"]) for entry in inferred["not_read"]] == [
        ("aic_gemm.csv", "belongs to 'validate kernels'"),
        ("llmfoundry_training.csv", "belongs to 'validate training'"),
        ("mlengineering_links.csv", "link rates, not operators"),
    ]
    assert {row["op"] for row in inferred["steps"]} == set(OPERATIONS)
    assert [entry["reason"] for entry in inferred["not_predicted"]] == ["with a backward pass: see validate training"]
    (tmp_path / "llmfoundry_training.csv").unlink()
    trained = validate("training", tmp_path, Catalogue())
    others = [why for name, why in trained.not_read if name in ("llamacpp_inference.csv", "aic_e2e_inference.csv")]
    assert others == ["belongs to 'validate inference'"] * 2
    assert "forward alone: see validate inference" in [entry.reason for entry in trained.not_predicted]


def test_without_a_folder_the_published_runs_are_predicted_and_printed(monkeypatch):
    monkeypatch.delenv("SIMGPU_MEASUREMENTS", raising=False)
    monkeypatch.setenv("COLUMNS", "250")
    result = run("-q")
    assert result.exit_code == 0 and not result.stderr
    printed = result.stdout
    parts = ("Predicted and measured, row by row", "Predicted against measured in", "by origin", "Farthest off")
    places = [printed.index(words) for words in parts]
    assert places == sorted(places)
    rows = step_rows(validate("inference", PUBLISHED, Catalogue()))
    assert all(f"{row['source']}:{row['line']} " in printed[: places[1]] for row in rows)
    summary = printed[places[1] : places[2]]
    assert all(f" {op} " in summary for op in OPERATIONS)


def test_published_runs_have_addresses_and_are_within_bounds():
    """Bounds lie a little above what was reached when this was written."""
    done = validate("inference", PUBLISHED, Catalogue())
    assert {part.source for part in done.scored} == {"published_llamacpp", "published_serving"}
    assert all(word.startswith("https://") for part in done.scored for word in part.table.words["citation"])
    rows = step_rows(done)
    errors = {op: errors_of([row for row in rows if row["op"] == op])["mape"] for op in OPERATIONS}
    assert errors[TPOT] < 0.13 and errors[E2E] < 0.16 and errors[PREFILL] < 0.18


def test_out_gets_the_data_and_the_parity_plot(tmp_path):
    place = folder(tmp_path, llamacpp_inference=[LLAMA, LLAMA | {"phase": "prefill", "tokens_per_s": 6000}])
    result = run("--data", place, "--out", tmp_path / "out", "-q")
    assert result.exit_code == 0, result.output
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names >= {"validation.json", "validation.csv", "inference_parity.png"}
    assert (tmp_path / "out/inference_parity.png").stat().st_size > 5000
    document = json.loads((tmp_path / "out/validation.json").read_text())
    with (tmp_path / "out/validation.csv").open() as stream:
        written = [(row["op"], row["part"]) for row in csv.DictReader(stream)]
    assert written == [(group["op"], group["part"]) for group in document["groups"]]
    assert written == [(DECODE, "llama.cpp"), (PREFILL, "llama.cpp")]


def test_the_page_has_goals_with_their_verdicts_and_is_the_same_again(tmp_path):
    place = folder(tmp_path, llamacpp_inference=[LLAMA], llmservingsim_ops=[LAYER], aic_e2e_inference=[SERVED])
    rows = {row["op"]: row["predicted"] for row in found(place)["steps"]}
    exact = LLAMA | {"tokens_per_s": 512 / rows[DECODE]}
    apple = LLAMA | {"gpu": "apple-m2-ultra-76c", "tokens_per_s": 20}  # far off, but the goal is of NVIDIA alone
    far = SERVED | {"ttft_s": rows[TTFT], "tpot_s": 2 * rows[TPOT]}
    folder(tmp_path, llamacpp_inference=[exact, apple], aic_e2e_inference=[far])
    texts = []
    for name in ("one.md", "two.md"):
        assert run("--data", place, "--page", tmp_path / name, "-q").exit_code == 0
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]
    lines = texts[0].splitlines()
    verdicts = {line.split(" | ")[0][2:]: line.split(" | ")[4] for line in lines if line.startswith(("| ll", "| se"))}
    goals = {title: verdict for title, verdict in verdicts.items() if title in CEILINGS}
    assert goals == {"llama.cpp decode": "yes", "served, TPOT": "no", "served, end to end": "no"}
    titles = [line[3:] for line in lines if line.startswith("## ")]
    assert [title for title in titles if title != "Error bars"][:3] == ["Goals", "By runtime and model", "Operators"]
    assert "Farthest off" in titles
    assert any(line.startswith("| aic_e2e_inference | tpot | vllm | qwen3-32b | 1 |") for line in lines)
