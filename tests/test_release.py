"""What is published: a source archive, a wheel made of it, and the first command in an environment of its own."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from simgpu.version import __version__

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def run(*words, cwd, **env):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SIMGPU"))}
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=plain | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(what, source, out):
    """The file that the packaging of a source folder makes."""
    return out / run(sys.executable, "-c", BUILD, what, out, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The source archive of the checkout, the wheel made of what it holds, and the wheel made of the checkout."""
    folder = tmp_path_factory.mktemp("release")
    source = folder / "source"
    left_out = shutil.ignore_patterns(".*", "results", "build", "*.egg-info", "__pycache__", "_catalogue")
    shutil.copytree(ROOT, source, ignore=left_out)
    archive = built("build_sdist", source, folder)
    with tarfile.open(archive) as stream:
        stream.extractall(folder / "unpacked", filter="data")
    (inside,) = (folder / "unpacked").iterdir()
    (folder / "of_checkout").mkdir()
    return archive, built("build_wheel", inside, folder), built("build_wheel", source, folder / "of_checkout")


@pytest.mark.slow
def test_the_source_archive_holds_all_that_a_wheel_needs(archives):
    archive, wheel, direct = archives
    assert archive.name == f"simgpu-{__version__}.tar.gz" and wheel.name == f"simgpu-{__version__}-py3-none-any.whl"
    of_archive, of_checkout = (set(zipfile.ZipFile(file).namelist()) for file in (wheel, direct))
    assert of_archive == of_checkout
    modules = {file.relative_to(ROOT).as_posix() for file in (ROOT / "simgpu").rglob("*.py")}
    assert modules <= of_archive
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in of_archive)


@pytest.mark.slow
def test_the_first_command_works_in_an_environment_of_its_own(archives, tmp_path):
    """Dependencies are those of this environment, by their folder: there may be no network."""
    _, wheel, _ = archives
    place = tmp_path / "env"
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=tmp_path)
    python = place / "bin/python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", ask, cwd=tmp_path).strip())
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "-q"]
    run(*pip, wheel, cwd=tmp_path)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    work = tmp_path / "work"
    work.mkdir()
    simgpu = place / "bin/simgpu"
    assert run(simgpu, "--version", cwd=work).split()[-1] == __version__
    assert "NVLink" in run(simgpu, "run", "tp2_scaling", cwd=work)
    assert {"result.json", "rows.csv", "trace.json", "efficiency.png"} <= {
        file.name for file in (work / "results/tp2_scaling").iterdir()
    }
    lines = run(simgpu, "doctor", cwd=work).splitlines()
    assert str(site) in lines[1] and __version__ in lines[1]
    assert "published" in run(place / "bin/python", "-c", ASK_TABLES, cwd=work)


ASK_TABLES = "from simgpu.lab.validation.command import folder; print(*sorted(folder(None).glob('*.csv')))"
