"""Parts that a test needs and a machine may lack."""

from __future__ import annotations

import os

import pytest


def needs(condition: object, reason: str) -> None:
    """Go on if `condition` holds; else skip the test, or fail it where everything must be there (CI=true)."""
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have what this test needs: {reason}", pytrace=False)
    pytest.skip(reason)
