"""One cache with all that can be asked of it: what the server and the command line without a server hold."""

from __future__ import annotations

from dataclasses import dataclass

from stager.cache.store import FileCache
from stager.service.cache_accesses import AccessService
from stager.service.cache_catalogue import CatalogueService
from stager.service.cache_content import ContentService
from stager.service.cache_eviction import EvictionService
from stager.service.cache_pins import PinService
from stager.service.cache_verify import VerifyService
from stager.state.catalogue import Catalogue


@dataclass(slots=True)
class CacheSite:
    """A cache, its catalogue, and its services, each under the name of what it does.

    Attributes:
        cache: the files.
        catalogue: the rows.
        files: what there is.
        pins: what stays.
        verification: whether it is what it should be.
        accesses: takes in what others used.
        eviction: what goes.
        content: bytes in and out.
    """

    cache: FileCache
    catalogue: Catalogue
    files: CatalogueService
    pins: PinService
    verification: VerifyService
    accesses: AccessService
    eviction: EvictionService
    content: ContentService

    def close(self) -> None:
        """Write what is noted, and close the database."""
        self.cache.close()
        self.catalogue.close()
