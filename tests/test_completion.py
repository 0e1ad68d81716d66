"""Names that a shell completes, and what is said where a name stands in the place of a command."""

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from simgpu.catalog_files import CatalogueFiles
from simgpu.cli import main
from simgpu.cli.completing import SHELLS, VARIABLE


def completed(*words):
    """What Tab offers behind these words, the last of which is begun."""
    return [
        one.value for one in ShellComplete(main, {}, "simgpu", VARIABLE).get_completions(list(words[:-1]), words[-1])
    ]


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (("run", "tp2"), ["experiments"]),
        (("fit", "llama-3.1"), ["models"]),
        (("show", "dgx-h"), ["clusters", "nodes"]),
        (("serve", "llama-3.1-8b", "--cluster", "dgx-"), ["clusters", "nodes"]),
        (("mfu", "--gpu", "h100"), ["gpus"]),
    ],
)
def test_names_of_the_catalogue_are_completed(words, kinds):
    known = {name for kind in kinds for name in CatalogueFiles().names(kind)}
    assert sorted(completed(*words)) == sorted(name for name in known if name.startswith(words[-1]))


def test_commands_and_choices_are_completed_and_folders_of_ones_own_count(tmp_path):
    assert completed("doc") == ["doctor"] and completed("new", "tr") == ["training", "traffic"]
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/tp2_mine.yaml").write_text("scenario: {}\n")
    assert completed("--catalog", str(tmp_path), "run", "tp2") == ["tp2_mine", "tp2_scaling"]
    assert completed("--catalog", str(tmp_path / "no"), "run", "tp2") == []


def test_every_argument_that_takes_a_name_completes_it():
    """Arguments and options called after a kind of the catalogue, in any command."""
    named = {"file": None, "model": 1, "models": 1, "cluster": 1, "gpu": 1}
    for name, command in main.commands.items():
        for one in command.params:
            plain = isinstance(one.type, click.types.StringParamType)
            if one.name in named and plain:
                assert one._custom_shell_complete is not None, (name, one.name)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_a_shell_asks_this_program(shell):
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0 and VARIABLE in done.output and f"{shell}_complete" in done.output


@pytest.mark.parametrize(
    ("word", "meant"),
    [("tp2_scaling", "run tp2_scaling"), ("mine.yaml", "run mine.yaml"), ("h100-sxm", "show h100-sxm"), ("runn", "")],
)
def test_a_name_in_the_place_of_a_command_is_told_its_command(word, meant):
    done = CliRunner().invoke(main, [word])
    assert done.exit_code == 2
    assert (f"Did you mean 'simgpu {meant}'?" if meant else "Did you mean 'run'?") in done.output
