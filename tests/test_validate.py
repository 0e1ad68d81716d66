"""`simgpu validate`: what it reads, what it refuses, what it counts, and what it prints and writes."""

import csv
import gzip
import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from measured import FOLDER, joined, needs, together

from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.cli.models import TABLES
from simgpu.errors import InputError
from simgpu.lab.validation import reasons
from simgpu.lab.validation.adapters.attention import visible
from simgpu.lab.validation.batches import Batch
from simgpu.lab.validation.command import PUBLISHED
from simgpu.lab.validation.gpus import resolve
from simgpu.lab.validation.pages import goals
from simgpu.lab.validation.pages import operators as page
from simgpu.lab.validation.run import validate
from simgpu.lab.validation.score import scores, worst
from simgpu.lab.validation.source import TARGETS, Reason
from simgpu.lab.validation.sources import NOT_PREDICTED, known
from simgpu.lab.validation.tables import Columns, read_table

ROOT = Path(__file__).parents[1]
measured = needs("aic_gemm")
pytestmark = together

GEMM = "gpu,dtype,m,n,k,latency_s,suspicious\n"
GOOD = GEMM + "h100-sxm,bfloat16,4096,4096,4096,2.2e-4,\nh100-sxm,fp8,64,4096,4096,1.6e-5,\n"
CONTRACT = {"source", "gpu", "op", "dtype", "rows", "median_ape", "mape", "p90_ape", "bias", "coverage80"}


def run(*options):
    return CliRunner().invoke(main, ["validate", *map(str, options)])


def folder(tmp_path, **files):
    for name, text in files.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return tmp_path


def found(tmp_path, target="all", **files):
    result = run(target, "--data", folder(tmp_path, **files), "--format", "json", "-q")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# ---- what it says ------------------------------------------------------------------------------------


def test_the_json_has_the_groups_of_the_contract(tmp_path):
    document = found(tmp_path, aic_gemm=GOOD)
    assert {(g["gpu"], g["op"], g["dtype"]) for g in document["groups"]} == {
        ("h100-sxm", "gemm", "bfloat16"),
        ("h100-sxm", "gemm", "fp8"),
    }
    for group in document["groups"]:
        assert set(group) >= CONTRACT
        assert group["source"] == "aic_gemm" and group["rows"] == 1
        assert group["median_ape"] == pytest.approx(group["mape"]) and 0 <= group["coverage80"] <= 1


def test_gzipped_tables_are_read_as_plain_ones(tmp_path):
    plain = found(tmp_path / "a" if (tmp_path / "a").mkdir() is None else tmp_path, aic_gemm=GOOD)
    (tmp_path / "b").mkdir()
    with gzip.open(tmp_path / "b/aic_gemm.csv.gz", "wt") as stream:
        stream.write(GOOD)
    packed = json.loads(run("all", "--data", tmp_path / "b", "--format", "json", "-q").stdout)
    assert packed["groups"] == plain["groups"]


def test_scores_are_what_their_names_say():
    predicted, truth = np.array([1.1, 0.5, 2.0, 1.0]), np.array([1.0, 1.0, 1.0, 1.0])
    part = SimpleNamespace(
        measured=truth,
        predicted=predicted,
        ratio=predicted / truth,
        roofline=truth / 4,
        low=predicted * 0.9,
        high=predicted * 1.1,
    )
    got = scores([part])
    assert got["rows"] == 4
    assert got["mape"] == pytest.approx((0.1 + 0.5 + 1.0 + 0.0) / 4)
    assert got["median_ape"] == pytest.approx(0.3)
    assert got["p90_ape"] == pytest.approx(np.quantile([0.1, 0.5, 1.0, 0.0], 0.9))
    assert got["bias"] == pytest.approx(np.exp(np.median(np.log(predicted))) - 1)
    assert got["coverage80"] == 0.5  # 1.1 x 0.9 = 0.99 and 1.0
    assert got["sol_median_ape"] == pytest.approx(0.75)
    assert scores([part], lambda p: p.measured > 2) == {"rows": 0}


def test_every_row_is_scored_or_listed_with_a_reason(tmp_path):
    table = GOOD + (
        "p40,bfloat16,64,64,64,1e-5,\n"  # exists, but not in the catalogue
        "a100-sxm-80gb,fp8,64,4096,4096,1.6e-5,\n"  # no such arithmetic
        "h100-sxm,fp5,64,4096,4096,1.6e-5,\n"
        "h100-sxm,bfloat16,64,4096,4096,1.6e-5,node was sick\n"
    )
    document = found(tmp_path, aic_gemm=table, my_notes="a,b\n1,2\n", llmservingsim_instances="gpu\nl40s\n")
    listed = Counter(entry["reason"] for entry in document["not_predicted"])
    assert len(listed) == 3 and any("no datasheet of 'p40'" in reason for reason in listed)
    assert any("no fp8 peak" in reason for reason in listed) and any("'fp5'" in reason for reason in listed)
    assert [entry["reason"] for entry in document["left_out"]] == ["suspicious: node was sick"]
    assert {entry["file"]: entry["reason"] for entry in document["not_read"]} == {
        "my_notes.csv": "unknown file",
        "llmservingsim_instances.csv": "unknown file",
    }
    rows = sum(g["rows"] for key in ("groups", "not_predicted", "left_out") for g in document[key])
    assert rows == len(table.splitlines()) - 1


def test_kernels_and_collectives_read_their_own_tables(tmp_path):
    reduce = "gpu,collective,dtype,num_gpus,num_nodes,message_bytes,latency_s\nh100-sxm,alltoall,float16,8,1,1e6,4e-5\n"
    (group,) = found(tmp_path, "collectives", aic_gemm=GOOD, aic_nccl=reduce)["groups"]
    assert group["op"] == "all_to_all" and group["dtype"] == "float16"
    document = found(tmp_path, "kernels")
    assert {g["op"] for g in document["groups"]} == {"gemm"}
    assert {"file": "aic_nccl.csv", "reason": "belongs to 'validate collectives'"} in document["not_read"]


def test_eager_all_reduces_are_left_out_and_say_why(tmp_path):
    head = "gpu,collective,dtype,num_gpus,message_bytes,latency_s,cuda_graph\n"
    rows = "h100-sxm,all_reduce,bfloat16,8,1048576,2e-5,True\nh100-sxm,all_reduce,bfloat16,8,1048576,6e-5,False\n"
    document = found(tmp_path, aic_custom_allreduce=head + rows)
    assert [g["rows"] for g in document["groups"]] == [1]
    assert document["left_out"][0]["rows"] == 1 and "eager" in document["left_out"][0]["reason"]


def test_steps_of_a_server_are_told_apart(tmp_path):
    head = "gpu,num_heads,num_kv_heads,head_dim,dtype,prefill_q_len,prefill_past_kv_len,num_decode_seqs,decode_kv_len,"
    rows = ["512,1024,0,0", "0,0,16,2048", "512,1024,16,2048"]
    text = head + "latency_s\n" + "".join(f"rtx-4090,32,8,128,bfloat16,{row},1e-4\n" for row in rows)
    done = validate("kernels", folder(tmp_path, llmservingsim_attention=text), Catalogue())
    seconds = {part.batch.op: float(part.predicted[0]) for part in done.scored}
    assert set(seconds) == {"attention_prefill", "attention_decode", "attention_mixed"}
    assert seconds["attention_mixed"] > max(seconds["attention_prefill"], seconds["attention_decode"])


@pytest.mark.parametrize("queries,keys,window", [(4, 4, 0), (3, 8, 0), (8, 8, 3), (2, 9, 4), (1, 7, 0), (5, 6, 100)])
def test_visible_pairs_are_those_one_counts(queries, keys, window):
    pairs = sum(1 for i in range(queries) for j in range(keys)
                if j <= keys - queries + i and (not window or j > keys - queries + i - window))  # fmt: skip
    assert float(visible(np.array([queries]), np.array([keys]), np.array([window]))[0]) == pairs


def test_the_table_names_groups_worst_rows_and_what_is_missing(tmp_path):
    data = folder(tmp_path, aic_gemm=GOOD + "p40,bfloat16,64,64,64,1e-5,\n")
    result = run("kernels", "--data", data, "-q")
    assert result.exit_code == 0
    for text in ("bfloat16", "Worst rows", "aic_gemm:2", "m=4096 n=4096 k=4096", "Not predicted", "'p40'", "roofline"):
        assert text in result.stdout


def test_out_writes_data_and_pictures(tmp_path):
    data = folder(tmp_path, aic_gemm=GOOD)
    result = run("kernels", "--data", data, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    names = {file.name for file in (tmp_path / "out").iterdir()}
    pictures = {"parity_gemm.png", "error_by_size_gemm.png", "reliability.png"}
    assert names == {"validation.json", "validation.csv"} | pictures
    assert all((tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG") for name in names if name.endswith("png"))
    with (tmp_path / "out/validation.csv").open() as stream:
        assert [row["dtype"] for row in csv.DictReader(stream)] == ["bfloat16", "fp8"]


def test_regimes_pass_over_the_constants_of_the_gpu_and_of_its_family(tmp_path):
    data = folder(tmp_path, aic_gemm=GOOD)
    predicted, regimes = {}, {}
    for regime in ("full", "family", "datasheet"):
        parts = validate("kernels", data, Catalogue(), regime).scored
        predicted[regime] = [float(part.predicted[0]) for part in parts]
        regimes[regime] = {part.regime for part in parts}
    assert regimes["datasheet"] == {"datasheet"} and "calibrated" not in regimes["family"]
    assert predicted["datasheet"] != predicted["full"]


# ---- what it refuses ---------------------------------------------------------------------------------

HEAD = "gpu,dtype,m,n,k,latency_s\n"
ROW = "h100-sxm,bfloat16,64,4096,4096,"


@pytest.mark.parametrize(
    "text,line,problem",
    [
        (
            "gpu,dtype,m,n,k,latency_ms\n" + ROW + "0.01\n",
            1,
            "column 'latency_ms' has another unit; expected 'latency_s'",
        ),
        ("gpu,dtype,m,n,k,time\n" + ROW + "1e-5\n", 1, "column 'latency_s' is missing"),
        ("gpu,dtype,m,n,latency_s\n", 1, "column 'k' is missing"),
        ("gpu,dtype,m,m,n,k,latency_s\n", 1, "column 'm' stands there twice"),
        ("", 1, "is empty"),
        ("gpu\xff,dtype\n", 1, "is not text"),
    ],
)
def test_bad_tables_are_refused_with_file_and_line_and_nothing_is_written(tmp_path, text, line, problem):
    file = tmp_path / "aic_gemm.csv"
    file.write_bytes(text.encode("latin-1"))
    result = run("all", "--data", tmp_path, "--out", tmp_path / "out", "--page", tmp_path / "page.md")
    assert result.exit_code == 2 and result.stdout == ""
    (said,) = result.stderr.splitlines()
    assert said.startswith(f"simgpu: {file}:{line}: ") and problem in said
    assert sorted(tmp_path.iterdir()) == [file]


SKIPPED = [
    (HEAD + ROW + "1e-5\n" + ROW + "-1e-5\n", 3, "'-1e-5': expected a number above zero"),
    (HEAD + ROW + "0\n", 2, "expected a number above zero"),
    (HEAD + ROW + "100000\n", 2, "is longer than 10000 s; expected seconds"),
    (HEAD + ROW + "1e-9\n", 2, "is shorter than 1e-08 s; expected seconds"),
    (HEAD + ROW + "12.5\n", 2, "expected seconds; are these microseconds?"),
    (HEAD + ROW + "0.0125\n", 2, "expected seconds; are these milliseconds?"),
    (HEAD + ROW + "1e-7\n" + ROW + "1e-7\n", 2, "times faster than any model in the median"),
    (HEAD + ROW + "soon\n", 2, "'soon': expected a number"),
    (HEAD + ROW + "nan\n", 2, "expected a finite number"),
    (HEAD + ROW + "\n", 2, "is empty, expected a number"),
    (HEAD + "h100-sxm,bfloat16,1e300,4096,4096,1e-5\n", 2, "m: '1e300': expected at most 1e+18"),
    (HEAD + "h100-sxm,bfloat16,0,4096,4096,1e-5\n", 2, "m: '0': expected a number above zero"),
    (HEAD + "h100-sxn,bfloat16,64,4096,4096,1e-5\n", 2, "unknown GPU 'h100-sxn'; did you mean 'h100-sxm'?"),
    (HEAD + ROW + "1e-5\nh9000,bfloat16,64,4096,4096,1e-5\n", 3, "gpu: unknown GPU 'h9000'"),
    (HEAD + ",bfloat16,64,4096,4096,1e-5\n", 2, "gpu: is empty"),
    (HEAD + "h100-sxm,bfloat16,64\n", 2, "has 3 cells, expected 6 as the header"),
    (HEAD + 'h100-sxm,"bfloat16,64,4096,4096,1e-5\n', 2, "is not valid CSV"),
]


@pytest.mark.parametrize("text,line,problem", SKIPPED)
def test_a_bad_row_is_listed_with_file_and_line_and_the_others_are_predicted(tmp_path, text, line, problem):
    other = "l40s,bfloat16,4096,4096,4096,9e-4\n"
    file = tmp_path / "aic_gemm.csv"
    file.write_text(text + other)
    result = run("all", "--data", tmp_path, "--format", "json", "-q")
    assert result.exit_code == 0 and result.stderr == "", result.output
    document = json.loads(result.stdout)
    (bad,) = document["not_predicted"]
    assert bad["reason"].startswith(f"aic_gemm.csv:{line}: ") and problem in bad["reason"]
    assert bad["lines"][0] == line and any(group["gpu"] == "l40s" for group in document["groups"])
    assert bad["rows"] + sum(group["rows"] for group in document["groups"]) == (text + other).count("\n") - 1
    assert f"aic_gemm.csv:{line}:" in run("all", "--data", tmp_path, "-q").stdout.replace("\n", "")


def test_an_operation_that_babelstream_lacks_is_no_copy(tmp_path):
    text = "gpu,op,dtype,elements,latency_s\na100-sxm-40gb,{},float32,33554432,2e-4\n"
    assert not found(tmp_path, published_stream=text.format("copy"))["not_predicted"]
    (refused,) = found(tmp_path, published_stream=text.format("dot"))["not_predicted"]
    assert refused["reason"] == "no operator of BabelStream; expected one of copy, mul, add, triad"


def test_bad_rows_of_one_kind_stand_together(tmp_path):
    text = HEAD + (ROW + "soon\n") * 25 + (ROW + "1e-5\n") * 2 + "h100-sxm,bfloat16,,4096,4096,1e-5\n"
    many, one = found(tmp_path, aic_gemm=text)["not_predicted"]
    assert many["rows"] == 25 and many["lines"] == list(range(2, 12)) and "'soon'" in many["reason"]
    assert one["reason"] == "aic_gemm.csv:29: m: is empty, expected a number"


def test_bytes_that_are_no_text_and_open_quotes_spoil_their_row_alone(tmp_path):
    rows = [ROW + "1e-5", "h100-sxm,bf\xff16,64,64,64,1e-5", 'h100-sxm,"bfloat16,1,1,1,1', ROW + "2e-5"]
    (tmp_path / "aic_gemm.csv").write_bytes((HEAD + "\n".join(rows) + "\n").encode("latin-1"))
    document = json.loads(run("all", "--data", tmp_path, "--format", "json", "-q").stdout)
    assert [entry["reason"][:40] for entry in document["not_predicted"]] == [
        "aic_gemm.csv:3: is not text (byte 0xff)"[:40], "aic_gemm.csv:4: is not valid CSV (unexpected"[:40],
    ]  # fmt: skip
    assert [group["rows"] for group in document["groups"]] == [2]


def test_what_else_lies_in_the_folder_is_named(tmp_path):
    (tmp_path / "blackwell").mkdir()
    (tmp_path / "MANIFEST.md").write_text("words")
    (tmp_path / "new_table.csv").write_text("a,b\n1,2\n")
    document = found(tmp_path, aic_gemm=GOOD)
    assert {entry["file"]: entry["reason"] for entry in document["not_read"]} == {
        "new_table.csv": "unknown file",
        "blackwell/": "a folder by itself: give it as --data",
        "MANIFEST.md": "not a table (.csv, .csv.gz)",
    }


def test_bad_folders_are_refused(tmp_path, monkeypatch):
    (tmp_path / "file.csv").write_text("x\n")
    (tmp_path / "empty").mkdir()
    for data, problem in ((tmp_path / "no", "no such folder"), (tmp_path / "file.csv", "is a file, expected a folder"),
                          (tmp_path / "empty", "holds no table for 'validate all'"),
                          (tmp_path, "'file.csv' is not the name of one; expected names such as aic")):  # fmt: skip
        result = run("all", "--data", data)
        assert result.exit_code == 2 and problem in result.stderr and len(result.stderr.splitlines()) == 1
    monkeypatch.setenv("SIMGPU_MEASUREMENTS", str(tmp_path / "no"))
    result = run("all")
    assert result.exit_code == 2 and "SIMGPU_MEASUREMENTS" in result.stderr


def test_a_table_given_twice_and_a_broken_archive_are_refused(tmp_path):
    (tmp_path / "aic_gemm.csv").write_text(GOOD)
    (tmp_path / "aic_gemm.csv.gz").write_bytes(gzip.compress(GOOD.encode()))
    assert "stands beside" in run("all", "--data", tmp_path).stderr
    (tmp_path / "aic_gemm.csv").unlink()
    (tmp_path / "aic_gemm.csv.gz").write_bytes(gzip.compress(GOOD.encode())[:-9])
    assert "is not a complete gzip file" in run("all", "--data", tmp_path).stderr


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text('gpu,note,latency_s\nl40s,"two\nlines",1\n\nl40s,x,-1\n')
    table = read_table("t", file, Columns(positive=("latency_s",), words=("gpu",)))
    assert [row.line for row in table.skipped] == [5] and table.lines.tolist() == [3]


def test_gpus_are_known_named_otherwise_known_to_exist_or_refused():
    names = Catalogue().names("gpus")
    assert resolve("l40s", names) == "l40s"
    assert resolve("a100-80gb", names) == "a100-sxm-80gb" and resolve("h100", names) == "h100-sxm"
    for elsewhere in ("unknown", "gtx-1060", "rtx-4060-ti", "quadro-p6000", "apple-m4-max-40c", "tpu-v5e"):
        assert resolve(elsewhere, names) is None
    with pytest.raises(InputError, match="did you mean 'b200-sxm'"):
        resolve("b200-smx", names)
    for other in ("h900", "h10", "mi1000"):  # only what the catalogue has is suggested
        with pytest.raises(InputError) as refused:
            resolve(other, names)
        assert all(near in names for near in re.findall("did you mean '(.*)'", str(refused.value)))


# ---- figures that come with simgpu, and the page -----------------------------------------------------


@pytest.mark.slow
def test_without_a_folder_published_figures_are_used(monkeypatch):
    monkeypatch.delenv("SIMGPU_MEASUREMENTS", raising=False)
    document = json.loads(run("all", "--format", "json", "-q").stdout)
    assert {g["op"] for g in document["groups"]} >= {"gemm", "attention_prefill", "all_reduce", "elementwise"}
    assert not document["not_predicted"] and not document["not_read"]
    for file in PUBLISHED.glob("*.csv"):
        with file.open() as stream:
            assert all(row["citation"].startswith("https://") for row in csv.DictReader(stream)), file


def test_no_source_is_both_predicted_and_not():
    assert not set(known()) & set(NOT_PREDICTED)
    assert {adapter.target for source in known().values() for adapter in source.adapters} == set(TARGETS)
    assert set(TABLES) == {*TARGETS, "serving", "energy", "all"}


def test_worst_rows_are_ordered_and_can_be_limited_by_factor(tmp_path):
    text = GEMM + "".join(f"h100-sxm,bfloat16,4096,4096,4096,{2.2e-4 * f},\n" for f in (1, 2, 8, 4))
    done = validate("kernels", folder(tmp_path, aic_gemm=text), Catalogue())
    assert [row.line for row in worst(done)] == [4, 5, 3, 2]
    assert [row.line for row in worst(done, None, 3.0)] == [4, 5]
    assert worst(done, 1)[0].factor == pytest.approx(8, rel=0.4)


def test_reasons_apply_to_what_they_name():
    numbers = reasons.numbers(SimpleNamespace(what="m=1 n=32 link=two words", predicted_s=1.0, measured_s=4.0))
    row = ("gemm", "l40s", "default", numbers)
    assert Reason("why", "gemm", where=lambda n: n["n"] == 32 and n["slow"] == 0.25).explains(*row)
    assert not Reason("why", where=lambda n: n["m"] > 1 or n["k"] < 1).explains(*row)
    assert not Reason("why", gpu="h100-sxm").explains(*row)
    assert not Reason("why", library="triton").explains(*row)


@pytest.mark.slow
def test_the_page_can_be_made_from_any_folder(tmp_path):
    target = tmp_path / "page.md"
    result = run("all", "--data", PUBLISHED, "--page", target, "-q")
    assert result.exit_code == 0, result.output
    assert "generated, do not edit" in target.read_text().splitlines()[0]


GOAL_ROW = re.compile(
    r"\| (?P<title>[^|]+) \| (?P<gpu>[a-z0-9-]+) \| (?P<constants>all|family|datasheet) \| (?P<rows>[\d,]+)"
    r" \| (?P<goal>[\d.]+ / [\d.]+ / [\d.]+) \| (?P<got>[\d.]+ / [\d.]+ / [\d.]+) \| (?P<reached>yes|no)"
    r" \| (?P<over>[\d./ -]*) \| (?P<within>[\d %]*) \| [\d.]+ / [\d.]+ \| [^|]*\|"
)


def goal_rows():
    text = (ROOT / "docs/validation.md").read_text()
    section = text[text.index("## Goals") :]
    section = section[: section.index("\n## ", 5)]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [GOAL_ROW.fullmatch(line) for line in rows]


def test_the_documented_goals_are_well_formed_and_their_verdicts_follow():
    rows = goal_rows()
    assert len(rows) > 20 and all(rows)
    for row in rows:
        goal, got = ([float(x) for x in row[name].split(" / ")] for name in ("goal", "got"))
        assert (row["reached"] == "yes") == all(a <= b for a, b in zip(got, goal, strict=True)) == (not row["over"])
    assert {row["title"] for row in rows} == {goal.title for goal in goals.GOALS}


@measured
@pytest.mark.slow
def test_goals_that_the_page_claims_are_reached():
    regimes = {"all": "full", "family": "family", "datasheet": "datasheet"}
    kinds = ("kernels", "collectives")
    done = {words: joined(*kinds, regime=one) for words, one in regimes.items()}
    by_title = {goal.title: goal for goal in goals.GOALS}
    for row in goal_rows():
        goal = by_title[row["title"]]
        parts = [part for part in done[row["constants"]].scored if part.gpu == row["gpu"]]
        got = page.errors_of(parts, goal, stranger=row["constants"] != "all")
        wanted = tuple(float(x) for x in row["goal"].split(" / "))
        assert got is not None and f"{got['rows']:,}" == row["rows"]
        if row["reached"] == "yes":
            assert page.reached(got, wanted), row[0]


@measured
@pytest.mark.slow
def test_the_measurements_are_all_accounted_for_and_beat_the_plain_roofline():
    done = joined("kernels", "collectives", "inference")
    for source in {part.source for part in done.scored}:
        file = next(iter(FOLDER.glob(f"{source}.csv*")))
        with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as stream:
            rows = sum(1 for _ in csv.DictReader(stream))
        counted = sum(len(part.measured) for part in done.scored if part.source == source and not part.batch.again)
        counted += sum(entry.rows for entry in (*done.not_predicted, *done.left_out) if entry.source == source)
        assert counted == rows, source
    for goal in goals.GOALS:
        got = page.errors_of(done.scored, goal)
        assert got and got["median_ape"] < got["sol_median_ape"] / 2, goal.title


@measured
@pytest.mark.slow
def test_rows_far_off_are_explained_by_name():
    rows = worst(joined("kernels", "collectives", "inference"), None, page.FACTOR)
    unexplained = [row for row in rows if not reasons.reason(row)]
    assert not unexplained, unexplained[:5]


@measured
@pytest.mark.slow
def test_all_of_the_folder_is_what_its_parts_are():
    """Tables of training are not in the whole, those that hold steps and prompts neither."""
    whole = validate("all", FOLDER, Catalogue(), without="training")
    parts = joined("kernels", "collectives", "inference")
    sources = {part.source for part in whole.scored}
    assert len(sources) > 15
    assert rows_of(whole, sources) == rows_of(parts, sources)


def rows_of(done, sources):
    scored = Counter(
        (part.source, part.gpu, part.batch.op, part.predicted.tobytes())
        for part in done.scored
        if part.source in sources
    )
    return scored, *(
        Counter(one for one in rows if one.source in sources) for rows in (done.left_out, done.not_predicted)
    )


def test_a_batch_says_what_it_is():
    batch = Batch("gemm", "fp8", np.zeros(0, np.intp), lambda: np.zeros(0), lambda: np.zeros(0), "gemm")
    assert not batch.caveat and batch.library == "default"
