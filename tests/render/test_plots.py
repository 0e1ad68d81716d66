"""What plots say is what the numbers say: fronts, knees, speed-ups, best cells, errors, titles, formats."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgpu.analysis.pareto import front, knee
from simgpu.columns import better
from simgpu.render.columns import axis, cell
from simgpu.render.fields import PlotFields
from simgpu.render.matrix import heatmap_figure
from simgpu.render.pareto import pareto_figure
from simgpu.render.parity import errors_in_words
from simgpu.render.rows import figure_of_rows
from simgpu.render.scaling import scaling_points
from simgpu.render.text import ticks_apart, width_of, wrapped

WAYS = st.sampled_from(["lower", "higher"])
POINTS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=25)


def beats(one, other, ways):
    pairs = [(b - a if way == "lower" else a - b) for a, b, way in zip(one, other, ways, strict=True)]
    return min(pairs) >= 0 and max(pairs) > 0


@given(POINTS, WAYS, WAYS)
def test_a_row_is_on_the_front_if_and_only_if_no_other_beats_it(points, x_way, y_way):
    rows = [{"a": a, "b": b} for a, b in points]
    found = front(rows, "a", "b", {"a": x_way, "b": y_way})
    alone = {i for i, one in enumerate(points) if not any(beats(other, one, (x_way, y_way)) for other in points)}
    assert set(found) == alone and len(found) == len(alone)
    assert [points[i][0] for i in found] == sorted(points[i][0] for i in found)
    assert knee(rows, "a", "b", {"a": x_way, "b": y_way}, found) in found


def test_rows_without_numbers_are_on_no_front():
    rows = [{"a": 1, "b": None}, {"a": "x", "b": 2}, {"a": float("nan"), "b": 1}, {"b": 2}, {"a": True, "b": 1}]
    assert front(rows, "a", "b", {"a": "lower", "b": "lower"}) == []
    assert knee(rows, "a", "b", {"a": "lower", "b": "lower"}, []) is None


def test_the_knee_is_where_little_is_given_up_for_much():
    rows = [{"s": 1, "usd": 100}, {"s": 1.1, "usd": 12}, {"s": 8, "usd": 10}]
    ways = {"s": "lower", "usd": "lower"}
    assert knee(rows, "s", "usd", ways, front(rows, "s", "usd", ways)) == 1


@pytest.mark.parametrize(
    ("column", "way"),
    [
        ("step_s", "lower"), ("ttft_s", "lower"), ("memory_bytes_per_gpu", "lower"), ("price_usd", "lower"),
        ("output_tokens_per_s_per_user", "higher"), ("mfu", "higher"), ("efficiency", "higher"), ("tp", None),
        ("claimed_step_s", "lower"), ("bubble_fraction", "lower"), ("memory_capacity_bytes", None),
    ],
)  # fmt: skip
def test_which_way_is_better_follows_from_the_column(column, way):
    assert better(column) == way


def test_speed_up_is_relative_to_the_fewest_gpus_of_the_line():
    rows = [
        {"gpus": 8, "machine": "a", "step_s": 10.0, "step_s_p10": 9.0, "step_s_p90": 12.0},
        {"gpus": 32, "machine": "a", "step_s": 4.0, "step_s_p10": 3.0, "step_s_p90": 5.0},
    ]
    (_, last) = scaling_points(rows, "gpus", "step_s", "machine")["a"]
    assert last.speedup == pytest.approx((2.5, 2.0, 10 / 3)) and last.efficiency == pytest.approx((0.625, 0.5, 5 / 6))
    rates = [{"gpus": 8, "tokens_per_s": 10.0}, {"gpus": 32, "tokens_per_s": 30.0}]
    assert scaling_points(rates, "gpus", "tokens_per_s", None)[None][1].efficiency[0] == pytest.approx(0.75)
    each = [{"gpus": 8, "tokens_per_s_per_gpu": 10.0}, {"gpus": 32, "tokens_per_s_per_gpu": 9.0}]
    (one,) = scaling_points(each, "gpus", "tokens_per_s_per_gpu", None).values()
    assert one[1].speedup[0] == pytest.approx(3.6) and one[1].efficiency[0] == pytest.approx(0.9)


def test_titles_say_what_was_found():
    rows = [
        {"gpus": n, "speedup": share * n, "efficiency": share, "machine": name}
        for name, shares in (("fast", (1.0, 0.9)), ("slow", (1.0, 0.55)))
        for n, share in zip((1, 64), shares, strict=True)
    ]
    title = figure_of_rows(rows, PlotFields(kind="scaling", series="machine")).get_suptitle()
    assert "64 GPUs: 90 % efficient (fast), 55 % (slow); relative to one GPU" in title.replace("\n", " ")


def test_the_best_cell_is_one_that_fits():
    rows = [
        {"tp": tp, "mbs": mbs, "mfu": 0.1 * tp + 0.01 * mbs, "memory_fits": tp < 4}
        for tp in (1, 2, 4)
        for mbs in (1, 2)
    ]
    title = heatmap_figure(rows, "mbs", "tp", "mfu", "").get_suptitle()
    assert title == "highest MFU that fits: 22.0 % at mbs 2, TP 2"


def test_a_saturated_server_is_best_only_among_saturated_ones():
    rows = [
        {"tp": tp, "users": users, "rate": 1.0 * users * tp, "each": 1.0 / users, "saturated": users > tp}
        for tp in (1, 2, 4)
        for users in (2, 4, 8)
    ]
    better = {"rate": "higher", "each": "higher"}
    assert heatmap_figure(rows, "users", "tp", "rate", "", "higher").get_suptitle().endswith("16 at users 4, TP 4")
    title = pareto_figure(rows, "each", "rate", better=better).get_suptitle().replace("\n", " ")
    assert title == "each 0.25, rate 16", "the knee is of those that are not saturated"
    assert "(saturated: requests queue)" in heatmap_figure(rows[:3], "users", "tp", "rate", "", "higher").get_suptitle()
    figure = pareto_figure(rows, "each", "rate", better=better)
    assert "saturated: requests queue" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_errors_are_named_with_median_and_mean():
    assert errors_in_words([0.02, -0.04, 0.3]) == "median error 4.0 %, mean 12.0 %, 2 of 3 within 10 %"


def test_parity_says_how_often_the_interval_holds_the_figure():
    rows = [
        {"step_s": 1.0, "step_s_p10": 0.9, "step_s_p90": 1.1, "claimed_step_s": 1.05},
        {"step_s": 2.0, "step_s_p10": 1.9, "step_s_p90": 2.1, "claimed_step_s": 3.0},
    ]
    title = figure_of_rows(rows, PlotFields(kind="parity", y=["step_s"])).get_suptitle().replace("\n", " ")
    assert "median error 19.0 %" in title and "covers 1 of 2" in title


@pytest.mark.parametrize(
    ("column", "label"),
    [
        ("gpu.memory.bandwidth", "Gpu memory bandwidth (GB/s)"), ("workload.batch", "Batch (sequences)"),
        ("memory_bytes_per_gpu", "Memory (GiB)"), ("ttft_s", "TTFT (ms)"),
        ("node.nic.port.latency", "Node nic port latency (us)"),
    ],
)  # fmt: skip
def test_axes_have_units(column, label):
    assert axis(column, [2e-6 if "latency" in column else 0.5])[0] == label


@given(st.text(alphabet="ab -", min_size=1, max_size=120), st.integers(40, 300))
def test_wrapped_lines_are_narrow_and_lose_no_letter(text, width):
    lines = wrapped(text, 12, width).split("\n")
    assert all(width_of(line, 12) <= width or len(line) == 1 for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_ticks_keep_the_last_and_leave_room():
    kept = ticks_apart([0, 0.01, 0.5, 0.99, 1.0], ["1", "2", "4", "63", "64"], 12, 300)
    assert kept == [1, 2, 4]


def test_figures_of_links_have_the_unit_of_what_their_key_ends_in():
    assert cell("link.infiniband-ndr.lane_bandwidth", 12.5e9) == "12.5 GB/s"
    assert cell("link.infiniband-ndr.proxy_latency", 7e-6) == "7 us"
    assert axis("link.nvlink-4.lane_bandwidth", [25e9]) == ("Link nvlink-4 lane bandwidth (GB/s)", 1e-9)
