"""Sessions: what follows what, what is shared, what is counted, and what cannot be."""

from itertools import pairwise

import pytest

from simgpu import InputError, Traffic, simulate
from simgpu.operations.money import of_jobs
from simgpu.workload.server.load import requests_of
from simgpu.workload.server.requests import family_of

CHAT = {"kind": "traffic", "rate": 1.0, "requests": 6, "prompt": 200, "output": 20, "turns": 3, "runtime": "vllm"}
TOOLS = {"tools": 2, "tool_tokens": 60, "tool_s": 2.0}


def first(**given):
    """The requests of the first session of a job, in the order of their places."""
    job = Traffic(**{**CHAT, **given})
    return sorted(family_of(next(iter(requests_of(job)))), key=lambda one: one.turn)


def row(**given):
    return simulate("h100-sxm", {**CHAT, **given}, "llama-3.2-1b").row


# ---- what follows what -------------------------------------------------------------------------------


def test_a_turn_is_a_message_and_a_request_for_each_call_of_a_tool_behind_all_that_was_said():
    made = first(session=TOOLS, think_s=7.0)
    assert [one.turn for one in made] == list(range(9))
    assert [one.prompt for one in made[:4]] == [200, 280, 360, 580]  # + 20 said + 60 of a tool, + 20 + 200
    assert [pause for one in made for _, pause in one.follows] == [2.0, 2.0, 7.0] * 2 + [2.0, 2.0]
    assert all(later.path[-1] == (one.number, one.longest) for one, later in pairwise(made))


def test_branches_start_together_and_the_next_request_waits_for_all():
    made = first(session={"branches": 3, "tool_tokens": 50}, turns=1)
    start, *branches, join = made
    assert [one.prompt for one in branches] == [270] * 3 and join.awaits == 3 and join.prompt == 220 + 3 * 20
    assert [one for one, _ in start.follows] == branches and all(one.follows == ((join, 0.0),) for one in branches)
    done = simulate(
        "h100-sxm", {**CHAT, "turns": 1, "session": {"branches": 3, "tool_tokens": 50}}, "llama-3.2-1b"
    ).served
    records = {int(record[0]): record for record in done.records}
    for number in range(0, 30, 5):
        ends = [records[number + place][7] for place in (1, 2, 3)]
        assert records[number + 4][1] == pytest.approx(max(ends))


@pytest.mark.parametrize(
    ("kept", "prompts"), [("always", [200, 280, 360]), ("turn", [200, 280, 360]), ("never", [200, 270, 340])]
)
def test_hidden_reasoning_stays_as_long_as_it_is_said_to(kept, prompts):
    made = first(session={**TOOLS, "reasoning": 0.5, "reasoning_kept": kept})
    assert [one.prompt for one in made[:3]] == prompts and {one.hidden for one in made} == {10}
    assert made[3].prompt == {"always": 580, "turn": 550, "never": 550}[kept]


def test_users_who_stop_resume_later():
    pauses = [pause for one in first(turns=400, session={"away_share": 0.25, "away_s": 900.0}, think_s=3.0, requests=1)
              for _, pause in one.follows]  # fmt: skip
    assert set(pauses) == {3.0, 900.0} and 60 < pauses.count(900.0) < 140


# ---- laws --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("session", [None, TOOLS, {"branches": 2, "tool_tokens": 40}, {"reasoning": 0.5}])
def test_every_session_ends_once_and_so_does_each_of_its_requests(session):
    done = simulate("h100-sxm", {**CHAT, "session": session}, "llama-3.2-1b")
    each = 3 * (1 + 2 * (session == TOOLS) + 3 * (session is not None and "branches" in session))
    assert done.row["sessions_ended"] == 6 and done.row["sessions_unfinished"] == 0
    assert done.row["requests_served"] == 6 * each == sum(one["requests"] for one in done.served.sessions.rows())


def test_a_session_lasts_as_long_as_its_requests_and_pauses():
    found = row(session=TOOLS, think_s=7.0)
    assert found["session_s"] == pytest.approx(found["session_server_s"] + 3 * 2 * 2.0 + 2 * 7.0)


def test_sessions_share_the_cost_of_the_hours():
    found = row(session=TOOLS)
    paid = 3.0 * found["gpus"] * found["duration_s"] / 3600
    assert of_jobs(found, 3.0)["usd_per_session"] * 6 == pytest.approx(paid)
    assert found["sessions_per_s"] * found["duration_s"] == pytest.approx(6)


def test_a_shared_prefix_is_never_slower_and_more_of_it_is_never_found_less():
    apart, shared = (row(session=TOOLS, prefix_cache=keeps) for keeps in (False, True))
    assert apart["later_hit_rate"] == 0 < shared["later_hit_rate"] < 1
    assert shared["session_server_s"] < apart["session_server_s"]
    small, large = (row(session=TOOLS, cache_tokens=size, rate=20.0, requests=30) for size in (2000, 40_000))
    assert small["later_hit_rate"] < large["later_hit_rate"] and large["session_s"] < small["session_s"]


def test_a_user_sees_the_first_visible_token_after_the_hidden_ones():
    plain, hidden = row(session={}), row(session={"reasoning": 0.5, "reasoning_kept": "always"})
    assert plain["answer_s"] == pytest.approx(plain["ttft_s"])
    assert hidden["answer_s"] == pytest.approx(hidden["ttft_s"] + 10 * hidden["tpot_s"], rel=0.01)


# ---- traces ------------------------------------------------------------------------------------------

MOONCAKE = [
    (0, 1100, 100, [0, 1, 2]),  # a conversation
    (0, 900, 50, [0, 9]),  # another one, of the same system prompt
    (9000, 1700, 30, [0, 1, 3, 4]),  # goes on with the first: a whole block of it, and room for the answer
    (9000, 1750, 30, [0, 1, 5, 6]),  # so does this: a branch
    (20_000, 2400, 40, [0, 1, 3, 7, 8]),  # and on
    (20_000, 1150, 40, [0, 1, 10]),  # shares a block with the first, and has no room for its answer
]


def test_conversations_of_a_trace_are_known_by_their_prompts(tmp_path):
    file = tmp_path / "trace.jsonl"
    file.write_text("".join(
        f'{{"timestamp": {time}, "input_length": {new}, "output_length": {out}, "hash_ids": {ids}}}\n'
        for time, new, out, ids in MOONCAKE))  # fmt: skip
    found = list(requests_of(Traffic(trace=str(file), trace_sessions=True)))
    assert [[one.prompt for one in family_of(one)] for one in found] == [[1100, 1750, 1700, 2400], [900], [1150]]
    start = found[0]
    goes_on = {one.prompt: one for one, _ in start.follows}
    assert set(goes_on) == {1700, 1750} and [one.prompt for one, _ in goes_on[1700].follows] == [2400]
    done = simulate("h100-sxm", {"kind": "traffic", "trace": str(file), "trace_sessions": True}, "llama-3.2-1b")
    records = sorted(done.served.records)
    assert done.row["sessions_ended"] == 1 and len(records) == 6
    assert all(one[1] >= 9.0 for one in records if one[2] in (1700, 1750))  # not before their own time
    apart = simulate("h100-sxm", {"kind": "traffic", "trace": str(file)}, "llama-3.2-1b")
    assert done.row["hit_rate"] > apart.row["hit_rate"]  # answers are in the cache too


# ---- what cannot be ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"session": {"tool_s": 2.0}}, "expected tools, the calls of a turn"),
        ({"session": {"away_share": 0.5}}, "expected both, or neither"),
        ({"session": {"reasoning_kept": "never"}}, "expected reasoning, their share"),
        ({"session": {"reasoning": 1.0}}, "less than 1"),
        ({"session": {"tool": 2}}, "tools"),
        ({"session": {"branches": 0}}, "0 is not a whole number from 1 to 1000"),
        ({"session": {}, "prompt": None, "output": None, "turns": 1, "trace": "x"}, "trace"),
        ({"trace_sessions": True}, "expected a trace of them"),
        ({"lengths": "lognormal"}, "lengths lognormal have no tail without a spread.* expected spread"),
        ({"session": {"tools": 900, "tool_tokens": 9000}}, "tokens of the cache"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(asked, says):
    with pytest.raises(InputError, match=says) as error:
        simulate("h100-sxm", {**CHAT, **asked}, "llama-3.2-1b")
    assert "\n" not in str(error.value)
