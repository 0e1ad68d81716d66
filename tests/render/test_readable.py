"""Pictures of many rows with long names: every kind of plot, at the size of a slide, without one text on another."""

import itertools

import pytest
from sampling import sampled

import simgpu
from simgpu.hardware.machine import topology_of
from simgpu.render.fields import Kind, PlotFields
from simgpu.render.memory import memory_figure
from simgpu.render.pareto import pareto_figure
from simgpu.render.pipeline import Box, Panel, pipeline_figure
from simgpu.render.roofline import Point, Roofs, roofline_figure
from simgpu.render.rows import ROW_KINDS, figure_of_rows
from simgpu.render.topology import topology_figure

LONG = "a machine whose name goes on for longer than anybody would like, with eight cards and {} ports"
COUNTS = {"few": 3, "many": 20}


def rows_with(names, xs, spread=0.4):
    found = []
    for n, name in enumerate(names):
        for m, x in enumerate(xs):
            value = 1.7 * (1 + spread * n) / (m + 1) ** 0.8
            rate = 1e4 * (1 + n) * (m + 1) ** 0.9
            share = 1 / (1 + 0.05 * n + 0.04 * m)
            row = {
                "name": name, "batch": x, "gpus": x,
                "step_s": value, "step_s_p10": 0.9 * value, "step_s_p90": 1.2 * value,
                "tokens_per_s": rate, "tokens_per_s_p10": 0.85 * rate, "tokens_per_s_p90": 1.1 * rate,
                "efficiency": share, "efficiency_p10": 0.9 * share, "efficiency_p90": 1.05 * share,
                "speedup": share * x, "speedup_p10": 0.9 * share * x, "speedup_p90": 1.05 * share * x,
                "claimed_step_s": value * (1.3 if (n + m) % 5 == 0 else 0.97), "memory_fits": (n + m) % 4 != 3,
                "gemm_s": 0.6 * value, "attention_s": 0.1 * value, "memory_bound_s": 0.1 * value,
                "exposed_tp_s": 0.15 * value, "bubble_s": 0.05 * value, "mfu": 0.5 * share,
            }  # fmt: skip
            found.append(row)
    return found


def names(count, long):
    return [LONG.format(i) if long else f"box {i}" for i in range(count)]


ASKED = {
    "bar": {"x": "name", "y": ["step_s"], "marks": {"step_s": "claimed_step_s"}, "series": "batch"},
    "line": {"x": "batch", "y": ["step_s", "tokens_per_s"], "series": "name"},
    "curve": {"x": "step_s", "y": ["tokens_per_s"], "series": "name", "label": "batch"},
    "matrix": {"x": "batch", "y": ["step_s"], "series": "name"},
    "heatmap": {"x": "batch", "y": ["step_s"], "series": "name"},
    "stack": {"x": "name", "series": "batch"},
    "scaling": {"x": "gpus", "series": "name"},
    "pareto": {"x": "step_s", "y": ["tokens_per_s"], "series": "name", "label": "name"},
    "parity": {"x": "claimed_step_s", "y": ["step_s"], "series": "name", "label": "name"},
}


def test_every_kind_of_plot_is_looked_at_here():
    of_runs = {"memory", "pipeline", "roofline", "server", "timeline", "topology"}
    elsewhere = {"tornado", "steps", "power", "cost", "breakeven", "turns"}  # looked at in tests of their own
    assert set(Kind.__args__) == set(ASKED) | of_runs | elsewhere
    assert set(ROW_KINDS) - elsewhere == set(ASKED)


@pytest.mark.parametrize(("kind", "count", "long"), sampled(itertools.product(ASKED, COUNTS, (False, True)), 5))
def test_pictures_of_rows(readable, kind, count, long):
    rows = rows_with(names(COUNTS[count], long), [1, 2, 8, 64] if kind not in ("bar", "stack") else [1, 2])
    title = "What is found out here, in a sentence that goes on and on until it no longer fits a line of a slide"
    plot = PlotFields(kind=kind, title=title if long else "Short", **ASKED[kind])
    readable(figure_of_rows(rows, plot, ["gpu.memory.bandwidth=5TB/s"] if long else []))


def test_numbers_close_to_each_other_do_not_collide_on_the_axis(readable):
    rows = rows_with(names(2, False), range(1, 65))
    texts = readable(figure_of_rows(rows, PlotFields(kind="line", x="batch", y=["step_s"], series="name")))
    assert "64" in texts and len([t for t in texts if t.isdigit()]) < 64


def test_bars_lie_down_where_their_names_have_no_room(readable):
    wide = figure_of_rows(rows_with(names(3, False), [1]), PlotFields(kind="bar", x="name", y=["step_s"]))
    lying = figure_of_rows(rows_with(names(12, True), [1]), PlotFields(kind="bar", x="name", y=["step_s"]))
    assert wide.axes[0].get_ylabel() == lying.axes[0].get_xlabel() == "Step (s)"
    readable(lying)


def test_what_does_not_fit_is_marked_in_bars_and_heatmaps(readable):
    rows = rows_with(names(4, False), [1, 2])
    for kind in ("bar", "heatmap", "pareto", "scaling", "line", "curve"):
        assert "does not fit" in readable(figure_of_rows(rows, PlotFields(kind=kind, **ASKED[kind]))), kind


def test_a_heatmap_says_where_there_is_no_result(readable):
    rows = rows_with(names(3, False), [1, 2])
    rows[0]["step_s"] = None
    plot = PlotFields(kind="heatmap", **ASKED["heatmap"])
    figure = figure_of_rows(rows[:-1], plot)
    assert "– no such row or no result" in readable(figure)
    assert not any(patch.get_hatch() for patch in figure.axes[0].patches), "only what does not fit is hatched"
    assert "– no result" in readable(figure_of_rows(rows, plot))


@pytest.mark.parametrize("count", [1, 6, 30])
@pytest.mark.parametrize("long", [False, True])
def test_memory(readable, count, long):
    rows = {
        name: {"weights": (10 + i) * 2**30, "activations": 2 * i * 2**30, "reserve": 2**30, "capacity": 80 * 2.0**30,
               "total": (11 + 3 * i) * 2**30}
        for i, name in enumerate(names(count, long))
    }  # fmt: skip
    readable(
        memory_figure(rows, "GPipe keeps every microbatch and no longer fits, 1F1B keeps as many as stages there are")
    )


def test_pipelines(readable):
    boxes = [Box(0.1 * i, 0.1 * i + 0.08, kind, i) for i, kind in enumerate("FFFFBBBB")]
    panels = [Panel(name, [boxes] * 8) for name in names(3, True)]
    readable(pipeline_figure(panels, LONG * 2))


def test_rooflines(readable):
    points = [
        Point(f"operator_{i}", 1e12 * (i + 1), 1e9 * (1 + i % 4), 1e-3 * (1 + i), "prefill" if i % 2 else "decode")
        for i in range(12)
    ]
    readable(roofline_figure([Roofs(name, 1e15, 3e12, points) for name in names(3, True)], LONG))


@pytest.mark.parametrize("cluster", ["dgx-h100-ib", "rtx-4090-8x-ethernet", "mi300x-8x", "gb200-nvl72", "l4"])
def test_topologies(readable, cluster):
    made = simgpu.load_cluster(cluster)
    readable(topology_figure(topology_of(made, min(2, int(made.spec.nodes.si))), LONG))


def test_a_pareto_front_names_the_chosen_row_first(readable):
    rows = rows_with(names(9, False), [1, 2, 8])
    assert LONG.format(0) not in readable(pareto_figure(rows, "step_s", "tokens_per_s", 4, "name", "Chosen"))
    assert "chosen" in readable(pareto_figure(rows, "step_s", "tokens_per_s", 4, "name", "Chosen"))


@pytest.mark.slow
def test_pictures_of_validations(readable):
    import numpy as np

    from simgpu.render.training import parity
    from simgpu.render.validation import error_figure, parity_figure

    rows = [
        {"op": "step_time", "origin": LONG.format(i % 9), "measured": 2.0**i, "predicted": 2.0**i * (0.8 + 0.05 * i),
         "low": 2.0**i * 0.6, "high": 2.0**i * 1.6, "error": 0.05 * i - 0.2}
        for i in range(12)
    ]  # fmt: skip
    readable(parity(rows))
    points = {f"gpu-{i}": tuple(np.logspace(-6 + i, -2, 30) * factor for factor in (1, 1.1, 0.6)) for i in range(4)}
    scores = {"median_ape": 0.1, "sol_median_ape": 0.5, "p90_ape": 0.3}
    readable(parity_figure("gemm", points, scores))
    readable(error_figure("gemm", points, scores))


def test_loads_and_timelines_of_a_step(readable):
    from simgpu.analysis.loads import link_loads
    from simgpu.render.loads import loads_figure
    from simgpu.render.timeline import timeline_figure

    cluster, model = simgpu.load_cluster("dgx-h100-ib"), simgpu.load_model("llama-2-7b")
    plan = simgpu.Plan(tp=4, pp=2, dp=2, micro_batch=1)
    result = simgpu.simulate(cluster, simgpu.Training(batch=8, tokens=512), model, plan)
    texts = readable(loads_figure(link_loads(result.execution, plan, cluster), LONG))
    assert {"n1.gpu7", "leaf7", "spine"} <= set(texts) and any("% of" in text for text in texts)
    assert "backward" in readable(timeline_figure(result.execution, LONG))
    late = timeline_figure(result.execution, LONG, (0.5 * result.step_s, result.step_s), ranks=2)
    assert {"rank 0 grad", "rank 1 grad"} <= set(readable(late))
