"""Which way a column is better: the same answer wherever it is asked, for every column there is."""

import pytest

from simgpu import simulate
from simgpu.columns import COLUMNS, COST, FOLLOWS, PLAIN_COLUMNS, UNCERTAIN, better, following_ends, sign, time_of
from simgpu.operations.money import priced
from simgpu.render.pareto import directions
from simgpu.study.search.limits import SERVING
from simgpu.study.search.problem import TRAINING_OBJECTIVES
from simgpu.study.search.serving import OBJECTIVES

# Names, counts that were asked for, and what is neither good nor bad by itself. Every other column has a direction.
NEITHER = {
    *("model", "workload", "cluster", "gpu", "dtype", "tp", "dp", "sequence_parallel", "pp", "vp", "cp", "ep", "zero"),
    *("recompute", "schedule", "micro_batch", "microbatches", "framework", "runtime", "precision", "kv_cache"),
    "runtime_version",
    "distance",
    *("batch", "concurrency", "prompt", "output", "cached", "image_tokens", "prefill", "past", "decodes", "context"),
    *("flop", "flop_full_attention", "memory_capacity_bytes", "weights_fit", "memory_fits", "saturated"),
    *("memory_verdict", "memory_event"),
    "evaluated_steps",
    *("arrival_rate", "requests_served", "running", "cache_use", "busy", "stationary"),
    *("sessions_ended", "adapters_per_step"),
    *("power_regime", "grid_used", "rack_bound"),
    *("stack", "height", "width", "frames", "denoising_steps"),
    *(
        "data_limit",
        "data_buys",
        "video_limit",
        "sharing",
        "resident_models",
        "load_limit",
        "stages_50th",
        "stages_99th",
    ),
    *(
        "price_used",
        "quality_used",
        "month_used",
        "hours_per_month",
        "heat_used",
        "utilisation",
        "rent_compared",
        "rent_compared_usd_per_gpu_hour",
        "rates_used",
    ),
    "checkpoint_interval_s",
    *("expert_gpus", "pool_batches", "cut_share", "generation_gpus", "answers", "updates", "staleness"),
    *(
        "tier_hit_rate",
        "host_hit_rate",
        "ssd_hit_rate",
        "store_hit_rate",
        "loaded_bytes",
        "written_bytes",
        "tiers_unused",
    ),
}
EVERY = (*COLUMNS, *COST.values())


@pytest.mark.parametrize("column", EVERY)
def test_every_column_has_one_direction(column):
    plain = column.removesuffix("_p10").removesuffix("_p90")
    assert (better(column) is None) == (plain in NEITHER)
    assert better(column) == better(plain) == better(f"claimed_{plain}")
    assert sign(column) == {"higher": 1, "lower": -1, None: 0}[better(column)]
    assert directions(column, "step_s")[column] == (better(column) or "higher")


def test_seconds_bytes_and_costs_are_better_lower_and_rates_higher():
    for column in EVERY:
        if column.removesuffix("_p10").removesuffix("_p90") in NEITHER or column in ("mttf_s", "preempted_s"):
            continue
        if "_per_s" in column and "_per_stream" not in column and not column.startswith(("usd", "energy")):
            assert better(column) == "higher", column
        elif column.endswith(("_s", "memory_bytes", "bytes_per_gpu")) or "usd" in column:
            assert better(column) == "lower", column
    assert {better(column) for column in COST.values()} == {"lower"}


def test_searches_look_in_the_direction_of_their_column():
    for column, says in TRAINING_OBJECTIVES.items():
        assert {"lower": "the less the better", "higher": "the more the better"}[better(column)] in says
    assert {better(column) for column in OBJECTIVES} == {"higher"}
    assert {better(column) for times in SERVING.values() for column in times} == {"lower"}


# ---- what follows from what -------------------------------------------------------------------------------------

JOBS = {
    "prefill": ({"kind": "prefill", "batch": 4, "tokens": 512}, {"tp": 2}),
    "training": ({"kind": "training", "batch": 8, "tokens": 512, "train_tokens": 1e9}, {"tp": 2, "recompute": "full"}),
    "batch": ({"kind": "inference", "batch": 4, "prompt": 512, "output": 8}, {"tp": 2}),
    "one GPU": ({"kind": "inference", "batch": 4, "prompt": 512, "output": 8}, {}),
    "first token": ({"kind": "inference", "batch": 4, "prompt": 512, "output": 1}, {}),
    "mixed": ({"kind": "mixed", "prefill": 512, "decodes": 8}, {"tp": 2}),
    "server": ({"kind": "serving", "concurrency": 8, "prompt": 512, "output": 8}, {"tp": 2}),
}
RATES = ("_per_s", "_per_s_per_gpu", "_per_s_per_user")
SURE = {"speed_of_light_tokens_per_s_per_user"}  # a bound by the datasheet


def test_every_rate_has_an_interval():
    """A new rate must be said to follow from a time; what has no interval stands in `SURE`."""
    rates = {name for name in PLAIN_COLUMNS if name.endswith(RATES)}
    assert rates - set(UNCERTAIN) == SURE
    assert set(COST.values()) <= set(FOLLOWS)


@pytest.mark.parametrize("job", JOBS)
def test_what_follows_from_a_time_is_as_unsure_as_that_time(job):
    asked, plan = JOBS[job]
    row = priced(simulate("dgx-h100", asked, "llama-3.2-1b", plan).row, 2.0)
    for name, (_, power) in FOLLOWS.items():
        if not row.get(name):
            continue
        time = time_of(name, row)
        assert row[f"{name}_p10"] <= row[name] <= row[f"{name}_p90"], name
        near, far = ("p10", "p90")[::power]
        assert row[f"{name}_p10"] / row[name] == pytest.approx((row[f"{time}_{near}"] / row[time]) ** power), name
        assert row[f"{name}_p90"] / row[name] == pytest.approx((row[f"{time}_{far}"] / row[time]) ** power), name
    for name in ("single_gpu_step_s", "ideal_step_s", "efficiency", "speedup"):
        if name in row:
            assert 0 < row[f"{name}_p10"] <= row[name] <= row[f"{name}_p90"], name
            certain = name in ("efficiency", "speedup") and row["gpus"] == 1
            assert (row[f"{name}_p10"] == row[f"{name}_p90"]) == certain, name


def test_a_rate_of_nothing_and_a_time_of_nothing_have_ends_all_the_same():
    assert following_ends({"mfu": 0.0, "step_s": 2.0, "step_s_p10": 1.0, "step_s_p90": 4.0})["mfu_p90"] == 0
    assert following_ends({"mfu": 0.5, "step_s": 0.0, "step_s_p10": 0.0, "step_s_p90": 0.0})["mfu_p90"] == 0.5
    assert following_ends({"mfu": 0.5, "step_s": 2.0}) == {}
    ends = following_ends({"gpu_hours": 10.0, "mfu": 0.5, "step_s": 2.0, "step_s_p10": 1.0, "step_s_p90": 4.0})
    assert ends == {"gpu_hours_p10": 5.0, "gpu_hours_p90": 20.0, "mfu_p10": 0.25, "mfu_p90": 1.0}


@pytest.mark.parametrize("output", [2, 64])
def test_both_times_per_token_are_what_their_names_say(output):
    for job in ({"kind": "inference", "batch": 4}, {"kind": "serving", "concurrency": 4}):
        row = simulate("h100-sxm", {**job, "prompt": 256, "output": output}, "llama-3.2-1b").row
        assert row["tpot_s"] == pytest.approx((row["step_s"] - row["ttft_s"]) / (output - 1))
        assert row["normalized_latency_s"] == pytest.approx(row["step_s"] / output)
