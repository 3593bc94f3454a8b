"""All that is known of one file: from the tree what it is and who holds it, from the catalogue what was counted."""

from __future__ import annotations

from contextlib import suppress

from stager.cache.entries import EntryFiles
from stager.cache.failures import cache_error
from stager.cache.holders import jobs_holding
from stager.cache.pinned import pinned
from stager.cache.walk import Seen, TreeReader
from stager.errors import InputError, NotFoundError
from stager.model.cache_views import FileDetail, Holder
from stager.model.catalogue import CachedFile, file_of
from stager.model.keys import key_digest
from stager.model.urls import parse_url
from stager.state.catalogue import Catalogue

FEWEST_DIGITS = 6
"""Of a digest that is not given in full: fewer would mean too many files by chance."""
_DIGITS = 64
_SHOWN = 3


def detail(reader: TreeReader, catalogue: Catalogue | None, word: str) -> FileDetail:
    """See `CatalogueService.show`; without a catalogue what was counted is not known, nor are versions and other keys."""
    try:
        file = _by_key(reader, catalogue, word)
        if file is None:
            file = _by_digest(reader, catalogue, word)
        if file is None:
            raise NotFoundError(
                f"{_shown(word)} is not in the cache", remedy="`stager cache ls` lists what is"
            )
        return _detail(reader, catalogue, file)
    except OSError as error:
        raise cache_error(error, error.filename or reader.root, "read") from error


def _by_key(reader: TreeReader, catalogue: Catalogue | None, word: str) -> CachedFile | None:
    key = word
    with suppress(InputError):
        key = parse_url(word).text
    digest = key_digest(key)
    row = reader.rows([digest]).get(digest)
    known = catalogue.file(digest) if catalogue is not None else None
    if row is None:
        return None
    return file_of(row, key=key, hits=known.hits if known is not None else 0)


def _by_digest(reader: TreeReader, catalogue: Catalogue | None, word: str) -> CachedFile | None:
    letters = word.strip().lower().removeprefix("sha256:")
    if not FEWEST_DIGITS <= len(letters) <= _DIGITS or set(letters) - set("0123456789abcdef"):
        return None
    objects = reader.beginning(letters)
    if len(objects) > 1:
        raise InputError(
            f"several objects begin with {letters}",
            cause=", ".join(one.sha256 for one in objects[:_SHOWN]),
            remedy="give more digits",
        )
    if not objects:
        return None
    files = catalogue.of_object(objects[0].sha256) if catalogue is not None else []
    if files:
        return min(files, key=lambda file: (file.kind, file.key))
    unnamed = reader.unnamed([(objects[0], None)])
    return file_of(unnamed[0]) if unnamed else None


def _detail(reader: TreeReader, catalogue: Catalogue | None, file: CachedFile) -> FileDetail:
    tree = reader.tree
    entry = EntryFiles(tree).read(file.digest)
    jobs = jobs_holding(tree, file.object, restricted=file.restricted)
    holders = [Holder("job", job, reason=name) for job, name in jobs]
    holders += [Holder("pin", pin.holder, pin.until, pin.reason) for pin in pinned(tree, file.object)]
    versions: tuple[CachedFile, ...] = ()
    keys: tuple[str, ...] = ()
    verified_at = None
    if catalogue is not None:
        old = catalogue.versions(file.digest)
        there = reader.unnamed((Seen(one.object, one.restricted), None) for one in old)
        still = {row[2].hex() for row in there}
        versions = tuple(one for one in old if one.object in still)
        same = catalogue.of_object(file.object)
        keys = tuple(sorted(one.shown for one in same if one.digest != file.digest))
        verified_at = catalogue.verified_at(file.digest)
    path = reader.object_path(Seen(file.object, file.restricted))
    if entry is None:
        return FileDetail(
            file, path, verified_at=verified_at, versions=versions, keys=keys, holders=tuple(holders)
        )
    return FileDetail(
        file,
        path,
        entry.url,
        entry.validators.etag,
        entry.validators.last_modified,
        entry.content_type,
        entry.content_encoding,
        entry.unproven,
        verified_at,
        versions,
        keys,
        tuple(holders),
    )


def _shown(word: str) -> str:
    with suppress(InputError):
        return parse_url(word).redacted
    return word
