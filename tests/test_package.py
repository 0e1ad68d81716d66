"""What a user installs: light imports, a wheel with its catalogue, documents that are true."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import simgpu
from simgpu.columns import PLAIN_COLUMNS, TABLE

ROOT = Path(__file__).parents[1]
HEAVY = {"matplotlib", "scipy", "networkx", "numpy", "pydantic", "rich", "yaml"}


@pytest.mark.parametrize("work", ["import simgpu", "from click.testing import CliRunner\nimport simgpu.cli\n"
                                  "assert CliRunner().invoke(simgpu.cli.main, ['--help']).exit_code == 0"])  # fmt: skip
def test_import_and_help_stay_light(work):
    code = f"{work}\nimport sys\nprint(sorted({HEAVY!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_run_without_plots_does_not_load_matplotlib(tmp_path):
    code = (
        "from click.testing import CliRunner\nimport simgpu.cli, sys\n"
        "r = CliRunner().invoke(simgpu.cli.main, ['run', 'tp2_scaling', '--no-plots', '-q'])\n"
        "assert r.exit_code == 0, r.output\nprint(sorted({'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert out.stdout.strip() == "[]"


def test_everything_public_can_be_reached():
    for name in simgpu.__all__:
        assert getattr(simgpu, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = simgpu.nothing


def test_an_installed_wheel_finds_its_catalogue_without_the_checkout(tmp_path):
    source = tmp_path / "source"
    left_out = shutil.ignore_patterns(".*", "results", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=left_out)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run([*build, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = "import simgpu, simgpu.cli; print(simgpu.__file__); simgpu.cli.main()"
    run = [sys.executable, "-c", code, "run", "tp2_scaling", "--format", "json", "--no-plots"]
    out = subprocess.run(run, capture_output=True, text=True, check=True, env=env, cwd=tmp_path)
    where, _, document = out.stdout.partition("\n")
    assert where.startswith(str(tmp_path))
    assert len(json.loads(document)["rows"]) == 8
    folders = ("hardware", "models", "runtimes", "frameworks", "families", "experiments")
    shipped = {file.relative_to(ROOT) for folder in folders
               for file in (ROOT / folder).rglob("*") if file.suffix in (".yaml", ".json")}  # fmt: skip
    packed = {file.relative_to(tmp_path / "site/simgpu/_catalogue")
              for file in (tmp_path / "site/simgpu/_catalogue").rglob("*") if file.is_file()}  # fmt: skip
    assert shipped == packed


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.S)
    exec(compile(code, page, "exec"), {})
    assert (tmp_path / "trace.json").is_file()
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_of_the_readme_is_what_the_command_prints(capsys):
    from simgpu.render.table import print_table

    outcome = simgpu.run_experiment("tp2_scaling")
    print_table(outcome.rows, outcome.experiment.fields.table, "", [], sys.stdout)
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if "2x" in line]
    shown = [" ".join(line.split()) for line in (ROOT / "README.md").read_text().splitlines() if "     2x" in line]
    assert shown == printed


def test_the_documented_columns_are_the_columns():
    text = (ROOT / "docs/results.md").read_text()
    assert re.findall(r"^\| `([a-z0-9_]+)` \| (.*) \| (.+) \|$", text[text.index("| column") :], flags=re.M) == [
        (name, TABLE[name].unit, TABLE[name].meaning) for name in PLAIN_COLUMNS
    ]


def test_the_documented_keys_of_a_plan_are_those_of_plan():
    from simgpu.plan.parallelism import KEYS, Plan

    def said(name):
        value, absent = getattr(Plan, name), KEYS[name].absent
        return absent if value is None else ", ".join(value) if isinstance(value, tuple) else str(value).lower()

    text = (ROOT / "docs/experiments.md").read_text().split("\n## Plans")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([a-z_]+)` \| (.*?) \| (.*?)(?:; \[[^]]*\]\([^)]*\))? \|$", text, flags=re.M)
    assert sorted(rows) == sorted((name, said(name), key.about) for name, key in KEYS.items())


def test_every_key_of_plans_and_training_and_every_framework_is_documented():
    from simgpu.plan.precision import PRECISIONS
    from simgpu.render.fields import PlotFields
    from simgpu.scenario import PlanFields
    from simgpu.workload.framework_files import built_in
    from simgpu.workload.inference.jobs import Inference, MixedStep, Serving
    from simgpu.workload.jobs import Training
    from simgpu.workload.runtime_files import shipped

    text = (ROOT / "docs/experiments.md").read_text()
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])

    def keys(section):
        cells = re.findall(r"^\| (`[^|]+`) \|", sections[section], flags=re.M)
        return {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}

    assert keys("Plans") == set(PlanFields.model_fields)
    assert keys("Frameworks") == set(built_in().names)
    assert keys("Plots") == set(PlotFields.model_fields["kind"].annotation.__args__)
    kinds = {"prefill", "training", "operators", "inference", "mixed", "serving", "traffic", "rl", "shared"}
    assert keys("Workloads") - kinds == set(Training.model_fields) - {"kind", "batch", "tokens"}
    inference = {key for job in (Inference, MixedStep, Serving) for key in job.model_fields}
    assert keys("Inference") == inference - {"kind"}
    assert keys("Runtimes") == set(shipped().engines)
    assert keys("Precisions") == set(PRECISIONS)


def test_the_experiment_of_the_docs_runs_as_copied(tmp_path):
    from simgpu.render.plots import rows_figure
    from simgpu.study.report.attribution import walks

    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/experiments.md").read_text(), flags=re.S)
    file = tmp_path / "doc.yaml"
    file.write_text(text)
    outcome = simgpu.run_experiment(file)
    assert [row["workload.tokens"] for row in outcome.rows] == [1024, 4096] * 3
    assert len(walks(outcome, simgpu.Catalogue())) == 2
    for plot in outcome.experiment.fields.plots:
        assert rows_figure(outcome.rows, plot).axes


def test_changelog_counts_are_true():
    catalogue = simgpu.Catalogue()
    text = (ROOT / "CHANGELOG.md").read_text()
    counts = {"GPUs": "gpus", "nodes": "nodes", "clusters": "clusters", "kinds of links": "links", "models": "models"}
    for words, kind in counts.items():
        assert f"{len(catalogue.names(kind))} {words}" in text
