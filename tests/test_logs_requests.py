"""Requests timed one by one: the forms of tools and plain ones say the same, in SI units, and clocks do not lie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simgpu.errors import InputError
from simgpu.lab.logs.observed import Observed
from simgpu.lab.logs.reading import read

# (arrival s, first token ms, whole s, prompt, output)
SENT = [(0.0, 100, 1.1, 512, 101), (1.0, 120, 1.12, 500, 101), (2.0, 110, 2.11, 520, 201), (3.0, 150, 0.65, 480, 51)]
CSV = "arrival_s,ttft_ms,latency_s,input_tokens,output_tokens\n" + "".join(
    f"{at},{first},{whole},{prompt},{made}\n" for at, first, whole, prompt, made in SENT
)
JSONL = "".join(
    json.dumps({"start_time_ns": 1.7e18 + at * 1e9, "ttft_s": first / 1e3, "e2e_ms": 1e3 * whole, "prompt_len": prompt,
                "output_len": made}) + "\n" for at, first, whole, prompt, made in SENT)  # fmt: skip
AIPERF = "".join(
    json.dumps({"metadata": {"session_num": i, "request_start_ns": int(1.7e18 + at * 1e9), "benchmark_phase": phase,
                             "request_end_ns": int(1.7e18 + (at + whole) * 1e9), "was_cancelled": False},
                "metrics": {"time_to_first_token": {"value": first, "unit": "ms"},
                            "request_latency": {"value": 1e3 * whole, "unit": "ms"},
                            "input_sequence_length": {"value": prompt, "unit": "tokens"},
                            "output_sequence_length": {"value": made, "unit": "tokens"}}, "error": None}) + "\n"
    for phase, rows in (("warmup", SENT[:1]), ("profiling", SENT))
    for i, (at, first, whole, prompt, made) in enumerate(rows))  # fmt: skip
LLMPERF = json.dumps([
    {"error_code": None, "error_msg": "", "ttft_s": first / 1e3, "end_to_end_latency_s": whole,
     "number_input_tokens": prompt, "number_output_tokens": made, "number_total_tokens": prompt + made}
    for _, first, whole, prompt, made in SENT
], indent=1)  # fmt: skip
DATED = CSV.replace("arrival_s", "arrival_time_s")
for _at, *_ in SENT:
    DATED = DATED.replace(f"\n{_at},", f"\n2026-05-01T12:00:0{_at:.0f}+00:00,")


def found(folder: Path, text: str, name: str = "requests.txt") -> Observed:
    file = folder / name
    file.write_text(text)
    (one,) = read(file)
    return one


def said(one: Observed, column: str) -> float:
    measured = one.of(column)
    assert measured is not None
    return measured.value


@pytest.mark.parametrize(
    "text", [CSV, JSONL, AIPERF, LLMPERF, DATED], ids=["csv", "jsonl", "aiperf", "llmperf", "date"]
)
def test_one_load_is_the_same_in_every_form(tmp_path: Path, text: str) -> None:
    one = found(tmp_path, text)
    assert said(one, "ttft_s") == pytest.approx(0.12)
    assert said(one, "ttft_50th_s") == pytest.approx(0.115)
    assert said(one, "e2e_s") == pytest.approx(1.245)
    assert said(one, "tpot_s") == pytest.approx(0.01)
    assert one.facts["requests"] == 4 and one.facts["input_tokens"] == 503
    if text is not LLMPERF:  # it says no arrivals
        assert said(one, "requests_per_s") == pytest.approx(4 / 4.11)
        assert said(one, "output_tokens_per_s") == pytest.approx(454 / 4.11)
        assert one.facts["rate"] == pytest.approx(1.0)


def test_a_request_alone_is_one(tmp_path: Path) -> None:
    assert found(tmp_path, JSONL.splitlines()[0] + "\n").facts["requests"] == 1


def test_what_cannot_be_is_left_out_and_named(tmp_path: Path) -> None:
    more = "4,100,-3600,512,101\n5,900,0.5,512,101\n6,,,512,101\n"
    one = found(tmp_path, CSV + more)
    assert one.measurements == found(tmp_path, CSV, "sound.csv").measurements
    for why in ("clock jumped", "first token comes after their last", "without a time"):
        assert any(note.startswith("1 of 7 requests") and why in note for note in one.notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ttft,latency\n0.1,1.0\n", "'latency' says no unit; expected 'latency_s' or 'latency_ms'"),
        (CSV + "4,fast,1,1,1\n", "requests.txt:6: ttft_ms: 'fast' is no number"),
        (JSONL + '{"ttft_s": 0.1', "requests.txt:5: is no JSON"),
        ("ttft_s,output_tokens\n-1,5\n", "hold nothing measured"),
        ("a,b\n1,2\n", "holds nothing that is known"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        found(tmp_path, text)
    assert words in str(caught.value)
