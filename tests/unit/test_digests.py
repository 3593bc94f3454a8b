"""Digests in every form that people and origins write them in; the points are those of what a correct fetch honours."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest

from stager.errors import InputError
from stager.model.digests import Digest, parse_digest, read_digest
from stager.model.fetches import FetchRequest
from stager.model.keys import parse_sha256
from stager.transfer.checksums import digests_of
from stager.transfer.integrity import digest_of, wants_checksum

DATA = b"123456789"


def hexadecimal(name: str) -> str:
    return hashlib.new(name, DATA).hexdigest()


def b64(name: str) -> str:
    return base64.b64encode(hashlib.new(name, DATA).digest()).decode()


CRC32C = base64.b64encode(bytes.fromhex("e3069283")).decode()
SHA256 = Digest("sha256", hexadecimal("sha256"))
MD5 = Digest("md5", hexadecimal("md5"))


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [
        (hexadecimal("sha256"), "sha256"),
        (hexadecimal("sha256").upper(), "sha256"),
        (f"sha256:{hexadecimal('sha256')}", "sha256"),
        (f"SHA-512:{hexadecimal('sha512')}", "sha512"),
        (f"md5:{hexadecimal('md5')}", "md5"),
        (f"sha256-{b64('sha256')}", "sha256"),
        (f"sha512-{b64('sha512')}?ct=text", "sha512"),
        (f"sha256-{b64('sha256')} sha384-{b64('sha384')}", "sha384"),
        (f" sha1:{hexadecimal('sha1')} sha256:{hexadecimal('sha256')}\n", "sha256"),
    ],
)
def test_a_digest_is_read_in_the_forms_that_people_write(text: str, algorithm: str) -> None:
    found = parse_digest(text)
    assert found == Digest(algorithm, hexadecimal(algorithm))
    assert read_digest(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", "sha256:abc", "sha256-AAAA", "crc32c:00000000", "sha512:" + "0" * 64, "g" * 64, "sha256-" + "=" * 44, "md4:0"],
)  # fmt: skip
def test_what_is_no_digest_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(InputError, match=r"is not a digest.*sha256sum"):
        parse_digest(text)


def test_a_sha256_is_read_as_subresource_integrity_too() -> None:
    assert parse_sha256(f"sha256-{b64('sha256')}") == hexadecimal("sha256")


def test_a_request_has_one_digest_in_one_form() -> None:
    url = "http://h.test/f"
    assert FetchRequest(url, digest=f"sha256-{b64('sha256')}") == FetchRequest(url, sha256=SHA256.value)
    other = FetchRequest(url, digest=f"sha512-{b64('sha512')}")
    assert other.expected == other.digest == f"sha512:{hexadecimal('sha512')}"
    with pytest.raises(InputError, match="two digests"):
        FetchRequest(url, sha256="0" * 64, digest=f"md5:{hexadecimal('md5')}")
    with pytest.raises(InputError, match="two digests"):
        FetchRequest(url, sha256="0" * 64, digest=SHA256.value)


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"repr-digest": f"sha-256=:{b64('sha256')}:"}, SHA256),
        ({"repr-digest": f"md5=:{b64('md5')}:, sha-256=:{b64('sha256')}:;x=1"}, SHA256),
        ({"repr-digest": f"sha-256=:{b64('sha256')}:, sha-512"}, None),
        ({"repr-digest": f"sha-256={b64('sha256')}"}, None),
        ({"repr-digest": f"sha-256=:{b64('md5')}:"}, None),
        ({"repr-digest": "unixsum=:AAAA:"}, None),
        ({"repr-digest": f"md5=:{b64('md5')}:", "digest": f"SHA-256={b64('sha256')}"}, SHA256),
        ({"digest": f"MD5={b64('md5')},UNIXsum=30637"}, MD5),
        ({"digest": "adler32=091e01de"}, Digest("adler32", "091e01de")),
        ({"digest": "adler32=91e01de"}, Digest("adler32", "091e01de")),
        ({"content-type": "text/plain"}, None),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_points_50_and_52_what_an_origin_says_of_the_whole_is_read_strictly(
    headers: dict[str, str], wanted: Digest | None, whole: bool
) -> None:
    assert digest_of(headers, whole=whole) == wanted


@pytest.mark.parametrize(
    "headers",
    [
        {"content-digest": f"sha-256=:{b64('sha256')}:"},
        {"content-md5": b64("md5")},
        {"x-amz-checksum-sha256": b64("sha256")},
    ],
)
def test_points_51_and_52_what_is_said_of_one_message_counts_only_if_that_is_all(
    headers: dict[str, str],
) -> None:
    assert digest_of(headers, whole=True) in {SHA256, MD5}
    assert digest_of(headers, whole=False) is None


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"x-amz-checksum-sha256": b64("sha256"), "x-amz-checksum-type": "FULL_OBJECT"}, SHA256),
        ({"x-amz-checksum-sha256": b64("sha256"), "x-amz-checksum-type": "COMPOSITE"}, None),
        ({"x-amz-checksum-sha256": b64("sha256") + "-3"}, None),
        ({"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}, None),
        ({"x-amz-checksum-crc32": "y/Q5Jg=="}, Digest("crc32", "cbf43926")),
    ],
)
def test_point_53_a_checksum_of_checksums_is_none_of_the_object(
    headers: dict[str, str], wanted: Digest | None
) -> None:
    assert digest_of(headers, whole=True) == wanted


@pytest.mark.parametrize(
    ("host", "target", "asked"),
    [
        ("bucket.s3.eu-west-1.amazonaws.com", "/key", True),
        ("s3.amazonaws.com", "/bucket/key", True),
        ("s3.cn-north-1.amazonaws.com.cn", "/bucket/key", True),
        ("bucket.s3-eu-west-1.amazonaws.com", "/key", True),
        ("bucket.s3.amazonaws.com", "/key?X-Amz-Signature=0", False),
        ("s3.amazonaws.com.evil.example", "/key", False),
        ("ec2-1-2-3-4.compute.amazonaws.com", "/key", False),
        ("data.example", "/key", False),
    ],
)
def test_point_53_only_s3_is_asked_for_its_checksum_and_not_where_a_signature_would_break(
    host: str, target: str, asked: bool
) -> None:
    assert wants_checksum(host, target) is asked


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, MD5),
        ({"x-goog-stored-content-encoding": "identity"}, MD5),
        ({"x-goog-stored-content-encoding": "gzip"}, None),
        ({"x-goog-stored-content-encoding": "gzip", "content-encoding": "gzip"}, MD5),
    ],
)
def test_point_54_a_hash_of_the_stored_bytes_says_nothing_of_unpacked_ones(
    more: dict[str, str], wanted: Digest | None
) -> None:
    headers = {"x-goog-hash": f"crc32c={CRC32C},md5={b64('md5')}"} | more
    assert digest_of(headers, whole=False) == wanted


def test_point_54_an_object_that_has_a_crc_only_is_checked_by_that() -> None:
    pytest.importorskip("crc32c")
    wanted = digest_of({"x-goog-hash": f"crc32c={CRC32C}"}, whole=True)
    assert wanted == Digest("crc32c", "e3069283")
    assert digests_of(memoryview(DATA), ["crc32c"]) == (wanted,)


def test_every_algorithm_is_computed_in_the_form_in_which_it_is_read() -> None:
    names = ["sha512", "sha384", "sha1", "md5", "crc32", "adler32"]
    found = digests_of(memoryview(DATA), names)
    assert [str(digest) for digest in found[:4]] == [f"{name}:{hexadecimal(name)}" for name in names[:4]]
    assert [digest.value for digest in found[4:]] == [f"{zlib.crc32(DATA):08x}", f"{zlib.adler32(DATA):08x}"]
