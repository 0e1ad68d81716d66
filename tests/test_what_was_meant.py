"""A message offers what was meant: the keys of the place it speaks of, and never another thing with a name like it."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, is_slip, nearest
from simgpu.model.family_files import built_in
from simgpu.settings import SCENARIO, _whole_keys, parse_settings, unknown_root

NAMES = st.sampled_from(sorted({*built_in().types, *Catalogue().names("models"), *Catalogue().names("gpus")}))


@given(st.sampled_from(_whole_keys()), st.data())
def test_a_slip_of_the_fingers_is_seen_through(key, data):
    last = key.rpartition(".")[2]
    if len(last) < 5 or any(letter.isdigit() for letter in last):
        return
    at = data.draw(st.integers(1, len(last) - 1))
    letter = data.draw(st.sampled_from(string.ascii_lowercase))
    for slip in (last[:at] + last[at + 1 :], last[:at] + letter + last[at:], last[:at] + letter + last[at + 1 :]):
        assert is_slip(slip, last)


@given(NAMES, NAMES)
def test_a_name_with_other_numbers_is_another_thing(one, other):
    digits = [[letter for letter in name if letter.isdigit()] for name in (one, other)]
    if digits[0] and sorted(digits[0]) != sorted(digits[1]):
        assert not is_slip(one, other)


@pytest.mark.parametrize(
    ("word", "name"),
    [("gpt_neox", "gpt_oss"), ("gpt-neox-20b", "gpt-oss-20b"), ("fp6", "fp64"), ("gptj", "gpt_oss"), ("h200", "h100")],
)
def test_another_thing_is_not_what_was_meant(word, name):
    assert not is_slip(word, name)
    assert "did you mean" not in nearest(word, [name])


def test_names_that_are_many_are_not_all_told_but_where_they_are():
    many = [f"name{letter}{n}" for letter in string.ascii_lowercase for n in range(3)]
    assert nearest("xyz", many, where="simgpu list models names them") == "; simgpu list models names them"
    assert nearest("namea9", many, where="elsewhere") == "; names like it: namea0, namea1, namea2"


@pytest.mark.parametrize("key", [key for key in _whole_keys() if not key.startswith("link.")])
def test_the_end_of_a_key_gets_the_whole_key(key):
    last = key.rpartition(".")[2]
    if unknown_root(last):  # others are keys of a scenario themselves
        assert "did you mean" in unknown_root(last)
        wholes = [whole for whole in _whole_keys() if whole.endswith(f".{last}")]
        assert len(wholes) > 4 or key in unknown_root(last)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("gpuu.memory.bandwidth=5TB/s", "did you mean 'gpu.memory.bandwidth'?"),
        ("memory.bandwidth=5TB/s", "did you mean 'gpu.memory.bandwidth'?"),
        ("tp=4", "did you mean 'plan.tp'?"),
        ("precision=fp8", "did you mean 'workload.precision'?"),
        ("foo.bar=5", "or a hardware parameter (gpu., node., cluster., link."),
    ],
)
def test_an_unknown_setting_is_told_with_the_keys_of_its_place(setting, words):
    with pytest.raises(InputError) as error:
        parse_settings([setting])
    assert str(error.value).startswith(f"--set: {setting.partition('=')[0]}: unknown key") and words in str(error.value)


def test_what_begins_nothing_lists_the_keys_of_a_scenario_and_the_roots_of_hardware():
    told = unknown_root("foo")
    assert all(f" {key}," in told for key in SCENARIO) and "gpu., node., cluster., link." in told


@pytest.mark.parametrize("place", ["scenario", "vary", "cases"])
def test_the_same_in_every_section_of_a_file(place, tmp_path):
    import simgpu

    study = {"scenario": {"model": "llama-3.1-8b", "cluster": "dgx-h100", "workload": {"kind": "prefill", "tokens": 8}}}
    wrong = {"memory.bandwith": "5 TB/s"}
    study |= {"scenario": study["scenario"] | wrong} if place == "scenario" else {}
    study |= {"vary": {"memory.bandwith": ["5 TB/s"]}} if place == "vary" else {}
    study |= {"cases": [wrong]} if place == "cases" else {}
    with pytest.raises(InputError, match=r"memory\.bandwith: unknown key; did you mean 'gpu\.memory\.bandwidth'\?"):
        simgpu.run_experiment(study)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("gpu.foo=2x", "expected one of architecture, compute, host_link, kernel, memory"),
        ("gpu.foo=2", "expected one of architecture, compute, host_link, kernel, memory"),
        ("gpu.memory.bandwith=2x", "did you mean 'bandwidth'?"),
        ("plan.pp=2", "plan.pp: 2 is not supported for prefill; expected 1"),
        ("workload.optimizer=adam", "expected one of batch, kind, tokens"),
    ],
)
def test_keys_that_cannot_be_set_are_not_offered(setting, words):
    import simgpu

    study = {"scenario": {"model": "llama-3.1-8b", "cluster": "dgx-h100", "workload": {"kind": "prefill", "tokens": 8}}}
    with pytest.raises(InputError) as error:
        simgpu.run_experiment(study, setting)
    assert words in str(error.value) and "sources" not in str(error.value)
