"""Which way a column is better: the same answer wherever it is asked, for every column there is."""

import pytest

from simgpu.columns import better, sign
from simgpu.render.pareto import directions
from simgpu.result import COLUMNS
from simgpu.study.answers import COST
from simgpu.study.search.problem import TRAINING_OBJECTIVES
from simgpu.study.search.serving import OBJECTIVES, TIMES

# Names, counts that were asked for, and what is neither good nor bad by itself. Every other column has a direction.
NEITHER = {
    *("model", "workload", "cluster", "gpu", "dtype", "tp", "dp", "sequence_parallel", "pp", "vp", "cp", "ep", "zero"),
    *("recompute", "schedule", "micro_batch", "microbatches", "framework", "runtime", "precision", "kv_cache"),
    *("batch", "concurrency", "prompt", "output", "cached", "prefill", "past", "decodes", "context"),
    *("flop", "flop_full_attention", "memory_capacity_bytes", "weights_fit", "memory_fits", "saturated"),
    "evaluated_steps",
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
        if "_per_s" in column and not column.startswith("usd"):
            assert better(column) == "higher", column
        elif column.endswith(("_s", "memory_bytes", "bytes_per_gpu")) or "usd" in column:
            assert better(column) == "lower", column
    assert {better(column) for column in COST.values()} == {"lower"}


def test_searches_look_in_the_direction_of_their_column():
    for column, says in TRAINING_OBJECTIVES.items():
        assert {"lower": "the less the better", "higher": "the more the better"}[better(column)] in says
    assert {better(column) for column in OBJECTIVES} == {"higher"}
    assert {better(column) for times in TIMES.values() for column in times} == {"lower"}
