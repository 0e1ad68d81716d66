"""Traces of requests: every form that is read, how they are cut and stretched, and what is no trace."""

import gzip
import os

import pytest

from simgpu import InputError, Traffic, simulate
from simgpu.workload.server.load import requests_of
from simgpu.workload.server.trace import read_rows

PLAIN = "arrival_s,input_tokens,output_tokens\n"
MOONCAKE = (
    '{"timestamp": 1000, "input_length": 1100, "output_length": 5, "hash_ids": [7, 8, 9]}\n'
    '{"timestamp": 1000, "input_length": 1024, "output_length": 5, "hash_ids": [7, 8]}\n'
    '{"timestamp": 4000, "input_length": 700, "output_length": 5, "hash_ids": [7, 10]}\n'
)
FORMS = {
    "plain": PLAIN + "3,10,1\n4.5,20,2\n",
    "azure 2023": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,10,1\n"
    "2023-11-16 18:17:05.4799600,20,2\n",
    "azure 2024": "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,10,1\n"
    "2024-05-10 00:00:01.509930+00:00,20,2\n",
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,10,1,11,Conversation log\n6,GPT-4,9,0,9,API log\n6.5,ChatGPT,20,2,22,Conversation log\n",
    "burstgpt with sessions": "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,"
    "Log Type\n5,1,9.5,ChatGPT,10,1,11,Conversation log\n6.5,2,1,ChatGPT,20,2,22,Conversation log\n",
    "vidur": "arrived_at,num_prefill_tokens,num_decode_tokens\n0,10,1\n1.5,20,2\n",
    "mooncake": '{"timestamp": 500, "input_length": 10, "output_length": 1, "hash_ids": []}\n'
    '{"timestamp": 2000, "input_length": 20, "output_length": 2, "hash_ids": [1]}\n',
    "llmservingsim": '{"input_toks": 10, "output_toks": 1, "arrival_time_ns": 0}\n\n'
    '{"input_toks": 20, "output_toks": 2, "arrival_time_ns": 1500000000}\n',
}


def made(tmp_path, text, **given):
    file = tmp_path / "trace"
    file.write_text(text, encoding="utf-8")
    return list(requests_of(Traffic(trace=str(file), **given)))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(tmp_path, form):
    found = made(tmp_path, FORMS[form])
    assert [(round(one.sent, 6), one.prompt, one.output) for one in found] == [(0, 10, 1), (1.5, 20, 2)]
    packed = tmp_path / "trace.gz"
    packed.write_bytes(gzip.compress(FORMS[form].encode()))
    assert len(list(read_rows(str(packed)))) == 2


def test_equal_hash_ids_are_equal_prefixes(tmp_path):
    one, other, third = made(tmp_path, MOONCAKE)
    assert one.path[:2] == other.path and one.path[0] == third.path[0] and one.path[2][1] == 1100
    assert third.path[1] != one.path[1] and third.path[1][1] == 700
    file = tmp_path / "trace"
    done = simulate("h100-sxm", {"kind": "traffic", "trace": str(file), "runtime": "vllm"}, "llama-3.2-1b").served
    assert {record[0]: record[4] for record in done.records}[2] == 512
    assert made(tmp_path, MOONCAKE, prefix_tokens=64)[0].path[1] == (("prefix 0", ("block", 7)), 576)


def test_blocks_in_use_by_prompts_of_other_lengths_are_conserved(tmp_path):
    """The last block of a prompt is known by its length too: two that share its name may differ there."""
    rows = [f'{{"timestamp": {i}, "input_length": {520 + i % 9 * 40}, "output_length": 60, "hash_ids": [1, 2]}}\n'
            for i in range(60)]  # fmt: skip
    file = tmp_path / "trace"
    file.write_text("".join(rows))
    job = {"kind": "traffic", "trace": str(file), "cache_tokens": 6000, "runtime": "vllm"}
    done = simulate("h100-sxm", job, "llama-3.2-1b").served
    assert done.requests == 60 and done.tally.most_used <= 6000 // 16
    assert done.tally.series.rows()[-1]["used"] >= 0


def test_sessions_follow_their_answers(tmp_path):
    text = (
        '{"session_id": "a", "timestamp": 0, "input_length": 100, "output_length": 5}\n'
        '{"session_id": "b", "timestamp": 100, "input_length": 90, "output_length": 5}\n'
        '{"session_id": "a", "delay": 2500, "input_length": 150, "output_length": 5}\n'
        '{"session_id": "b", "timestamp": 1100, "input_length": 120, "output_length": 5}\n'
    )
    one, other = made(tmp_path, text)
    assert (one.sent, one.follows[0][1], one.follows[0][0].prompt) == (0.0, 2.5, 150)
    assert (other.sent, other.follows[0][1], other.follows[0][0].prompt) == (0.1, pytest.approx(1.0), 120)
    done = simulate("h100-sxm", {"kind": "traffic", "trace": str(tmp_path / "trace")}, "llama-3.2-1b").served
    first, second, *_ = sorted(done.records)
    assert second[1] == pytest.approx(first[7] + 2.5)


def test_a_trace_is_cut_stretched_thinned_and_spread(tmp_path):
    text = PLAIN + "".join(f"{i // 10},10,5\n" for i in range(1000))
    assert [one.sent for one in made(tmp_path, text, trace_start_s=98, time_scale=3.0)] == [0.0] * 10 + [3.0] * 10
    assert len(made(tmp_path, text, duration_s=4.0)) == 50 and len(made(tmp_path, text, requests=7)) == 7
    thin = made(tmp_path, text, trace_share=0.2)
    assert 150 < len(thin) < 250 and {one.sent for one in thin} <= set(range(100))
    spread = [one.sent for one in made(tmp_path, text, spread_times=True)]
    assert spread == pytest.approx([i / 10 for i in range(1000)])


# ---- what is no trace --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "trace:1: has no column of the arrival; expected one of arrival_s"),
        (PLAIN + "1,5,5\n0.5,5,5\n", "trace:3: comes 0.5 s before the one above it; sort it"),
        (PLAIN + "1,nan,5\n", "trace:2: '1,nan,5': expected a time and two whole numbers"),
        (PLAIN + "nan,5,5\n", "trace:2: .*expected a time"),
        (PLAIN + "-1,5,5\n", "trace:2: .*expected a time"),
        (PLAIN + "1,-5,5\n", "trace:2: -5 and 5 tokens; expected 1 and more"),
        (PLAIN + "1,5\n", "trace:2: .*expected a time"),
        ('{"timestamp": 0, "input_length": NaN, "output_length": 5}\n', "trace:1: .*is no JSON"),
        ('{"timestamp": 0, "input_length": 5.5, "output_length": 5}\n', "expected a time and two whole numbers"),
        ('{"timestamp": -4, "input_length": 5, "output_length": 5}\n', "expected a time and two whole numbers"),
        ('{"timestamp": 0, "input_lenght": 5, "output_length": 5}\n', "no key of the prompt .*'input_lenght'"),
        ('{"timestamp": 0, "input_length": 5, "output_length": 5, "hash_ids": [1, 2]}\n', "expected another .*block"),
        ('{"timestamp": 0, "input_length": 5, "output_length": 5, "hash_ids": 7}\n', "hash_ids 7: expected a list"),
        ('{"timestamp": 9, "input_length": 5, "output_length": 5}\n[1]\n', "trace:2: .*is no object"),
        ('{"timestamp": 9, "input_length": 5, "output_length": 5}\n{"timestamp": 1,"input_length": 5,'
         '"output_length": 5}\n', "trace:2: comes 0.008 s before"),
    ],
)  # fmt: skip
def test_a_bad_trace_names_its_line(tmp_path, text, says):
    with pytest.raises(InputError, match=says) as error:
        made(tmp_path, text)
    assert "\n" not in str(error.value)


def test_what_cannot_be_read_twice_is_refused(tmp_path):
    for make, says in ((os.mkfifo, "is a pipe"), (os.mkdir, "is a folder")):
        place = tmp_path / make.__name__
        make(place)
        with pytest.raises(InputError, match=says):
            list(read_rows(str(place)))
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="not text in UTF-8"):
        list(read_rows(str(binary)))


def test_a_long_trace_is_not_held_in_memory(tmp_path):
    """Rows are read as they are needed: the first of a file of any size come at once."""
    file = tmp_path / "trace"
    with file.open("w") as stream:
        stream.write(PLAIN)
        stream.writelines(f"{i},10,5\n" for i in range(200_000))
        stream.write("not a row\n")
    rows = read_rows(str(file))
    assert [next(rows).sent for _ in range(3)] == [0, 1, 2]
    assert len(list(requests_of(Traffic(trace=str(file), duration_s=10.0)))) == 11
