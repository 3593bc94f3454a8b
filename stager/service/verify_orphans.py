"""What a verification finds beside damaged objects."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from stager.cache.entries import EntryFiles
from stager.cache.failures import cache_error
from stager.cache.layout import ENTRIES
from stager.cache.orphans import YOUNG_SECONDS, NamedObjects, Orphan, Orphans
from stager.cache.quarantine import Quarantine
from stager.cache.shards import Estimate, batches
from stager.cache.tree import Tree
from stager.model.verify import Finding, Problem
from stager.steps import reached

TELL_NAMES = 1000
"""After so many names the caller has its turn."""
AT_ONCE = 50_000
"""Objects without an entry for which the entries are read once more, before they go (about 30 MB)."""


def clear_orphans(
    tree: Tree, entries: EntryFiles, quarantine: Quarantine, *, repair: bool
) -> Iterator[Finding | None]:
    """Look at every name of the tree; what nobody will ask for, or None now and then.

    With `repair` it is removed as well. Entries of an object in quarantine go whatever their age: the object
    was taken away, and whoever did so was killed before it came to them.

    Raises:
        CacheError: the cache has gone, or the file system failed.
    """
    orphans = Orphans(tree, entries, least_seconds=YOUNG_SECONDS)
    named = NamedObjects()
    try:
        orphans.begin()
        taken = quarantine.held()
        for count, found in enumerate(_entries(tree, entries, orphans, named, taken)):
            if isinstance(found, Orphan):
                yield _settle(orphans, found, repair=repair)
            elif found and repair:
                quarantine.forget([found])
            if count % TELL_NAMES == 0:
                yield None
        tree.check()  # of a tree that went meanwhile not all names were seen
        unnamed = orphans.objects(named)
        while some := list(islice(unnamed, AT_ONCE)):
            # The entries were read hours ago perhaps, and these bytes may be the only ones that there are by now.
            now = NamedObjects()
            yield from _name(entries, now)
            for orphan in some:
                if orphan.name not in now:
                    yield _settle(orphans, orphan, repair=repair)
        for orphan in orphans.files():
            yield _settle(orphans, orphan, repair=repair)
    except OSError as error:
        raise cache_error(error, error.filename or tree.root, "look through") from error


def _entries(
    tree: Tree, entries: EntryFiles, orphans: Orphans, named: NamedObjects, taken: frozenset[str]
) -> Iterator[Orphan | str | None]:
    """For each name an orphan; the digest of a key whose object is in quarantine; or None."""
    for layout in reversed(tree.layouts):  # what is moved meanwhile comes later, not never
        for names in batches(f"{tree.root}/{ENTRIES}", layout.widths, Estimate()):
            for name in names:
                if not name.endswith(".json"):
                    if "." in name:
                        yield orphans.of_entries(_directory(tree, layout.sharded(name)), name)
                    continue
                digest = name.removesuffix(".json")
                entry = entries.read(digest)
                if entry is not None:
                    named.add(entry.object)
                if entry is not None and entry.object in taken and entries.current(digest) is None:
                    yield digest
                else:
                    yield orphans.of_entries(_directory(tree, layout.sharded(digest)), name)


def _name(entries: EntryFiles, named: NamedObjects) -> Iterator[None]:
    """Add what entries name now; gives the caller its turn now and then."""
    for count, digest in enumerate(entries.digests()):
        entry = entries.read(digest)
        if entry is not None:
            named.add(entry.object)
        if count % TELL_NAMES == 0:
            yield None


def _directory(tree: Tree, sharded: str) -> str:
    return f"{tree.root}/{ENTRIES}/{sharded}".rpartition("/")[0]


def _settle(orphans: Orphans, orphan: Orphan, *, repair: bool) -> Finding:
    removed = repair and orphans.remove(orphan)
    reached("verify.cleared")
    sha256 = orphan.name if orphan.kind == Problem.OBJECT else ""
    return Finding(Problem(orphan.kind), orphan.path, sha256, repaired=removed)
