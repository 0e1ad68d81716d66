"""One rank for many: a folded step takes what the unfolded one takes."""

import random
from dataclasses import replace

import pytest

from simgpu import InputError, Plan
from simgpu.plan.checks import check_fits_model, check_trains
from simgpu.plan.parallelism import V_SHAPED
from simgpu.workload.folding import colours

NODES = {"dgx-h100": None, "dgx-h100-ib": 8, "dgx-a100-ib": 8, "l40s-8x-ethernet": 8, "rtx-4090-8x-ethernet": 8,
         "gb200-nvl72-ib": 2, "a100-pcie-nvlink-4x": None, "l40s-pcie-8x": None}  # fmt: skip
ORDERS = [("tp", "cp", "ep", "dp", "pp"), ("tp", "pp", "dp", "cp", "ep"), ("dp", "tp", "cp", "ep", "pp"),
          ("pp", "tp", "cp", "ep", "dp")]  # fmt: skip


def drawn(draw, stage, gpus):
    """A random plan of up to 64 GPUs that the model can be split by, with a batch; None where it cannot."""
    degrees = {"tp": (1, 1, 2, 4, 8), "pp": (1, 1, 2, 4), "dp": (1, 2, 3, 4, 5, 8, 16), "cp": (1, 1, 1, 2)}
    choices = {name: draw.choice(some) for name, some in degrees.items()}
    choices |= {"zero": draw.choice((0, 1, 2, 3)), "micro_batch": 1, "order": draw.choice(ORDERS)}
    model = draw.choice((stage.dense, stage.dense, stage.moe))
    if choices["pp"] > 1:
        names = ("1f1b", "gpipe", "zb-h1", *V_SHAPED)
        choices |= {"vp": 2} if draw.random() < 0.4 else {"schedule": draw.choice(names)}
        choices |= {"vp": 2} if choices.get("schedule") in V_SHAPED else {}
    if model is stage.moe:
        choices["ep"] = draw.choice((1, 2, 4))
    if draw.random() < 0.3:
        choices["shard"] = draw.choice((2, 4, 8))
    for name in ("overlap_weights", "overlap_gradients"):
        choices[name] = draw.random() < 0.7
    choices["sequence_parallel"] = choices["tp"] > 1 and draw.random() < 0.5
    batch = choices["dp"] * draw.choice((1, choices["pp"], 2 * choices["pp"]))
    try:
        plan = Plan(**choices)
        if not 1 < plan.world <= min(gpus, 64):
            return None
        check_fits_model(plan, model, batch, 1024)
        check_trains(plan, model, batch, 1024)
    except InputError:
        return None
    return plan, batch, model


@pytest.mark.parametrize("name", NODES)
def test_folded_equals_unfolded(stage, name):
    cluster = stage.cluster(name, **({"cluster.nodes": NODES[name]} if NODES[name] else {}))
    draw, done = random.Random(name), 0
    while done < 12:
        found = drawn(draw, stage, cluster.gpu_count)
        if found is None:
            continue
        plan, batch, model = found
        style = draw.choice(("megatron", "pytorch-eager"))
        folded, unfolded = (
            stage.run(cluster, plan, batch, model=model, style=style, folded=which).step for which in (True, False)
        )
        assert folded == pytest.approx(unfolded, rel=1e-9), (plan, batch, style)
        done += 1


def test_stages_that_share_a_node_share_its_links(stage):
    """Two stages of one node reduce over the same NICs: half the rate of one that has them to itself."""
    plan = Plan(tp=1, pp=2, dp=8, order=("pp", "tp", "cp", "ep", "dp"), micro_batch=1, overlap_gradients=False)
    cluster = stage.cluster("rtx-4090-8x-ethernet", **{"cluster.nodes": 8})
    folded = stage.run(cluster, plan, 16)
    assert len(folded.streams) == 2
    assert folded.step == pytest.approx(stage.run(cluster, plan, 16, folded=False).step, rel=1e-9)


def test_a_folded_step_has_one_rank_for_each_stage(stage):
    plan = Plan(tp=2, pp=4, dp=4, micro_batch=1)
    folded, unfolded = (stage.run("dgx-h100-ib", plan, 16, folded=which) for which in (True, False))
    assert (len(folded.streams), len(unfolded.streams)) == (4, 32)
    assert len(unfolded.timeline.end) > 6 * len(folded.timeline.end)


def test_work_does_not_grow_with_replicas(stage):
    runs = [stage.run("dgx-h100-ib", Plan(tp=8, pp=2, dp=dp, micro_batch=1), 8 * dp) for dp in (2, 8)]
    assert len(runs[0].timeline.end) == len(runs[1].timeline.end)


def test_leaf_switches_stay_apart(stage):
    """Neighbouring stages on different leaves send over the spine, however many nodes stand between them."""
    cluster = stage.cluster("dgx-h100-ib", **{"cluster.nodes": 64})
    near, far = Plan(tp=8, pp=2, dp=16, micro_batch=1), Plan(tp=8, pp=2, dp=32, micro_batch=1)
    seconds = []
    for plan in (near, far):
        run = stage.run(cluster, plan, 8 * plan.dp, protocol="ideal")
        spans = run.timeline.spans([run.streams[0]["send"]])
        seconds.append(min(span.duration for span in spans))
    assert seconds[1] > seconds[0]


def test_colours_tell_apart_what_the_network_does():
    """Three flows over links a and b, two of which share a: refined by load, although capacities are equal."""
    flows = [[(("a",), 1.0)], [(("a",), 1.0)], [(("b",), 1.0)]]
    found = colours([flows], {"a": 1.0, "b": 1.0})
    assert found.of["a"] != found.of["b"]
    assert not found.alike


def test_colours_join_what_is_alike():
    """A ring over four equal links, crossing one twice where both ends use it."""
    ring = [[(("a", "b"), 2.0), (("b", "c"), 2.0), (("c", "d"), 2.0), (("d", "a"), 2.0)]]
    found = colours([ring], dict.fromkeys("abcd", 5.0))
    assert found.alike and len(set(found.of.values())) == 1
    ((links, size, counts),) = found.folded(ring[0])
    assert (len(links), size, counts) == (1, 2.0, (2.0,))


def test_unequal_groups_are_simulated_one_by_one(stage):
    """Five replicas over GPUs of a node with two sockets: rings that differ from group to group."""
    plan = Plan(pp=2, dp=3, micro_batch=1, order=("pp", "tp", "cp", "ep", "dp"))
    cluster = stage.cluster("l40s-8x-ethernet", **{"cluster.nodes": 2})
    folded, unfolded = (stage.run(cluster, plan, 6, folded=which) for which in (True, False))
    assert len(folded.streams) == 2
    assert folded.step == pytest.approx(unfolded.step, rel=1e-9)
    assert len(folded.timeline.end) == len(unfolded.timeline.end)


def test_a_tied_embedding_is_summed_by_the_first_and_the_last_stage(stage):
    plan = Plan(pp=4, dp=2, micro_batch=1)
    untied, tied = (
        stage.run("dgx-h100", plan, 8, model=replace(stage.dense, tied_embeddings=flag)) for flag in (False, True)
    )
    size = stage.dense.vocab * stage.dense.hidden * 4
    for rank in (0, 3):
        sums = [one for one in stage.labels(tied, rank) if one.group == "embedding"]
        assert [one.bytes for one in sums] == [size]
    assert not [one for one in stage.labels(tied, 1) if one.group == "embedding"]
    assert not [one for one in stage.labels(untied, 0) if one.group == "embedding"]
