"""What a run leaves and brings back over HTTP. Values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from stager.errors import InputError
from stager.model.jobs import check_file_name
from stager.model.keys import parse_sha256

PRINTED = ("stdout", "stderr")
RESULTS = "results/"
"""How the names of results begin; the other names are `PRINTED`."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """How much of a file has come.

    Attributes:
        offset: bytes that are there: the next part begins here.
        complete: all of it is there, and it is what was announced.
    """

    offset: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a run left.

    Attributes:
        job: its id.
        epoch: which hand-over of it.
        name: ``stdout``, ``stderr`` or ``results/NAME``.
        sha256: of all of it.
        size: of all of it.
        restricted: it may have in it what needs a grant.

    Raises:
        InputError: no file can have that name, or no digest looks like that.
    """

    job: str
    epoch: int
    name: str
    sha256: str
    size: int
    restricted: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", parse_sha256(self.sha256))
        if self.is_printed:
            return
        if not self.name.startswith(RESULTS):
            raise InputError(f"no run leaves {self.name[:100]!r}", remedy="stdout, stderr, or results/NAME")
        for part in self.result.split("/"):
            check_file_name(part, "result")

    @property
    def is_printed(self) -> bool:
        """Whether it is what the job printed."""
        return self.name in PRINTED

    @property
    def result(self) -> str:
        """Name of the result."""
        return self.name.removeprefix(RESULTS)
