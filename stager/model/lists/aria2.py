"""Input files of aria2: the mirrors of a file on one line, parted by tabs; below it its options, indented."""

from __future__ import annotations

from stager.model.digests import algorithm_of
from stager.model.lists.listed import ParsedList, refused


def parse_aria2(text: str, name: str) -> ParsedList:
    """The files of the list; options other than ``checksum`` and ``out`` are noted and left out.

    Raises:
        InputError: a line that is neither URLs nor an option, or a URL or digest that is none.
    """
    found = ParsedList()
    place, urls, options = "", [""], {}
    for number, line in enumerate([*text.split("\n"), "end"], 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line[0] in " \t":
            key, equals, value = line.strip().partition("=")
            if not (equals and place):
                raise refused(
                    f"{name}:{number}", "an indented line is an option, NAME=VALUE, of the URLs above it"
                )
            options[key.strip()] = value.strip()
            continue
        if place:
            _add(found, place, urls, options)
        place, urls, options = f"{name}:{number}", line.split("\t"), {}
    return found


def _add(found: ParsedList, place: str, urls: list[str], options: dict[str, str]) -> None:
    digest = None
    for key, value in options.items():
        algorithm, _, checksum = value.partition("=")
        if key == "checksum" and algorithm_of(algorithm):
            digest = f"{algorithm_of(algorithm)}:{checksum}"
        elif key == "checksum":
            found.note(f"checksums of {algorithm[:20]} are not checked")
        elif key != "out":
            found.note(f"option {key[:40]} is left out")
    given = [url.strip() for url in urls if url.strip()]
    found.add(place, given, digest=digest, name=options.get("out"))
