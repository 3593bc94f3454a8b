"""What a file must be, and where else it may be had: from a job file or a list to the fetch, through the database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stager.cli.jobspec import spec_of_options
from stager.errors import InputError
from stager.mapper.admission import Admission
from stager.mapper.flights import Flights
from stager.model.backoff import RetryPolicy
from stager.model.entries import Entry
from stager.model.fetches import LARGEST_BYTES, FetchRequest
from stager.model.jobs import JobSpec
from stager.model.records import Changes, FetchRecord
from stager.model.stages import Stage, StagedFile
from stager.server.schemas import specs_of_file
from stager.state.store import Store

URL, MIRROR = "http://h.test/f", "http://m.test/f"
SHA512 = "sha512:" + "ab" * 64
SHA256 = "cd" * 32


def flights() -> Flights:
    return Flights(
        Admission(slots=9, per_origin=9), RetryPolicy(), iter([f"f{number}" for number in range(9)])
    )


def test_a_job_file_says_it_and_the_spec_keeps_it() -> None:
    item = {"url": URL, "digest": SHA512, "mirrors": [MIRROR, URL], "size": 7}
    (spec,) = specs_of_file({"command": ["true"], "inputs": [item]})
    request = spec.inputs[0].request()
    assert request == FetchRequest(URL, digest=SHA512, mirrors=(MIRROR,), size=7)
    assert JobSpec.from_dict(spec.to_dict()) == spec
    (plain,) = specs_of_file({"command": ["true"], "inputs": [URL]})
    assert plain.to_dict()["inputs"] == [{"url": URL, "name": "f"}]
    with pytest.raises(InputError, match="malformed URL"):
        specs_of_file({"command": ["true"], "inputs": [item | {"mirrors": ["nonsense"]}]})
    with pytest.raises(InputError, match="two digests"):
        specs_of_file({"command": ["true"], "inputs": [item | {"sha256": SHA256}]})


def test_the_command_line_says_it_too() -> None:
    spec = spec_of_options(
        ["true"],
        inputs=[f"{URL}=b.nxs", "http://h.test/c"],
        digest=["b.nxs=sha256-" + "A" * 43 + "=", f"c={SHA256}"],
        mirror=[f"b.nxs={MIRROR}?x=y", f"c={MIRROR}", "c=https://n.test/c"],
    )
    first, second = spec.inputs
    assert (first.name, first.sha256, first.mirrors) == ("b.nxs", "0" * 64, (f"{MIRROR}?x=y",))
    assert (second.sha256, second.mirrors) == (SHA256, (MIRROR, "https://n.test/c"))


@pytest.mark.parametrize(
    "option",
    [{"digest": ["c"]}, {"mirror": ["c=nonsense"]}, {"mirror": [f"d={MIRROR}"]}, {"sha256": ["=1"]}],
)
def test_an_option_about_no_input_or_without_a_value_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"makes no sense|names no input"):
        spec_of_options(["true"], inputs=["http://h.test/c"], **option)


@pytest.mark.parametrize("size", [-1, LARGEST_BYTES + 1, 10**30])
def test_a_size_that_no_file_has_and_no_database_takes_is_refused(size: int) -> None:
    with pytest.raises(InputError, match="no size of a file"):
        FetchRequest(URL, size=size)
    with pytest.raises(InputError, match="no size of a file"):
        specs_of_file({"command": ["true"], "inputs": [{"url": URL, "size": size}]})


def test_a_digest_that_is_none_is_refused_with_how_one_looks() -> None:
    with pytest.raises(InputError, match=r"write --digest NAME=DIGEST, such as run7\.nxs=sha256:HEX"):
        spec_of_options(["true"], inputs=["http://h.test/c"], digest=["c=zz"])


@pytest.mark.parametrize("expected", [None, SHA256, SHA512])
def test_the_database_keeps_it(tmp_path: Path, expected: str | None) -> None:
    address = f"sqlite:///{tmp_path / 'state.db'}"
    record = FetchRecord("f1", URL, expected, mirrors=(MIRROR,), expected_size=LARGEST_BYTES)
    stage = Stage("s1")
    file = StagedFile(stage, 0, URL, expected, mirrors=(MIRROR,), expected_size=LARGEST_BYTES)
    plain = StagedFile(stage, 1, MIRROR)
    store = Store(address)
    store.save(Changes(fetches=[record]), {})
    store.stages.add(stage, [file, plain])
    store.close()
    again = Store(address)
    (found,) = again.load()[1]
    assert found.request == record.request == file.request
    loaded = again.stages.open_files()
    again.close()
    assert [one.request for one in loaded] == [file.request, FetchRequest(MIRROR)]


def test_another_request_for_a_file_brings_its_mirrors_and_another_digest_or_size_is_another_fetch() -> None:
    made = flights()
    one = made.join(FetchRequest(URL, digest=SHA512), None, 0, 0.0)
    same = made.join(FetchRequest(URL, digest=SHA512, mirrors=(MIRROR,)), None, 0, 0.0)
    assert same is one
    assert one.request.mirrors == (MIRROR,)
    others = [FetchRequest(URL), FetchRequest(URL, sha256=SHA256), FetchRequest(URL, digest=SHA512, size=7)]
    assert len({made.join(other, None, 0, 0.0).id for other in others} | {one.id}) == 4


def test_a_copy_answers_a_digest_that_it_is_known_to_have_and_no_other() -> None:
    entry = Entry(URL, SHA256, 7, 0.0, fresh_until=1.0, digests=(SHA512,))
    made = flights()
    good = [
        FetchRequest(URL, sha256=SHA256),
        FetchRequest(URL, digest=SHA512),
        FetchRequest(URL, digest=SHA512, size=7),
    ]
    bad = [
        FetchRequest(URL, sha256="0" * 64),
        FetchRequest(URL, digest="md5:" + "0" * 32),
        FetchRequest(URL, sha256=SHA256, size=8),
    ]
    assert [made.join(request, entry, 0, 9.0).cached for request in good] == [True, True, True]
    assert [made.join(request, entry, 0, 9.0).cached for request in bad] == [False, False, False]
