"""Loads of experts from a file are those of a list, and what is wrong with a file is one line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import simgpu
from simgpu.errors import InputError
from simgpu.workload.expert_loads import expert_loads
from simgpu.workload.fields import routing_name

LOADS = [int(1000 / (1 + place) ** 0.7) for place in range(128)]
JOB = {"kind": "inference", "batch": 16, "prompt": 64, "output": 8}

FORMS = {
    "named.csv": "expert,count\n" + "".join(f"{i},{n}\n" for i, n in reversed(list(enumerate(LOADS)))),
    "column.csv": "".join(f"{n}\n" for n in LOADS),
    "row.csv": ",".join(map(str, LOADS)) + "\n",
    "list.json": json.dumps(LOADS),
    "mapping.json": json.dumps(dict(enumerate(LOADS))),
    "layers.csv": "layer,expert,tokens\n" + "".join(f"{k},{i},{n}\n" for k in (3, 7) for i, n in enumerate(LOADS)),
    "layers.json": json.dumps({3: LOADS, 7: dict(enumerate(LOADS))}),
    "ROWS.CSV": "\n".join([",".join(map(str, LOADS))] * 2),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_file_is_the_list(tmp_path, name):
    file = tmp_path / name
    file.write_text(FORMS[name])
    assert routing_name(str(file)) == routing_name(LOADS)


def test_a_step_is_as_long_with_a_file_as_with_the_list(tmp_path):
    file = tmp_path / "loads.csv"
    file.write_text(FORMS["named.csv"])
    plan = {"dp": 16, "ep": 16}
    steps = [simgpu.simulate("dgx-h100-ib", {**JOB, "routing": one}, "qwen3-30b-a3b", plan).ttft_s
             for one in (str(file), LOADS)]  # fmt: skip
    assert steps[0] == steps[1]


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=20), st.integers(2, 5), st.randoms(use_true_random=False))
def test_layers_in_other_orders_stay_as_uneven_as_each(tmp_path_factory, loads, layers, random):
    file = tmp_path_factory.mktemp("loads") / "layers.json"
    file.write_text(json.dumps([random.sample(loads, len(loads)) for _ in range(layers)]))
    mean = sum(loads) / len(loads)
    assert expert_loads(str(file)) == pytest.approx([one / mean for one in sorted(loads, reverse=True)])


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "expert,hits\n0,1\n", ":1: columns expert, hits: expected expert and count"),
        ("a.csv", "expert,count\n", "no rows"),
        ("a.csv", "expert,count\n0,1\n1,-3\n", ":3: count: '-3': expected a load"),
        ("a.csv", "expert,count\n0,1\nx,3\n", ":3: 'x': expected the number of an expert"),
        ("a.csv", "expert,count\n0,1\n0,3\n", ":3: expert 0 is given twice"),
        ("a.csv", "layer,expert,count\n0,1,3\n0,1\n", ":3: 2 cells; expected 3"),
        ("a.csv", "1,2,3\n1,2\n", "layer 1 of the file has 2 experts and the first has 3"),
        ("a.csv", "1,nan\n", ":1: 'nan': expected a load|columns 1, nan"),
        ("a.csv", "0\n0\n", "not all zero"),
        ("a.json", "[1, 2", ":1: is not valid JSON"),
        ("a.json", "{}", "expected the load of each expert"),
        ("a.json", '{"a": 1}', "'a': expected the number"),
        ("a.json", "[[1, 2], [3, true]]", "1.1: True: expected a load"),
        ("a.json", "3", "expected the load of each expert"),
        ("none.csv", None, "none.csv"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, name, text, problem):
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=problem) as caught:
        simgpu.simulate("dgx-h100-ib", {**JOB, "routing": str(file)}, "qwen3-30b-a3b", {"dp": 16, "ep": 16})
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
