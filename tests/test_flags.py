"""Flags are alike: which command has which, one table; each help has an example and no sentence is cut."""

import inspect

import click
import pytest
from click.testing import CliRunner

from simgpu.cli import main

TABLE = {  # what beside its own flags a command has
    "run": "set format out plots quiet",
    "sweep": "set format out plots quiet jobs store",
    "search": "set format out plots quiet jobs store",
    "capacity": "set format quiet",
    "plan-capacity": "set format quiet",
    "report": "set out quiet",
    "ui": "set",
    "recommend": "set format out plots quiet",
    "serve": "set format out quiet",
    "sensitivity": "set format out plots quiet jobs",
    "diff": "set format quiet",
    "results": "format out quiet store",
    "fit": "format out plots quiet",
    "launch": "set format out quiet",
    "largest": "set format",
    "import-config": "set out quiet",
    "validate": "format out plots quiet",
    "calibrate": "format out quiet",
    "measure": "set format out quiet",
    "replay": "set format out quiet",
    "explain": "set format",
    "trace": "",
    "trace write": "set out quiet",
    "trace list": "format",
    "trace compare": "format out plots quiet",
    "import": "format out plots quiet",
    "capture": "format out quiet",
    "resolve": "set format quiet",
    "show": "set format out quiet",
    "list": "format",
    "new": "out quiet",
    "completion": "",
    "doctor": "",
    "nccl-tests": "set format",
    "claims": "format out plots quiet",
    "lint": "format",
    "observe": "format out quiet",
    "compare": "set format",
    "accept": "set format quiet",
    "mfu": "format",
    "what-breaks": "set format quiet",
    "share": "set format quiet",
    "place": "set format quiet",
}
SPELT = {
    "set": ["--set"],
    "format": ["--format"],
    "out": ["-o", "--out"],
    "plots": ["--no-plots"],
    "quiet": ["-q", "--quiet"],
    "jobs": ["-j", "--jobs"],
    "store": ["--store"],
}
KINDS = {"claims": ["table", "json", "csv", "markdown"], "sweep": ["table", "json", "csv"], "resolve": ["json", "csv"]}
BELOW = {f"trace {name}": one for name, one in main.commands["trace"].commands.items()}
ALL = {**main.commands, **BELOW}
COMMANDS = sorted(ALL)


def options(name):
    return [one for one in ALL[name].params if isinstance(one, click.Option)]


def option(name, spelling):
    found = [one for one in options(name) if spelling in one.opts]
    return found[0] if found else None


def help_of(*arguments, width=80):
    done = CliRunner().invoke(main, [*arguments, "--help"], terminal_width=width)
    assert done.exit_code == 0
    return done.output


def test_the_table_is_of_all_commands():
    assert sorted(TABLE) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_the_flags_that_the_table_gives_it(name):
    has = [flag for flag, spelling in SPELT.items() if option(name, spelling[-1])]
    assert has == [flag for flag in SPELT if flag in TABLE[name].split()]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_flag_is_spelt_alike_everywhere(name):
    for flag, spelling in SPELT.items():
        if (found := option(name, spelling[-1])) is not None:
            assert set(spelling) <= set(found.opts), flag


@pytest.mark.parametrize("name", COMMANDS)
def test_what_draws_takes_the_format_of_pictures_and_what_prints_rows_that_of_rows(name):
    plots, kinds, style = (option(name, flag) for flag in ("--no-plots", "--plot-format", "--format"))
    assert (plots is None) == (kinds is None)
    if kinds is not None:
        assert kinds.type.choices == ("png", "svg", "pdf") and kinds.multiple
    if style is not None:
        assert list(style.type.choices) == KINDS.get(name, ["table", "json", "csv"])
        assert style.default == style.type.choices[0] and style.help == option("run", "--format").help


@pytest.mark.parametrize("flag", ["--set", "--jobs", "--quiet", "--store"])
def test_a_flag_says_the_same_everywhere(flag):
    own = ["replay"] * (flag == "--set")  # it changes what was recorded: 'batch=2:4'
    assert len({option(name, flag).help for name in COMMANDS if option(name, flag) and name not in own}) == 1


def test_no_letter_stands_for_two_things():
    meant = {}
    for name in set(COMMANDS) - {"nccl-tests"}:  # whose letters are those of nccl-tests
        for one in options(name):
            for spelling in one.opts:
                if len(spelling) == 2:
                    meant.setdefault(spelling, set()).add(
                        max(set(one.opts) & {s[-1] for s in SPELT.values()} or one.opts)
                    )
    assert {letter for letter, flags in meant.items() if len(flags) > 1} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_has_an_example_and_every_option_a_sentence(name):
    text = help_of(*name.split())
    assert text.count("Example: simgpu ") == 1 and f"Example: simgpu {name}" in text
    for one in options(name):
        assert one.help or one.name == "help", one.name
    described = inspect.cleandoc(ALL[name].callback.__doc__).split("\n\n")[0]
    assert " ".join(described.split()) in " ".join(text.split())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_sentence_of_the_list_of_commands_is_cut(width):
    text = " ".join(help_of(width=width).partition("Commands:")[2].split())
    assert "..." not in text
    for name in main.commands:
        assert f"{name} {main.commands[name].short_help}" in text


def test_pictures_of_no_format_are_refused():
    done = CliRunner().invoke(main, ["search", "gpt3_search", "--no-plots", "--plot-format", "png"])
    assert done.exit_code == 2 and "contradict" in done.output


@pytest.mark.parametrize(
    ("arguments", "head"),
    [
        ("list gpus", "kind,name,title"),
        ("show l4", "parameter,value,unit,source"),
        ("show llama-3.1-8b", "parameter,value,unit,source"),
        ("nccl-tests dgx-h100 -b 1M -e 2M", "size,count,dtype,"),
        ("resolve tp2_scaling", "scenario,key,value,unit,source"),
        ("explain tp2_scaling", "scenario,operator,segment,"),
    ],
)
def test_rows_come_as_csv_too_and_nothing_is_written(arguments, head, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [*arguments.split(), "--format", "csv"])
    assert done.exit_code == 0 and done.output.startswith(head)
    assert list(tmp_path.iterdir()) == []


def test_fit_draws_what_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for flags, files in (([], ["fit.csv", "fit.json", "fit.png", "fit.svg"]), (["--no-plots"], ["fit.csv", "fit.json"]),
                         (["--plot-format", "pdf"], ["fit.csv", "fit.json", "fit.pdf"])):  # fmt: skip
        out = tmp_path / f"out{len(files)}{len(flags)}"
        done = CliRunner().invoke(main, ["fit", "llama-3.1-8b", "--gpu", "l4", "-o", str(out), *flags])
        assert done.exit_code == 0 and sorted(file.name for file in out.iterdir()) == files
