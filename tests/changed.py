"""`make changed`: the tests of the files that differ from the last commit, in seconds.

A test file is run where it changed itself. For a module `simgpu/ROOM/NAME.py` these are the files that mirror it
(`tests/ROOM/test_NAME*.py`, `tests/test_NAME*.py`, where there is none those of its folder) and those that import it:
the `FEW` that import least beside it. What half of the tests import, half of the tests check; `make test` does. A file
of the catalogue is checked by the folder that reads it.

    python -m tests.changed                  against the last commit
    python -m tests.changed --since main     against a branch
    python -m tests.changed FILE...          of these files
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
FEW = 4
CATALOGUE = {
    "hardware": ["tests/hardware"],
    "models": ["tests/model/test_configs.py", "tests/model/test_published_counts.py"],
    "families": ["tests/model/test_families.py", "tests/test_supported_page.py"],
    "runtimes": ["tests/workload/test_runtime_versions.py"],
    "frameworks": ["tests/workload/test_framework_files.py"],
    "experiments": ["tests/test_study.py", "tests/test_bad_experiments.py"],
    "docs": ["tests/test_pages.py"],
    "notebooks": ["tests/test_notebooks.py"],
}


def differing(since: str) -> list[str]:
    """Files that differ from a commit, and new ones that git does not ignore."""
    asked = (["diff", "--name-only", since], ["ls-files", "--others", "--exclude-standard"])
    listed = (subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True) for words in asked)
    return sorted({name for done in listed for name in done.stdout.splitlines()})


def imported(file: Path) -> set[str]:
    """Modules that a file imports anywhere, with what it takes from them: `a.b` and `a.b.c` for `from a.b import c`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def mirrors(module: Path, tests: Iterable[Path]) -> list[Path]:
    """Test files of a module by its name or, if none has it, of its folder: the nearest folder that has any."""
    rooms = module.parts[1:-1]
    here = {file: file.parts[1:-1] for file in tests}
    names = (module.stem, *reversed(rooms)) if module.stem != "__init__" else tuple(reversed(rooms))
    for name in names:
        for depth in range(len(rooms), -1, -1):
            found = [file for file, place in here.items() if place == rooms[:depth] and stem_of(file, name)]
            if found:
                return found
    return [file for file, place in here.items() if place and place == rooms[:1]]


def stem_of(file: Path, name: str) -> bool:
    """True for the tests named after a module, alone or with what they ask of it: test_NAME.py, test_NAME_page.py."""
    return file.stem == f"test_{name}" or file.stem.startswith(f"test_{name}_")


def tests_of(names: Iterable[str]) -> list[str]:
    """Test files and folders of changed files."""
    tests = sorted(file.relative_to(ROOT) for file in (ROOT / "tests").rglob("test_*.py"))
    needs = {file: imported(ROOT / file) for file in tests}
    found: dict[str, None] = {}
    for name in names:
        path = Path(name)
        if path in tests:
            found[name] = None
        elif path.suffix == ".py" and path.parts[0] in ("simgpu", "tests"):
            users = sorted((len(needs[file]), file) for file in tests if module_of(path) in needs[file])
            near = mirrors(path, tests) if path.parts[0] == "simgpu" else []
            found |= dict.fromkeys(map(str, (*near, *(file for _, file in users[:FEW]))))
        else:
            found |= dict.fromkeys(place for place in CATALOGUE.get(path.parts[0], ()) if (ROOT / place).exists())
    return list(found)


def module_of(path: Path) -> str:
    """The name under which a file is imported; what tests share has none of its folder."""
    parts = path.with_suffix("").parts
    parts = parts[1:] if parts[0] == "tests" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def main() -> None:
    """Print which tests run, and run them."""
    parser = argparse.ArgumentParser(prog="make changed", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*")
    parser.add_argument("--since", default="HEAD", metavar="COMMIT")
    parser.add_argument("--list", action="store_true", help="only print which")
    asked = parser.parse_args()
    chosen = tests_of(asked.files or differing(asked.since))
    print("\n".join(chosen) or "nothing changed that a test mirrors: make test", flush=True)
    if chosen and not asked.list:
        sys.exit(subprocess.run([sys.executable, "-m", "pytest", "-m", "not slow", *chosen], cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
