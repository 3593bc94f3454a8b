"""What a client has, whichever way its calls are answered."""

from __future__ import annotations

from typing import Generic

from stager.client.accounts import AccountCalls
from stager.client.audit import AuditCalls
from stager.client.cache import CacheCalls
from stager.client.credentials import CredentialCalls
from stager.client.events import EventCalls
from stager.client.grants import GrantCalls
from stager.client.jobs import JobCalls
from stager.client.objects import ObjectCalls
from stager.client.preconditions import PreconditionCalls
from stager.client.results import ResultCalls
from stager.client.runs import RunCalls
from stager.client.site import SiteCalls
from stager.client.stage import StageCalls
from stager.client.talk import Driver, M

CONNECT_SECONDS = 5.0
OUTAGE_SECONDS = 60.0
"""So long a client puts up with a server that is gone: it may be starting again."""
BLOCK_BYTES = 256 * 1024


class Groups(Generic[M]):
    """The calls of the API, by what they are about."""

    def __init__(self, driver: Driver) -> None:
        self.jobs: JobCalls[M] = JobCalls(driver)
        """Submit, list, look at, wait for, cancel."""
        self.preconditions: PreconditionCalls[M] = PreconditionCalls(driver)
        """What jobs wait for by name."""
        self.results: ResultCalls[M] = ResultCalls(driver)
        """What jobs left."""
        self.stage: StageCalls[M] = StageCalls(driver)
        """Stage requests: many files at once."""
        self.cache: CacheCalls[M] = CacheCalls(driver)
        """What can be asked about the server's cache."""
        self.objects: ObjectCalls[M] = ObjectCalls(driver)
        """Bytes, by digest or key, whole or a block at a time."""
        self.runs: RunCalls[M] = RunCalls(driver)
        """For nodes that do not see the server's cache."""
        self.credentials: CredentialCalls[M] = CredentialCalls(driver)
        """What origins are shown; no secret comes back."""
        self.grants: GrantCalls[M] = GrantCalls(driver)
        """Who has proved that he may read what."""
        self.accounts: AccountCalls[M] = AccountCalls(driver)
        """Users, and the tokens that they show."""
        self.events: EventCalls[M] = EventCalls(driver)
        """What happens, as it happens."""
        self.audit: AuditCalls[M] = AuditCalls(driver)
        """Who did what."""
        self.site: SiteCalls[M] = SiteCalls(driver)
        """The server itself."""
