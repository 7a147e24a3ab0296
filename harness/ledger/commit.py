"""Which commit of whatever is tested a run was of."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

FILE = "commit"  # in the folder of a run
VARIABLES = (  # that say so in jobs of GitHub, GitLab, Jenkins, Buildkite, CircleCI, Azure, Travis
    "GITHUB_SHA",
    "CI_COMMIT_SHA",
    "GIT_COMMIT",
    "BUILDKITE_COMMIT",
    "CIRCLE_SHA1",
    "BUILD_SOURCEVERSION",
    "TRAVIS_COMMIT",
)


def commit_of(folder: Path) -> str:
    """What is checked out in ``folder``, or what the CI system says where it is no repository; "" where none does."""
    try:
        asked = subprocess.run(
            ["git", "-C", folder, "rev-parse", "--verify", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
        found = asked.stdout.strip() if asked.returncode == 0 else ""
    except (OSError, subprocess.TimeoutExpired):
        found = ""
    return found or next((os.environ[name] for name in VARIABLES if os.environ.get(name)), "")


def note(run: Path, folder: Path) -> None:
    """Leave in the folder of a ``run`` what is checked out in ``folder`` now: later it may be something else."""
    (run / FILE).write_text(commit_of(folder) + "\n", encoding="utf-8")


def noted(run: Path) -> str:
    """What `note` left; "" for a run without it."""
    try:
        return (run / FILE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
