"""The lab on small tables of its own: every adapter, page and table of residuals, without the measurements."""

import pytest
from click.testing import CliRunner
from lab_samples import LEAST, MOST, write_all

from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.study.validation.page import page_text
from simgpu.study.validation.residuals import gather, residual_rows
from simgpu.study.validation.run import validate
from simgpu.study.validation.sources import ADAPTERS, ALSO, PUBLISHED, TARGETS
from simgpu.study.validation.training_report import step_rows

CATALOGUE = Catalogue()


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """The folder of tables, and their rows."""
    folder = tmp_path_factory.mktemp("tables")
    return folder, write_all(folder, CATALOGUE)


@pytest.fixture(scope="module", params=TARGETS)
def done(request, samples):
    return validate(request.param, samples[0], CATALOGUE)


def test_every_table_has_a_sample(samples):
    assert set(samples[1]) == set(ADAPTERS) - set(PUBLISHED) >= set(ALSO)


def test_every_row_is_scored_or_listed_once(samples, done):
    counted = {}
    for part in done.scored:
        if not part.batch.again:
            counted[part.source] = counted.get(part.source, 0) + len(part.measured)
    for entry in (*done.not_predicted, *done.left_out):
        counted[entry.source] = counted.get(entry.source, 0) + entry.rows
    read = [name for name in samples[1] if f"{name}.csv" not in dict(done.not_read)]
    assert read and counted == {name: len(samples[1][name]) for name in read}


def test_errors_are_those_that_were_put_in(done):
    for part in done.scored:
        apart = done.target == "inference" and part.batch.op == "e2e"
        assert apart or ((part.ratio < 1.001 / LEAST).all() and (part.ratio > 0.999 / MOST).all()), part.batch.op


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


def test_whole_steps_say_what_they_are(samples):
    rows = step_rows(validate("training", samples[0], CATALOGUE))
    assert {row["op"] for row in rows} == {"step_time", "memory"}
    assert {row["part"] for row in rows if row["op"] == "memory"} == {"peak", "states", "activations", "relative"}
    assert any("fp8" in row["plan"] for row in rows) and any("zero3" in row["plan"] for row in rows)
