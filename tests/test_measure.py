"""`simgpu measure` on a machine that is a model with known constants; and `simgpu calibrate` finding them again."""

import csv
import json
import random
import sys

import pytest
from click.testing import CliRunner

from simgpu import Catalogue, InputError
from simgpu.cli import main
from simgpu.lab.calibration.kinds import READ_ROWS
from simgpu.lab.calibration.trial import with_values
from simgpu.lab.machines import cluster_for
from simgpu.lab.measurement import command, operations
from simgpu.lab.measurement.backend import Device, MeasurementError
from simgpu.lab.measurement.device import name_of
from simgpu.lab.measurement.table import COLUMNS, MeasuredFile
from simgpu.timing.attention_work import AttentionWork
from simgpu.timing.collectives import collective_time
from simgpu.timing.timer import GPUTimer

CATALOGUE = Catalogue()
L40S = Device("NVIDIA L40S", 142, 47_810_000_000, 96 * 2**20, 1, "fake 1.0")
TRUE = {
    ("gemm", "default", "launch_overhead"): 3.0e-6,
    ("gemm", "default", "memory_fraction"): 0.70,
    ("gemm", "default", "clock_fraction"): 0.60,
    ("vector", "default", "memory_fraction"): 0.75,
    ("attention", "fa2", "overhead"): 14e-6,
}
DTYPES = {"bfloat16": "bf16", "float16": "fp16"}


class Fake:
    """A GPU that takes as long as the models say with other constants than the catalogue's, give or take 3 %."""

    def __init__(self, device=L40S, gpu="l40s", noise=0.03, stop_after=None, wrong=()):
        spec = CATALOGUE.spec("gpus", gpu)
        self.constants = with_values(CATALOGUE.kernel_constants(spec), TRUE)
        self.timer = GPUTimer(spec, self.constants)
        self.described, self.noise, self.random = device, noise, random.Random(7)
        self.samples, self.ran, self.closed = 0, [], False
        self.stop_after, self.wrong = stop_after, wrong
        self.gpu = gpu

    def device(self):
        return self.described

    def close(self):
        self.closed = True

    def run(self, operation):
        if self.stop_after is not None and self.samples >= self.stop_after:
            raise KeyboardInterrupt
        if operation.what in self.wrong:
            raise MeasurementError("out of GPU memory")
        if operation not in self.ran:
            self.ran.append(operation)
        self.samples += 1
        return float(self.seconds(operation)) * (1 + self.noise * self.random.uniform(-1, 1))

    def seconds(self, operation):
        number = operation.number
        if operation.what in ("stream", "l2"):
            size = number("bytes")
            if operation.word("op") == "copy":
                return self.timer.vector.memory_copy(size).seconds
            return self.timer.vector.reduction(READ_ROWS, size / 4 / READ_ROWS, dtype="fp32").seconds
        if operation.what == "gemm":
            return self.timer.gemm(
                number("m"), number("n"), number("k"), rotation=number("rotation"),
                dtype=DTYPES[operation.word("dtype")], sustained=operation.word("regime") == "sustained",
            ).seconds  # fmt: skip
        if operation.what == "attention":
            shape = (number("num_heads"), number("num_kv_heads"), number("head_dim"))
            keys = number("q_len") + number("past_kv_len", 0)
            if number("q_len") == 1:
                return self.timer.attention.decode(
                    AttentionWork(number("batch_size"), 1, keys, *shape), library="fa2"
                ).seconds
            return self.timer.attention.prefill(
                AttentionWork(number("batch_size"), keys, keys, *shape), library="fa2"
            ).seconds
        cluster = cluster_for(CATALOGUE, self.gpu, number("num_gpus"))
        kind = {"alltoall": "all_to_all"}.get(operation.word("collective"), operation.word("collective"))
        ranks = list(range(number("num_gpus")))
        return collective_time(cluster, kind, ranks, number("message_bytes"), dtype="fp16").seconds


def measure(out, backend, **asked):
    return command.run(CATALOGUE, out, command.MeasureOptions(**asked), True, sys.stderr, backend)


def rows_of(file):
    with file.open() as stream:
        return list(csv.DictReader(stream))


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A file of streams, L2, products and attention, measured on the fake GPU."""
    file = tmp_path_factory.mktemp("measured") / "l40s.csv"
    measure(file, Fake(), what="stream,l2,gemm,attention")
    return file


# ---- from the machine to the constants -------------------------------------------------------------------


def test_constants_are_found_again(measured, tmp_path):
    result = invoke("calibrate", measured, "--gpu", "l40s", "--out", tmp_path / "mine", "--format", "json", "-q")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    groups = {(group["class"], group["library"]): group for group in found["groups"]}
    assert groups["gemm", "default"]["held_out"] > 40
    for key in (("gemm", "default"), ("attention", "fa2")):
        assert groups[key]["helped"]
        assert groups[key]["after"]["mape"] < 0.5 * groups[key]["before"]["mape"]
        assert groups[key]["after"]["mape"] < 0.06
    after = {constant["path"]: constant["after"] for constant in found["constants"]}
    memory = next(one for one in found["constants"] if one["path"] == "gemm.default.memory_fraction")
    assert (memory["before_from"], memory["fitted"]) == ("ada", True)  # streams moved it first, then products
    assert (
        memory["before"] == CATALOGUE.kernel_constants(CATALOGUE.spec("gpus", "l40s")).group("gemm")["memory_fraction"]
    )
    assert after["gemm.default.launch_overhead"] == pytest.approx(3.0e-6, rel=0.1)
    assert after["gemm.default.memory_fraction"] == pytest.approx(0.70, rel=0.05)
    assert after["gemm.default.clock_fraction"] == pytest.approx(0.60, rel=0.05)
    assert after["vector.default.memory_fraction"] == pytest.approx(0.75, rel=0.05)
    assert after["attention.fa2.overhead"] == pytest.approx(14e-6, rel=0.2)


def test_an_overlay_is_used_at_once(measured, tmp_path):
    folder = tmp_path / "mine"
    result = invoke("calibrate", measured, "--gpu", "l40s", "--out", folder)
    assert result.exit_code == 0 and f"written: {folder}/gpus/l40s.yaml" in result.stderr
    mine = Catalogue(folder)
    spec, old = mine.spec("gpus", "l40s"), CATALOGUE.spec("gpus", "l40s")
    truth = Fake().timer.gemm([16, 4096], 8192, 8192).seconds
    error = {
        name: abs(GPUTimer(spec, constants).gemm([16, 4096], 8192, 8192).seconds / truth - 1).max()
        for name, constants in (("before", CATALOGUE.kernel_constants(old)), ("after", mine.kernel_constants(spec)))
    }
    assert error["after"] < 0.05 < error["before"]
    shown = invoke("--catalog", folder, "show", "l40s")
    assert "l40s.csv, 20" in shown.stdout  # the file and the date stand in the source
    original = CATALOGUE.find("gpus", "l40s").read_text()
    assert (folder / "gpus/l40s.yaml").read_text().startswith(original[: original.index("sources:")])
    assert spec.peak == old.peak


def test_streams_move_the_memory_of_other_classes(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("gpu,op,bytes,latency_s\nt4,copy,1073741824,0.0100\nt4,read,1073741824,0.0050\n")
    result = invoke("calibrate", file, "--gpu", "t4", "--format", "json")
    assert result.exit_code == 0, result.stderr
    moved = {constant["path"]: constant for constant in json.loads(result.stdout)["constants"]}
    stream, product = moved["vector.default.memory_fraction"], moved["gemm.default.memory_fraction"]
    assert stream["fitted"] and not product["fitted"]
    assert product["after"] / product["before"] == pytest.approx(stream["after"] / stream["before"], rel=1e-3)


def test_a_collective_of_two_gpus(tmp_path):
    file = tmp_path / "rows.csv"
    pair = Device("NVIDIA L40S", 142, 47_810_000_000, 96 * 2**20, 2)
    outcome = measure(file, Fake(pair), what="nccl")
    assert outcome.measured == len(operations.COLLECTIVES) * 11
    result = invoke("calibrate", file, "--what", "nccl", "--format", "json")
    assert result.exit_code == 0, result.stderr
    (group,) = json.loads(result.stdout)["groups"]
    assert group["class"] == "collective" and group["after"]["mape"] < 0.05


# ---- the file --------------------------------------------------------------------------------------------


def test_nothing_is_measured_twice(tmp_path):
    file, first = tmp_path / "rows.csv", Fake()
    measure(file, first, what="stream,gemm", quick=True)
    before = file.read_bytes()
    again = Fake()
    outcome = measure(file, again, what="stream,gemm", quick=True)
    assert (outcome.measured, outcome.known) == (0, len(first.ran))
    assert again.samples == 0 and file.read_bytes() == before
    more = measure(file, again, what="stream,gemm,attention", quick=True)
    assert more.measured == len(again.ran) > 0
    assert file.read_bytes().startswith(before)


def test_an_interruption_leaves_whole_rows(tmp_path):
    file, broken = tmp_path / "rows.csv", Fake(stop_after=40)
    with pytest.raises(KeyboardInterrupt):
        measure(file, broken, what="gemm")
    assert broken.closed
    assert len(rows_of(file)) == 40 // 9  # nine samples a row
    rest = measure(file, Fake(), what="gemm")
    assert rest.known == 4
    rows = rows_of(file)
    assert len({tuple(row[name] for name in COLUMNS[:11]) for row in rows}) == len(rows) == rest.measured + 4


def test_half_a_row_is_measured_again(tmp_path):
    file = tmp_path / "rows.csv"
    measure(file, Fake(noise=0), what="stream", quick=True)
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert measure(file, Fake(noise=0), what="stream", quick=True).measured == 1
    assert file.read_bytes() == whole


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("gpu,m,n,k\n", "rows.csv:1: has other columns than simgpu measure writes"),
        ("gpu", "rows.csv:1: is not a file of simgpu measure"),
        (
            ",".join(COLUMNS) + "\ngemm,h100-sxm" + "," * (len(COLUMNS) - 2) + "\n",
            "rows.csv:2: gpu: holds rows of 'h100-sxm', this is 'l40s'",
        ),
    ],
)  # fmt: skip
def test_a_file_of_something_else_is_left_alone(tmp_path, text, problem):
    file = tmp_path / "rows.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=problem):
        MeasuredFile(file, "l40s")
    assert file.read_text() == text


def test_rows_say_how_they_were_measured(measured):
    rows = rows_of(measured)
    assert {row["gpu"] for row in rows} == {"l40s"}
    assert {row["device"] for row in rows} == {"NVIDIA L40S"}
    assert {row["tool"] for row in rows} == {"fake 1.0"}
    assert {row["regime"] for row in rows if row["what"] == "gemm"} == {"burst"}
    assert all(float(row["latency_s"]) > 0 and int(row["repeats"]) == 9 and float(row["spread"]) < 0.06 for row in rows)


def test_what_cannot_be_measured_is_said_and_left_out(tmp_path):
    file = tmp_path / "rows.csv"
    outcome = measure(file, Fake(wrong=("attention",)), what="stream,attention", quick=True)
    assert outcome.measured == len(rows_of(file)) > 0
    assert {reason for _, reason in outcome.failed} == {"out of GPU memory"}
    assert "attention" not in {row["what"] for row in rows_of(file)}


def test_a_clock_that_fails_gives_no_row(tmp_path):
    class Broken(Fake):
        def seconds(self, operation):
            return 0.0

    outcome = measure(tmp_path / "rows.csv", Broken(), what="stream", quick=True)
    assert outcome.measured == 0 and outcome.failed
    assert rows_of(tmp_path / "rows.csv") == []


# ---- the plan --------------------------------------------------------------------------------------------


def test_operands_are_cold_where_memory_has_room():
    for operation in operations.plan(L40S, ["gemm"], ["bfloat16"]):
        m, n, k, copies = (operation.number(name) for name in ("m", "n", "k", "rotation"))
        each = 2 * (m * k + n * k)
        assert copies * (each + 2 * m * n) <= 0.5 * L40S.memory_bytes
        assert copies * each >= 3 * L40S.l2_bytes or copies == operations.MOST_COPIES


def test_quick_is_a_part_of_all():
    every = {operation.key for operation in operations.plan(L40S, operations.KINDS, ["bfloat16"])}
    quick = {operation.key for operation in operations.plan(L40S, operations.KINDS, ["bfloat16"], quick=True)}
    assert quick <= every and 10 < len(quick) < 40 < len(every)


def test_streams_are_larger_than_l2_and_l2_rows_smaller():
    for operation in operations.plan(L40S, ["stream", "l2"], ["bfloat16"]):
        if operation.what == "stream":
            assert operation.number("bytes") >= 2 * L40S.l2_bytes
        if operation.what == "l2":
            assert 2 * operation.number("bytes") <= L40S.l2_bytes


def test_sustained_products_are_rows_of_their_own(tmp_path):
    file = tmp_path / "rows.csv"
    measure(file, Fake(), what="gemm", quick=True)
    assert measure(file, Fake(), what="gemm", quick=True, sustained=True).measured > 0
    times = {row["regime"]: float(row["latency_s"]) for row in rows_of(file) if row["m"] == "8192"}
    assert times["sustained"] > times["burst"]  # the L40S throttles


@pytest.mark.parametrize("given", ["fp8", "bf17", ""])
def test_types_that_cannot_be_measured(given):
    with pytest.raises(InputError, match="--dtype"):
        operations.dtypes_of(given)


def test_types_by_either_name():
    assert operations.dtypes_of("bf16,bfloat16, tf32") == ["bfloat16", "tfloat32"]


# ---- which GPU it is -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sms", "gib", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 132, 79.1, "h100-sxm"),
        ("NVIDIA H100 PCIe", 114, 79.1, "h100-pcie"),
        ("NVIDIA H100 NVL", 132, 93.1, "h100-nvl"),
        ("NVIDIA A100-SXM4-80GB", 108, 79.3, "a100-sxm-80gb"),
        ("NVIDIA A100 80GB PCIe", 108, 79.3, "a100-pcie-80gb"),
        ("NVIDIA A100-SXM4-40GB", 108, 39.4, "a100-sxm-40gb"),
        ("NVIDIA L40S", 142, 44.5, "l40s"),
        ("Tesla T4", 40, 14.6, "t4"),
        ("NVIDIA GeForce RTX 4090", 128, 23.6, "rtx-4090"),
        ("NVIDIA RTX A6000", 84, 47.5, "rtx-a6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 188, 95.0, "rtx-pro-6000-workstation"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 188, 95.0, "rtx-pro-6000-max-q"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 188, 95.0, "rtx-pro-6000-server"),
        ("NVIDIA RTX 6000 Ada Generation", 142, 47.4, "rtx-6000-ada"),
        ("NVIDIA H200", 132, 139.8, "h200-sxm"),
    ],
)
def test_a_device_is_known_by_name_and_size(name, sms, gib, expected):
    assert name_of(Device(name, sms, int(gib * 2**30), 50 * 2**20), CATALOGUE) == expected


def test_an_unknown_device_asks_for_its_name():
    device = Device("NVIDIA Riva TNT", 2, 2**24, 2**16)
    with pytest.raises(InputError, match=r"'NVIDIA Riva TNT' .* is not in the catalogue; say which with --gpu"):
        name_of(device, CATALOGUE)
    assert name_of(device, CATALOGUE, "t4") == "t4"
    with pytest.raises(InputError, match="did you mean 'l40s'"):
        name_of(device, CATALOGUE, "l40z")


# ---- without a GPU ---------------------------------------------------------------------------------------


def test_without_torch_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    result = invoke("measure", "--out", tmp_path / "rows.csv")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1 and "pip install 'simgpu[measure]'" in result.stderr
    assert not (tmp_path / "rows.csv").exists()


def test_with_torch_but_no_gpu(tmp_path, monkeypatch):
    class Module:
        __version__ = "2.9"
        version = type("version", (), {"cuda": None, "hip": None})
        cuda = type("cuda", (), {"is_available": staticmethod(lambda: False)})

    monkeypatch.setitem(sys.modules, "torch", Module)
    result = invoke("measure", "--out", tmp_path / "rows.csv")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "PyTorch 2.9 has no CUDA in it" in result.stderr


@pytest.mark.parametrize(
    ("options", "problem"),
    [(["--what", "gem"], "did you mean 'gemm'"), (["--dtype", "fp4"], "cannot be measured"), ([], "named .csv")],
)
def test_options_are_checked_before_anything(tmp_path, options, problem):
    out = tmp_path / ("rows.csv" if options else "rows.txt")
    result = invoke("measure", "--out", out, *options)
    assert result.exit_code == 2 and problem in result.stderr
