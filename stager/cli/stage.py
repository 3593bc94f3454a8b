"""``stager stage``, ``staged``, ``unstage``: many files at once, for no job in particular."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.exit_codes import Exit
from stager.cli.options import AsJson
from stager.errors import InputError
from stager.model.list_form import ListFormat

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stager.model.stages import StageDetail, StagedView, StageItem, StageView

Urls = Annotated[
    list[str] | None,
    typer.Argument(metavar="[URL...]", help="What to stage (http, https).", show_default=False),
]
From = Annotated[
    list[str] | None,
    typer.Option("--from", metavar="FILE", help="Stage what a list names too; - is stdin. May be repeated."),
]
Form = Annotated[
    ListFormat | None,
    typer.Option("--list-format", help="Of the lists; by default as name and content show."),
]
Keep = Annotated[
    str | None,
    typer.Option(
        "--keep",
        metavar="TIME",
        help="How long each file stays once it is there, such as 7d; without it: until released.",
    ),
]
Priority = Annotated[int, typer.Option("--priority", metavar="N", help="-1000 to 1000; higher goes first.")]
Owner = Annotated[
    str | None,
    typer.Option("--owner", metavar="NAME", help="Whom it counts for; by default who runs the command."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until all files are there or given up.")]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Wait no longer than this.")
]
Request = Annotated[str, typer.Argument(metavar="ID", help="Id of a stage request, or an ending of it.")]
MaybeRequest = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="Id of a stage request; without it: all.", show_default=False),
]
Limit = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="At most so many, newest first.")]
Some = Annotated[
    list[str] | None, typer.Argument(metavar="[URL...]", help="Only these files.", show_default=False)
]
CancelOnly = Annotated[bool, typer.Option("--cancel", help="Only what is not there yet.")]
ReleaseOnly = Annotated[bool, typer.Option("--release", help="Only what is there.")]
Forget = Annotated[bool, typer.Option("--forget", help="Forget the request, too.")]


def stage(
    urls: Urls = None,
    *,
    lists: From = None,
    form: Form = None,
    keep: Keep = None,
    priority: Priority = 0,
    owner: Owner = None,
    as_json: AsJson = False,
) -> None:
    """Have the server fetch many files and keep each for a while; print the id of the request.

    They are fetched in the background; `stager staged ID` shows how far they are.
    """
    from stager.cli.connect import connected
    from stager.cli.login import asking_name
    from stager.model.durations import parse_duration

    items = _items(urls or (), lists or (), form)
    seconds = None if keep is None else parse_duration(keep)
    with connected() as client:
        made = client.stage.submit(
            items, keep_seconds=seconds, priority=priority, owner=owner or asking_name()
        )
    if as_json:
        output.json_line({"id": made, "files": len(items)})
    else:
        output.line(made)


def staged(
    request: MaybeRequest = None,
    wait: Wait = False,
    timeout: Timeout = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> Exit:
    """List stage requests, or show one with its files.

    Status 1: a file of it could not be fetched; 7: time was up.
    """
    from stager.cli.connect import connected

    with connected() as client:
        if request is None:
            _list(client.stage.list(limit=limit), as_json=as_json)
            return Exit.OK
        wait = wait or timeout is not None
        found = client.stage.wait(request, timeout) if wait else client.stage.show(request)
    if as_json:
        output.json_line(asdict(found))
    else:
        for line in _page(found):
            output.line(line)
    if wait and not found.is_over:
        output.note("time is up")
        return Exit.TIMEOUT
    return Exit.FAILED if found.states.get("failed") else Exit.OK


def unstage(
    request: Request,
    urls: Some = None,
    cancel: CancelOnly = False,
    release: ReleaseOnly = False,
    forget: Forget = False,
    as_json: AsJson = False,
) -> None:
    """Give up what of a stage request is not there yet, and let go what is; for some files or for all.

    What is let go stays in the cache until room is needed.
    """
    from stager.cli.connect import connected

    if forget and (urls or cancel or release):
        raise InputError("--forget with a part of the request", remedy="it is for all of it")
    both = cancel == release
    with connected() as client:
        if forget:
            changed = client.stage.delete(request)
        else:
            changed = client.stage.cancel(request, urls or None) if cancel or both else 0
            changed += client.stage.release(request, urls or None) if release or both else 0
    if as_json:
        output.json_line({"id": request, "changed": changed})
    elif not changed and not forget:
        output.note(f"nothing of {request} changed")


def _items(urls: Sequence[str], lists: Sequence[str], form: ListFormat | None) -> list[StageItem]:
    from stager.cli.fetch_lists import asked_by_lists, asked_by_urls
    from stager.model.stages import StageItem

    asked = asked_by_urls(urls) + asked_by_lists(lists, form, refresh=False)
    if not asked:
        raise InputError("nothing to stage", remedy="give a URL, or a list with --from")
    return [
        StageItem(request.url, request.sha256, request.digest, request.mirrors, request.size)
        for request in (one.request for one in asked)
    ]


def _list(found: Sequence[StageView], *, as_json: bool) -> None:
    if as_json:
        for one in found:
            output.json_line(asdict(one))
        return
    output.table(
        ("id", "owner", "made", "files", "size", "states"),
        (
            (
                one.id,
                one.owner,
                output.moment(one.created_at),
                str(one.files),
                output.size(one.bytes),
                _states(one),
            )
            for one in found
        ),
        right=("files", "size"),
    )


def _page(found: StageDetail) -> Iterator[str]:
    """A stage request as lines to read."""
    kept = "until released" if found.keep_seconds is None else f"{found.keep_seconds / 86_400:g} days each"
    yield f"stage request {found.id}  {_states(found)}"
    yield f"  made   {output.moment(found.created_at)} by {found.owner or 'nobody in particular'}"
    yield f"  keeps  {kept}"
    yield f"  ready  {output.size(found.bytes)}"
    for file in found.all_files:
        yield output.one_line(f"  {file.state:<9}  {_how_far(file):>22}  {file.url}{_remark(file)}").rstrip()


def _states(found: StageView) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(found.states.items()))


def _how_far(file: StagedView) -> str:
    if file.state == "running":
        total = "?" if file.total is None else output.size(file.total)
        return f"{output.size(file.received)} of {total}"
    return output.size(file.received) if file.state in {"ready", "released"} else ""


def _remark(file: StagedView) -> str:
    if file.error and file.state in {"failed", "queued"}:
        return f"  ({file.error.get('cause') or file.error.get('what')})"
    if file.state == "ready" and file.pinned_until is not None:
        return f"  (until {output.moment(file.pinned_until)})"
    return ""
