"""Build step: prefect.yaml, which Prefect's own command looks for at the top of a checkout, goes into the package."""

from pathlib import Path
from shutil import copyfile

from setuptools import setup
from setuptools.command.build_py import build_py

DEPLOYMENTS = "prefect.yaml"


class BuildPy(build_py):
    """Copies the one file into the wheel, so that there is no second one to go stale."""

    def run(self):
        super().run()
        if not self.editable_mode:
            copyfile(Path(__file__).with_name(DEPLOYMENTS), Path(self.build_lib, "flows", "hosting", DEPLOYMENTS))


setup(cmdclass={"build_py": BuildPy})
