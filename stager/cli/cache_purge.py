"""``stager cache purge`` and ``stager cache limits``: what goes, and what the cache may hold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.cache_source import cache_source
from stager.cli.exit_codes import Exit
from stager.cli.options import AsJson, CacheDir

if TYPE_CHECKING:
    from stager.model.eviction import Example, LimitsView, Purged, Purging, Tally

OlderThan = Annotated[
    str | None, typer.Option("--older-than", metavar="TIME", help="Not used for so long, such as 30d.")
]
ToSize = Annotated[
    str | None,
    typer.Option("--to-size", metavar="SIZE", help="Until the cache holds no more than this, such as 2T."),
]
ToFree = Annotated[
    str | None,
    typer.Option("--to-free", metavar="SIZE", help="Until so much is free on its file system, such as 100G."),
]
Urls = Annotated[
    list[str] | None, typer.Option("--url", metavar="URL|KEY", help="This file; can be given several times.")
]
Host = Annotated[str | None, typer.Option("--host", metavar="HOST", help="Only files from this host.")]
Owner = Annotated[str | None, typer.Option("--owner", metavar="NAME", help="Only files of this owner.")]
Results = Annotated[
    str | None,
    typer.Option(
        "--results-older-than",
        metavar="TIME",
        help="Results of jobs stored so long ago, beside what else is chosen.",
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Also what is protected or promised. What jobs or pins hold is forgotten, and says who holds it: its "
        "room comes back when that ends.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]

_GOES = {
    "chosen": "chosen by the command",
    "unused": "not used for so long",
    "expired": "a result past its age",
    "quota": "beyond its owner's quota",
    "unnamed": "no key names it",
    "room": "the longest unused",
}
_STAYS = {
    "held": "a job has it as an input",
    "pinned": "pinned",
    "needed": "a job that waits needs it",
    "promised": "a result within its promised time (--force)",
    "protected": "protected by the settings (--force)",
    "young": "stored of late; a key may name it that is not known yet",
    "shared": "another key has the same bytes: only the key is forgotten",
    "failed": "could not be removed",
}


def purge(
    *,
    older_than: OlderThan = None,
    to_size: ToSize = None,
    to_free: ToFree = None,
    urls: Urls = None,
    host: Host = None,
    owner: Owner = None,
    results_older_than: Results = None,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
) -> Exit:
    """Remove files, the longest unused first; say what goes, and why the rest stays.

    Options choose together: --host H --older-than 30d is what came from H and was not used for 30 days. What jobs
    or pins hold never goes. The exit status is 1 if not so much could be freed as was asked for.
    """
    from stager.model.durations import parse_duration
    from stager.model.eviction import Purge
    from stager.model.sizes import parse_size

    wanted = Purge(
        older_than=None if older_than is None else parse_duration(older_than),
        to_size=None if to_size is None else parse_size(to_size),
        to_free=None if to_free is None else parse_size(to_free),
        urls=tuple(urls or ()),
        host=host,
        owner=owner,
        results_older_than=None if results_older_than is None else parse_duration(results_older_than),
        force=force,
        dry_run=dry_run,
    )
    with cache_source(lambda site: site.eviction, cache_dir, filled=True) as source:
        purged = _run(source.purge(wanted))
    if as_json:
        output.json_line(asdict(purged))
    else:
        _show(purged)
    for key in purged.unknown:
        output.note(f"{key} is not in the cache")
    if purged.unknown and not (purged.gone or purged.stayed):
        return Exit.NOT_FOUND
    return Exit.FAILED if purged.missing or any(one.reason == "failed" for one in purged.stayed) else Exit.OK


def limits(as_json: AsJson = False, cache_dir: CacheDir = None) -> None:
    """Show what the cache may hold, where it stands, and what fetches wait for."""
    with cache_source(lambda site: site.eviction, cache_dir, filled=True) as source:
        view = source.limits()
    if as_json:
        output.json_line(asdict(view))
        return
    output.table(("", ""), _facts(view))


def _facts(view: LimitsView) -> Iterator[tuple[str, str]]:
    size, limits = output.size, view.limits
    most = f" of at most {size(limits.max_cache_bytes)}" if limits.max_cache_bytes else ""
    yield "the cache holds", size(view.size) + most
    share = 100 * view.used / view.total if view.total else 0.0
    yield "its file system", f"{share:.1f} % of {size(view.total)} in use, {size(view.free)} free"
    if view.inodes:
        yield (
            "its inodes",
            f"{view.free_inodes:,} of {view.inodes:,} free, {limits.min_free_inodes:,} are kept free",
        )
    yield (
        "made smaller at",
        f"{limits.max_used_percent:g} % in use, to {limits.low_percent:g} % of the limits",
    )
    yield "inputs go after", f"{limits.input_days:g} days without use" if limits.input_days else "-"
    results = f"at least {limits.result_promise_days:g} days"
    yield "results stay", results + (f", at most {limits.result_days:g}" if limits.result_days else "")
    for name, quota in [("each owner", limits.owner_quota_bytes), *limits.owner_quotas.items()]:
        if quota:
            yield f"quota of {name}", size(quota)
    if limits.protected:
        yield "protected", " ".join(limits.protected)
    if view.waiting_bytes:
        yield "fetches wait for", f"{size(view.waiting_bytes)}: {view.waiting_for or 'room is being made'}"
    if view.looked_at is not None:
        yield "last look", output.moment(view.looked_at)
    if view.last is not None:
        yield "last eviction", f"{view.last.files} files, {size(view.last.bytes)}"


def _run(running: Generator[Purging, None, Purged]) -> Purged:
    done: Purging | None = None
    with _told() as tell, closing(running):
        try:
            while True:
                done = next(running)
                tell(done)
        except StopIteration as end:
            purged: Purged = end.value
            return purged
        except KeyboardInterrupt:
            how_far = (
                f"{done.files} files ({output.size(done.bytes)}) are gone" if done else "nothing is gone"
            )
            raise KeyboardInterrupt(f"{how_far}; the same command goes on") from None


@contextmanager
def _told() -> Iterator[Callable[[Purging], None]]:
    """Says on a terminal how far it is."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("looking for what goes") as status:
        yield lambda done: status.update(f"{done.files} files, {output.size(done.bytes)}")


def _show(purged: Purged) -> None:
    goes = "would go" if purged.dry_run else "went"
    _tallies(goes, purged.gone, _GOES)
    _tallies("stays", purged.stayed, _STAYS)
    if purged.dry_run:
        _examples(goes, purged.went, sum(one.files for one in purged.gone))
    _examples("stays", purged.left, sum(one.files for one in purged.stayed))
    trash = f" and {output.size(purged.trash_bytes)} of trash" if purged.trash_bytes else ""
    now = f"the cache holds {output.size(purged.size)}, {output.size(purged.free)} are free"
    output.line(f"{purged.files} files, {output.size(purged.bytes)}{trash} {goes}; {now}")
    if purged.missing:
        output.note(f"{output.size(purged.missing)} less than was asked for: nothing more may go")


def _tallies(title: str, tallies: tuple[Tally, ...], words: dict[str, str]) -> None:
    if tallies:
        rows = [
            (words.get(one.reason, one.reason), str(one.files), output.size(one.bytes)) for one in tallies
        ]
        output.table((title, "files", "size"), rows, right=("files", "size"))


def _examples(title: str, examples: tuple[Example, ...], count: int) -> None:
    if not examples:
        return
    rows = [
        (
            one.key,
            output.size(one.size),
            output.moment(one.last_access),
            one.reason,
            "; ".join([*one.holders, *([one.detail] if one.detail else [])]) or "-",
        )
        for one in examples
    ]
    output.table((title, "size", "last used", "why", "held by"), rows, right=("size",))
    if count > len(examples):
        output.note(f"and {count - len(examples)} more")
