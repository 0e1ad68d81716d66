"""Reading what users write: the data itself, the line of every key, and messages made of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from simgpu.documents import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    Text,
    as_text,
    dotted,
    parse_value,
    read_json,
    read_text,
    read_yaml,
)
from simgpu.errors import InputError, nearest, shown
from simgpu.schema_errors import validate

NESTED = """\
# a comment
title: x

scenario:
  plan:
    tp: 2
  "workload":
    operators:
      - {op: matmul, m: 4,
         n: 5}
      - op: all_reduce
        bytes: 1 MB
cases: [{a: 1},
  {b: 2}]
plan.tp: 3
"""


def written(folder: Path, text: str | bytes, name: str = "f.yaml") -> Path:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def problem(folder: Path, text: str | bytes, name: str = "f.yaml") -> InputError:
    """The error that reading `text` ends in."""
    with pytest.raises(InputError) as caught:
        (read_json if name.endswith("json") else read_yaml)(written(folder, text, name))
    return caught.value


# ---- data ----------------------------------------------------------------------------------------------


def test_yaml_becomes_plain_data(tmp_path: Path) -> None:
    data = read_yaml(written(tmp_path, NESTED)).data
    assert data["scenario"]["workload"]["operators"][0] == {"op": "matmul", "m": 4, "n": 5}
    assert data["cases"] == [{"a": 1}, {"b": 2}]
    assert data["plan.tp"] == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("5", 5), ("5.5", 5.5), ("1e3", 1000.0), ("1.0e+3", 1000.0), ("true", True), ("null", None), ("~", None)),
        *(("'5'", "5"), ("1 GB", "1 GB"), ("[]", []), ("{}", {}), ("", None), ("!!str 5", "5"), ("!!float 5", 5.0)),
        *(("4e9", 4e9), ("-4E-9", -4e-9), ("1.5e3", 1500.0), (".5e1", 5.0), ("4.e9", 4e9), ("!!str 4e9", "4e9")),
        *(("'4e9'", "4e9"), ("4e9 B", "4e9 B"), ("1e", "1e"), ("e9", "e9"), ("1e+", "1e+"), ("1e5f", "1e5f")),
        *(("1.2.3e4", "1.2.3e4"), ("4_0e9", "4_0e9"), ("4e9.5", "4e9.5"), ("7e1-2", "7e1-2")),
        *(("|\n  a\n  b\n", "a\nb\n"), ("0x10", 16), (".inf", float("inf")), ("é", "é"), ("no", False)),
    ],
)
def test_scalars_mean_what_yaml_says(tmp_path: Path, text: str, value: object) -> None:
    found = read_yaml(written(tmp_path, f"key: {text}\n")).data["key"]
    assert (found, type(found)) == (value, type(value))


def test_keys_are_text_as_written(tmp_path: Path) -> None:
    assert list(read_yaml(written(tmp_path, "1: a\n1.50: b\ntrue: c\nnull: d\n'x y': e\n")).data) == [
        *("1", "1.50", "true", "null", "x y")
    ]


def test_an_alias_is_a_copy_of_its_anchor(tmp_path: Path) -> None:
    data = read_yaml(written(tmp_path, "a: &a {x: [1, 2]}\nb: *a\nc: *a\n")).data
    assert data["b"] == data["c"] == {"x": [1, 2]}
    data["b"]["x"].append(3)
    assert data["a"] == data["c"] == {"x": [1, 2]}


SIMPLE = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | st.text(max_size=20)
TREES = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        SIMPLE, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3)
    ),
    max_size=5,
)
SAME_FOLDER = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@SAME_FOLDER
@given(TREES)
def test_json_and_yaml_come_back_as_they_were(tmp_path: Path, data: dict[str, Any]) -> None:
    assert read_json(written(tmp_path, json.dumps(data), "f.json")).data == data
    assert read_yaml(written(tmp_path, yaml.safe_dump(data))).data == data
    assert read_yaml(written(tmp_path, yaml.safe_dump(data, default_flow_style=True))).data == data


LIKE_NUMBERS = st.text("0123456789eE.+-_ x", max_size=8)


@SAME_FOLDER
@given(st.lists(LIKE_NUMBERS | SIMPLE, max_size=12))
def test_text_that_looks_like_a_number_stays_text_in_what_a_program_holds(tmp_path: Path, values: list[Any]) -> None:
    assert read_yaml(as_text({"values": values})).data == {"values": values}


def test_a_label_and_a_figure_are_read_alike() -> None:
    """'4e9' in a file, in a mapping's YAML and on the command line: a number each time."""
    found = read_yaml(Text("label: 4e9\nfigure: 4.0e+9\n")).data
    assert found["label"] == found["figure"] == parse_value("4e9", "--set", "label") == 4e9
    assert read_yaml(as_text({"text": "4e9", "number": 4e9})).data == {"text": "4e9", "number": 4e9}


# ---- lines ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 2),
        (("title",), 2),
        (("scenario",), 4),
        (("scenario", "plan", "tp"), 6),
        (("scenario", "workload"), 7),
        (("scenario", "workload", "operators"), 8),
        (("scenario", "workload", "operators", 0), 9),
        (("scenario", "workload", "operators", 0, "n"), 10),
        (("scenario", "workload", "operators", 1, "bytes"), 12),
        (("cases", 1, "b"), 14),
        (("plan.tp",), 15),
    ],
)
def test_every_key_and_item_has_its_line(tmp_path: Path, path: tuple[Any, ...], line: int) -> None:
    assert read_yaml(written(tmp_path, NESTED)).line_of(path) == line


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("scenario", "plan", "dp"), 5),
        (("scenario", "plan", "tp", "deeper", "still"), 6),
        (("scenario", "nothing"), 4),
        (("nothing",), 2),
        (("cases", 7), 13),
    ],
)
def test_what_is_missing_has_the_line_of_what_should_hold_it(tmp_path: Path, path: tuple[Any, ...], line: int) -> None:
    assert read_yaml(written(tmp_path, NESTED)).line_of(path) == line


@SAME_FOLDER
@given(st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), SIMPLE | st.lists(SIMPLE), min_size=1, max_size=8))
def test_the_line_of_a_key_holds_the_key(tmp_path: Path, data: dict[str, Any]) -> None:
    text = yaml.safe_dump({"top": data}, sort_keys=False)
    document = read_yaml(written(tmp_path, text))
    lines = text.split("\n")
    for key in data:
        line = document.line_of(("top", key))
        assert line is not None and lines[line - 1].strip(" '\"").startswith(key)


def test_json_knows_the_lines_of_its_fields(tmp_path: Path) -> None:
    document = read_json(written(tmp_path, '{\n  "a": 1,\n  "b": {\n    "c": 2\n  }\n}', "f.json"))
    assert [document.line_of((key,)) for key in ("a", "b", "c")] == [2, 3, 4]


def test_an_error_says_file_line_and_key(tmp_path: Path) -> None:
    document = read_yaml(written(tmp_path, NESTED))
    error = document.error("is too much", ("scenario", "plan", "tp"))
    assert str(error) == f"{document.file}:6: scenario.plan.tp: is too much"
    assert (error.problem, error.line, error.key) == ("is too much", 6, "scenario.plan.tp")
    assert error.file == str(document.file)


# ---- limits --------------------------------------------------------------------------------------------


def test_depth_is_limited(tmp_path: Path) -> None:
    deep = MAX_DEPTH - 1  # the mapping itself is the first level
    read_yaml(written(tmp_path, "a: " + "[" * deep + "]" * deep))
    error = problem(tmp_path, "b: 1\na: " + "[" * (deep + 1) + "]" * (deep + 1))
    assert error.line == 2 and f"{MAX_DEPTH} levels" in str(error)


def test_depth_counts_what_aliases_hold(tmp_path: Path) -> None:
    deep = MAX_DEPTH - 2
    text = "a: &a " + "[" * deep + "]" * deep + "\nb: &b " + "[" * deep + "*a" + "]" * deep + "\n"
    assert "deep" in str(problem(tmp_path, text))


def test_size_is_limited(tmp_path: Path) -> None:
    read_yaml(written(tmp_path, "a: b\n#" + "x" * (MAX_BYTES - 6)))
    error = problem(tmp_path, "a: b\n#" + "x" * (MAX_BYTES - 5))
    assert f"{MAX_BYTES:,} bytes" in str(error)


def test_the_number_of_values_is_limited(tmp_path: Path) -> None:
    half = MAX_VALUES // 2
    read_yaml(written(tmp_path, f"a: &a [{'x, ' * half}]\n"))
    assert f"{MAX_VALUES:,} values" in str(problem(tmp_path, f"a: &a [{'x, ' * half}]\nb: *a\n"))


def test_aliases_may_repeat_but_not_contain_themselves(tmp_path: Path) -> None:
    read_yaml(written(tmp_path, "a: &a {x: 1}\nb: [*a, *a]\n"))
    assert problem(tmp_path, "b: 1\na: &a {x: {y: *a}}\n").line == 2


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/tuple", "!own"])
@pytest.mark.parametrize("value", ["[a]", "{a: b}", "x"])
def test_a_tag_is_obeyed_or_refused_but_never_ignored(tmp_path: Path, tag: str, value: str) -> None:
    error = problem(tmp_path, f"b: 1\na: {tag} {value}\n")
    assert error.line == 2 and error.key == "a"
    assert tag.lstrip("!") in str(error)


@pytest.mark.parametrize("value", ["!!bool x", '!!int ""', "!!int x", '!!float ""', "!!timestamp x"])
def test_a_value_that_is_not_of_its_tag(tmp_path: Path, value: str) -> None:
    error = problem(tmp_path, f"b: 1\na: {value}\n")
    assert (error.line, error.key) == (2, "a")


@pytest.mark.parametrize("number", ["1" * 5000, "0x" + "f" * 5000])
def test_a_number_of_thousands_of_digits(tmp_path: Path, number: str) -> None:
    """Decimal ones are refused by Python; hexadecimal ones are numbers, but printing them must work too."""
    file = written(tmp_path, f"a: {number}\n")
    try:
        assert len(shown(read_yaml(file).data["a"])) <= 100
    except InputError as error:
        assert error.line == 1


def test_text_is_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    assert read_text(written(tmp_path, "é\r\n".encode("utf-8-sig"))) == "é\r\n"
    with pytest.raises(InputError, match=r":3: is not text \(byte 0xff\)"):
        read_text(written(tmp_path, b"a\nb\nc\xff\n"))


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 2}}'])
def test_a_field_given_twice_is_an_error_in_json_as_in_yaml(tmp_path: Path, text: str) -> None:
    assert "twice" in str(problem(tmp_path, text))
    assert "twice" in str(problem(tmp_path, text, "f.json"))


@pytest.mark.parametrize("text", ["[1]", "5", '"a"', "null"])
def test_json_must_be_an_object(tmp_path: Path, text: str) -> None:
    assert str(problem(tmp_path, text, "f.json")).endswith("f.json:1: expected a JSON object")


# ---- messages ------------------------------------------------------------------------------------------


def test_a_message_is_one_line_of_limited_length() -> None:
    error = InputError("a\nb  c\r\n" + "x" * 5000, file="a\nb.yaml", line=3, key="k\ney")
    assert str(error).startswith("a b.yaml:3: k ey: a b c xxx")
    assert "\n" not in str(error) and len(str(error)) < 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "is wrong"),
        ({"file": "f"}, "f: is wrong"),
        ({"file": "f", "line": 2}, "f:2: is wrong"),
        ({"key": "a.b"}, "a.b: is wrong"),
        ({"file": "f", "line": 2, "key": "a"}, "f:2: a: is wrong"),
    ],
)
def test_a_message_says_as_much_of_the_place_as_is_known(arguments: dict[str, Any], message: str) -> None:
    assert str(InputError("is wrong", **arguments)) == message


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("bandwith", ["bandwidth", "latency"], "; did you mean 'bandwidth'?"),
        ("BF16", ["bf16", "fp16"], "; did you mean 'bf16'?"),
        ("h100", ["H100", "A100"], "; did you mean 'H100'?"),
        ("zzz", ["b", "a"], "; expected one of a, b"),
        ("zzz", [f"name{n}" for n in range(25)], ""),
        ("zzz", [], ""),
        (5, ["tp", "dp"], "; expected one of dp, tp"),
        (None, ["tp"], "; expected one of tp"),
    ],
)
def test_the_nearest_name_is_offered(word: object, known: list[str], hint: str) -> None:
    assert nearest(word, known) == hint


@given(st.recursive(SIMPLE | st.binary(), lambda below: st.lists(below) | st.dictionaries(st.text(), below)))
@settings(derandomize=True, deadline=None, database=None, max_examples=60)
def test_a_value_is_shown_on_one_short_printable_line(value: object) -> None:
    assert 0 < len(shown(value)) <= 100
    assert shown(value).isprintable()


def test_dotted() -> None:
    assert dotted(("cases", 2, "plan", "tp")) == "cases.2.plan.tp"
    assert dotted(()) == ""


# ---- validation ----------------------------------------------------------------------------------------


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["inner"] = "inner"
    size: Annotated[int, Field(gt=0)] = 1


class Other(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["other"] = "other"
    width: int = 1
    inner: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    dtype: Literal["fp16", "bf16"] = "fp16"
    one: Annotated[Inner | Other, Field(discriminator="kind")] = Inner()
    many: list[Annotated[Inner | Other, Field(discriminator="kind")]] = []
    table: dict[str, Inner] = {}


def finding(data: Any) -> tuple[tuple[Any, ...], str]:
    """Path and problem of the first thing that is wrong with `data` as an `Outer`."""
    paths = []

    def blame(path: tuple[Any, ...], text: str) -> InputError:
        paths.append(path)
        return InputError(text)

    with pytest.raises(InputError) as caught:
        validate(Outer, data, blame)
    return paths[-1], caught.value.problem


@pytest.mark.parametrize(
    ("data", "path", "words"),
    [
        ({}, ("name",), "is missing"),
        ({"name": 5}, ("name",), "5: input should be a valid string"),
        ({"name": "x", "dtyp": "fp16"}, ("dtyp",), "unknown key; did you mean 'dtype'?"),
        ({"name": "x", "zzz": 1}, ("zzz",), "unknown key; expected one of dtype, many, name, one, table"),
        ({"name": "x", "dtype": "fp17"}, ("dtype",), "'fp17' is not known; expected one of bf16, fp16"),
        ({"name": "x", "dtype": "zzz"}, ("dtype",), "'zzz' is not known; expected one of bf16, fp16"),
        ({"name": "x", "one": 5}, ("one",), "5 is not a mapping of keys to values"),
        ({"name": "x", "one": {"kind": "inner", "size": 0}}, ("one", "size"), "0: input should be greater than 0"),
        ({"name": "x", "one": {"kind": "inner", "siz": 1}}, ("one", "siz"), "unknown key; did you mean 'size'?"),
        ({"name": "x", "many": [{"kind": "inner"}, {"kind": "inner", "siz": 1}]}, ("many", 1, "siz"), "'size'"),
        ({"name": "x", "many": [{"kind": "other", "width": "w"}]}, ("many", 0, "width"), "'w': input should be"),
        ({"name": "x", "table": {"inner": {"size": -1}}}, ("table", "inner", "size"), "-1: input should be greater"),
        ({"nam": "x"}, ("nam",), "unknown key; did you mean 'name'?"),
    ],
)
def test_a_finding_names_the_path_in_the_data(data: dict[str, Any], path: tuple[Any, ...], words: str) -> None:
    found, text = finding(data)
    assert found == path
    assert words in text


def test_a_misspelt_kind_has_a_suggestion() -> None:
    path, text = finding({"name": "x", "one": {"kind": "innr", "size": 1}})
    assert path[0] == "one"
    assert "'innr'" in text and "did you mean 'inner'?" in text


def test_a_key_named_like_an_alternative_is_not_taken_for_it() -> None:
    """`one.inner` is a key of Other, and `inner` is also the tag by which pydantic names an alternative."""
    assert finding({"name": "x", "one": {"kind": "other", "inner": "a", "width": 1}})[0] == ("one", "inner")
    assert finding({"name": "x", "one": {"kind": "other", "other": 1}})[0] == ("one", "other")
    assert finding({"name": "x", "one": {"kind": "other", "inner": 1, "width": "a"}})[0] == ("one", "width")
    assert finding({"name": "x", "one": {"kind": "inner", "inner": 1, "size": 0}})[0] in [
        *(("one", "inner"), ("one", "size"))
    ]
