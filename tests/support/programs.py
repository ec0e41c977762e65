"""Programs that tests need and Debian has: without one a test is skipped locally, and fails in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def require(program: str, package: str) -> str:
    """Return the path of a program. Without it, fail in CI and skip the test elsewhere."""
    path = shutil.which(program)
    if path is not None:
        return path
    message = f"{program} is not installed: apt-get install {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
