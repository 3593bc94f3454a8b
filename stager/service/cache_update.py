"""Single rows of the catalogue are made to agree with the tree."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from stager.cache.failures import cache_error
from stager.cache.walk import Seen, TreeReader
from stager.model.catalogue import CachedFile
from stager.state.catalogue import Catalogue


def update(
    reader: TreeReader,
    catalogue: Catalogue,
    digests: Collection[str],
    had: Iterable[tuple[str, str]] = (),
) -> None:
    """Let the rows of these keys say what the tree says now.

    An object that its key has lost and that is still there is unnamed from now on.

    Args:
        reader: of the tree.
        catalogue: of the same cache.
        digests: of the keys.
        had: digests of keys, each with an object that it had at some time.

    Raises:
        CacheError: the tree can't be read.
        StateError: the catalogue can't be written.
    """
    try:
        rows = reader.rows(digests)
        catalogue.put_rows(rows.values())
        lost = {
            sha256: digest
            for digest, sha256 in had
            if (row := rows.get(digest)) is not None and row[2].hex() != sha256
        }
        catalogue.put_rows(
            reader.unnamed((Seen(sha256, restricted=False), digest) for sha256, digest in lost.items())
        )
        gone = [file for digest in digests if digest not in rows and (file := catalogue.file(digest))]
        if gone:
            catalogue.drop(file.digest for file in gone)
            forget(reader, catalogue, gone)
    except OSError as error:
        raise cache_error(error, error.filename or reader.root, "read") from error


def forget(reader: TreeReader, catalogue: Catalogue, gone: Collection[CachedFile]) -> None:
    """What is left of the objects of these keys, which are gone, is listed without a name.

    Raises:
        OSError: the file system failed.
        StateError: the catalogue can't be written.
    """
    files = {file.object: file for file in gone}
    unknown = catalogue.unknown(list(files))
    left = reader.unnamed(
        (Seen(sha256, files[sha256].restricted), files[sha256].digest) for sha256 in unknown
    )
    catalogue.put_rows(left)
