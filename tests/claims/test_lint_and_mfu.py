"""Hardware files against conventions; MFU between published ways of counting."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from simgpu.catalog import Catalogue
from simgpu.claims import mfu
from simgpu.claims.linter import lint
from simgpu.cli import main
from simgpu.errors import InputError

ROOT = Path(__file__).parents[2]
CATALOGUE = Catalogue()


def changed(folder, name, change, kind="gpus"):
    """A file of the catalogue with a change, in a folder of its own."""
    data = yaml.safe_load((ROOT / "hardware" / kind / f"{name}.yaml").read_text())
    change(data)
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    return lint([file], CATALOGUE).doubts


def test_the_catalogue_is_clean():
    found = lint([], CATALOGUE)
    assert found.files > 90
    assert [one for one in found.doubts if one.level == "wrong"] == []
    assert len(found.doubts) <= 2, found.doubts


def peak(key, factor):
    def change(data):
        for one in data["peak"]:
            if f"{one['dtype']}-{one['accumulate']}-{one['engine']}" == key:
                one["value"] *= factor

    return change


@pytest.mark.parametrize("gpu", ["h100-sxm", "a100-sxm-80gb", "rtx-4090", "l4", "b200-sxm", "l40s"])
@pytest.mark.parametrize("key", ["fp16-fp32-tensor", "int8-int32-tensor"])
def test_a_sparse_peak_is_named(tmp_path, gpu, key):
    (one, *_) = changed(tmp_path, gpu, peak(key, 2))
    assert one.level == "wrong" and one.key.startswith("peak.")
    assert "sparsity" in one.reason and one.line


def test_a_memory_of_both_directions_and_of_bits(tmp_path):
    for factor in (2, 8):
        doubts = changed(
            tmp_path, "h100-sxm", lambda data, by=factor: data["memory"]["bandwidth"].update(value=3.35 * by)
        )
        assert any("per pin" in one.reason for one in doubts)


def test_a_capacity_in_decimal_gigabytes(tmp_path):
    (one,) = changed(tmp_path, "rtx-4090", lambda data: data["memory"]["capacity"].update(unit="GB"))
    assert "whole GiB" in one.reason


def test_clocks_and_counts_that_do_not_make_the_peak(tmp_path):
    doubts = changed(tmp_path, "rtx-4090", lambda data: data["compute"]["sm_count"].update(value=144))
    assert any("no multiple of 32" in one.reason or "no power of two" in one.reason for one in doubts)
    doubts = changed(tmp_path, "a100-sxm-80gb", lambda data: data["compute"]["base_clock"].update(value=1500))
    assert any("above the boost clock" in one.reason for one in doubts)


@pytest.mark.parametrize(
    ("link", "factor", "word"),
    [("pcie-4", 2, ""), ("pcie-5", 16, "sixteen lanes"), ("nvlink-4", 2, ""), ("pcie-6", 2, "both directions"),
     ("nvlink-5", 2, "both directions"), ("nvlink-4", 8, "bits"), ("infiniband-ndr", 8, "bits")],
)  # fmt: skip
def test_links_of_both_directions_and_of_bits(tmp_path, link, factor, word):
    """Twice a lane of PCIe 4 is a lane of PCIe 5, twice NVLink 4 a link of NVLink 5: those nobody can tell."""
    doubts = changed(
        tmp_path,
        link,
        lambda data: data["lane_bandwidth"].update(value=data["lane_bandwidth"]["value"] * factor),
        "links",
    )
    assert [word in one.reason for one in doubts] == ([True] if word else [])


def test_a_port_of_both_directions(tmp_path):
    def change(data):
        data["nvlink"]["bandwidth"] = {"value": 900, "unit": "GB/s", "source": "datasheet"}

    (one,) = changed(tmp_path, "h100-sxm", change)
    assert (one.level, one.key) == ("wrong", "nvlink.bandwidth")
    assert "both directions" in one.reason


def test_the_command_lint(tmp_path):
    shutil.copy(ROOT / "hardware/gpus/l4.yaml", tmp_path / "l4.yaml")
    done = CliRunner().invoke(main, ["lint", str(tmp_path)])
    assert (done.exit_code, "1 files, 0 doubts" in done.output) == (0, True)
    changed(tmp_path, "l4", peak("fp16-fp32-tensor", 2))
    done = CliRunner().invoke(main, ["lint", str(tmp_path), "--format", "json"])
    assert done.exit_code == 1
    assert json.loads(done.output)["doubts"][0]["level"] == "wrong"
    (tmp_path / "l4.yaml").write_text("compute: 3\npeak: 4\n")
    done = CliRunner().invoke(main, ["lint", str(tmp_path)])
    assert done.exit_code == 2 and len(done.output.splitlines()) == 1
    (tmp_path / "l4.yaml").write_text("a: 3\n")
    assert "holds no file of a GPU or a link" in CliRunner().invoke(main, ["lint", str(tmp_path)]).output


# ---- MFU -------------------------------------------------------------------------------------------------


def translated(*figures, model="llama-3.1-8b", gpu="h100-sxm", seq=8192, precision="bf16"):
    return mfu.translate(mfu.asked(figures, model, gpu, seq, precision), CATALOGUE)


@pytest.mark.parametrize(
    ("model", "seq", "rate", "share"),
    [("mpt-7b", 2048, 10643, 46.44), ("mpt-30b", 2048, 2002, 38.11), ("mpt-70b", 2048, 1039, 42.57)],
)
def test_published_pairs_fit_their_own_convention(model, seq, rate, share):
    """mosaicml/llm-foundry at 061f2c7, scripts/train/benchmarking/README.md, H100 80GB BF16: T/s/GPU and MFU."""
    done = translated(f"tokens_per_s_per_gpu={rate}", f"mfu_percent={share}", model=model, seq=seq)
    assert "MosaicML" in done.fitting
    assert not {"MosaicML, MFU*", "Megatron 2021"} & set(done.fitting)


def test_there_and_back():
    for line in translated("tokens_per_s_per_gpu=7500").lines:
        back = translated(f"mfu_percent={100 * line.mfu!r}")
        same = next(one for one in back.lines if one.convention.name == line.convention.name)
        assert same.tokens_per_s == pytest.approx(7500)
        assert same.flop_per_s == pytest.approx(line.flop_per_s)


def test_conventions_differ_as_they_say():
    flop = {line.convention.name: line.flop_per_token for line in translated("mfu_percent=40").lines}
    config = CATALOGUE.model("llama-3.1-8b")
    attention = 12 * config.layers * config.heads * config.head_dim * 8192
    table = config.vocab * config.hidden
    assert flop["PaLM"] == pytest.approx(6 * config.parameters + attention)
    assert flop["PaLM"] - flop["Meta"] == pytest.approx(6 * table)
    assert flop["Megatron 2022"] - flop["Megatron 2025"] == pytest.approx(attention / 2)
    assert flop["HFU, full recomputation"] == pytest.approx(4 / 3 * flop["Megatron 2022"])


def test_the_convention_of_megatron_2025_is_the_mfu_of_a_simulation():
    import simgpu

    row = simgpu.run_experiment({"scenario": {
        "model": "llama-3.1-8b", "cluster": "dgx-h100", "workload": {"kind": "training", "batch": 8, "tokens": 8192},
        "plan": {"dp": 8, "zero": 3, "recompute": "full"}}}).rows[0]  # fmt: skip
    done = translated(f"tokens_per_s_per_gpu={row['tokens_per_s_per_gpu']!r}")
    same = next(line for line in done.lines if line.convention.name == "Megatron 2025")
    assert same.mfu == pytest.approx(row["mfu"], rel=0.01)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (["7500"], "is no figure"), (["tdp_w=7"], "is none of tokens/s"), (["mfu_percent=a"], "is not a number"),
        (["mfu_percent=40", "mfu_fraction=0.4"], "is given twice"), (["mfu_percent=0"], "is out of range"),
        (["mfu_percent=-4"], "is out of range"),
    ],
)  # fmt: skip
def test_bad_questions(figures, said):
    with pytest.raises(InputError, match=said):
        translated(*figures)


def test_the_command_mfu():
    words = ["mfu", "--model", "llama-3.1-8b", "--gpu", "h100-sxm", "--seq", "8192", "tokens_per_s_per_gpu=7500"]
    done = CliRunner().invoke(main, [*words, "mfu_percent=43.9"])
    assert "The pair fits: Megatron 2022, Meta." in done.output
    done = CliRunner().invoke(main, [*words, "--format", "json"])
    assert len(json.loads(done.output)["conventions"]) == len(mfu.CONVENTIONS)
    assert (
        CliRunner().invoke(main, ["mfu", "--model", "x", "--gpu", "l4", "--seq", "8", "mfu_percent=3"]).exit_code == 2
    )
