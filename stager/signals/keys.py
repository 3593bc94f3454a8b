"""Every key in Redis that is ours (Celery has its own). Losing any of them loses no job and no file."""

from __future__ import annotations

STREAM = "stager:stream"
"""Text: the name of the present stream of signals; a server that misses it gives a new one."""
SIGNALS = "stager:signals"
"""Stream: what fetches and jobs tell. Nothing is dropped from it that is not recorded in the database."""
PROGRESS = "stager:progress"
"""Stream, cut to the newest `PROGRESS_ENTRIES`: how far transfers are, and that their workers live."""
PROGRESS_ENTRIES = 1000
WAKE = "stager:wake:"
"""Stream, one per reader: an entry ends the reader's wait. Followed by the reader's own name."""
WAKE_SECONDS = 60
"""How long a wake-up is kept for a reader that has ended already."""

SERVER = "stager:server"
"""Text: the server whose all this is, renewed while it lives. A second one is refused."""
SERVER_SECONDS = 20
"""After so long without a word another server may take its place; it speaks every 5."""

FETCHES = "stager:fetches"
"""Hash: id of a fetch → its order (JSON), from the hand-out to the recorded end."""
JOBS = "stager:jobs"
"""Hash: ``job:epoch`` → its order (JSON), from the hand-over to the recorded end."""
CANCEL = "stager:cancel:"
"""Text, followed by the id of a fetch: the newest generation of it that is not wanted any more."""
CANCEL_JOB = "stager:cancel-job:"
"""Text, followed by ``job:epoch``: that hand-over is not wanted any more."""
CANCEL_SECONDS = 86_400
"""How long that is remembered: longer than a message lies in a queue."""
LEASE = "stager:lease:"
"""Text, followed by the id of a fetch: ``generation worker``, renewed while the worker lives."""
RESERVED = "stager:reserved"
"""Hash: id of a fetch → bytes that it is still going to write."""
WORKER = "stager:worker:"
"""Text, followed by the name of a worker: what it says of itself (JSON), renewed while it lives."""
WORKER_SECONDS = 35
"""After so long without a word a worker is not listed any more; it speaks three times as often."""
HOLDINGS = "stager:holdings:"
"""Set, followed by the name of a node: digests of the objects in its own cache, renewed while it lives."""
HOLDINGS_SECONDS = 900
"""After so long without a word a node's cache counts as empty; it speaks three times as often."""
CREDENTIALS = "stager:credentials"
"""Hash: id of a credential → what is known of it, and the sealed box (JSON). Nothing in clear that is secret."""
CREDENTIALS_STAMP = "stager:credentials-stamp"
"""Text: another one whenever a credential changes."""
CREDENTIAL_SESSIONS = "stager:credential-sessions"
"""Hash: id of a credential → what a worker obtained with it, sealed (JSON)."""
CREDENTIAL_NOTES = "stager:credential-notes"
"""Hash: id of a credential → when workers used it, and what origins said (JSON)."""
CREDENTIAL_LEASE = "stager:credential-lease:"
"""Text, followed by the id of a credential: who renews its session, until the renewal is over."""
