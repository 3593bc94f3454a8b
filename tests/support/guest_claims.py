"""What a test asks a guest to do about runs of jobs that several hosts may take (see hosts.py)."""

from __future__ import annotations

from pathlib import Path

from stager.mapper.dispatch.claims import NodeClaim
from stager.mapper.dispatch.runner import claim
from stager.mapper.dispatch.shared_runs import SharedRun


def take_all(directory: str, name: str, epochs: int) -> list[str]:
    """Claim the hand-overs from 1 on for the node `name`: who has each."""
    return [NodeClaim(Path(directory), epoch).take(name) for epoch in range(1, epochs + 1)]


def run_all(directory: str, epochs: int) -> list[bool]:
    """Claim each run as its runner does: whether we got it."""
    return [claim(f"{directory}/run/{epoch}", shared=True) for epoch in range(1, epochs + 1)]


def holder(directory: str, epoch: int) -> str | None:
    return NodeClaim(Path(directory), epoch).holder()


def is_claimed(directory: str, epoch: int) -> bool:
    return SharedRun(Path(directory), epoch).look().claimed
