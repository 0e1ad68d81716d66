"""What a picture must show: whole error bars, every row, names of what its numbers are, and nothing drawn through
another."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

import simgpu
from simgpu.hardware.machine import topology_of
from simgpu.render.columns import drawn_interval
from simgpu.render.fields import PlotFields
from simgpu.render.loads import loads_figure
from simgpu.render.matrix import heatmap_figure, matrix_figure
from simgpu.render.pareto import pareto_figure
from simgpu.render.rows import figure_of_rows
from simgpu.render.scaling import scaling_points
from simgpu.render.style import SLIDE
from simgpu.render.timeline import MOST_EDGED, START, timeline_figure
from simgpu.render.topology import topology_figure
from simgpu.render.tornado import MOST, Tornado, TornadoBar, tornado_figure
from simgpu.study.report.figures import figures_of
from simgpu.workload.execution import Activity


def legend(figure):
    return [text.get_text() for one in figure.legends for text in one.get_texts()]


def written(figure):
    return [text.get_text() for panel in figure.axes for text in panel.texts]


# ---- topologies --------------------------------------------------------------------------------------


def crossings(figure):
    """Cables that are drawn through a box that they do not end at."""
    from matplotlib.patches import FancyArrowPatch

    FigureCanvasAgg(figure).draw()
    panel = figure.axes[0]
    boxes = {text.get_position(): text.get_bbox_patch().get_window_extent() for text in panel.texts}
    found = []
    for cable in (patch for patch in panel.patches if isinstance(patch, FancyArrowPatch)):
        path = cable.get_path().interpolated(40)
        line = cable.get_transform().transform_path(path).vertices
        ends = [cable._posA_posB[n] for n in (0, 1)]
        for place, box in boxes.items():
            if tuple(place) not in map(tuple, ends) and box.count_contains(line):
                found.append((ends, place))
    return found


CLUSTERS = ["dgx-h100-ib", "rtx-4090-8x-ethernet", "gb200-nvl72-ib", "l40s-8x-ethernet", "rtx-3090-nvlink-8x"]


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_no_cable_is_drawn_through_a_device(cluster):
    made = simgpu.load_cluster(cluster)
    nodes = min(2, int(made.spec.nodes.si))
    figure = topology_figure(topology_of(made, nodes), "Links")
    assert crossings(figure) == []
    names = written(figure)
    assert len(set(names)) == len(names), "a name stands twice, without its node"
    assert "payload" in figure.legends[0].get_title().get_text()


def test_loads_say_what_their_figures_are_and_cross_nothing():
    from simgpu.analysis.loads import link_loads

    cluster, model = simgpu.load_cluster("rtx-4090-8x-ethernet"), simgpu.load_model("llama-2-7b")
    plan = simgpu.Plan(dp=16, micro_batch=1)
    result = simgpu.simulate(cluster, simgpu.Training(batch=16, tokens=256), model, plan)
    figure = loads_figure(link_loads(result.execution, plan, cluster), "Loads")
    assert crossings(figure) == []
    caption = figure.legends[0].get_title().get_text()
    assert "payload" in caption and "share of it that the step uses" in caption


# ---- timelines ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prefill():
    cluster, model = simgpu.load_cluster("dgx-h100"), simgpu.load_model("llama-2-7b")
    return simgpu.simulate(cluster, simgpu.Prefill(batch=1, tokens=512), model, simgpu.Plan(tp=8))


def rows_of(figure):
    (panel,) = figure.axes
    return [label.get_text() for label in panel.get_yticklabels()]


def test_equal_ranks_are_drawn_once_and_as_much_of_them_as_can_be_told_apart(prefill):
    figure = timeline_figure(prefill.execution, row=prefill.row)
    assert rows_of(figure) == ["rank 0 compute", "rank 0 tp"]
    (panel,) = figure.axes
    bars = sum(len(one.get_paths()) for one in panel.collections)
    assert START <= bars <= 2 * START + 2 and MOST_EDGED > START
    title = figure.get_suptitle().replace("\n", " ")
    assert "drawn: rank 0 of 8, which all do the same; 0 to " in title
    assert "rank 7 compute" in rows_of(timeline_figure(prefill.execution, ranks=8))
    whole = simgpu.plot_timeline(prefill, window=(0.0, prefill.step_s))
    assert whole.axes[0].get_xlim()[1] == pytest.approx(1e3 * prefill.step_s)


def test_how_many_ranks_is_asked_for_in_whole_numbers(prefill):
    with pytest.raises(simgpu.InputError, match="0 is not a number of ranks"):
        simgpu.plot_timeline(prefill, ranks=0)


def test_a_pass_holds_its_collectives_and_the_title_counts_them():
    cluster, model = simgpu.load_cluster("dgx-h100"), simgpu.load_model("llama-2-7b")
    plan = simgpu.Plan(tp=8, micro_batch=1, cuda_graphs="full")
    result = simgpu.simulate(cluster, simgpu.Training(batch=4, tokens=512), model, plan)
    row = result.row
    figure = timeline_figure(result.execution, row=row)
    exposed = sum(row[name] or 0.0 for name in row if name.startswith("exposed_") and name.endswith("p_s"))
    assert exposed > 0.1 * row["step_s"]
    share = (exposed + (row["exposed_data_s"] or 0.0)) / row["step_s"]
    assert f"{100 * share:.0f} % with communication alone" in figure.get_suptitle().replace("\n", " ")
    assert "forward with its collectives" in legend(figure)


def test_ranks_that_differ_are_said_to():
    execution = SimpleNamespace(
        step=3.0,
        streams=[{"compute": 0}, {"compute": 1}],
        timeline=SimpleNamespace(
            streams=[0, 1],
            streams_of=[(0,), (1,)],
            start=[0.0, 1.0],
            end=[2.0, 3.0],
            spans=lambda some=None: [
                SimpleNamespace(stream=n, start=1.0 * n, end=2.0 + n, label=Activity("a", "compute", "forward", ""))
                for n in (0, 1)
            ],
        ),
    )
    title = timeline_figure(execution).get_suptitle().replace("\n", " ")
    assert "drawn: rank 1 of 2, the others differ" in title


# ---- fronts ------------------------------------------------------------------------------------------

POINT = st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["a", "b"]))


@given(st.lists(POINT, min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_every_error_bar_of_a_front_lies_inside_the_picture(points):
    rows = [
        {"step_s": x, "step_s_p10": 0.6 * x, "step_s_p90": 1.7 * x, "mfu": y / 100, "mfu_p10": y / 180,
         "mfu_p90": y / 60, "cluster": name}
        for x, y, name in points
    ]  # fmt: skip
    (panel,) = pareto_figure(rows, "step_s", "mfu", series="cluster").axes
    for line in panel.lines:
        for side, data in (("x", line.get_xdata()), ("y", line.get_ydata())):
            low, high = sorted(getattr(panel, f"get_{side}lim")())
            assert all(low <= float(value) <= high for value in data), (side, low, high, list(data))


def test_the_weaker_of_two_clusters_has_a_front_of_its_own():
    rows = [
        {"cluster": name, "a": 1.0 * n * k, "b": 9.0 * k / n, "load": 100 * n}
        for name, k in (("strong", 2), ("weak", 1))
        for n in (1, 2, 3)
    ]
    figure = pareto_figure(rows, "a", "b", series="cluster", label="load", better={"a": "higher", "b": "higher"})
    (panel,) = figure.axes
    colours = {
        name: handle.get_color() for name, handle in zip(legend(figure), figure.legends[0].legend_handles, strict=True)
    }
    stairs = [line for line in panel.lines if line.get_color() == colours["weak"] and len(line.get_xdata()) == 5]
    assert len(stairs) == 1 and stairs[0].get_alpha() is None
    assert "numbers at points: load" in legend(figure)
    assert {"100", "200", "300"} <= set(written(figure))
    assert not any(word in figure.get_suptitle() for word in ("rows on the front", "beaten"))


def test_a_search_names_its_plans(tmp_path):
    text = """
scenario:
  model: llama-3.1-8b
  workload: {kind: inference, batch: 1, prompt: 128, output: 16}
search: {space: {tp: [1, 2], workload.batch: [1, 8]}, gpus: 2}
vary: {cluster: [dgx-h100, dgx-a100]}
"""
    answer = simgpu.search(text, store=tmp_path / "s.sqlite", jobs=1)
    figure = simgpu.figures(answer)["front"]
    names = " ".join(written(figure)).replace("\n", " ")
    assert "TP2" in names and "sequences" in names
    assert {"dgx-h100", "dgx-a100"} <= set(legend(figure))
    assert figure.get_suptitle().startswith("llama-3.1-8b: ")


# ---- tornados ----------------------------------------------------------------------------------------

ENDS = st.floats(-0.5, 0.5).map(lambda end: round(end, 4))


@given(st.lists(st.tuples(ENDS, ENDS, st.sampled_from(["", "", "changes other inputs too"])), min_size=1, max_size=24))
@settings(max_examples=15, deadline=None)
def test_the_title_of_a_tornado_says_both_ends_of_its_first_bar(ends):
    bars = [TornadoBar(f"Input {n} (it)", less, more, "1 GB/s", aside) for n, (less, more, aside) in enumerate(ends)]
    figure = tornado_figure([Tornado("row", "step", "step", bars)], 0.1, "Title")
    (panel,) = figure.axes
    labels = [label.get_text() for label in panel.get_yticklabels()]
    seen = [bar for bar in bars if bar.swing >= 5e-4]
    ranked = [bar for bar in seen if not bar.aside]
    everywhere = " ".join([*labels, panel.get_xlabel().replace("\n", " ")])
    assert all(f"{bar.label[:-1]}" in everywhere for bar in seen), "a row is missing"
    assert len(labels) <= max(MOST, len(seen) - len(ranked)) or not labels
    title = figure.get_suptitle().replace("\n", " ")
    if ranked:
        first = max(ranked, key=lambda bar: bar.swing)
        top = next(bar for bar in bars if labels and labels[0].startswith(bar.label[:-1] + ","))
        assert top.swing == first.swing and f"{top.label.partition(' (')[0]} matters most: step " in title
        for end, side in ((top.less, "10 % less"), (top.more, "10 % more")):
            assert f"{100 * end:+.1f} % with {side}" in title or f"{100 * end:+.2f} % with {side}" in title
    else:
        assert "no input moves step" in title


def test_a_sheet_of_tornados_is_as_wide_as_a_slide():
    panel = Tornado("row", "step", "step", [TornadoBar("Peak (bf16)", 0.1, -0.1, "1 PFLOP/s")])
    figure = tornado_figure([panel] * 4, 0.1, "Title")
    assert figure.get_figwidth() <= SLIDE
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["Peak (bf16)"]


# ---- tables of colours -------------------------------------------------------------------------------


def test_wide_ranges_have_logarithmic_colours():
    rows = [{"a": n, "b": 1, "ttft_s": 10.0**n} for n in range(4)]
    panel, bar = heatmap_figure(rows, "a", "b", "ttft_s", "").axes
    assert bar.get_yscale() == "log"
    shades = [patch.get_facecolor() for patch in panel.patches if patch.get_facecolor()[3]]
    steps = [sum(abs(x - y) for x, y in zip(a, b, strict=True)) for a, b in pairwise(shades)]
    assert min(steps) > 0.1, "numbers ten times apart have different colours"


def test_a_matrix_names_axes_of_numbers_and_marks_what_does_not_fit():
    rows = [{"tp": tp, "pp": pp, "mfu": 0.1 * tp, "memory_fits": pp > 1, "smallest_gpus": 2}
            for tp in (1, 2) for pp in (1, 2)]  # fmt: skip
    figure = matrix_figure(rows, "pp", "tp", "mfu", "")
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("PP", "TP")
    assert "does not fit" in legend(figure)
    assert "does not fit" not in legend(matrix_figure(rows, "pp", "tp", "smallest_gpus", ""))


def test_that_fits_is_said_where_something_does_not():
    rows = [{"tp": tp, "mbs": 1, "mfu": 0.1 * tp, "memory_fits": True} for tp in (1, 2)]
    assert "that fits" not in heatmap_figure(rows, "mbs", "tp", "mfu", "").get_suptitle()
    rows.append({"tp": 4, "mbs": 1, "mfu": 0.4, "memory_fits": False})
    assert "that fits" in heatmap_figure(rows, "mbs", "tp", "mfu", "").get_suptitle()


# ---- shares, axes, titles, sizes ---------------------------------------------------------------------


@given(st.floats(0.01, 1.2), st.floats(0.5, 1.0), st.floats(1.0, 1.5))
def test_a_share_below_100_percent_has_no_band_above(value, low, high):
    row = {"mfu": value, "mfu_p10": low * value, "mfu_p90": high * value}
    ends = drawn_interval("mfu", row)
    if ends is not None:
        assert ends[0] <= value <= ends[1] <= max(1.0, value)


def test_what_all_is_compared_with_has_no_interval():
    rows = [
        {"gpus": n, "step_s": 10.0 / n**0.98, "step_s_p10": 9.0 / n**0.98, "step_s_p90": 12.0 / n**0.98} for n in (1, 8)
    ]
    first, last = scaling_points(rows, "gpus", "step_s", None)[None]
    assert first.efficiency == (1.0, 1.0, 1.0) and first.speedup == (1.0, 1.0, 1.0)
    assert last.efficiency[2] == 1.0 and last.speedup[2] == 8.0 and last.efficiency[0] < 1


def test_numbers_below_bars_say_what_they_are():
    rows = [{"tp": tp, "step_s": 1.0 / tp, "name": f"box {tp}"} for tp in (1, 2, 4)]
    (panel,) = figure_of_rows(rows, PlotFields(kind="bar", x="tp", y=["step_s"])).axes
    assert panel.get_xlabel() == "TP"
    (panel,) = figure_of_rows(rows, PlotFields(kind="bar", x="name", y=["step_s"])).axes
    assert panel.get_xlabel() == ""


def test_a_logarithmic_axis_has_no_source_text_for_ticks():
    rows = [{"batch": n, "step_s": 0.3 * n} for n in (1, 4, 16, 64)]
    figure = figure_of_rows(rows, PlotFields(kind="line", x="batch", y=["step_s"]))
    FigureCanvasAgg(figure).draw()
    (panel,) = figure.axes
    assert panel.get_yscale() == "log"
    assert not any("$" in text.get_text() for text in [*panel.get_yticklabels(minor=True), *panel.get_yticklabels()])


@pytest.mark.parametrize("kind", ["bar", "line"])
@pytest.mark.parametrize("panels", [1, 2, 3, 4])
def test_no_picture_is_wider_than_a_slide(kind, panels):
    columns = ["step_s", "mfu", "tokens_per_s", "efficiency"][:panels]
    rows = [{"tp": tp, **dict.fromkeys(columns, 0.5 + 0.01 * tp)} for tp in (1, 2, 4)]
    figure = figure_of_rows(rows, PlotFields(kind=kind, x="tp", y=columns))
    assert figure.get_figwidth() <= SLIDE
    assert sum(panel.axison for panel in figure.axes) == panels


def test_titles_without_one_in_the_file_are_those_of_the_experiment():
    found = simgpu.run_experiment("""
title: Two boxes of H100
scenario:
  model: llama-2-7b
  cluster: dgx-h100
  workload: {kind: training, batch: 8, tokens: 256}
  plan: {micro_batch: 1, dp: 2}
cases:
  - {labels: {setup: one}}
  - {labels: {setup: two}, plan: {micro_batch: 2, dp: 2}}
plots:
  - {kind: bar, x: setup, y: [step_s, mfu]}
  - {kind: heatmap, x: micro_batch, series: setup, y: [mfu]}
  - {kind: curve, x: step_s, y: [mfu]}
  - {kind: stack, x: setup}
  - {kind: memory, x: setup}
  - {kind: pipeline, x: setup}
  - {kind: timeline, where: {setup: two}}
  - {kind: topology, where: {setup: two}}
  - {kind: bar, x: setup, y: [step_s], title: My own}
""")
    first = {name: figure.get_suptitle().split("\n")[0] for name, figure in figures_of(found).items()}
    *others, own = first.values()
    assert own == "My own" and all(words.startswith("Two boxes of H100") for words in others), first
    assert first["plot1"] == "Two boxes of H100: step and MFU"
    assert first["plot7"] == "Two boxes of H100: timeline (two)"


def test_rows_far_off_are_drawn_at_the_edge_and_counted():
    from simgpu.render.training import parity

    rows = [
        {"op": "step_time", "origin": "a", "measured": 1.0 + n, "predicted": (1.0 + n) * ratio,
         "low": 0.9 * (1 + n) * ratio, "high": 1.1 * (1 + n) * ratio, "error": ratio - 1}
        for n, ratio in enumerate((0.1, 1.0, 5.0))
    ]  # fmt: skip
    figure = parity(rows)
    lower = figure.axes[1]
    low, high = lower.get_ylim()
    assert all(low < float(y) < high for line in lower.lines if line.get_marker() != "None" for y in line.get_ydata())
    assert "2 of 3 rows lie beyond and are drawn at the edge" in figure.get_suptitle().replace("\n", " ")
