"""The lab on small tables of its own: every adapter, page and table of residuals, without the measurements."""

import json
import random

import pytest
from click.testing import CliRunner
from lab_samples import LEAST, MOST, TABLES, write, write_all

from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.lab.validation.command import PUBLISHED
from simgpu.lab.validation.pages.operators import page_text
from simgpu.lab.validation.report import document
from simgpu.lab.validation.residuals import gather, residual_rows
from simgpu.lab.validation.run import validate
from simgpu.lab.validation.source import TARGETS
from simgpu.lab.validation.sources import known
from simgpu.lab.validation.steps import step_rows

CATALOGUE = Catalogue()


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """The folder of tables, and their rows."""
    folder = tmp_path_factory.mktemp("tables")
    return folder, write_all(folder, CATALOGUE)


@pytest.fixture(scope="module", params=TARGETS)
def done(request, samples):
    return validate(request.param, samples[0], CATALOGUE)


def rows_by_table(done):
    """How many rows of each table are scored or listed."""
    counted = {}
    for part in done.scored:
        if not part.batch.again:
            counted[part.source] = counted.get(part.source, 0) + len(part.measured)
    for entry in (*done.not_predicted, *done.left_out):
        counted[entry.source] = counted.get(entry.source, 0) + entry.rows
    return counted


def test_every_table_has_a_sample(samples):
    published = {file.stem for file in PUBLISHED.glob("*.csv")}
    assert published < set(known()) and set(samples[1]) == set(known()) - published


def test_every_row_is_scored_or_listed_once(samples, done):
    read = [name for name in samples[1] if f"{name}.csv" not in dict(done.not_read)]
    assert read and rows_by_table(done) == {name: len(samples[1][name]) for name in read}


def test_errors_are_those_that_were_put_in(done):
    for part in done.scored:
        apart = done.target == "inference" and part.batch.op == "e2e"
        assert apart or ((part.ratio < 1.001 / LEAST).all() and (part.ratio > 0.999 / MOST).all()), part.batch.op


# ---- garbage in them ---------------------------------------------------------------------------------

GARBAGE = ("", "abc", "nan", "inf", "-1", "0", "1e400", "12 ms", "\u00b2", "x" * 300, "=1+1", "a\x00b", "None", "a\nb")
ODD = (
    "0.5",
    "7",
    "1e9",
    "999999937",
    "-0.0",
    "1e-300",
    "65536",
    "True",
    "unknown",
    "h100-sxm@500W",
    "'\"",
    "fp4",
    "l40s",
)
"""Cells that some columns may hold."""


@pytest.mark.parametrize("source", sorted(file.stem for file in TABLES.glob("*.csv")))
def test_one_bad_cell_spoils_its_row_alone(samples, tmp_path, source):
    rng = random.Random(source)
    needed = [name for name in known()[source].adapters[0].columns.positive if name in samples[1][source][0]]
    for i in range(8):
        good, bad = rng.choice(samples[1][source]), dict(rng.choice(samples[1][source]))
        name = rng.choice(needed if i % 2 else list(bad))
        bad[name] = rng.choice(GARBAGE if i % 2 else GARBAGE + ODD)
        write(tmp_path, source, [good, bad])
        done = validate("all", tmp_path, CATALOGUE)
        json.dumps(document(done), allow_nan=False)
        assert rows_by_table(done) == {source: 2}, (name, bad[name])
        line = 3 + bad[name].count("\n")
        if i % 2:
            assert any(one.reason.startswith(f"{source}.csv:{line}: {name}: ") for one in done.not_predicted), bad


def test_damaged_files_end_in_rows_that_are_listed_or_in_one_line(samples, tmp_path):
    rng, codes = random.Random(5), []
    whole = (samples[0] / "aic_gemm.csv").read_bytes()[:2000]
    for i in range(8):
        text = bytearray(whole)
        for _ in range(rng.choice((1, 5, 50))):
            at = rng.randrange(0, 20) if i % 4 == 0 else rng.randrange(80, len(text))  # in the header at times
            text[at : at + rng.randrange(3)] = rng.choice((b"", b'"', b",", b"\n", b"\xff", b"-", b"\x00", b"9e9"))
        file = tmp_path / "aic_gemm.csv"
        file.write_bytes(text)
        for command in (
            ["validate", "kernels", "--data", str(tmp_path)],
            ["calibrate", str(file), "--gpu", "h100-sxm"],
        ):
            result = CliRunner().invoke(main, [*command, "--format", "json", "-q"])
            assert result.exception is None or isinstance(result.exception, SystemExit), bytes(text)
            codes.append(result.exit_code)
            if result.exit_code:
                assert result.exit_code == 2 and result.stdout == "" and result.stderr.count("\n") == 1
            else:
                json.loads(result.stdout)
    assert set(codes) == {0, 2}


@pytest.mark.parametrize("source", ["aic_e2e_inference", "llmfoundry_training", "llamacpp_inference"])
def test_whole_runs_calibrate_nothing(samples, source):
    result = CliRunner().invoke(main, ["calibrate", str(samples[0] / f"{source}.csv")])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "no kind of measurement" in result.stderr


# ---- what is made of them ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("all", ["| class | GPU |", "another collector and CUDA", "invented fault", "## Said not to fit"]),
        ("training", ["## Goals", "## Row by row", "batch size not stated"]),
        ("inference", ["## By runtime", "## Operators", "| aic_e2e_inference | 1 | weights and the cache"]),
    ],
)
def test_pages_are_written(samples, tmp_path, target, words):
    page = tmp_path / "page.md"
    result = CliRunner().invoke(main, ["validate", target, "--data", str(samples[0]), "--page", str(page)])
    assert result.exit_code == 0 and result.stderr == f"written: {page}\n", result.output
    text = page.read_text()
    assert [word for word in [*words, "## Not predicted"] if word not in text] == []


def test_residuals_of_the_samples_are_the_factors_that_were_put_in(samples):
    rows = residual_rows(gather("kernels", samples[0], CATALOGUE))
    calibrated = [row for row in rows if (row["op"], row["regime"], row["stratum"]) == ("gemm", "calibrated", "any")]
    assert calibrated
    for row in calibrated:
        assert LEAST <= float(row["p10"]) < float(row["p50"]) < float(row["p90"]) <= MOST


def test_the_page_has_what_was_left_out_of_each_table(samples):
    text = page_text(validate("collectives", samples[0], CATALOGUE), CATALOGUE)
    assert "eager: each includes a copy of the input" in text and "not times of transfers" in text


@pytest.mark.slow
def test_whole_steps_say_what_they_are(samples):
    rows = step_rows(validate("training", samples[0], CATALOGUE))
    assert {row["op"] for row in rows} == {"step_time", "memory"}
    assert {row["part"] for row in rows if row["op"] == "memory"} == {"peak", "states", "activations", "relative"}
    assert any("fp8" in row["plan"] for row in rows) and any("zero3" in row["plan"] for row in rows)
