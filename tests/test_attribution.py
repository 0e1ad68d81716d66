"""Walks from one row to another: every step is simulated, and the ends are the rows."""

from pathlib import Path

import pytest

from simgpu import Catalogue, run_experiment
from simgpu.study.report.attribution import walks

ROOT = Path(__file__).parents[1]


def test_walks_lead_from_the_published_to_the_physical_rows():
    outcome = run_experiment(ROOT / "experiments/tp2_scaling.yaml")
    found = walks(outcome, Catalogue())
    assert [walk.match["configuration"] for walk in found] == list(
        dict.fromkeys(row["configuration"] for row in outcome.rows)
    )
    for walk in found:
        assert walk.moves[0].before == walk.start
        assert walk.moves[-1].after == pytest.approx(walk.end, rel=1e-12), "something differs that no step changed"
        for one, other in zip(walk.moves, walk.moves[1:], strict=False):
            assert one.after == other.before


def test_what_moves_what():
    """The article is wrong for reasons that can be named."""
    found = {walk.match["configuration"]: walk for walk in walks(run_experiment("tp2_scaling"), Catalogue())}
    h100, bridge, pcie = (
        {move.what: move.after - move.before for move in found[name].moves}
        for name in ("2x H100 SXM, NVLink", "2x RTX 3090, NVLink bridge", "2x RTX 4090, PCIe")
    )
    kernel = "kernel model instead of the article's GEMM time"
    link = "link rate of the hardware, per direction"
    assert h100[kernel] < -0.1, "an H100 does this GEMM in half the article's time"
    assert bridge[link] < -0.08, "112.5 GB/s are both directions of the bridge"
    assert pcie[link] > 0.1, "PCIe 4.0 x16 carries twice the article's 16 GB/s"


def test_rows_of_varied_axes_pair_with_their_own_kind(tmp_path):
    text = (ROOT / "experiments/tp2_scaling.yaml").read_text()
    file = tmp_path / "e.yaml"
    file.write_text(
        text.replace("match: [configuration]", "match: [configuration, dtype]") + "vary: {dtype: [fp16, bf16]}\n"
    )
    found = walks(run_experiment(file), Catalogue())
    assert len(found) == 8
    assert {walk.match["dtype"] for walk in found} == {"fp16", "bf16"}
