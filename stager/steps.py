"""Named steps of the protocols that must survive a kill.

The code says `reached("publish.linked")` after each step whose order matters. In production that is
one comparison with None. A test registers an observer to stop, or kill, the process exactly there
(`tests/support/crashing.py`), so a crash is scripted and not a matter of timing.
"""

from __future__ import annotations

from collections.abc import Callable

STEPS = (
    "fetch.leased",  # the fetch owns its private temporary, nothing asked yet
    "fetch.sidecar",  # how to resume is on disk, before the first byte of the body
    "fetch.written",  # a part of the body is in the temporary
    "publish.synced",  # all bytes are on stable storage under the private name
    "publish.linked",  # the object is visible under its digest
    "publish.cleaned",  # the private temporary is gone
    "publish.entry",  # the entry points to the object
    "fetch.signalled",  # the mapper was told
    "record.begin",  # a batch of changes is about to be written
    "record.committed",  # the batch is durable, its instructions are not carried out yet
    "dispatch.prepared",  # the job's directory and input links exist
    "dispatch.started",  # the runner process exists
    "dispatch.ended",  # the runner has recorded how the job ended; the server does not know yet
    "results.kept",  # the results are objects; the job is not yet recorded as done
)
"""Every step, in the order of a job's life."""
MAINTENANCE_STEPS = (
    "stage.files",  # the files of a stage request are written, the request itself is not
    "stage.recorded",  # the request exists, the mapper was not told of it yet
    "stage.pinned",  # a staged file is pinned, which is not recorded yet
    "stage.unpinned",  # its pin is gone, which is not recorded yet
    "pin.linked",  # the object has one more link, why is not on disk yet
    "pin.recorded",  # why is on disk, nobody was told so yet
    "unpin.removed",  # the record is gone, the link is still there
    "unpin.aside",  # the link has a private name, and goes unless somebody has pinned the object meanwhile
    "evict.begun",  # what is held is known, nothing is removed yet
    "evict.judged",  # an entry is known to go, and has its name yet
    "evict.aside",  # an entry has a private name, and may turn out to be of another object
    "evict.entries",  # the entries are gone, their objects are not
    "evict.taken",  # an object has a private name, and comes back if somebody has stored the same bytes meanwhile
    "evict.objects",  # the objects are gone too
    "evict.cleaned",  # nothing is left of them but rows of the catalogue
    "evict.dropped",  # nor those
    "migrate.switched",  # the new layout is announced, nothing is moved yet
    "migrate.linked",  # an object has its new name as well
    "migrate.entry",  # an entry has its new name as well
    "migrate.dropped",  # the old name of an object is gone
    "migrate.emptied",  # the old directories are gone, the migration is not yet said to be over
    "import.published",  # an imported file is an object, it has no entry yet
    "import.recorded",  # an imported file has its entry
    "verify.quarantined",  # a damaged object is in the trash, its entries still name it
    "verify.forgotten",  # they are gone too
    "verify.cleared",  # something that nobody will ask for is gone
    "rebuild.read",  # all entries are read, none of them is in the catalogue yet
    "rebuild.merged",  # they are; unnamed objects are not, and what is gone is still there
)
"""Every step of the commands that look after a cache."""

SEGMENT_STEPS = (
    "fetch.ahead",  # bytes of a file that several streams bring are in place after a gap
    "fetch.saved",  # and the sidecar says so
)
"""Those of a fetch that several streams take part in."""

_observer: Callable[[str], None] | None = None


def observe(observer: Callable[[str], None] | None) -> None:
    """Call `observer` with the name of each step reached from now on (None: nobody)."""
    global _observer  # noqa: PLW0603 - one observer per process is the point
    _observer = observer


def reached(step: str) -> None:
    """Say that `step` is complete."""
    if _observer is not None:
        _observer(step)
