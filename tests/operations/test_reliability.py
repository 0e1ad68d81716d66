"""Failure rates by part, against what was published of whole clusters; checkpoints, spares, lemons."""

import numpy as np
import pytest

from simgpu import Catalogue, InputError
from simgpu.operations.checkpoints import checkpoint, saving_of
from simgpu.operations.fields import CheckpointFields, ReliabilityFields, RestartFields
from simgpu.operations.goodput import Saving
from simgpu.operations.rates import job_rates, rates_of
from simgpu.operations.spares import elastic_share, nodes_away, replicas_for, spares_for, worst_share

CATALOGUE = Catalogue()
DAY = 86400.0


def rates(name, gpus, **more):
    return job_rates(rates_of(CATALOGUE, name), gpus, 8, **more)


def test_llama_3_stopped_466_times():
    """The Llama 3 Herd of Models: 419 unplanned interruptions in 54 days on 16,384 GPUs, 466 with planned ones."""
    found = rates("llama3-405b", 16384)
    assert found.unplanned * 54 * DAY == pytest.approx(419)
    assert found.all * 54 * DAY == pytest.approx(466)
    assert found.mttf / 3600 == pytest.approx(3.09, abs=0.005)


@pytest.mark.parametrize(
    ("name", "per_1000_node_days"),
    [("llama3-405b", 3.789), ("rsc1-a100", 6.5), ("rsc2-a100", 2.34), ("infinitehbd", 4.195)],
)
def test_rates_of_clusters(name, per_1000_node_days):
    assert rates(name, 8).unplanned * 1000 * DAY == pytest.approx(per_1000_node_days, rel=1e-3)


def test_projections_that_rsc_publishes():
    """1.8 h for 16,384 GPUs, .23 h for 131,072 (arXiv 2410.21680)."""
    assert rates("rsc1-a100", 16384).mttf / 3600 == pytest.approx(1.8, abs=0.01)
    assert rates("rsc1-a100", 131072).mttf / 3600 == pytest.approx(0.23, abs=0.01)


def test_twice_the_gpus_fail_twice_as_often():
    one, two = rates("llama3-405b", 8192), rates("llama3-405b", 16384)
    assert two.mttf == pytest.approx(one.mttf / 2)
    assert rates("llama3-405b", 8192, factor=2.0).mttf == pytest.approx(one.mttf / 2)
    assert rates("llama3-405b", 8192, planned=0.0).all == pytest.approx(one.unplanned)


def test_errors_of_kinds_stand_apart_and_without_ecc_memory_errors_are_silent():
    on, off = rates("llama3-405b", 16384), rates("llama3-405b", 16384, ecc=False)
    assert on.absorbed > 0 and off.absorbed == 0
    assert "HBM" in on.causes and "HBM" not in off.causes
    hidden = (72 + 19) / (54 * DAY)
    assert off.silent == pytest.approx(on.silent + hidden + on.absorbed)
    assert sum(off.causes.values()) == pytest.approx(sum(on.causes.values()) - hidden)


def test_byterobust_and_twelve_thousand_gpus():
    """Saves every step under .9 %, 9,600 GPUs: .97; a requirement of 12,000 GPUs at a rate of 1: .9 or more."""
    mttf = rates("llama3-405b", 9600).mttf
    every_step = Saving("blocking", 0.009 * 10, 0.0, 300.0)
    assert every_step.goodput(10.0, mttf) == pytest.approx(0.97, abs=0.01)
    requirement = 1000 / (12000 / 8) * DAY
    assert Saving("blocking", 300.0, 0.0, 300.0).goodput(
        Saving("blocking", 300.0, 0.0, 300.0).optimum(requirement), requirement
    ) == pytest.approx(0.897, abs=2e-3)


def test_goodput_over_90_percent_needs_short_restarts():
    """Llama 3 published more than .9: minutes of restart do, a blocking save of a minute does not."""
    mttf = rates("llama3-405b", 16384).mttf

    def goodput(save, restart):
        saving = Saving("blocking", save, 0.0, restart)
        return saving.goodput(saving.optimum(mttf), mttf)

    assert goodput(10, 300) == pytest.approx(0.933, abs=1e-3)
    assert goodput(20, 600) == pytest.approx(0.892, abs=1e-3)
    assert goodput(60, 600) == pytest.approx(0.853, abs=1e-3)


# ---- checkpoints --------------------------------------------------------------------------------------


def saved(gpus=16384, **fields):
    cluster = CATALOGUE.cluster("dgx-h100-ib")
    return checkpoint(405e9, cluster, gpus, CheckpointFields(**fields))


def test_a_checkpoint_takes_its_bytes_over_the_narrowest_link():
    """405B at 12 B: 4.9 TB, .3 GB a GPU, 2.4 s at 2 TB/s."""
    found = saved()
    assert found.bytes == pytest.approx(4.86e12)
    assert (found.write_s, found.bound) == (pytest.approx(2.43), "storage")
    assert found.snapshot_s < 0.01
    assert saved(storage="20 TB/s").write_s < found.write_s
    assert saved(gpus=128).bound == "storage" and saved(gpus=128, storage="100 TB/s").bound == "NICs"
    assert saved(bytes_per_parameter=16).write_s == pytest.approx(found.write_s * 16 / 12)


def test_kinds_of_saves_stall_less_and_less():
    blocking, later, memory = (
        saving_of(saved(), CheckpointFields(kind=kind), RestartFields())
        for kind in ("blocking", "asynchronous", "in_memory")
    )
    assert blocking.stall > later.stall >= memory.stall > 0
    assert blocking.persist == 0 < memory.persist < later.persist
    assert memory.restart < blocking.restart == later.restart == pytest.approx(270 + 2.43)
    contended = saving_of(saved(), CheckpointFields(kind="asynchronous"), RestartFields(), 0.2)
    assert contended.stall == pytest.approx(later.stall + 0.2 * later.persist)


# ---- spares ---------------------------------------------------------------------------------------------


def test_spares_of_two_thousand_nodes():
    """3.79 of 1,000 node-days, half of them hardware: 3.9 away at a day (9 spares for 99 %), 21 at 5.5 days (33)."""
    failures = 3.79 / 1000 / DAY * 2048 / 2
    assert nodes_away(failures, DAY) == pytest.approx(3.9, abs=0.05)
    assert spares_for(nodes_away(failures, DAY)) == 9
    assert nodes_away(failures, 5.5 * DAY) == pytest.approx(21.3, abs=0.2)
    assert spares_for(nodes_away(failures, 5.5 * DAY)) == pytest.approx(33, abs=1)
    assert spares_for(0.0) == 0


def test_lemons_have_more_than_their_share():
    """Variance over mean 2.57 of counts with a mean of 1.46: the worst 5 % of nodes have 24 % of the faults."""
    assert worst_share(0.0, 0.05) == 0.05
    spread = (2.57 - 1) / 1.46
    chances = np.random.default_rng(1)
    counts = chances.poisson(1.46 * chances.gamma(1 / spread, spread, 200_000))
    counts.sort()
    measured = counts[-10_000:].sum() / counts.sum()
    assert measured == pytest.approx(0.24, abs=0.025)
    assert 0.15 < worst_share(spread, 0.05) < measured  # rates vary less than counts do


def test_replicas_that_are_down():
    assert replicas_for(10, 1.0, 0.999) == 10
    assert replicas_for(10, 0.99, 0.999) == 12
    assert replicas_for(10, 0.9, 0.999) > replicas_for(10, 0.9, 0.99) > 10
    assert elastic_share(100, 3, 8) == pytest.approx(0.92) and elastic_share(100, 0) == 1.0


# ---- bad input ------------------------------------------------------------------------------------------


def test_unknown_rates_name_the_nearest():
    with pytest.raises(InputError, match="did you mean 'llama3-405b'"):
        rates_of(CATALOGUE, "llama3-405")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("interrupting: []\n", "interrupting"),
        ("interrupting: [{cause: x, part: gpu, count: -1, source: a}]\n", "-1"),
        ("interrupting: [{cause: x, part: disk, count: 1, source: a}]\n", "disk"),
        ("interrupting: [{cause: x, part: gpu, count: 1, source: b}]\n", "'b' is not one of the file's sources"),
    ],
)
def test_a_bad_file_of_rates_is_one_line(tmp_path, text, problem):
    file = tmp_path / "mine.yaml"
    head = "name: mine\ntitle: Mine\ngpus: 8\ndays: 10\nsources: {a: somebody}\nrepair: {mean: 1 day, source: a}\n"
    file.write_text(head + text)
    with pytest.raises(InputError) as found:
        rates_of(Catalogue(), str(file))
    assert str(found.value).startswith(str(file)) and problem in str(found.value)


def test_spans_need_a_unit():
    with pytest.raises(ValueError, match="300 has no unit; expected one such as '5 min'"):
        ReliabilityFields.model_validate({"repair": 300})
