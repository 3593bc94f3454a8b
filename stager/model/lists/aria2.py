"""Input files of aria2: the mirrors of a file on one line, parted by tabs; below it its options, indented."""

from __future__ import annotations

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
    sha256 = None
    for key, value in options.items():
        algorithm, _, digest = value.partition("=")
        if key == "checksum" and algorithm.strip().lower() == "sha-256":
            sha256 = digest
        elif key == "checksum":
            found.note(f"checksums other than sha-256 are not checked ({algorithm[:20]})")
        elif key != "out":
            found.note(f"option {key[:40]} is left out")
    given = [url.strip() for url in urls if url.strip()]
    found.add(place, given, sha256=sha256, name=options.get("out"))
