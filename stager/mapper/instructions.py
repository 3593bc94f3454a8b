"""What the machine is asked to take in, and what it says is to be done."""

from __future__ import annotations

from dataclasses import dataclass

from stager.model.entries import Entry
from stager.model.fetches import FetchOrder, FetchRequest


@dataclass(frozen=True, slots=True)
class StartFetch:
    """Instruction: run this try, and then, over the same connection, those in `then`."""

    order: FetchOrder
    then: tuple[FetchOrder, ...] = ()


@dataclass(frozen=True, slots=True)
class AdoptFetch:
    """Instruction: answer for this try, which was ordered before the last start."""

    order: FetchOrder


@dataclass(frozen=True, slots=True)
class StopFetch:
    """Instruction: nobody wants this fetch any more."""

    fetch: str
    generation: int


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Instruction: hand the job over."""

    job: str
    epoch: int


@dataclass(frozen=True, slots=True)
class StopJob:
    """Instruction: end the job's command."""

    job: str
    epoch: int


@dataclass(frozen=True, slots=True)
class MakeRoom:
    """Instruction: fetches need so many bytes of room in the cache; takes the place of what was asked before.

    `regardless`: the file system refused them whatever it says is free.
    """

    size: int
    regardless: bool = False


Instruction = StartFetch | AdoptFetch | StopFetch | Dispatch | StopJob | MakeRoom


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to take in: its id, the inputs it needs and what the cache already holds of them."""

    id: str
    inputs: tuple[tuple[FetchRequest, Entry | None], ...]
    after: tuple[str, ...] = ()
    priority: int = 0
    owner: str = ""
