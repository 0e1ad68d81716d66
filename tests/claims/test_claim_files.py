"""Files of claims: what is read, and what is refused in one line with its place."""

import json

import pytest
from click.testing import CliRunner

from simgpu.catalog import Catalogue
from simgpu.claims.bench import Bench
from simgpu.claims.check import check, check_entry
from simgpu.claims.finding import VERDICTS
from simgpu.claims.reading import read_entries
from simgpu.claims.short import sentence, short
from simgpu.cli import main
from simgpu.errors import InputError

CATALOGUE = Catalogue()
GOOD = """id: mine
kind: cost
source: somebody's page
rows:
  - {gpu: rtx-4090, usd_per_h: 0.55, tokens_per_s: 2550, usd_per_m: "0.060"}
"""


def written(folder, text, name="mine.yaml"):
    file = folder / name
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("kind: cost", "kind: costs"), 2, "did you mean 'cost'"),
        (("source: somebody's page\n", ""), 1, "source: this key is missing"),
        (("usd_per_m:", "usd_per_mm:"), 5, "is no quantity; did you mean 'usd_per_m'"),
        (("gpu: rtx-4090", "gpu: rtx-4091"), 5, "rows.0.gpu: unknown gpu"),
        (('"0.060"', "a lot"), 5, "is not a number as tables print it"),
        (('"0.060"', "[1, 2]"), 5, "is several values; expected one"),
        (('"0.060"', "-3"), 5, "is negative"),
        (("gpu: rtx-4090", "precision: fp61"), 5, "unknown precision"),
        (("gpu: rtx-4090", "model: llama-9-7b"), 5, "unknown model 'llama-9-7b'"),
        (("rows:", "columns: [tokens_per_s]\nrows:\n  - [1, 2]"), 6, "has 2 cells, expected 1"),
        (("rows:", "columns: [furlongs]\nrows:\n  - [1]"), 4, "is no quantity, word or GPU"),
        (("rows:", "colums: 1\nrows:"), 4, "did you mean 'columns'"),
        (("id: mine\n", "id: mine\nid: mine\n"), 2, "is given twice"),
        (("rows:", "inputs: {usd_per_m: 3}\nrows:"), 4, "is a claim, not a condition"),
        (("{gpu", "{gpu: [}"), 5, "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, change, line, words):
    file = written(tmp_path, GOOD.replace(*change))
    with pytest.raises(InputError) as raised:
        read_entries(file, CATALOGUE)
    assert words in str(raised.value)
    assert str(raised.value).startswith(f"{file}:{line}: ")


@pytest.mark.parametrize("text", ["", "[]", "claims: []", "3", "- 3", "id: x\nkind: cost\nsource: a page\n"])
def test_files_that_claim_nothing_are_refused(tmp_path, text):
    with pytest.raises(InputError):
        read_entries(written(tmp_path, text), CATALOGUE)


def test_a_file_may_hold_several_entries(tmp_path):
    listed = "".join(
        "- " + text.replace("\n", "\n  ").rstrip() + "\n" for text in (GOOD, GOOD.replace("mine", "other"))
    )
    assert [one.fields.id for one in read_entries(written(tmp_path, listed), CATALOGUE)] == ["mine", "other"]
    with pytest.raises(InputError, match="'mine' is given twice"):
        read_entries(written(tmp_path, listed.replace("other", "mine")), CATALOGUE)


def test_rules_name_their_line(tmp_path):
    grid = "grid: {gpu: [l4], model: [llama-3.1-8b]}\n"
    text = f"id: x\nkind: decision\nsource: a page\n{grid}rules:\n  - {{when: 'parametres_b < 3', choose: l4}}\n"
    with pytest.raises(InputError, match=r"mine\.yaml:6: rules\.0\.when: .*did you mean 'parameters_b'"):
        check([written(tmp_path, text)], CATALOGUE)
    text = text.replace("'parametres_b < 3'", '"__import__(1).system(2)"')
    with pytest.raises(InputError, match="cannot be read"):
        check([written(tmp_path, text)], CATALOGUE)


def test_findings_know_their_line(tmp_path):
    done = check([written(tmp_path, GOOD)], CATALOGUE)
    assert {row["line"] for row in done.rows} == {5}
    assert done.entries[0].verdict in VERDICTS


def test_a_folder_is_all_its_files(tmp_path):
    written(tmp_path, GOOD, "a.yaml")
    written(tmp_path, GOOD.replace("id: mine", "id: two"), "b.yaml")
    assert [one.entry for one in check([tmp_path], CATALOGUE).entries] == ["mine", "two"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no files of claims"):
        check([tmp_path / "empty"], CATALOGUE)


# ---- one claim -------------------------------------------------------------------------------------------


def test_the_short_form_is_a_row():
    words = {"gpu": "rtx-4090", "model": "llama-2-7b", "precision": "fp16", "runtime": None}
    done = check_entry(short("decode", words, ["tokens_per_s=130"]), Bench(CATALOGUE))
    assert [one.verdict for one in done.findings] == ["impossible"]
    for cell, said in (("tokens_per_s", "expected NAME=FIGURE"), ("speeed=3", "is no quantity")):
        with pytest.raises(InputError, match=said):
            short("decode", words, [cell])


@pytest.mark.parametrize(
    ("text", "kind", "row"),
    [
        ("RTX 4090 runs Llama 2 7B in FP16 at 130 tokens/s", "decode",
         {"gpu": "rtx-4090", "model": "llama-2-7b", "precision": "fp16", "tokens_per_s": "130"}),
        ("H100 trains Llama 70B at 900 TFLOP/s per GPU", "training",
         {"gpu": "h100-sxm", "model": "llama-3.3-70b", "method": "full", "achieved_tflops": "900"}),
        ("an L4 has 300 GB/s", "spec", {"gpu": "l4", "memory_bandwidth_gb_per_s": "300"}),
        ("8x H100 train Llama 3.1 70B with LoRA at ~38,000 tokens/s", "training",
         {"gpu": "h100-sxm", "gpus": 8, "model": "llama-3.1-70b", "method": "lora", "tokens_per_s": "~38,000"}),
        ("Ollama, Qwen3 32B Q4 on an RTX 3090: 12-20 tok/s", "decode",
         {"gpu": "rtx-3090", "model": "qwen3-32b", "precision": "q4_k_m", "runtime": "llama.cpp",
          "tokens_per_s": "12-20"}),
    ],
)  # fmt: skip
def test_a_sentence_is_read(text, kind, row):
    data = sentence(text, CATALOGUE)
    assert (data["kind"], data["rows"]) == (kind, [row])


def test_a_sentence_without_a_figure_is_refused():
    with pytest.raises(InputError, match="has no figure with a unit"):
        sentence("the H100 is fast", CATALOGUE)


# ---- the command -----------------------------------------------------------------------------------------


def run(*words):
    return CliRunner().invoke(main, ["claims", *map(str, words)])


def test_the_command_prints_and_writes(tmp_path):
    file = written(tmp_path, GOOD)
    assert "reproduced" in run(file).output
    document = json.loads(run(file, "--format", "json").output)
    assert document["entries"][0]["cells"][-1]["verdict"] == "reproduced"
    assert "| usd_per_m | 0.060 | reproduced |" in run(file, "--format", "markdown").output
    assert run(file, "--format", "csv").output.startswith("entry,kind,line,")
    done = run(file, "-o", tmp_path / "out", "--plot-format", "png")
    assert done.exit_code == 0, done.output
    names = sorted(one.name for one in (tmp_path / "out").iterdir())
    assert names == ["claimed_over_computed.png", "claims.html", "claims.json", "claims.md", "rows.csv"]
    page = (tmp_path / "out/claims.html").read_text()
    assert "<script" not in page and "claimed_over_computed.png" in page


def test_pages_escape_what_a_file_says(tmp_path):
    text = GOOD.replace("source: somebody's page", "source: '<script>alert(1)</script>'\ntitle: 'a | b'")
    run(written(tmp_path, text), "-o", tmp_path / "out", "--no-plots")
    assert "<script>" not in (tmp_path / "out/claims.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing is given"),
        (("check",), "expected one sentence"),
        (("nowhere.yaml",), "nowhere.yaml"),
        (("tokens_per_s=130",), "--kind: is missing"),
        (("--kind", "decode", "tokens_per_s"), "is no figure"),
        (("--kind", "decodes", "tokens_per_s=3"), "'decodes' is not known; did you mean 'decode'"),
        (("--kind", "decode", "--gpu", "rtx-4091", "tokens_per_s=3"), "unknown gpu"),
    ],
)
def test_bad_commands_end_in_one_line(words, said):
    done = run(*words)
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.strip().splitlines()) == 1
