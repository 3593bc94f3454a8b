from __future__ import annotations

from hashlib import md5, sha256, sha512

import pytest

from stager.errors import InputError
from stager.model.manifests import parse_manifest

A = sha256(b"a").hexdigest()


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (f"{A}  a", b"a"),
        (f"{A} *a b", b"a b"),
        (f"{A}  ./sub//a", b"sub/a"),
        (f"{A.upper()}  a", b"a"),
        (rf"\{A}  back\\slash\nnew\r", b"back\\slash\nnew\r"),
        (f"{A}  plain\\n", b"plain\\n"),
        (f"SHA256 (a (1)) = {A}", b"a (1)"),
        (f"{A}   leading", b" leading"),
        (f"{A}  a\r", b"a"),
    ],
)
def test_a_line_says_the_digest_of_a_path(line: str, path: bytes) -> None:
    assert list(parse_manifest(line.encode())) == [("sha256", A, path)]


def test_the_algorithm_is_known_by_the_length() -> None:
    for new in (md5, sha512):
        digest = new(b"a").hexdigest()
        assert next(parse_manifest(f"{digest}  a".encode()))[:2] == (new().name, digest)


def test_a_bag_escapes_line_breaks_and_percent_signs_only() -> None:
    text = f"{A}\tdata/a%0ab%25c%20d\\n\n{A} *data/e\n\n"
    assert [path for *_, path in parse_manifest(text.encode(), bag=True)] == [
        b"data/a\nb%c%20d\\n",
        b"data/e",
    ]


def test_names_of_any_bytes_comments_and_empty_lines_are_understood() -> None:
    text = b"\xef\xbb\xbf# made by hand\n\n" + A.encode() + b"  \xff\xfe\n"
    assert list(parse_manifest(text)) == [("sha256", A, b"\xff\xfe")]


@pytest.mark.parametrize("line", ["nonsense", "abcd  a", f"{A}", f"MD5 (a) = {A}", f"{A[:-1]}g  a"])
def test_a_line_that_is_none_is_named(line: str) -> None:
    with pytest.raises(InputError, match="line 2"):
        list(parse_manifest(f"{A}  a\n{line}\n".encode()))


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "a/../../b", "..", "."])
def test_a_manifest_can_not_name_what_is_elsewhere(path: str) -> None:
    with pytest.raises(InputError, match="names"):
        list(parse_manifest(f"{A}  {path}".encode()))
