"""Puts the catalogue (hardware/, models/, runtimes/, ...) into the built package as simgpu/_catalogue.

Everything else stands in setup.cfg.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithCatalogue(build_py):
    """Copies the catalogue's data files; an editable install reads them where they are."""

    def run(self) -> None:
        """Build the modules, then copy the catalogue unless the install is editable."""
        super().run()
        if self.editable_mode:
            return
        for folder in ("hardware", "models", "runtimes", "frameworks", "families", "experiments"):
            for file in sorted(Path(folder).rglob("*")):
                if file.suffix in (".yaml", ".json"):
                    target = Path(self.build_lib, "simgpu", "_catalogue", file)
                    self.mkpath(str(target.parent))
                    self.copy_file(str(file), str(target))


setup(cmdclass={"build_py": BuildWithCatalogue})
