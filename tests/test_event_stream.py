"""Traces read piece by piece: the same as read whole, whatever the pieces; what is cut is told."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simgpu import event_stream
from simgpu.errors import InputError

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
traces = st.dictionaries(st.sampled_from(["a", "schemaVersion", 'quo"ted', "[x"]), values, max_size=3)
lists = st.lists(st.dictionaries(st.sampled_from(["ph", "ts", "args"]), values, max_size=3), max_size=6)


@example({"a": 0.0}, [], 1, None, False)  # '0.' ends a piece
@given(traces, lists, st.integers(1, 50), st.sampled_from([None, 1]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_pieces_of_any_size_are_the_whole(
    tmp_path_factory, more: dict[str, Any], events: list[Any], piece: int, indent: int | None, packed: bool
) -> None:
    file = tmp_path_factory.getbasetemp() / "pieces.json"
    data = {**more, "traceEvents": events, "after": 1}
    raw = json.dumps(data, indent=indent, ensure_ascii=piece % 2 == 0).encode()
    file.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_stream, "PIECE", piece)
        assert event_stream.read(file) == data
        assert event_stream.read(file, lambda event: event if "ph" in event else None)["traceEvents"] == [
            one for one in events if "ph" in one
        ]
        for end in {1, len(raw) // 3, len(raw) // 2, len(raw) - 1}:
            file.write_bytes(raw[:end])
            with pytest.raises(InputError, match=r"not valid JSON|is not text"):
                event_stream.read(file)


def test_a_list_of_events_is_a_trace_and_faults_have_their_line(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(event_stream, "PIECE", 16)
    file = tmp_path / "list.json"
    file.write_text('[{"ph": "X"}, 3, {"ph": "M"}]\n')
    assert event_stream.read(file) == {"traceEvents": [{"ph": "X"}, {"ph": "M"}]}
    lines = ["{", '"traceEvents": [', *(f'{{"ts": {n}}},' for n in range(30)), '{"ts": oops}', "]}"]
    file.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"list.json:33: is not valid JSON \(Expecting value\)"):
        event_stream.read(file)
    for text in ('{"a": 1,}', '{"traceEvents": [1,]}', '{"a" 1}', '{"a": 1} x', "{1: 2}", "7"):
        file.write_text(text)
        with pytest.raises(InputError, match="JSON"):
            event_stream.read(file)


def test_more_events_than_memory_has_room_for_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(event_stream, "MOST_KEPT", 9)
    file = tmp_path / "many.json"
    file.write_text(json.dumps([{"ph": "X"}] * 10))
    with pytest.raises(InputError, match="more than 9 kernels, launches and operators; record fewer steps"):
        event_stream.read(file)
    assert event_stream.read(file, lambda _: None) == {"traceEvents": []}
