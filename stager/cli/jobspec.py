"""Jobs as people give them: a job file, or options and a command after ``--``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from stager.errors import InputError

if TYPE_CHECKING:
    from stager.model.jobs import JobInput, JobSpec

Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="URL[=NAME]", help="A file that the job reads; may be repeated."),
]
Digests = Annotated[
    list[str] | None,
    typer.Option("--sha256", metavar="NAME=HEX", help="Digest that the input NAME must have."),
]
AnyDigests = Annotated[
    list[str] | None,
    typer.Option(
        "--digest", metavar="NAME=DIGEST", help="The same in any form: sha512:HEX, sha256-BASE64, md5:HEX."
    ),
]
Mirrors = Annotated[
    list[str] | None,
    typer.Option("--mirror", metavar="NAME=URL", help="Another URL of the input NAME; may be repeated."),
]
After = Annotated[
    list[str] | None, typer.Option("--after", metavar="NAME", help="A precondition that must be met first.")
]
Variables = Annotated[
    list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="A variable for the command.")
]
Results = Annotated[
    list[str] | None,
    typer.Option("--result", metavar="PATTERN", help="A file that it must leave in $STAGER_RESULTS."),
]
Priority = Annotated[
    int | None, typer.Option("--priority", metavar="N", help="-1000 to 1000; higher goes first.")
]
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="What you call the job.")]
Owner = Annotated[
    str | None, typer.Option("--owner", metavar="USER", help="Whom it counts for; by default you.")
]

_META = "stager.command"


class CommandAfterDashes(TyperCommand):
    """A command of ours that takes one of the user's after ``--``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click: what follows ``--`` is not ours to look at."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[_META] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """See click."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND ARG...]"]


def command_of(context: typer.Context) -> list[str] | None:
    """What was given after ``--``; None without it."""
    found: list[str] | None = context.meta.get(_META)
    return found


def given_specs(files: Sequence[Path], command: list[str] | None, options: dict[str, Any]) -> list[JobSpec]:
    """The jobs of these files, or the one of these options and this command.

    Raises:
        InputError: nothing was given, or both, or what was given is not valid.
    """
    if files and (command is not None or any(v not in (None, []) for v in options.values())):
        raise InputError(
            f"job file {files[0]} and a job on the command line",
            cause="it is one or the other",
            remedy="write all of it into the file",
        )
    if files:
        return [spec for file in files for spec in read_job_file(file)]
    if command is None:
        raise InputError("no job was given", remedy="give a job file, or options and `-- COMMAND ARG...`")
    return [spec_of_options(command, **options)]


def read_job_file(path: Path) -> list[JobSpec]:
    """The jobs of a file in TOML; all is said in `stager.server.schemas`.

    Raises:
        InputError: one sentence that names the file, the key, the cause and the way out.
    """
    import tomllib

    from stager.server.schemas import specs_of_file

    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"job file {path} can't be read", cause=error.strerror or str(error), remedy="check its name"
        ) from None
    except ValueError as error:
        raise InputError(f"job file {path} is not TOML", cause=str(error), remedy="correct it") from None
    try:
        return specs_of_file(data)
    except InputError as error:
        raise InputError(
            f"job file {path}: {error.what}", cause=error.cause, remedy=error.remedy, **error.details
        ) from None


def spec_of_options(
    command: Sequence[str],
    *,
    inputs: Iterable[str] | None = None,
    sha256: Iterable[str] | None = None,
    digest: Iterable[str] | None = None,
    mirror: Iterable[str] | None = None,
    after: Iterable[str] | None = None,
    environment: Iterable[str] | None = None,
    results: Iterable[str] | None = None,
    priority: int | None = None,
    name: str | None = None,
    owner: str | None = None,
) -> JobSpec:
    """The job of a command line.

    Raises:
        InputError: it is not valid.
    """
    from stager.model.jobs import JobSpec

    return JobSpec(
        command=tuple(command),
        inputs=_with_more(
            [split_input(text) for text in inputs or ()],
            {"--sha256": sha256 or (), "--digest": digest or (), "--mirror": mirror or ()},
        ),
        after=tuple(after or ()),
        environment=tuple(_pair("--env", text, "NAME=VALUE") for text in environment or ()),
        results=tuple(results or ()),
        priority=priority or 0,
        name=name or "",
        owner=owner or "",
    )


def owned(specs: Iterable[JobSpec], owner: str) -> list[JobSpec]:
    """The same jobs; those without an owner belong to this one."""
    from dataclasses import replace

    return [spec if spec.owner else replace(spec, owner=owner) for spec in specs]


def split_input(text: str) -> JobInput:
    """The input that ``URL[=NAME]`` gives.

    What follows the last ``=`` is a name if no slash comes after it, and if that ``=`` does not belong
    to the URL's query: in a query the first ``=`` after the last ``&`` or ``;`` does.
    ``https://h/f?a=b`` is a URL, ``https://h/f?a=b=run.nxs`` one with a name.
    """
    from stager.model.jobs import JobInput

    url, equals, name = text.rpartition("=")
    query = url.partition("?")[2] if "?" in url else None
    in_query = query is not None and "=" not in query.replace(";", "&").rpartition("&")[2]
    is_name = equals and name and not in_query and not any(c in name for c in "/?&;") and "://" in url
    return JobInput(url, name) if is_name else JobInput(text)


_OF_INPUT = {
    "--sha256": ("NAME=HEX", r"(.+)=([^=]*)"),
    "--digest": ("NAME=DIGEST, such as run7.nxs=sha256:HEX", r"(.+?)=((?:sha|md5|[0-9a-f]{64}$).*)"),
    "--mirror": ("NAME=URL", r"(.+?)=([A-Za-z][A-Za-z0-9+.-]*://.*)"),
}
"""Options about an input, their form, and how name and value are told apart: both may have an ``=``."""


def _with_more(inputs: list[JobInput], given: Mapping[str, Iterable[str]]) -> tuple[JobInput, ...]:
    """The inputs with what these options say about them."""
    from dataclasses import replace

    for option, texts in given.items():
        form, pattern = _OF_INPUT[option]
        for text in texts:
            found = re.fullmatch(pattern, text, re.IGNORECASE)
            if found is None:
                raise _makes_no_sense(option, text, form)
            name, value = found.groups()
            number = next((number for number, item in enumerate(inputs) if item.name == name), None)
            if number is None:
                known = ", ".join(item.name for item in inputs) or "there is none"
                raise InputError(f"{option} {name}=... names no input", remedy=f"inputs: {known}")
            item = inputs[number]
            change = {"mirrors": (*item.mirrors, value)} if option == "--mirror" else {option[2:]: value}
            inputs[number] = replace(item, **change)
    return tuple(inputs)


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise _makes_no_sense(option, text, form)
    return name, value


def _makes_no_sense(option: str, text: str, form: str) -> InputError:
    return InputError(f"{option} {text!r} makes no sense", remedy=f"write {option} {form}")
