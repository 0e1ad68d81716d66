"""What leaves the GPU: bytes by the rules of DeepSpeed and FSDP, links that are shared, updates, what fits where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from memory_by_name import memory_of

import simgpu
from simgpu.cli import main
from simgpu.engine import Simulator
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.plan.memory import Room
from simgpu.plan.parallelism import Plan
from simgpu.simulation.training import kernels_of
from simgpu.timing.kernels import KernelModel
from simgpu.workload.copies import COPIES, FROM_HOST, FROM_NVME, TO_HOST, TO_NVME
from simgpu.workload.framework_files import framework
from simgpu.workload.links import OFFLOAD, Links
from simgpu.workload.training.bound import Bounds
from simgpu.workload.training.job import Job

MODEL = replace(simgpu.load_model("llama-3.1-8b"), layers=4)
CLUSTER = simgpu.load_cluster("dgx-a100")
PARAMETERS = MODEL.parameters


def ran(plan: Plan, batch: int = 32, stack: str = "deepspeed", cluster: Cluster = CLUSTER, **asked: Any) -> Any:
    job = simgpu.Training(batch=batch, tokens=512, **asked)
    return simgpu.simulate(cluster, job, MODEL, plan, framework=stack)


def with_drives(read: float, write: float, cluster: Cluster = CLUSTER) -> Cluster:
    nvme = cluster.node.nvme
    assert nvme is not None
    rates = {
        "read": nvme.read.model_copy(update={"value": read}),
        "write": nvme.write.model_copy(update={"value": write}),
    }
    return replace(cluster, node=cluster.node.model_copy(update={"nvme": nvme.model_copy(update=rates)}))


@pytest.mark.parametrize("m", [1, 2, 4])
@pytest.mark.parametrize("dp", [1, 4])
def test_gradients_move_as_the_frameworks_move_them(dp: int, m: int) -> None:
    """Bytes of a parameter: DeepSpeed sums in host memory through the GPU in 16 bits, and copies the last in fp32."""
    plan, batch, each = Plan(dp=dp, micro_batch=2, offload="optimizer"), 2 * dp * m, PARAMETERS / dp
    assert ran(replace(plan, zero=2), batch).row["offload_bytes"] == pytest.approx(each * (4 * (m - 1) + 4))
    assert ran(replace(plan, zero=3), batch).row["offload_bytes"] == pytest.approx(each * (4 * m + 4))
    assert ran(replace(plan, zero=1), batch).row["offload_bytes"] == 0  # at the step, with the update


def test_weights_come_before_each_pass_but_where_they_are_still_there() -> None:
    """Twice for each microbatch, but for the head, which forward ended with; shards of the master of FSDP in fp32."""
    plan, head = Plan(dp=4, zero=3, micro_batch=2, offload="parameters"), MODEL.vocab * MODEL.hidden
    for stack, width, down in (("deepspeed", 2, 4 * 2 + 4), ("pytorch-eager", 4, 4 * 2)):
        found = ran(plan, 16, stack).row["offload_bytes"]
        least = PARAMETERS / 4 * down + 2 * width * (2 * PARAMETERS - head - MODEL.hidden) / 4
        assert found == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize(("name", "ranks", "shared"), [("dgx-a100", 1, 1), ("dgx-a100", 2, 2), ("dgx-a100", 8, 2)])
def test_gpus_behind_a_switch_share_its_uplink(name: str, ranks: int, shared: int) -> None:
    """A DGX A100 has two GPUs behind each switch; an H100's sockets have memory for less than four x16 of PCIe 5."""
    cluster = simgpu.load_cluster(name)
    links = Links(cluster, Plan(dp=ranks), KernelModel(cluster), "auto", "auto")
    port = cluster.port(cluster.gpu.host_link).bandwidth
    assert links.copy_rate(TO_HOST) == links.copy_rate(FROM_HOST) == pytest.approx(port / shared)


@pytest.mark.parametrize("dp", [1, 8, 128])
@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_takes_what_its_narrowest_link_takes(kind: str, dp: int) -> None:
    """Of one rank, of all of a node (folded exactly), of many nodes (folded by classes)."""
    cluster = simgpu.load_cluster("dgx-a100-ib", cluster__nodes=16)
    links = Links(cluster, Plan(dp=dp, zero=3), KernelModel(cluster), "auto", "auto")
    sim, size = Simulator(), 1e9
    links.use(sim)
    links.prepare([(kind, OFFLOAD, 0, size)])
    (transfer,) = links.collective(kind, OFFLOAD, 0, size)
    sim.transfer([sim.add_stream("copy")], transfer.phases, (), None, None)
    assert sim.run().makespan == pytest.approx(size / links.copy_rate(kind), rel=1e-4)
    if kind in (FROM_NVME, TO_NVME):
        nvme = cluster.node.nvme
        assert nvme is not None
        rate = nvme.read.si if kind == FROM_NVME else nvme.write.si
        assert links.copy_rate(kind) <= rate / min(dp, 8)


@pytest.mark.parametrize("plan", [
    Plan(dp=4, zero=3, micro_batch=2, offload="parameters"),
    Plan(dp=4, zero=2, micro_batch=2, offload="optimizer"),
    Plan(dp=4, zero=3, micro_batch=2, offload="parameters", offload_to="nvme"),
    Plan(tp=2, dp=2, zero=3, micro_batch=2, offload="parameters"),
])  # fmt: skip
def test_one_rank_stands_for_all_and_bounds_stay_below(plan: Plan) -> None:
    job = simgpu.Training(batch=16, tokens=512)
    one, each = (
        simgpu.simulate(CLUSTER, job, MODEL, plan, framework="deepspeed", folded=folded) for folded in (True, False)
    )
    assert one.step_s == pytest.approx(each.step_s, rel=1e-9)
    stack = framework("deepspeed")
    work = Job(MODEL, plan, job.numerics("bf16", framework=stack), stack, 16, 512, "fp32")
    assert Bounds(CLUSTER).seconds(work, kernels_of(stack, CLUSTER, True, stack.fp8_scaling)) <= one.step_s


def test_a_step_is_slower_the_farther_its_states_and_the_slower_the_way() -> None:
    plan = Plan(dp=8, zero=3, micro_batch=1)
    here = ran(plan).step_s
    host = ran(replace(plan, offload="parameters")).step_s
    mixed = ran(replace(plan, offload="parameters", offload_to="mixed")).step_s
    nvme = ran(replace(plan, offload="parameters", offload_to="nvme"))
    assert here < host < mixed < nvme.step_s
    slow = ran(replace(plan, offload="parameters", offload_to="nvme"), cluster=with_drives(1e9, 1e9))
    assert slow.step_s > 3 * nvme.step_s and slow.row["exposed_offload_s"] > nvme.row["exposed_offload_s"]
    share = PARAMETERS / 8
    assert slow.row["optimizer_s"] > share * (16 + 14) / (1e9 / 8)


def test_parts_of_a_step_with_copies_add_up() -> None:
    row = ran(Plan(dp=2, zero=3, micro_batch=1, offload="parameters")).row
    parts = ("gemm", "attention", "memory_bound", "experts", "optimizer", "host", "bubble")
    exposed = ("tp", "cp", "ep", "pp", "data", "offload")
    whole = sum(row[f"{name}_s"] for name in parts) + sum(row[f"exposed_{name}_s"] for name in exposed)
    assert row["exposed_offload_s"] > 0 and whole == pytest.approx(row["step_s"], rel=1e-9)


@pytest.mark.parametrize("stack", ["deepspeed", "pytorch-eager", "megatron"])
def test_what_leaves_the_gpu_lies_beside_it(stack: str) -> None:
    numerics = simgpu.Training(batch=8, tokens=512).numerics("bf16", framework=framework(stack))

    def memory(**more: Any) -> Any:
        return memory_of(MODEL, Plan(dp=8, zero=3, micro_batch=1, **more), numerics, 8, 512, framework=stack)

    here, states = memory(), memory(offload="optimizer")
    assert states.optimizer == 0 and states.weights == here.weights and states.host >= here.optimizer
    for place, (host, nvme) in {"host": (1, 0), "mixed": (0, 0), "nvme": (0, 1)}.items():
        away = memory(offload="parameters", offload_to=place)
        assert away.weights == away.gradients == away.optimizer == 0
        copied = 4.0 if framework(stack).memory.host_gradients and numerics.gradient_bytes < 4 else 0.0
        share = PARAMETERS / 8
        assert away.host + away.nvme == pytest.approx(here.weights + here.optimizer + here.gradients + copied * share)
        assert (away.nvme == 0) == (place == "host") and away.total < here.total
        on_drives = here.optimizer + copied * share + nvme * here.weights
        assert away.nvme == pytest.approx(0 if host else on_drives)


def test_a_host_that_is_too_small_is_said_to_be() -> None:
    big = simgpu.load_model("llama-3.1-405b")
    job, plan = simgpu.Training(batch=8, tokens=512), Plan(dp=8, zero=3, recompute="full", offload="parameters")
    row = simgpu.simulate(CLUSTER, job, big, plan, framework="deepspeed").row
    assert row["memory_bytes_per_gpu"] < row["memory_capacity_bytes"] and not row["memory_fits"]
    assert row["host_memory_bytes_per_node"] > 2e12
    with pytest.raises(
        InputError, match=r"fits the GPU, but offloads .* to host memory, 232.8 GiB of which are there; "
    ):
        simgpu.simulate(CLUSTER, job, big, plan, framework="deepspeed", require_fit=True)
    drives = simgpu.simulate(CLUSTER, job, big, replace(plan, offload_to="nvme"), framework="deepspeed").row
    assert drives["memory_fits"] and drives["nvme_memory_bytes_per_node"] > 6e12
    assert Room.of(CLUSTER) == Room(8, 2e12, 30.7e12) and Room.of(simgpu.load_cluster("l4-pcie-2x")) == Room(2)


@pytest.mark.parametrize(("given", "message"), [
    ({"offload": "parameters"}, "'parameters' is not supported with plan.zero 0; expected plan.zero 3"),
    ({"offload": "parameters", "zero": 3, "pp": 2}, "not supported with plan.pp 2; expected plan.zero 3 and plan.pp 1"),
    ({"offload": "optimizer", "offload_to": "mixed"}, "'mixed' needs plan.offload parameters; expected host or nvme"),
    ({"offload": "weights"}, "'weights' is not known"),
    ({"offload": "optimizer", "offload_to": "disk"}, "'disk' is not known"),
])  # fmt: skip
def test_what_cannot_be_offloaded_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Plan(**given)


def test_a_node_without_drives_refuses_them() -> None:
    plan = Plan(zero=3, offload="optimizer", offload_to="nvme")
    with pytest.raises(InputError, match="'l4-pcie-2x' says nothing of its drives; expected 'nvme' in its file"):
        ran(plan, 1, cluster=simgpu.load_cluster("l4-pcie-2x"))


def test_a_file_says_it_and_the_table_tells_what_helps(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text("""
scenario:
  model: {base: llama-3.1-405b, layers: 60}
  cluster: dgx-a100
  framework: deepspeed
  workload: {kind: training, batch: 8, tokens: 512}
  plan: {dp: 8, zero: 3, recompute: full, offload: parameters}
table: [step_s, exposed_offload_s, host_memory_bytes_per_node, nvidia_smi_memory_bytes_per_gpu, memory_fits]
""")
    told = CliRunner().invoke(main, ["run", str(file), "--no-plots"])
    assert told.exit_code == 0 and "to host memory, 232.8 GiB of which are there; fits with" in told.output
    assert "offload_to: nvme" in told.output and "nvidia-smi" in told.output
    kernels = CliRunner().invoke(main, ["explain", str(file)]).output
    assert "copy engine" in kernels and "weights in" in kernels
    wrong = CliRunner().invoke(main, ["run", str(file), "--set", "plan.zero=2"])
    assert wrong.exit_code == 2 and "plan.offload: 'parameters' is not supported with" in wrong.output


def test_what_tools_print_of_memory() -> None:
    """Allocated is least; nvidia-smi adds what the allocator holds, but not beyond the GPU."""
    for stack in ("megatron", "pytorch-eager"):
        row = ran(Plan(dp=8, zero=3, micro_batch=1), stack=stack).row
        allocated, reserve = row["allocated_memory_bytes_per_gpu"], row["reserve_memory_bytes"]
        needed, shown = row["memory_bytes_per_gpu"], row["nvidia_smi_memory_bytes_per_gpu"]
        pools = needed - allocated - reserve
        assert 0 <= pools <= row["communication_memory_bytes"] and (pools > 0) == framework(stack).memory.stream_pools
        assert (
            shown == pytest.approx((needed - reserve) * framework(stack).memory.reserved + reserve) and shown >= needed
        )
    full = memory_of(MODEL, Plan(), simgpu.Training(batch=8, tokens=512).numerics("bf16"), 8, 512, capacity=50e9)
    near = replace(full, capacity=full.total * 1.01)
    assert near.shown == pytest.approx(near.capacity) and replace(full, capacity=full.total / 2).shown == full.total


# ---- activations -------------------------------------------------------------------------------------

LAYERS = 12
DEEP = replace(simgpu.load_model("llama-3.1-8b"), layers=LAYERS)


def trained(count: int | None, microbatches: int = 1, **plan: Any) -> Any:
    job = simgpu.Training(batch=microbatches * plan.get("dp", 1), tokens=4096)
    asked = Plan(micro_batch=1, offload_layers=count, **plan)
    return simgpu.simulate("dgx-h100", job, DEEP, asked, framework="megatron")


@pytest.mark.parametrize("microbatches", [1, 3])
@pytest.mark.parametrize("plan", [{}, {"recompute": "full"}, {"dp": 2, "zero": 1}, {"dp": 2, "zero": 3}])
def test_what_offloaded_layers_keep_goes_down_and_comes_back_once(plan: dict[str, Any], microbatches: int) -> None:
    whole, some = trained(None, microbatches, **plan), trained(LAYERS // 2, microbatches, **plan)
    every = trained(LAYERS, microbatches, **plan)
    away = some.memory[0].host
    assert every.memory[0].host == pytest.approx(2 * away)
    freed = whole.memory[0].activations - every.memory[0].activations
    at_a_time = every.memory[0].activations - whole.memory[0].activations + every.memory[0].host
    assert freed > 0 and 0 <= at_a_time <= 2 * away / (LAYERS / 2) * (1 + 1e-9), "at most two layers' stay"
    assert some.row["offload_bytes"] == pytest.approx(2 * microbatches * away)
    assert some.row["host_memory_bytes_per_node"] == pytest.approx(plan.get("dp", 1) * away)
    assert whole.row["step_s"] <= some.row["step_s"] * (1 + 1e-9) <= every.row["step_s"] * (1 + 2e-9)


def test_copies_that_take_longer_than_layers_set_the_pace() -> None:
    """All layers go down one after another and come back so; a step is no longer than that on top of its kernels."""
    plain, every = trained(None), trained(LAYERS)
    size = every.memory[0].host / LAYERS
    links = Links(simgpu.load_cluster("dgx-h100"), Plan(), KernelModel(simgpu.load_cluster("dgx-h100")), "auto", "auto")
    seconds = LAYERS * size * (1 / links.copy_rate(TO_HOST) + 1 / links.copy_rate(FROM_HOST))
    assert seconds < every.row["step_s"] < plain.row["step_s"] + seconds * 1.01
    assert every.row["step_s"] > plain.row["step_s"] * 1.2, "PCIe is slower than what layers of 4,096 tokens need"


def test_copies_hide_beside_layers_that_take_longer() -> None:
    """Checkpoints alone are small: what each layer computes is far more than their way over PCIe takes."""
    plain, every = trained(None, 2, recompute="full"), trained(LAYERS, 2, recompute="full")
    assert every.row["step_s"] == pytest.approx(plain.row["step_s"], rel=0.02)


@pytest.mark.parametrize("schedule", [None, "zb-h1", "zb-v", "dualpipe-v", "interleaved"])
def test_pipelines_offload_too(schedule: str | None) -> None:
    chunks = 2 if schedule in ("zb-v", "dualpipe-v", "interleaved") else 1
    plan = {"pp": 2, "vp": chunks, "schedule": schedule}
    plain, some = trained(None, 4, **plan), trained(2, 4, **plan)
    assert some.row["offload_bytes"] > 0 and some.row["step_s"] >= plain.row["step_s"] * (1 - 1e-9)
    held = max(stage.activations for stage in plain.memory) - max(stage.activations for stage in some.memory)
    assert held > 0


def test_more_layers_than_a_stage_has_cannot_be_offloaded() -> None:
    with pytest.raises(InputError, match="13 is more than the 12 layers of a stage") as caught:
        trained(13)
    assert caught.value.key == "plan.offload_layers"
    with pytest.raises(InputError, match="supported for training only"):
        simgpu.simulate("dgx-h100", simgpu.Inference(batch=1, prompt=8, output=8), DEEP, Plan(offload_layers=1))
