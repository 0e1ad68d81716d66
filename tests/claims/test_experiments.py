"""The transcribed claims: all are there, each is evaluated, and verdicts follow from what stands beside them."""

from pathlib import Path

import pytest
import yaml

from simgpu.catalog import Catalogue
from simgpu.claims.bench import Bench
from simgpu.claims.check import check, checked
from simgpu.claims.finding import UNDECIDABLE, VERDICTS
from simgpu.claims.reading import files_of, read_entries

ROOT = Path(__file__).parents[2]
FILES = files_of(ROOT / "experiments/claims")
MORE = files_of(ROOT / "experiments/claims/more")
SHARED = ROOT.parent / "shared/claims/claims.yaml"
QUICK = ("spec", "derived_spec", "power", "reliability", "mig", "kernel", "collective", "tp_scaling")
BENCH = Bench(Catalogue())


@pytest.mark.parametrize("file", [*FILES, *MORE], ids=lambda file: file.stem)
def test_a_file_is_read_and_named_as_its_entry(file):
    (entry,) = read_entries(file, BENCH.catalogue)
    assert entry.fields.id == file.stem
    assert entry.fields.title and len(entry.source) > 20


@pytest.mark.skipif(not SHARED.exists(), reason="the published claims are not here")
def test_every_published_entry_is_transcribed():
    published = yaml.safe_load(SHARED.read_text())
    assert {one["id"]: one["kind"] for one in published} == {
        entry.fields.id: entry.fields.kind for file in FILES for entry in read_entries(file, BENCH.catalogue)
    }


def quick():
    for file in FILES:
        (entry,) = read_entries(file, BENCH.catalogue)
        if entry.fields.kind in QUICK:
            yield pytest.param(entry, id=file.stem)


@pytest.mark.parametrize("entry", list(quick()))
def test_verdicts_rest_on_numbers(entry):
    done = checked(BENCH, entry)
    assert done.verdict in VERDICTS
    for one in done.findings:
        assert one.reason.endswith(".") and one.line
        if one.verdict != UNDECIDABLE and one.claimed.flag is None:
            assert any((one.computed, one.simulated, one.measured, one.bound)), one


def test_a_worked_example_of_memory():
    """Llama 2 7B at 4,096 tokens: keys and values are 2 x 32 x 32 x 128 x 2 B x 4,096 = 2.15 GB, not 1.0."""
    (entry,) = read_entries(ROOT / "experiments/claims/llm-memory-worked-example.yaml", BENCH.catalogue)
    (one, *_) = [one for one in checked(BENCH, entry).findings if one.column == "kv_gb"]
    assert one.verdict == "inconsistent"
    assert one.computed.value == pytest.approx(2 * 32 * 32 * 128 * 2 * 4096)


@pytest.mark.slow
def test_all_of_them_from_files_to_rows():
    done = check([ROOT / "experiments/claims"], Catalogue())
    assert len(done.entries) == 50
    assert sum(done.counts.values()) == 50
    assert len(done.rows) > 350
    assert all(row["verdict"] in VERDICTS and row["reason"] for row in done.rows)
    held = [row["simulated_probability"] for row in done.survivals if row["simulated_probability"] is not None]
    assert held and all(0 <= one <= 1 for one in held)
    assert all(rule["held"] is not None for rule in done.rules)
