"""The table of nccl-tests, predicted, and logs of it."""

import json

import pytest
from click.testing import CliRunner

from simgpu import Catalogue, InputError
from simgpu.cli import main
from simgpu.lab import nccl_tests as study
from simgpu.lab.machines import cluster_for
from simgpu.lab.nccl_logs import read_log
from simgpu.timing.collectives import KINDS, collective_time
from simgpu.timing.kernels import KernelModel

CATALOGUE = Catalogue()

LOG = """# nThread 1 nGpus 8 minBytes 1048576 maxBytes 1073741824 step: 32(factor) warmup iters: 5 iters: 20
# Collective test starting: all_reduce_perf
# Using devices
#  Rank  0 Group  0 Pid  71 on       host device  0 [0x1b] NVIDIA H100 80GB HBM3
#  Rank  1 Group  0 Pid  71 on       host device  1 [0x43] NVIDIA H100 80GB HBM3
#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
     1048576        262144     float     sum      -1    20.00   52.43   52.43      0    21.00   49.93   49.93      0
    33554432       8388608     float     sum      -1    150.0  223.70  223.70      0    150.5  222.95  222.95    N/A
  1073741824     268435456     float     sum      -1   3200.0  335.54  335.54      0   3210.0  334.50  334.50      0
# Out of bounds values : 0 OK
# Avg bus bandwidth    : 203.2
"""


def run(*arguments):
    return CliRunner().invoke(main, ["nccl-tests", *map(str, arguments)])


def log(tmp_path, text=LOG, old="", new=""):
    file = tmp_path / "all_reduce.log"
    assert old in text
    file.write_text(text.replace(old, new) if old else text)
    return file


def rows_of(output):
    return [line.split() for line in output.splitlines() if line and not line.startswith("#")]


# ---- the table ---------------------------------------------------------------------------------------------


def test_the_table_has_the_columns_of_nccl_tests_and_the_times_of_the_model():
    result = run("dgx-h100", "-b", "1K", "-e", "1G", "-f", 4)
    assert result.exit_code == 0
    assert "size         count      type   redop    root" in result.stdout
    assert "(B)    (elements)" in result.stdout
    rows = rows_of(result.stdout)
    assert [int(row[0]) for row in rows] == [1024 * 4**i for i in range(11)]
    cluster = CATALOGUE.cluster("dgx-h100")
    for size, count, dtype, redop, root, time, algbw, busbw, *_ in rows:
        expected = collective_time(cluster, "all_reduce", 8, float(size), dtype="fp32")
        assert (int(count), dtype, redop, root) == (int(size) // 4, "float", "sum", "-1")
        assert float(time) == pytest.approx(float(expected.seconds) * 1e6, rel=1e-3, abs=0.006)
        assert float(algbw) == pytest.approx(int(size) / float(expected.seconds) / 1e9, abs=0.006)
        assert float(busbw) == pytest.approx(float(algbw) * 14 / 8, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "count", "redop", "root"),
    [("all_gather", 2**16, "none", "-1"), ("reduce_scatter", 2**16, "sum", "-1"), ("all_to_all", 2**16, "none", "-1"),
     ("broadcast", 2**19, "none", "0"), ("reduce", 2**19, "sum", "0"), ("send_recv", 2**19, "none", "-1")],
)  # fmt: skip
def test_counts_are_those_of_a_rank(kind, count, redop, root):
    ((size, elements, _, operation, at, *_),) = rows_of(
        run("dgx-a100", "-c", kind, "-b", "1M", "-e", "1M", "-d", "half").stdout
    )
    assert (int(size), int(elements), operation, at) == (2**20, count, redop, root)


def test_sizes_are_rounded_to_whole_elements_for_every_rank():
    (row,) = rows_of(run("dgx-h100", "-c", "all_gather", "-b", "1000", "-e", "1000").stdout)
    assert row[:2] == ["992", "31"]


def test_json_is_in_seconds_and_bytes():
    document = json.loads(run("dgx-h100", "-b", "1G", "-e", "1G", "--format", "json").stdout)
    (row,) = document["rows"]
    assert row["size"] == 2**30
    assert row["algbw"] == pytest.approx(row["size"] / row["time_s"])
    assert (row["algorithm"], row["protocol"]) == ("nvls", "simple")


def test_hardware_can_be_changed():
    fast, slow = (
        float(rows_of(run("dgx-a100", "-b", "1G", "-e", "1G", *more).stdout)[0][5])
        for more in ((), ("--set", "gpu.nvlink.bandwidth=100 GB/s"))
    )
    assert slow > 2 * fast


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dgx-h10"], "names like it: dgx-h100"),
        (["dgx-h100", "-c", "all_reduc"], "did you mean 'all_reduce'"),
        (["dgx-h100", "-b", "8x"], "expected one such as"),
        (["dgx-h100", "-b", "2G", "-e", "1M"], "-e: 2G to 1M is not a range of sizes"),
        (["dgx-h100", "-b", "0"], "-b: '0' is out of range"),
        (["dgx-h100", "-e", "1e400"], "-e: '1e400' is out of range"),
        (["l40s-pcie-2x", "--protocol", "ll128"],
         "no algorithm with protocol ll128 for all_reduce over 2 GPUs of l40s-pcie-2x"),
        (["dgx-h100", "-f", "1"], "expected more than 1"),
        (["dgx-h100", "-f", "inf"], "expected more than 1"),
        (["dgx-h100", "-f", "1.0000001"], "-f: 1.0000001 makes more than 10,000 sizes from 8 to 8G"),
        (["dgx-h100", "-b", "1048576²"], "expected one such as"),
        (["dgx-h100", "-b", "9" * 5000], "-b: '999"),
        (["dgx-h100", "-g", "9"], "has 8"),
        (["dgx-h100", "-g", "0"], "0 GPUs cannot communicate"),
        (["dgx-h100", "-g", "9" * 30], "has 8"),
        (["dgx-h100", "-g", "-" + "9" * 30], "cannot communicate"),
        (["dgx-h100", "-g", "0", "-c", "all_gather"], "0 GPUs cannot communicate"),
        (["dgx-h100", "-g", "1"], "cannot communicate"),
        (["dgx-h100", "-d", "flaot"], "did you mean 'float'"),
        (["dgx-a100", "--algorithm", "nvls"], "nvls"),
        (["dgx-a100", "--protocol", "ll64"], "ll"),
        (["dgx-h100", "--compare", "nowhere.log"], "nowhere.log"),
    ],
)  # fmt: skip
def test_bad_questions_end_in_one_line(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("kind", "spellings"),
    [("all_to_all", ["alltoall", "all-to-all", "alltoall_perf"]), ("send_recv", ["sendrecv", "SendRecv"]),
     ("all_reduce", ["allreduce", "AllReduce", "all_reduce_perf"]), ("reduce_scatter", ["reducescatter"])],
)  # fmt: skip
def test_collectives_are_known_by_every_spelling(kind, spellings):
    expected = run("dgx-h100", "-c", kind, "-b", "1M", "-e", "1M")
    assert expected.exit_code == 0
    for spelling in spellings:
        assert run("dgx-h100", "-c", spelling, "-b", "1M", "-e", "1M").stdout == expected.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_has_its_interval(kind):
    table = run("dgx-h100", "-c", kind, "-b", "1K", "-e", "1G", "-f", 32)
    assert "channels   time p10   time p90" in table.stdout
    rows = json.loads(run("dgx-h100", "-c", kind, "-b", "1K", "-e", "1G", "-f", 32, "--format", "json").stdout)["rows"]
    for row, printed in zip(rows, rows_of(table.stdout), strict=True):
        assert row["time_s_p10"] <= row["time_s"] <= row["time_s_p90"]
        assert row["time_s_p10"] < row["time_s_p90"]
        assert row["busbw_p10"] / row["busbw"] == pytest.approx(row["time_s"] / row["time_s_p90"])
        assert row["algbw_p90"] / row["algbw"] == pytest.approx(row["time_s"] / row["time_s_p10"])
        wanted = [row["time_s_p10"] * 1e6, row["time_s_p90"] * 1e6]
        assert [float(word) for word in printed[-2:]] == pytest.approx(wanted, rel=1e-3, abs=0.006)


def test_the_interval_of_nccl_tests_is_that_of_a_simulation():
    row = study.predict(CATALOGUE.cluster("dgx-h100"), "all_gather", 8, [2**26])[0]
    uncertainty = KernelModel(CATALOGUE.cluster("dgx-h100")).collective_uncertainty("all_gather", row.time_s)
    assert (row.time_s_p10, row.time_s_p90) == pytest.approx(
        (row.time_s * uncertainty.low, row.time_s * uncertainty.high)
    )


def test_ideal_links_are_what_they_are():
    (row,) = study.predict(CATALOGUE.cluster("dgx-h100"), "all_gather", 8, [2**26], protocol="ideal")
    assert row.time_s_p10 == row.time_s == row.time_s_p90
    assert row.holds(row.time_s) is None


# ---- logs --------------------------------------------------------------------------------------------------


def test_a_log_is_read_with_both_columns(tmp_path):
    found = read_log(log(tmp_path))
    assert (found.ranks, found.collective) == (2, "all_reduce")
    assert [row.size for row in found.rows] == [2**20, 2**25, 2**30]
    assert [row.line for row in found.rows] == [10, 11, 12]
    assert found.rows[0].out_of_place == pytest.approx(20e-6)
    assert found.rows[2].in_place == pytest.approx(3210e-6)


def test_logs_of_old_versions_have_no_root(tmp_path):
    found = read_log(log(tmp_path, LOG.replace("     sum      -1 ", "     sum ")))
    assert len(found.rows) == 3
    assert found.rows[1].out_of_place == pytest.approx(150e-6)


def test_a_log_is_compared_row_by_row(tmp_path):
    result = run("dgx-h100", "--compare", log(tmp_path))
    assert result.exit_code == 0
    rows = rows_of(result.stdout)
    assert [int(row[0]) for row in rows] == [2**20, 2**25, 2**30]
    cluster = CATALOGUE.cluster("dgx-h100")
    expected = collective_time(cluster, "all_reduce", 2, 2.0**20, "fp32").seconds / 20e-6 - 1
    assert rows[0][4] == f"{float(expected):+.1%}"
    assert "out-of-place: 3 rows" in result.stdout
    assert "in-place: 3 rows" in result.stdout
    document = json.loads(run("dgx-h100", "--compare", log(tmp_path), "--format", "json").stdout)
    assert document["summary"]["out_of_place"]["rows"] == 3
    assert document["rows"][0]["out_of_place_error"] == pytest.approx(float(expected))
    held = [row["time_s_p10"] <= row["out_of_place_s"] <= row["time_s_p90"] for row in document["rows"]]
    assert [row["out_of_place_in_interval"] for row in document["rows"]] == held
    assert [row[-1] for row in rows] == ["yes" if one else "no" for one in held]
    assert document["summary"]["out_of_place"]["in_interval"] == sum(held)
    assert f"; {sum(held)} of 3 measured in the 80 % interval" in result.stdout


def test_what_the_table_prints_agrees_with_itself_as_a_log(tmp_path):
    """Prediction -> a log with these times -> errors of zero."""
    cluster = CATALOGUE.cluster("dgx-a100")
    lines = ["# all_gather_perf"]
    for row in study.predict(cluster, "all_gather", 8, [2**16, 2**22, 2**28], "half"):
        block = f"{row.time_s * 1e6:.4f} {row.algbw / 1e9:.2f} {row.busbw / 1e9:.2f} 0"
        lines.append(f"{row.size} {row.count} half none -1 {block} {block}")
    file = tmp_path / "own.log"
    file.write_text("\n".join(lines))
    for row in study.compare(read_log(file), cluster, "all_gather", 8):
        assert abs(row.out_of_place) < 1e-4
        assert abs(row.in_place) < 1e-4


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("20.00   52.43", "0.020   52.43", 10, "with the time in us"),
        ("20.00   52.43", "-20.0   52.43", 10, "more than zero"),
        ("20.00   52.43", "twenty  52.43", 10, "is not time, algbw and busbw"),
        ("(us)  (GB/s)  (GB/s)            (us)", "(ms)  (GB/s)  (GB/s)            (ms)", 9, "unit (ms)"),
        ("     float     sum      -1    150.0", "     flaot     sum      -1    150.0", 11, "did you mean 'float'"),
        ("3210.0  334.50  334.50      0", "3210.0", 12, "columns"),
        ("20.00   52.43   52.43", "20.00     nan   52.43", 10, "algbw nan is out of range"),
        ("20.00   52.43   52.43", "20.00   52.43     nan", 10, "busbw nan is out of range"),
        ("20.00   52.43   52.43", "20.00   52.43   -52.4", 10, "busbw -52.4 is out of range"),
        ("21.00   49.93   49.93", "21.00   49.93     inf", 10, "busbw inf is out of range"),
        ("20.00   52.43", "inf   52.43", 10, "time inf us is out of range"),
        ("     1048576        262144", "     1048576²       262144", 10, "is not a row of nccl-tests"),
        ("     1048576        262144", f"{'9' * 400}     262144", 10, "is out of range"),
        ("     1048576        262144", f"{'9' * 5000}     262144", 10, "is out of range"),
    ],
)
def test_unreadable_logs_are_refused_with_file_and_line(tmp_path, old, new, line, message):
    file = log(tmp_path, LOG, old, new)
    with pytest.raises(InputError) as caught:
        read_log(file)
    assert f"all_reduce.log:{line}: " in str(caught.value)
    assert message in str(caught.value)


def test_a_log_has_a_limit(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"zero: is larger than 20,000,000 bytes, expected a log of nccl-tests"):
        read_log("/dev/zero")
    monkeypatch.setattr("simgpu.lab.nccl_logs.MAX_ROWS", 2)
    with pytest.raises(InputError, match=r"all_reduce\.log:12: holds more than 2 rows"):
        read_log(log(tmp_path))


def test_equal_rows_of_a_log_are_predicted_once(tmp_path):
    """Each with its own measurement: nccl-tests run several times into one file."""
    cluster, kind = CATALOGUE.cluster("dgx-h100"), "all_reduce"
    found = study.compare(read_log(log(tmp_path, LOG + LOG.split("(us)  (GB/s)  (GB/s)\n")[1])), cluster, kind, 2)
    assert [row.measured.line for row in found[:3]] == [10, 11, 12] and len(found) == 6
    (alone,) = study.predict(cluster, kind, 2, [2**25])
    assert found[1].predicted == found[4].predicted == alone


def test_a_file_without_rows_and_a_log_of_something_else_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no rows"):
        read_log(log(tmp_path, "hello\n"))
    for arguments, message in ((["-c", "all_gather"], "is of all_reduce"), (["-g", "8"], "is of 2 ranks")):
        result = run("dgx-h100", "--compare", log(tmp_path), *arguments)
        assert result.exit_code == 2
        assert message in result.stderr


UNNAMED = LOG.replace("# Collective test starting: all_reduce_perf\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-c", "all_gather"], "redop 'sum' does not go with all_gather"),
        (["-c", "broadcast"], "redop 'sum' does not go with broadcast"),
        (["-c", "reduce"], "root -1 does not go with reduce"),
        (["-c", "reduce_scatter"], "busbw is 1 times algbw, but 0.5 times in reduce_scatter over 2 GPUs"),
    ],
)
def test_a_log_that_does_not_name_its_collective_is_known_by_its_rows(tmp_path, arguments, says):
    assert run("dgx-h100", "--compare", log(tmp_path, UNNAMED)).exit_code == 0
    result = run("dgx-h100", "--compare", log(tmp_path, UNNAMED), *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert "all_reduce.log:9: " in line and says in line and "this looks like all_reduce" in line


def test_a_log_of_another_number_of_gpus_is_known_by_its_rows(tmp_path):
    text = "\n".join(line for line in UNNAMED.splitlines() if "Rank" not in line)
    assert run("dgx-h100", "-g", "2", "--compare", log(tmp_path, text)).exit_code == 0
    result = run("dgx-h100", "-g", "8", "--compare", log(tmp_path, text))
    assert result.exit_code == 2
    assert "all_reduce.log:7: " in result.stderr and "1.75 times in all_reduce over 8 GPUs; check the" in result.stderr


@pytest.mark.parametrize("gpus", [None, 0])
def test_a_log_of_fewer_than_two_gpus_is_refused(tmp_path, gpus):
    text = "\n".join(line for line in UNNAMED.splitlines() if "Rank  1" not in line)
    result = run("dgx-h100", "--compare", log(tmp_path, text), *(["-g", str(gpus)] if gpus is not None else []))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"simgpu: gpus: {1 if gpus is None else gpus} GPUs cannot communicate; expected 2 or more\n"


def test_small_rows_say_nothing_about_the_collective(tmp_path):
    file = tmp_path / "small.log"
    file.write_text("8 2 float sum -1 10.0 0.00 0.00 0\n1024 256 float sum -1 10.0 0.10 0.18 0\n")
    assert run("dgx-h100", "-g", "4", "--compare", file).exit_code == 0


# ---- which machine a measurement means ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "gpus", "link", "name"),
    [
        ("h100-sxm", 8, "nvlink4+nvswitch", "dgx-h100"),
        ("a100-sxm-80gb", 2, "", "dgx-a100"),
        ("a100-sxm-80gb", 4, "nvlink3 (4xA100 fully connected)", "dgx-a100"),
        ("l40s", 2, "pcie4", "l40s-pcie-2x"),
        ("l40s", 3, "", "l40s-pcie-4x"),
        ("a100-pcie-80gb", 4, "nvlink-bridge pairs + pcie4", "a100-pcie-nvlink-4x"),
        ("gb200", 4, "nvlink5+nvswitch", "gb200-nvl72"),
        ("mi300x", 8, "xGMI 64 GB/s per peer link", "mi300x-8x"),
    ],
)
def test_nodes_of_the_catalogue_are_found_by_gpu_and_links(gpu, gpus, link, name):
    assert cluster_for(CATALOGUE, gpu, gpus, link=link).name == name


@pytest.mark.parametrize("gpu", CATALOGUE.names("gpus"))
@pytest.mark.parametrize("gpus", [2, 8])
def test_every_gpu_of_the_catalogue_has_a_box(gpu, gpus):
    cluster = cluster_for(CATALOGUE, gpu, gpus)
    times = collective_time(cluster, "all_reduce", gpus, [1e3, 1e9])
    assert 0 < times.seconds[0] < times.seconds[1] < 10
    joined = cluster.node.nvlink.topology if cluster.node.nvlink else "pcie"
    if "SXM" in cluster.gpu.title:
        assert joined == "nvswitch"
    elif cluster.gpu.nvlink is None:
        assert joined == "pcie"


def test_nodes_and_networks_between_them():
    stated = cluster_for(CATALOGUE, "b200-sxm", 32, 8, "nvlink5+nvswitch 900 GB/s", "EFAv4 50 GB/s per GPU")
    assert (stated.gpu_count, stated.node.nic_count) == (32, 8)
    assert stated.node.nic.gpudirect_rdma.value
    unstated = cluster_for(CATALOGUE, "a100-sxm-80gb", 16, 8, "nvlink3+nvswitch")
    assert not unstated.node.nic.gpudirect_rdma.value
    fast, slow = (float(collective_time(c, "all_reduce", 16, 1e9).busbw) for c in (stated, unstated))
    assert slow < fast / 4
    with pytest.raises(InputError, match="do not divide"):
        cluster_for(CATALOGUE, "h100-sxm", 9, 8)
    with pytest.raises(InputError, match="unknown"):
        cluster_for(CATALOGUE, "h1000", 8)
