"""First tests of a new cluster against what it should do: what is below is named, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.errors import InputError
from simgpu.lab.acceptance.checks import BELOW, ODD, Check, blamed, judged
from simgpu.lab.acceptance.command import accept
from simgpu.lab.acceptance.logs import Asked
from simgpu.lab.importing.drawing import matrix_text
from simgpu.lab.launchers import bare
from simgpu.lab.nccl_logs import read_logs
from simgpu.lab.nccl_tests import predict

CATALOGUE = Catalogue()
H100 = CATALOGUE.cluster("dgx-h100")


@pytest.fixture
def put(tmp_path):
    def written(content, name="log.txt"):
        file = tmp_path / name
        file.write_text(content)
        return file

    return written


def held(cluster, *files, settings=(), **asked):
    return accept(cluster, files, settings, Asked(**asked), CATALOGUE)


def nccl(cluster, kind="all_reduce", gpus=8, factor=1.0, sizes=(1024, 2**30), hosts=None):
    """The table that nccl-tests prints where everything takes `factor` as long as predicted."""
    lines = ["# nThread 1 nGpus 1 minBytes 8 maxBytes 1073741824", f"# Collective test starting: {kind}_perf"]
    hosts = hosts or [f"node{rank // cluster.gpus_per_node}" for rank in range(gpus)]
    seen: dict[str, int] = {}
    for rank, host in enumerate(hosts):
        lines.append(
            f"#  Rank {rank:2d} Group  0 Pid {rank} on {host} device {seen.get(host, 0):2d} [0x1b] NVIDIA H100"
        )
        seen[host] = seen.get(host, 0) + 1
    lines.append("#       size         count      type   redop    root     time   algbw   busbw #wrong")
    for row in predict(cluster, kind, gpus, list(sizes)):
        time = row.time_s * factor
        block = f"{time * 1e6:.2f} {row.size / time / 1e9:.2f} {row.busbw / factor / 1e9:.2f} 0"
        lines.append(f"{row.size:12d} {row.count:12d} float {row.redop} {row.root} {block} {block}")
    return "\n".join(lines) + "\n"


def p2p(rate=370.0, slow=None, part=0.5):
    """A matrix of eight GPUs, of which one may be slow."""
    rows = []
    for i in range(8):
        cells = [f"{2500.0 if i == j else rate * (part if slow in (i, j) else 1) + i + j / 8:.2f}" for j in range(8)]
        rows.append(f"{i:6d} " + " ".join(cells))
    head = "Unidirectional P2P=Enabled Bandwidth (P2P Writes) Matrix (GB/s)\n   D\\D     " + "      ".join(
        map(str, range(8))
    )
    return head + "\n" + "\n".join(rows) + "\n"


# ---- collectives -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "all_to_all"])
def test_a_cluster_that_does_what_is_predicted_is_accepted(put, kind):
    done = held("dgx-h100", put(nccl(H100, kind)))
    assert not done.below and [round(one.speed, 2) for one in done.checks] == [1.0, 1.0]


def test_slow_collectives_are_below_and_say_by_how_much(put):
    done = held("dgx-h100", put(nccl(H100, factor=2.0)))
    assert [one.status for one in done.checks] == [BELOW, BELOW]
    assert "8 GPUs: 230.9 GB/s, 50 % slower than the 461.9 GB/s that it should have" in done.findings[0]
    assert not held("dgx-h100", put(nccl(H100, factor=0.5))).below  # faster is no fault


@pytest.mark.parametrize(
    "prefix", ["[1,0]<stdout>:", "0: ", "  0: ", "[pod/nccl-test-0/nccl] ", "2024-07-19T01:02:03.123Z ", "node-01: "]
)
def test_prefixes_of_launchers_do_not_matter(put, prefix):
    text = nccl(H100)
    (plain,) = read_logs(put(text))
    (other,) = read_logs(put("".join(prefix + line for line in text.splitlines(True)), "other.txt"))
    assert (plain.rows, plain.ranks, plain.collective) == (other.rows, other.ranks, other.collective)


def test_prefixes_leave_words_alone():
    assert bare("    local address: LID 0000") == "    local address: LID 0000"
    assert bare("h:3442:3442 [0] NCCL INFO") == "h:3442:3442 [0] NCCL INFO"


def test_several_tests_of_a_log_are_held_one_by_one(put):
    text = nccl(H100, "all_reduce") + nccl(H100, "all_gather", factor=3.0)
    found = {one.test: one.below for one in held("dgx-h100", put(text)).checks}
    assert found["all_reduce of 1 GiB"] is False and found["all_gather of 1 GiB"] is True


def test_ranks_on_other_hosts_cross_the_network(put):
    """Two ranks of two hosts are not two GPUs of one node."""
    cluster = CATALOGUE.cluster("dgx-h100-ib")
    text = nccl(cluster, gpus=2, hosts=["a", "b"])
    done = held("dgx-h100-ib", put(text))
    large = next(one for one in done.checks if one.unit == "B/s")
    assert large.place == "2 GPUs of 2 nodes" and large.predicted < 50e9


def test_ranks_that_were_cut_out_still_count(put):
    lines = nccl(H100).splitlines()
    kept = [line for line in lines if "Rank" not in line or "Rank  0" in line or "Rank  7" in line]
    assert read_logs(put("\n".join(kept)))[0].ranks == 8


def test_what_a_log_does_not_say_is_asked_for(put):
    text = "\n".join(
        line for line in nccl(H100, "all_gather").splitlines() if "Rank" not in line and "_perf" not in line
    )
    with pytest.raises(InputError, match="does not say which collective"):
        held("dgx-h100", put(text))
    with pytest.raises(InputError, match=r"does not list its ranks; expected --gpus N"):
        held("dgx-h100", put(text), collective="all_gather")
    assert not held("dgx-h100", put(text), collective="all_gather", gpus=8).below
    assert not held("dgx-h100", put(text, "nccl-allgather.log"), gpus=8).below  # by the name of the file
    with pytest.raises(InputError, match=r"is of 16 GPUs; 'dgx-h100' has 8"):
        held("dgx-h100", put(nccl(CATALOGUE.cluster("dgx-h100-ib"), gpus=16)))


# ---- links, adapters, GPUs ---------------------------------------------------------------------------------


def test_a_gpu_whose_links_are_slow_is_named_once(put):
    assert not held("dgx-h100", put(p2p())).below
    done = held("dgx-h100", put(p2p(slow=3)))
    assert sum(one.below for one in done.checks) == 14
    assert len(done.findings) == 1 and done.findings[0].startswith("GPU3: 14 of its 14 pairs are below, 49 % less")


def test_a_pair_that_is_slower_than_its_peers_is_odd_within_the_interval(put):
    done = held("dgx-h100", put(p2p(slow=3, part=0.88)))
    assert {one.status for one in done.checks if one.below} == {ODD}
    assert done.findings[0].startswith("GPU3: 14 of its 14 pairs")


def test_hosts_and_slow_slots(put):
    head = "Running host_to_device_memcpy_ce.\nmemcpy CE CPU(row) -> GPU(column) bandwidth (GB/s)\n"
    text = head + "           0 1 2 3 4 5 6 7\n"
    done = held("dgx-h100", put(text + " 0 " + " ".join("27.00" if i == 5 else "55.00" for i in range(8)) + "\n"))
    assert [one.place for one in done.checks if one.below] == ["GPU5 and its host"]


PERF = """                    RDMA_Write BW Test
 Dual-port       : OFF		Device         : {}
 #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]
 8388608    5000           {}             {}    0.005
"""


def test_an_adapter_at_half_rate_is_named(put):
    files = [
        put(PERF.format(f"mlx5_{i}", rate := 196.0 if i == 2 else 391.0 + i / 9, rate), f"{i}.txt") for i in range(8)
    ]
    done = held("dgx-h100-ib", *files)
    assert [one.place for one in done.checks if one.below] == ["mlx5_2"]
    assert "mlx5_2: 24.5 GB/s" in done.findings[0]


def test_lost_links_of_topo(put):
    text = matrix_text(H100)
    assert not held("dgx-h100", put(text)).below
    lines = text.splitlines()
    row = 1 + 2
    lines[row] = lines[row].replace("NV18", "SYS")
    for i in range(1, 9):
        if i != row:
            cells = lines[i].split("\t")
            cells[row] = "SYS"
            lines[i] = "\t".join(cells)
    done = held("dgx-h100", put("\n".join(lines)))
    assert done.findings == ("GPU2: shows 0 of 126 links to the others (nvidia-smi topo -m)",)


def moved(text, gpu=3):
    """The matrix of a node of which one adapter stands at the root complex."""
    rows = [line.split("\t") for line in text.splitlines()]
    for row in rows:
        if row[0] == f"GPU{gpu}":
            row[1 + 8 + gpu] = "NODE"
        if row[0] == f"NIC{gpu}":
            row[1 + gpu] = "NODE"
    return "\n".join("\t".join(row) for row in rows)


def test_adapters_that_are_far_from_their_gpu_are_named_with_the_node(put):
    text = matrix_text(H100, legend=False)
    files = [put(text, "node9.txt"), put(moved(text), "node10.txt")]
    (said,) = held("dgx-h100", *files).findings
    assert said.startswith("node10 GPU3: has no adapter on its PCIe switch, the nearest is NODE")
    lines = [f"node{n}: {row}" for n, one in ((9, text), (10, moved(text))) for row in one.splitlines() if row]
    assert held("dgx-h100", put("\n".join(lines))).findings == (said,)
    bare_of_adapters = "\n".join("\t".join(row.split("\t")[:9]) for row in text.splitlines() if "NIC" not in row[:4])
    assert not held("dgx-h100", put(bare_of_adapters)).below


def burnt(rates, errors=None, mode="FLOATS", name="NVIDIA H100 80GB HBM3"):
    """What gpu_burn prints."""
    errors = errors or [0] * len(rates)
    head = [f"GPU {i}: {name} (UUID: GPU-{i})" for i in range(len(rates))]
    head.append(
        f"Initialized device 0 with 81090 MB of memory (80400 MB available, using 72000 MB of it), using {mode}"
    )
    said = [" - ".join(f"2261 ({rate} Gflop/s)" for rate in ([0] * len(rates), rates)[i > 0]) for i in range(5)]
    wrong = " - ".join(f"{count}  (WARNING!)" if count else "0" for count in errors)
    return "\n".join(
        [*head, *(f"{20 * i}.0%  proc'd: {one}   errors: {wrong}   temps: 38 C " for i, one in enumerate(said))]
    )


def test_gpus_that_burn_slowly_or_wrongly_are_named(put):
    assert not held("dgx-h100", put(burnt([51000] * 8))).below
    done = held("dgx-h100", put(burnt([51000] * 6 + [40000, 50000], [0] * 7 + [12])))
    assert [one.split(",")[0] for one in done.findings] == [
        "GPU6: 40 TFLOP/s",
        "GPU7: computes wrong: 12 errors (gpu_burn",
    ]
    assert held("dgx-h100", put(burnt([51000] * 8, mode="FLOATS, using Tensor Cores"))).below  # tf32 has 350
    with pytest.raises(InputError, match="is of 'NVIDIA A100-SXM4-80GB'; 'dgx-h100' has h100-sxm"):
        held("dgx-h100", put(burnt([18000] * 8, name="NVIDIA A100-SXM4-80GB")))
    with pytest.raises(InputError, match="burns 9 GPUs; a node of 'dgx-h100' has 8"):
        held("dgx-h100", put(burnt([51000] * 9)))
    found = "median: {} TFLOPS @ 4096x8192x8192 (MxNxK)\n"
    assert not held("dgx-h100", put(found.format(690.0))).below and held("dgx-h100", put(found.format(400.0))).below
    head = "Problem,Provider,OperationKind,Operation,Disposition,Status,m,n,k,A,B,C,Runtime\n"
    row = "1,CUTLASS,gemm,cutlass_gemm,passed,success,8192,8192,8192,bf16:column,bf16:row,bf16:column,{}\n"
    assert (
        not held("dgx-h100", put(head + row.format(1.65))).below and held("dgx-h100", put(head + row.format(4))).below
    )


def test_an_adapter_is_told_with_the_gpu_whose_memory_it_sends(put):
    cuda = "Picking device No. {}\n[pid = 1, dev = {}] device name = [NVIDIA H100]\n"
    text = "".join(
        cuda.format(i, i) + PERF.format(f"mlx5_{i}", rate := 190.0 if i == 5 else 391.0, rate) for i in range(8)
    )
    done = held("dgx-h100-ib", put(text))
    assert [one.place for one in done.checks] == [f"mlx5_{i} and GPU{i}" for i in range(8)]
    assert [one.place for one in done.checks if one.below] == ["mlx5_5 and GPU5"]


def test_stream_and_tables_of_kernels(put):
    stream = "BabelStream\nArray size: 268.4 MB (=0.3 GB)\nFunction    MBytes/sec  Min (sec)   Max         Average\n"
    good, bad = (
        f"{stream}Copy        2900000.0   0.0001 0.0001 0.0001\n",
        f"{stream}Copy        1400000.0   0.0001 0.0001 0.1\n",
    )
    assert not held("h100-sxm", put(good)).below and held("h100-sxm", put(bad)).below
    table = "what,gpu,dtype,m,n,k,latency_s\ngemm,h100-sxm,bfloat16,8192,8192,8192,{}\n"
    assert not held("h100-sxm", put(table.format("1.65e-3"), "g.csv")).below
    slow = held("h100-sxm", put(table.format("4e-3"), "g.csv"))
    with pytest.raises(InputError, match=r"g.csv:2: gpu: is of h100-sxm; 'dgx-a100' has a100-sxm-80gb"):
        held("dgx-a100", put(table.format("4e-3"), "g.csv"))
    assert slow.below and "gemm bfloat16 m 8192, n 8192, k 8192" in slow.findings[0]


# ---- judging -----------------------------------------------------------------------------------------------


def test_peers_that_do_not_agree_blame_nobody():
    checks = [Check("f", "t", f"p{i}", value, "B/s", group="g") for i, value in enumerate([10, 4, 16, 7, 13, 9])]
    assert not any(one.below for one in judged(checks))
    tight = [Check("f", "t", f"p{i}", value, "B/s", group="g") for i, value in enumerate([10, 10.1, 9.9, 10, 10.05, 7])]
    assert [one.status for one in judged(tight)][-1] == ODD and sum(one.below for one in judged(tight)) == 1
    assert blamed(judged(tight)) == ["p5: 7 B/s, 30 % below its peers' 10 B/s (t)"]


# ---- the command -------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(main, ["accept", *map(str, arguments)])


def test_the_command_ends_in_one_where_something_is_below(put, tmp_path):
    good, bad = put(nccl(H100), "good.log"), put(nccl(H100, factor=2.0), "bad.log")
    assert run("dgx-h100", "--log", good).exit_code == 0
    done = run("dgx-h100", "--log", bad, "--page", tmp_path / "page.md")
    assert done.exit_code == 1 and "2 of 2 checks are below" in done.stdout
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("# Acceptance of NVIDIA DGX H100") and "| bad.log | all_reduce of 1 GiB |" in page
    assert run("dgx-h100", "--log", bad, "--page", tmp_path / "page.html").exit_code == 1
    assert "<tr class=below>" in (tmp_path / "page.html").read_text()
    document = json.loads(run("dgx-h100", "--log", bad, "--format", "json").stdout)
    assert document["below"] is True and document["checks"][0]["speed"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello\n", "holds nothing that is known; expected a log of nccl-tests"),
        ("# size count type\n", "holds no rows of nccl-tests"),
        ("Running host_to_device_memcpy_ce.\n\n", "holds no matrix of nvbandwidth"),
        ("50.0%  proc'd: abc (xyz Gflop/s)   errors: 0   temps: 3 C\n", "holds no rate of gpu_burn or of a product"),
        ("1e9.. TFLOPS @ 10x10x10 1.2.3 TFLOPS @ 5x5x5\n9 TFLOPS @ 0x1x1\n", "holds nothing that is known"),
        (p2p().replace("     7 ", "    63 "), "has GPU 63; a node of 'dgx-h100' has 8"),
        (
            " #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]\n",
            "holds a header of perftest and no rows",
        ),
    ],
)
def test_bad_logs_end_in_two(put, content, message):
    done = run("dgx-h100", "--log", put(content))
    assert (done.exit_code, done.stdout) == (2, "") and message in done.stderr, done.stderr
    assert run("dgx-h100", "--log", put(content), "--page", Path("page.pdf")).stderr.count("expected a page named .md")
