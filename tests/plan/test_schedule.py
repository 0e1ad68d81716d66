"""Pipeline schedules: every task once, no deadlock, the bubbles and the memory their papers give."""

from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu import InputError
from simgpu.engine import Simulator
from simgpu.plan.parallelism import SCHEDULES, V_SHAPED, Plan
from simgpu.plan.schedule import ANY_NUMBER, CUT, Task, depends_on, in_flight, order, part_of, place_of, tasks
from simgpu.plan.stages import layer_ranges
from simgpu.render.pipeline import Box, Panel, pipeline_figure

repeatable = settings(derandomize=True, deadline=None, max_examples=60)
CASES = [
    *(
        (name, p, m, 1)
        for name, p, m in product(("gpipe", "1f1b", "zb-h1"), (1, 2, 3, 4, 8), (1, 2, 3, 4, 8, 9, 32))
        if m >= p or name in ANY_NUMBER
    ),
    *(("zb-v", p, m, 2) for p, m in product((2, 3, 4, 8), (1, 2, 3, 7, 8, 15, 32))),
    *(("dualpipe-v", p, m, 2) for p, m in ((2, 4), (2, 7), (3, 6), (4, 8), (4, 33), (5, 11), (8, 16))),
    *(("interleaved", p, groups * p, v) for p, groups, v in product((1, 2, 3, 4, 8), (1, 2, 3), (1, 2, 3, 5))),
]


@st.composite
def cases(draw):
    name, p = draw(st.sampled_from(SCHEDULES)), draw(st.integers(1, 7))
    if name == "interleaved":
        return name, p, p * draw(st.integers(1, 4)), draw(st.integers(1, 4))
    chunks = 2 if name in V_SHAPED and p > 1 else 1
    least = 2 * p if name == "dualpipe-v" else p
    return name, p, draw(st.integers(1 if name in ANY_NUMBER else least, 4 * p + 3)), chunks


def run(case, seconds):
    """Timeline of a schedule with free communication; `seconds` of each kind of task on a whole stage."""
    name, p, _, v = case
    simulator, number = Simulator(), {}
    streams = [simulator.add_stream(f"stage {stage}") for stage in range(p)]
    for task in order(*case):
        before = depends_on(task, p, v, name)
        after = [] if before is None else [number[before]]  # fails where it was not submitted before
        number[task] = simulator.delay(streams[task.stage], seconds[task.kind] / v, after, task)
    return simulator.run()


def check_valid(case):
    name, p, m, v = case
    stages = tasks(*case)
    kinds = "FBW" if name in CUT else "FB"
    for stage, run_there in enumerate(stages):
        expected = {Task(kind, stage, c, i) for kind in kinds for c in range(v) for i in range(m)}
        assert len(run_there) == len(expected) and set(run_there) == expected
    found = order(*case)
    assert Counter(found) == Counter(task for run_there in stages for task in run_there)
    done, reached = set(), [0] * p
    for task in found:
        before = depends_on(task, p, v, name)
        assert before is None or before in done
        assert stages[task.stage][reached[task.stage]] == task
        reached[task.stage] += 1
        done.add(task)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_every_task_is_run_once_and_no_stage_waits_for_ever(case):
    check_valid(case)


@given(cases())
@repeatable
def test_any_schedule_that_is_allowed_can_be_run(case):
    check_valid(case)


@given(cases(), st.tuples(*[st.floats(0.1, 10)] * 3))
@repeatable
def test_no_schedule_beats_its_work(case, times):
    _, p, m, v = case
    seconds = dict(zip("FBW", times, strict=True))
    work = m * sum(seconds[kind] for kind in ("FBW" if case[0] in CUT else "FB"))
    fill = (p - 1) * seconds["F"] / v  # the last stage has to wait for its first forward
    assert run(case, seconds).makespan >= (work + fill) * (1 - 1e-12)


def test_order_is_that_of_the_start_times():
    for case in (("1f1b", 4, 8, 1), ("gpipe", 4, 8, 1), ("interleaved", 4, 8, 2)):
        starts = run(case, {"F": 1.0, "B": 2.0}).start
        assert starts == sorted(starts)
    starts = run(("zb-h1", 4, 8, 1), dict.fromkeys("FBW", 1.0)).start
    assert starts == sorted(starts)


@pytest.mark.parametrize("name", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("p", "m"), [(1, 1), (2, 1), (8, 1), (4, 3), (2, 2), (4, 4), (4, 8), (8, 11), (8, 64)])
def test_bubble_of_1f1b_and_gpipe(name, p, m):
    """Narayanan et al., 2021, section 2.2.1: p - 1 forwards and backwards, (p - 1) / (m + p - 1) of the step."""
    forward, backward = 1.0, 2.0
    makespan = run((name, p, m, 1), {"F": forward, "B": backward}).makespan
    assert makespan == pytest.approx((m + p - 1) * (forward + backward))
    assert 1 - m * (forward + backward) / makespan == pytest.approx((p - 1) / (m + p - 1))


@pytest.mark.parametrize(("p", "m", "v"), [(2, 2, 2), (4, 4, 2), (4, 8, 2), (4, 8, 4), (8, 16, 3), (8, 64, 12)])
def test_bubble_of_interleaved_is_smaller_by_the_chunks(p, m, v):
    """Narayanan et al., 2021, section 2.2.2: (p - 1) (tf + tb) / v on top of the work."""
    forward, backward = 1.0, 2.0
    makespan = run(("interleaved", p, m, v), {"F": forward, "B": backward}).makespan
    assert makespan == pytest.approx((m + (p - 1) / v) * (forward + backward))
    assert 1 - m * (forward + backward) / makespan == pytest.approx((p - 1) / (v * m + p - 1))


@pytest.mark.parametrize(("p", "m"), [(1, 1), (2, 2), (2, 3), (4, 4), (4, 7), (4, 8), (8, 8), (8, 15), (8, 64)])
def test_bubble_of_zb_h1(p, m):
    """Qi et al., 2023, table 2: (p - 1) (tf + tb - tw); with equal times a third of that of 1F1B."""
    makespan = run(("zb-h1", p, m, 1), dict.fromkeys("FBW", 1.0)).makespan
    assert makespan == pytest.approx(3 * m + (p - 1))
    bubble = run(("1f1b", p, m, 1), {"F": 1.0, "B": 2.0}).makespan - 3 * m
    assert makespan - 3 * m == pytest.approx(bubble / 3)


@pytest.mark.parametrize(("forward", "inputs", "weights"), [(1.0, 1.1, 0.9), (1.0, 1.3, 0.7), (0.8, 1.0, 0.8)])
def test_bubble_of_zb_h1_with_unequal_times(forward, inputs, weights):
    """The same, as long as weight gradients take no longer than what they fill in for."""
    p, m = 6, 20
    makespan = run(("zb-h1", p, m, 1), {"F": forward, "B": inputs, "W": weights}).makespan
    assert makespan == pytest.approx(m * (forward + inputs + weights) + (p - 1) * (forward + inputs - weights))


@pytest.mark.parametrize(("p", "m"), [(2, 3), (4, 7), (4, 8), (8, 15), (8, 64)])
def test_zb_v_waits_for_its_start_alone(p, m):
    """Qi et al., 2024 (2405.15362), table 1: no bubble with equal times but for what stages start later, (p - 1) of
    half a stage's forward; a sixth of that of 1F1B, with no more microbatches in flight than its first stage."""
    case = ("zb-v", p, m, 2)
    makespan = run(case, dict.fromkeys("FBW", 1.0)).makespan
    assert makespan == pytest.approx(3 * m + (p - 1) / 2)
    bubble = run(("1f1b", p, m, 1), {"F": 1.0, "B": 2.0}).makespan - 3 * m
    assert makespan - 3 * m == pytest.approx(bubble / 6)
    assert max(in_flight(*case, s) for s in range(p)) == 2 * p


@pytest.mark.parametrize(("p", "m"), [(2, 4), (3, 7), (4, 8), (8, 16), (8, 40)])
@pytest.mark.parametrize(("forward", "inputs", "weights"), [(1.0, 1.0, 1.0), (1.0, 1.2, 0.8), (2.0, 3.0, 1.0)])
def test_dualpipe_v_waits_no_longer_than_its_authors_say(p, m, forward, inputs, weights):
    """README of deepseek-ai/DualPipe: PP/2 - 1 times (F&B + B - 3 W) with PP = 2 p chunks, of which it holds PP + 1.

    That counts a pair as one pass; here a forward is sent on before the backward beside it ends.
    """
    case, seconds = ("dualpipe-v", p, m, 2), {"F": forward, "B": inputs, "W": weights}
    bubble = run(case, seconds).makespan - m * sum(seconds.values())
    backward = inputs + weights
    assert bubble <= (p - 1) * (forward + 2 * backward - 3 * weights) / 2 + 1e-9
    assert bubble >= (p - 1) * forward / 2 - 1e-9
    if forward == inputs == weights:
        assert bubble == pytest.approx((p - 1) / 2)
    assert [in_flight(*case, s) for s in range(p)] == [2 * p + 1] * p


@given(st.integers(2, 8), st.integers(0, 9), st.tuples(*[st.floats(0.8, 1.2)] * 3))
@repeatable
def test_zero_bubble_is_never_slower_than_1f1b(p, more, times):
    """With as many microbatches in flight, and times that differ by less than half."""
    forward, inputs, weights = times
    cut, m = dict(zip("FBW", times, strict=True)), 2 * p + more
    slowest = run(("1f1b", p, m, 1), {"F": forward, "B": inputs + weights}).makespan
    for case in (("zb-h1", p, m, 1), ("zb-v", p, m, 2), ("dualpipe-v", p, m, 2)):
        assert run(case, cut).makespan <= slowest * (1 + 1e-9)


def test_the_second_chunks_go_back():
    assert [place_of(part, 3, "zb-v") for part in range(6)] == [(0, 0), (1, 0), (2, 0), (2, 1), (1, 1), (0, 1)]
    for part in range(6):
        assert part_of(*place_of(part, 3, "zb-v"), 3, "zb-v") == part
    plan = Plan(pp=3, vp=2, schedule="zb-v")
    assert layer_ranges(12, plan)[0] == (range(2), range(10, 12)) and plan.last_stage == 0


@pytest.mark.parametrize(("p", "m"), [(4, 1), (8, 3), (4, 4), (4, 8), (8, 12), (8, 32)])
def test_microbatches_in_flight(p, m):
    assert [in_flight("gpipe", p, m, 1, s) for s in range(p)] == [m] * p
    of_1f1b = [in_flight("1f1b", p, m, 1, s) for s in range(p)]
    assert of_1f1b == [min(m, p - s) for s in range(p)]
    if m < p:
        return
    # every stage holds as many as the first of 1F1B, no more (Qi et al., 2023, section 2.1)
    assert [in_flight("zb-h1", p, m, 1, s) for s in range(p)] == [max(of_1f1b)] * p


@pytest.mark.parametrize(("p", "v", "m"), [(4, 2, 8), (4, 4, 16), (8, 2, 16)])
def test_interleaved_holds_more_activations(p, v, m):
    """Korthikanti et al., 2022: the first stage holds (1 + (p - 1) / (p v)) p microbatches' worth."""
    assert in_flight("interleaved", p, m, v, 0) / v == pytest.approx(p * (1 + (p - 1) / (p * v)))


def test_order_of_megatron():
    """Warm-up, one forward and one backward in turn, the rest: chunk and microbatch as in get_schedule_table."""
    first, last = tasks("interleaved", 2, 4, 2)
    read = " ".join(f"{task.kind}{task.chunk}{task.microbatch}" for task in first)
    assert read == "F00 F01 F10 F11 F02 B10 F03 B11 F12 B00 F13 B01 B12 B13 B02 B03"
    read = " ".join(f"{task.kind}{task.chunk}{task.microbatch}" for task in last)
    assert read == "F00 F01 F10 B10 F11 B11 F02 B00 F03 B01 F12 B12 F13 B13 B02 B03"


def test_neighbours():
    assert depends_on(Task("F", 0, 0, 3), 4, 2) is None
    assert depends_on(Task("F", 2, 1, 3), 4, 2) == Task("F", 1, 1, 3)
    assert depends_on(Task("F", 0, 1, 3), 4, 2) == Task("F", 3, 0, 3)
    assert depends_on(Task("B", 2, 1, 3), 4, 2) == Task("B", 3, 1, 3)
    assert depends_on(Task("B", 3, 0, 3), 4, 2) == Task("B", 0, 1, 3)
    assert depends_on(Task("B", 3, 1, 3), 4, 2) == Task("F", 3, 1, 3)
    assert depends_on(Task("W", 1, 0, 3), 4) == Task("B", 1, 0, 3)


@pytest.mark.parametrize(
    ("case", "key", "said"),
    [
        (("zb-h1", 8, 3), "plan.micro_batch", "3 microbatches are fewer than 8 stages; zb-h1 needs at least 8"),
        (("zb-h1", 4, 1), "plan.micro_batch", "1 microbatch is fewer than 4 stages"),
        (
            ("interleaved", 4, 2, 2),
            "plan.micro_batch",
            "interleaved needs a multiple of 4, 1f1b, gpipe and zb-v take any",
        ),
        (("interleaved", 4, 10, 2), "workload.batch", "expected a multiple of 4, such as 8 or 12"),
        (("dualpipe-v", 4, 7, 2), "plan.micro_batch", "7 microbatches are fewer than twice 4 stages"),
        (("dualpipe-v", 4, 8, 1), "plan.vp", "1: dualpipe-v runs two chunks on each stage; expected 2"),
        (("1f1b", 4, 8, 2), "plan.schedule", "has no virtual stages, here 2; expected interleaved"),
        (("zb-h2", 4, 8), "plan.schedule", "expected one of 1f1b, dualpipe-v, gpipe"),
    ],
)
def test_what_cannot_be_scheduled_is_said_in_one_line(case, key, said):
    for function in (tasks, order):
        with pytest.raises(InputError) as caught:
            function(*case)
        assert caught.value.key == key
        assert said in str(caught.value) and "\n" not in str(caught.value)


def panel_of(title, case, seconds):
    stages = [[] for _ in range(case[1])]
    for span in run(case, seconds).spans():
        task = span.label
        stages[span.stream].append(Box(span.start, span.end, task.kind, task.microbatch, task.chunk))
    return Panel(title, stages)


def test_picture_says_what_is_idle_and_the_time_of_each_run():
    whole, cut = {"F": 0.01, "B": 0.02}, dict.fromkeys("FBW", 0.01)
    panels = [panel_of("1F1B", ("1f1b", 4, 8, 1), whole), panel_of("ZB-H1", ("zb-h1", 4, 8, 1), cut)]
    figure = pipeline_figure(panels)
    first, second = figure.axes
    assert first.get_title(loc="left") == "1F1B: 27.3 % idle, 330 ms"  # 3 / 11 of 11 x 30 ms
    assert second.get_title(loc="left") == "ZB-H1: 11.1 % idle, 270 ms"
    assert first.get_xlim() == second.get_xlim()
    said = [text.get_text() for text in second.texts]
    assert "18 %\nless time" in said
    assert Counter(said)["7"] == 4 * 3  # forward, backward and weight gradients of each stage


def test_picture_counts_as_idle_what_nothing_covers():
    behind = Box(0.5, 3.0, "communication")  # its ends are hidden behind the passes
    panel = Panel("run", [[Box(0.0, 1.0, "F", 0), behind, Box(2.5, 3.0, "B", 0), Box(3.5, 4.0, "optimizer")]])
    assert panel.step == 4.0
    assert panel.idle == pytest.approx(0.5 / 4)
    assert "25.0 % bubble" in pipeline_figure([Panel("run", panel.stages, 0.25)]).axes[0].get_title(loc="left")


def test_picture_leaves_out_numbers_that_do_not_fit():
    panel = panel_of("1F1B", ("1f1b", 2, 256, 1), {"F": 1.0, "B": 2.0})
    assert not pipeline_figure([panel]).axes[0].texts
