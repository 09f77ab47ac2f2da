"""Packages with plugins, installed as strangers' are, for the tests of those who make them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.command import PROJECT


def installed(packages: Sequence[Path], site: Path) -> dict[str, str]:
    """Install them into a folder, from copies, and give the environment in which they are found there."""
    copies = site.with_name(f"{site.name}-sources")
    for package in packages:
        shutil.copytree(package, copies / package.name, ignore=shutil.ignore_patterns(".*cache", "__pycache__"))
    sources = [str(copies / package.name) for package in packages]
    command = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(site), *sources], check=True)
    return {"PYTHONPATH": str(site)}


def run_in(folder: Path, *command: object, env: Mapping[str, str] | None = None) -> str:
    """What a command that must succeed prints."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**os.environ, "COLUMNS": "", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# What the tests of a package spend most time on: each damaged capture, and each part of one, takes a start of tshark.
BRIEFLY = ("-k", "not survives and not promises and not merge")


def run_tests(packages: Sequence[Path], env: Mapping[str, str], *more: str) -> str:
    """Run the tests of packages that are installed, in one go."""
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(packages[0].parent)]
    options += ["-c", os.devnull, "-W", "error", *more]
    return run_in(PROJECT, sys.executable, "-m", "pytest", *options, *(path / "tests" for path in packages), env=env)
