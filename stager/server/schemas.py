"""Shapes of what comes in: a job as JSON in the API, as TOML in a job file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

from stager.errors import InputError
from stager.model.jobs import JobInput, JobSpec
from stager.server.complaints import complaint


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class InputIn(_Shape):
    """A file that the job reads."""

    url: str = Field(description="Where it is (http, https).", examples=["https://example.org/run7.nxs"])
    name: str = Field(
        default="",
        description="Name under which the job sees it; by default the last part of the URL's path.",
        examples=["run7.nxs"],
    )
    sha256: str | None = Field(
        default=None, description="Digest that it must have: 64 hexadecimal digits.", examples=[None]
    )
    digest: str | None = Field(
        default=None,
        description="The same in another form: sha512:HEX, md5:HEX, sha256-BASE64 and the like.",
        examples=[None],
    )
    mirrors: list[str] = Field(
        default=[], description="Other URLs of the same file, for when the first one fails.", examples=[[]]
    )
    size: int | None = Field(default=None, description="Bytes that it must have.", examples=[None])

    def to_input(self) -> JobInput:
        """The input, checked.

        Raises:
            InputError: a value that makes no sense.
        """
        return JobInput(self.url, self.name, self.sha256, self.digest, tuple(self.mirrors), self.size)


def _kind_of_input(value: Any) -> str:
    return "<text>" if isinstance(value, str) else "<table>"


class JobIn(_Shape):
    """A job: what to run, what it needs first, what it leaves."""

    command: list[str] = Field(
        description="Program and arguments; no shell. The working directory is the job's own.",
        examples=[["python3", "reduce.py", "inputs/run7.nxs"]],
    )
    inputs: list[
        Annotated[
            Annotated[str, Tag("<text>")] | Annotated[InputIn, Tag("<table>")], Discriminator(_kind_of_input)
        ]
    ] = Field(
        default=[],
        description="Files to stage before it runs: a URL, or an object with url, name, sha256 (or digest), mirrors and size.",
        examples=[["https://example.org/run7.nxs"]],
    )
    after: list[str] = Field(
        default=[], description="Names of preconditions that must be met.", examples=[["calibration"]]
    )
    environment: dict[str, str] = Field(
        default={}, description="Variables for the command.", examples=[{"OMP_NUM_THREADS": "4"}]
    )
    results: list[str] = Field(
        default=[],
        description="Paths or patterns below $STAGER_RESULTS that it must leave; when empty, all it leaves is kept.",
        examples=[["*.json"]],
    )
    priority: int = Field(default=0, description="-1000 to 1000; higher goes first.")
    name: str = Field(default="", description="What people call it.", examples=["reduce-7"])
    owner: str = Field(default="", description="Whom it counts for in fair shares.", examples=["ada"])

    def to_spec(self) -> JobSpec:
        """The job, checked.

        Raises:
            InputError: a value that makes no sense.
        """
        return JobSpec(
            command=tuple(self.command),
            inputs=tuple(JobInput(i) if isinstance(i, str) else i.to_input() for i in self.inputs),
            after=tuple(self.after),
            environment=tuple(self.environment.items()),
            results=tuple(self.results),
            priority=self.priority,
            name=self.name,
            owner=self.owner,
        )


def _one_or_many(value: Any) -> str:
    return "<jobs>" if isinstance(value, list) else "<job>"


JobsIn = Annotated[
    Annotated[JobIn, Tag("<job>")] | Annotated[list[JobIn], Tag("<jobs>")], Discriminator(_one_or_many)
]
"""What is posted: one job, or a list that is taken in whole or not at all."""


def specs(jobs: JobIn | list[JobIn]) -> list[JobSpec]:
    """The jobs, checked.

    Raises:
        InputError: names the job, if there are several, and what is wrong with it.
    """
    if isinstance(jobs, JobIn):
        return [jobs.to_spec()]
    found = []
    for number, job in enumerate(jobs):
        try:
            found.append(job.to_spec())
        except InputError as error:
            raise InputError(
                f"jobs[{number}]: {error.what}", cause=error.cause, remedy=error.remedy, **error.details
            ) from None
    return found


_FILE: TypeAdapter[JobIn | list[JobIn]] = TypeAdapter(JobsIn)


def specs_of_file(data: dict[str, Any]) -> list[JobSpec]:
    """The jobs of a job file: one job's keys at the top, or several ``[[jobs]]``.

    Raises:
        InputError: one sentence that names the key, the cause and the way out.
    """
    several = "jobs" in data
    if several and len(data) > 1:
        other = next(key for key in data if key != "jobs")
        raise InputError(f"key {other!r} beside [[jobs]]", remedy=f"write {other} in each job that needs it")
    if several and not isinstance(data["jobs"], list):
        raise InputError("jobs is not a list", remedy="write each job as [[jobs]]")
    if several and not data["jobs"]:
        raise InputError("there is no job", remedy="write each as [[jobs]]")
    try:
        return specs(_FILE.validate_python(data["jobs"] if several else data))
    except ValidationError as error:
        raise complaint(error.errors()) from None
