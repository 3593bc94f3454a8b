"""Importing a directory of files that a site already has.

Files are looked for, adopted by some threads (digests are computed outside of Python, so threads use all cores),
and reported one by one. It can be killed anywhere: run again, it passes over what is there already.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from urllib.parse import quote, unquote

from stager.cache.adopt import Adopted, Adopter, Outcome, Source, StoppedError
from stager.cache.layout import is_digest
from stager.cache.store import FileCache
from stager.clock import Clock, SystemClock
from stager.errors import InputError
from stager.model.keys import sha256_key
from stager.model.manifests import ALGORITHMS, parse_manifest
from stager.model.urls import parse_url

BATCH_FILES = 64
BATCH_BYTES = 8 << 20
"""A thread takes so many small files at a time, so that handing over does not count; a large one comes alone."""
_LEAST_THREADS, _MOST_THREADS = 4, 16
"""Small files wait for the disk: four at a time are four times as fast as one, on two cores as well."""
BAG_FILE, PAYLOAD = "bagit.txt", "data"
_SUMS = frozenset(f"{name}sum{s}{txt}" for name in ALGORITHMS for s in ("", "s") for txt in ("", ".txt"))
"""How a manifest is usually called, in lower case."""
_LOOKED_AT = 1000
"""Files that tell how all of them are named."""
_PLAIN = "/:@!$&'()*+,;=~"
"""What stays as it is in the path of a URL, beside letters, digits and ``-._``."""

Name = Callable[[str], tuple[str, str | None]]
"""Path relative to the directory → key of the entry, SHA-256 that it must have (None: any)."""


def by_url(prefix: str) -> Name:
    """Keys are URLs: `prefix`, and the path with what needs it quoted.

    Raises:
        InputError: not a URL, or one with a query or a fragment.
    """
    if "?" in prefix or "#" in prefix:
        raise InputError(
            "the URL prefix has a query or a fragment",
            cause="paths are put behind it",
            remedy="give the URL of the directory",
        )
    base = parse_url(prefix).text.rstrip("/")

    def name(path: str) -> tuple[str, str | None]:
        return parse_url(f"{base}/{quote(path, safe=_PLAIN)}").text, None

    return name


def by_path(path: str) -> tuple[str, str | None]:
    """Keys are the paths."""
    return path, None


def by_digest(path: str) -> tuple[str, str | None]:
    """Files are named by their SHA-256, which is their key too: see `sha256_key`.

    Raises:
        InputError: a file that is not.
    """
    sha256 = path.rpartition("/")[2].lower()
    if not is_digest(sha256):
        raise InputError("it is not named by a SHA-256")
    return sha256_key(sha256), sha256


def by_key(path: str) -> tuple[str, str | None]:
    """Keys are the paths; one that is a URL in quoted form, as a file name has to have it, is that URL."""
    if "%" in path and "://" in (url := unquote(path, errors="strict")):
        return parse_url(url).text, None
    return path, None


def find_name(directory: str) -> Name:
    """How the files of another cache's tree are named: all of the first ones by their SHA-256, or none of them.

    Raises:
        InputError: some are and some are not, or the directory can't be read.
    """
    try:
        found = (
            is_digest(name.lower()) for _, _, names in os.walk(directory, onerror=_raise) for name in names
        )
        kinds = set(islice(found, _LOOKED_AT))
    except OSError as error:
        raise InputError(f"can't read {directory}", cause=error.strerror or str(error)) from error
    if len(kinds) > 1:
        raise InputError(
            f"it is not clear how the files in {directory} are named",
            cause="some are named by a SHA-256 and some are not",
            remedy="give --hashes, and what is not is left out and named, or --keys",
        )
    return by_digest if True in kinds else by_key


def _raise(error: OSError) -> None:
    raise error


@dataclass(slots=True)
class Manifest:
    """What files must be.

    Attributes:
        path: where it is written.
        digests: algorithm and digest by path; what has been looked at is taken out.
        complete: whether a file that it does not name is wrong.
    """

    path: str
    digests: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    complete: bool = False


def find_manifest(directory: str, manifest: str | None = None) -> tuple[str, Manifest | None]:
    """Where the files are, and what they must be: the manifest that is given, or the one in the directory.

    Raises:
        InputError: it can't be read.
    """
    bag = os.path.isfile(f"{directory}/{BAG_FILE}")
    if manifest is None:
        manifest = _usual_manifest(directory, bag=bag)
    if manifest is None:
        if bag:
            raise InputError(f"{directory} is a bag without a manifest", remedy="give --manifest FILE")
        return directory, None
    found = Manifest(os.path.abspath(manifest), complete=bag)
    try:
        with open(manifest, "rb") as file:
            data = file.read()
        for algorithm, digest, path in parse_manifest(data, bag=bag):
            name = path.removeprefix(f"{PAYLOAD}/".encode()) if bag else path
            found.digests[name] = (algorithm, digest)
    except OSError as error:
        raise InputError(f"can't read {manifest}", cause=error.strerror or str(error)) from error
    except InputError as error:
        raise InputError(f"{manifest}: {error.what}", cause=error.cause, remedy=error.remedy) from None
    return (f"{directory}/{PAYLOAD}" if bag else directory), found


def _usual_manifest(directory: str, *, bag: bool) -> str | None:
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise InputError(f"can't read {directory}", cause=error.strerror or str(error)) from error
    wanted = [f"manifest-{name}.txt" for name in ALGORITHMS]
    for algorithm in ALGORITHMS:
        for name in names:
            small = name.lower()
            usual = small in wanted if bag else small in _SUMS
            if usual and algorithm in small:
                return f"{directory}/{name}"
    return None


class Import:
    """One import; iterate over it once.

    Args:
        cache: where to.
        directory: where from; nothing in it is changed, unless files are linked.
        name: what key a file gets.
        manifest: what files must be.
        link: let the cache have the files themselves, by hard links; they become read-only.
        readable: import files too that not everybody may read; in the cache everybody may.
        owner: whom the entries count for.
        threads: how many files at a time.
        clock: for tests.

    Attributes:
        counts: files by what became of them.
        unverified: how many the manifest does not name, if there is one.
        bytes: of the files that the cache has now.

    Raises:
        InputError: the directory can't be read, or is inside of the cache.
    """

    def __init__(
        self,
        cache: FileCache,
        directory: str | os.PathLike[str],
        name: Name,
        *,
        manifest: Manifest | None = None,
        link: bool = False,
        readable: bool = False,
        owner: str = "",
        threads: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._cache = cache
        self._root = os.path.abspath(os.fspath(directory))
        self._name = name
        self._manifest = manifest
        self._stopped = False
        self._threads = threads or min(max(_LEAST_THREADS, os.cpu_count() or 1), _MOST_THREADS)
        self._adopter = Adopter(
            cache,
            link=link,
            readable=readable,
            owner=owner,
            stopped=lambda: self._stopped,
            clock=clock or SystemClock(),
        )
        self.counts: Counter[Outcome] = Counter()
        self.unverified = 0
        self.bytes = 0
        self._check()

    def _check(self) -> None:
        real, cache = os.path.realpath(self._root), os.path.realpath(self._cache.root)
        if real == cache or real.startswith(cache + "/"):
            raise InputError(f"{self._root} is inside of the cache", remedy="name another directory")
        try:
            with os.scandir(self._root):
                pass
        except OSError as error:
            raise InputError(f"can't read {self._root}", cause=error.strerror or str(error)) from error

    def __iter__(self) -> Iterator[Adopted]:
        """Every file as it is done, in no order.

        Raises:
            CacheError: the cache can't be used; what was imported stays.
        """
        self._cache.sweep()  # what an earlier import left that was killed
        for adopted in self._run():
            self.counts[adopted.outcome] += 1
            self.bytes += adopted.size if adopted.outcome.is_good else 0
            yield adopted

    def _run(self) -> Iterator[Adopted]:
        pending: set[Future[list[Adopted]]] = set()
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                for work in self._batches():
                    if isinstance(work, Adopted):
                        yield work
                        continue
                    pending.add(pool.submit(self._adopt, work))
                    if len(pending) > 2 * self._threads:
                        done, pending = wait(pending, return_when=FIRST_COMPLETED)
                        for future in done:
                            yield from future.result()
                while pending:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield from future.result()
            finally:  # also when somebody stops to listen
                self._stopped = True
                pool.shutdown(cancel_futures=True)
        yield from self._missing()

    def _adopt(self, batch: list[Source]) -> list[Adopted]:
        done = []
        for source in batch:
            if self._stopped:
                break
            try:
                done.append(self._adopter.adopt(source))
            except StoppedError:
                break
        return done

    def _batches(self) -> Iterator[list[Source] | Adopted]:
        batch: list[Source] = []
        size = 0
        for found in self._walk(os.fsencode(self._root), b""):
            if isinstance(found, Adopted):
                yield found
                continue
            source, bytes_ = found
            batch.append(source)
            size += bytes_
            if len(batch) == BATCH_FILES or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _walk(self, directory: bytes, relative: bytes) -> Iterator[tuple[Source, int] | Adopted]:
        try:
            with os.scandir(directory) as found:
                items = sorted(found, key=lambda item: item.name)
        except OSError as error:
            yield Adopted(shown(relative), Outcome.FAILED, reason=error.strerror or str(error))
            return
        for item in items:
            path = relative + item.name
            if item.is_dir(follow_symlinks=False):
                if not os.path.samefile(item.path, self._cache.root):
                    yield from self._walk(item.path, path + b"/")
            elif os.fsdecode(item.path) != (self._manifest and self._manifest.path):
                yield self._source(item, path)

    def _source(self, item: os.DirEntry[bytes], path: bytes) -> tuple[Source, int] | Adopted:
        wanted = self._manifest.digests.pop(path, None) if self._manifest else None
        try:
            if item.is_symlink():
                return Adopted(shown(path), Outcome.UNFIT, reason="a symbolic link")
            found = item.stat(follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode):
                return Adopted(shown(path), Outcome.UNFIT, reason="not a regular file")
            key, sha256 = self._name(path.decode())
        except UnicodeDecodeError:  # of its name, or of what that is in quoted form
            return Adopted(shown(path), Outcome.UNFIT, reason="its name is not UTF-8")
        except InputError as error:
            return Adopted(shown(path), Outcome.UNFIT, reason=str(error))
        except OSError as error:
            return Adopted(shown(path), Outcome.FAILED, reason=error.strerror or str(error))
        if wanted is None and sha256 is not None:
            wanted = ("sha256", sha256)
        if wanted is None:
            if self._manifest is not None and self._manifest.complete:
                return Adopted(shown(path), Outcome.UNLISTED, reason="the bag's manifest does not name it")
            self.unverified += self._manifest is not None
        return Source(os.fsdecode(item.path), shown(path), key, wanted), found.st_size

    def _missing(self) -> Iterator[Adopted]:
        for path in self._manifest.digests if self._manifest else ():
            yield Adopted(shown(path), Outcome.MISSING, reason="the manifest names it and it is not there")


def shown(path: bytes) -> str:
    """A path for people, whatever bytes it is made of."""
    return path.decode("utf-8", "backslashreplace") or "."
