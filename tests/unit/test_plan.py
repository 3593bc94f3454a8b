"""HTTP points, decided without I/O. The numbers are those of the list of what a correct fetch honours:
docs name them; a point that needs a socket is tested again in tests/integration/test_http_points.py."""

from __future__ import annotations

from typing import Any

import pytest

from stager.errors import (
    DigestMismatchError,
    IncompleteError,
    OriginBusyError,
    OriginRefusedError,
    ProtocolError,
    RedirectError,
    UnprovenLengthError,
)
from stager.model.entries import Entry, Validators
from stager.model.fetches import FetchRequest
from stager.model.urls import parse_url
from stager.transfer.decisions import Again, Finish, Receive, Unchanged
from stager.transfer.options import TransferOptions
from stager.transfer.plan import MAX_RESTARTS, TransferPlan
from stager.transfer.resume import Representation
from stager.transfer.wire import End

URL = "https://origin.example/data/run.nxs"
NOW = 1_700_000_000.0
DIGEST = "a" * 64
OTHER = "b" * 64
STRONG = {"etag": '"v1"', "content-length": "1000"}
MODIFIED = "Tue, 14 Nov 2023 22:00:00 GMT"
LATER = "Tue, 14 Nov 2023 22:00:01 GMT"


def plan_for(url: str = URL, *, sha256: str | None = None, **options: Any) -> TransferPlan:
    return TransferPlan(FetchRequest(url, sha256=sha256), TransferOptions(**options))


def sidecar(total: int | None = 1000, url: str = URL, **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()} or {"etag": '"v1"'}
    return Representation.of(named, total).sidecar(parse_url(url))


def resuming(
    leftover: int = 400, written: dict[str, Any] | None = None, *, sha256: str | None = None
) -> TransferPlan:
    return TransferPlan(
        FetchRequest(URL, sha256=sha256),
        TransferOptions(),
        leftover=leftover,
        sidecar=sidecar() if written is None else written,
    )


def entry_of(**changes: Any) -> Entry:
    values: dict[str, Any] = {
        "key": URL,
        "object": DIGEST,
        "size": 1000,
        "stored_at": NOW - 1000,
        "fresh_until": NOW - 10,
        "url": URL,
        "validators": Validators(etag='W/"v1"', last_modified=MODIFIED),
    }
    return Entry(**(values | changes))


def headers_of(plan: TransferPlan) -> dict[str, str]:
    return plan.next_request().headers


def receive(plan: TransferPlan, status: int, headers: dict[str, str]) -> Receive:
    decision = plan.on_response(status, headers, NOW)
    assert isinstance(decision, Receive)
    return decision


def start_over(plan: TransferPlan, status: int, headers: dict[str, str]) -> None:
    """The answer is thrown away, the partial with it, and the whole is asked for."""
    assert isinstance(plan.on_response(status, headers, NOW), Again)
    assert "Range" not in headers_of(plan)
    assert "If-Range" not in headers_of(plan)
    assert receive(plan, 200, STRONG).offset == 0


# -- framing and completeness -------------------------------------------------------------------------


def test_point_1_fewer_bytes_than_content_length_are_incomplete() -> None:
    plan = plan_for()
    assert receive(plan, 200, STRONG) == Receive(0, 1000, 1000)
    with pytest.raises(IncompleteError, match=r"999 of 1000 bytes; try again; it goes on") as caught:
        plan.on_end(999, End.BROKEN)
    assert caught.value.transient
    assert caught.value.details["url"] == URL


def test_point_1_all_bytes_of_content_length_are_the_file() -> None:
    plan = plan_for()
    receive(plan, 200, STRONG)
    assert plan.on_end(1000, End.COMPLETE) == Finish(1000)


def test_point_2_chunks_without_the_final_one_are_incomplete() -> None:
    plan = plan_for()
    assert receive(plan, 200, {"transfer-encoding": "chunked"}).length is None
    with pytest.raises(IncompleteError):
        plan.on_end(500, End.BROKEN)


def test_point_2_chunks_with_the_final_one_are_the_file() -> None:
    plan = plan_for()
    receive(plan, 200, {"transfer-encoding": "chunked"})
    assert plan.on_end(500, End.COMPLETE) == Finish(500)
    assert not plan.entry(DIGEST, NOW).unproven


def test_point_3_a_body_without_length_is_refused_before_it_is_transferred() -> None:
    with pytest.raises(UnprovenLengthError, match=r"announces no length.*give its sha256"):
        plan_for().on_response(200, {}, NOW)


def test_point_3_a_body_without_length_is_taken_under_the_explicit_policy_and_flagged() -> None:
    plan = plan_for(unproven="accept")
    receive(plan, 200, {})
    assert plan.on_end(500, End.CLOSED) == Finish(500)
    assert plan.entry(DIGEST, NOW).unproven


def test_point_3_a_body_without_length_is_proven_by_the_callers_digest() -> None:
    plan = plan_for(sha256=DIGEST)
    receive(plan, 200, {})
    assert plan.on_end(500, End.CLOSED) == Finish(500)
    assert plan.on_digest(DIGEST) is None
    assert not plan.entry(DIGEST, NOW).unproven


def test_point_4_a_body_without_length_that_ends_without_close_notify_is_incomplete() -> None:
    plan = plan_for(sha256=DIGEST)
    receive(plan, 200, {})
    with pytest.raises(IncompleteError):
        plan.on_end(500, End.BROKEN)


def test_point_5_no_more_than_content_length_is_taken() -> None:
    assert receive(plan_for(), 200, STRONG).length == 1000


def test_point_11_a_length_of_zero_is_a_file() -> None:
    plan = plan_for()
    assert receive(plan, 200, {"content-length": "0"}).length == 0
    assert plan.on_end(0, End.COMPLETE) == Finish(0)


def test_point_12_an_incomplete_body_with_a_strong_validator_can_be_kept() -> None:
    plan = plan_for()
    receive(plan, 200, STRONG)
    with pytest.raises(IncompleteError):
        plan.on_end(10, End.BROKEN)
    assert plan.can_resume


def test_point_12_an_incomplete_body_without_one_can_not() -> None:
    plan = plan_for()
    receive(plan, 200, {"content-length": "1000", "etag": 'W/"v1"'})
    with pytest.raises(IncompleteError):
        plan.on_end(10, End.BROKEN)
    assert not plan.can_resume


# -- content coding -----------------------------------------------------------------------------------


def test_point_13_every_request_asks_for_the_bytes_as_they_are() -> None:
    for plan in (
        plan_for(),
        resuming(),
        TransferPlan(FetchRequest(URL), TransferOptions(), entry=entry_of()),
    ):
        assert headers_of(plan)["Accept-Encoding"] == "identity"
        plan.on_response(302, {"location": "/elsewhere"}, NOW)
        assert headers_of(plan)["Accept-Encoding"] == "identity"


def test_point_14_the_length_is_that_of_the_coded_bytes() -> None:
    plan = plan_for()
    assert receive(plan, 200, STRONG | {"content-encoding": "gzip"}).length == 1000
    assert plan.on_end(1000, End.COMPLETE) == Finish(1000)


@pytest.mark.parametrize(("sent", "recorded"), [("gzip", "gzip"), ("X-GZip", "gzip"), ("identity", "")])
def test_points_15_and_17_a_coding_that_comes_anyway_is_recorded(sent: str, recorded: str) -> None:
    plan = plan_for()
    receive(plan, 200, STRONG | {"content-encoding": sent})
    plan.on_end(1000, End.COMPLETE)
    assert plan.entry(DIGEST, NOW).content_encoding == recorded


def test_point_20_a_coded_copys_validator_is_not_used_for_the_plain_bytes() -> None:
    coded = entry_of(content_encoding="gzip")
    plan = TransferPlan(FetchRequest(URL), TransferOptions(), entry=coded)
    assert "If-None-Match" not in headers_of(plan)


# -- resume -------------------------------------------------------------------------------------------


def test_point_21_the_sidecar_holds_validator_url_total_and_coding() -> None:
    plan = plan_for()
    receive(plan, 200, STRONG | {"content-encoding": "gzip"})
    written = plan.sidecar()
    assert written["etag"] == '"v1"'
    assert written["url"] == URL
    assert written["total"] == 1000
    assert written["coding"] == "gzip"


def test_point_21_a_partial_with_its_sidecar_is_gone_on_with() -> None:
    headers = headers_of(resuming(400))
    assert headers["Range"] == "bytes=400-"
    assert headers["If-Range"] == '"v1"'


@pytest.mark.parametrize(
    "written",
    [
        None,
        {},
        sidecar(etag='W/"v1"'),
        sidecar(url="https://origin.example/data/other.nxs"),
        sidecar(total=399),
        sidecar() | {"version": 2},
        sidecar() | {"total": "1000"},
        sidecar() | {"total": -1},
        sidecar() | {"etag": 'no "tag"'},
        sidecar() | {"etag": '"v1"\r\nX: y'},
        sidecar() | {"etag": 7},
        sidecar() | {"ranges": "yes"},
    ],
    ids=lambda written: str(written)[-60:],
)
def test_point_21_a_partial_without_a_sidecar_that_proves_it_is_not(written: dict[str, Any] | None) -> None:
    plan = TransferPlan(FetchRequest(URL), TransferOptions(), leftover=400, sidecar=written)
    assert "Range" not in headers_of(plan)
    assert receive(plan, 200, STRONG).offset == 0


def test_point_22_a_weak_tag_is_never_sent_in_if_range() -> None:
    plan = resuming(written=sidecar(etag='W/"v1"', last_modified=MODIFIED, date=LATER))
    assert "If-Range" not in headers_of(plan)
    assert "Range" not in headers_of(plan)


def test_point_23_a_date_is_sent_in_if_range_when_it_is_a_second_old_and_there_is_no_tag() -> None:
    plan = resuming(written=sidecar(last_modified=MODIFIED, date=LATER))
    assert headers_of(plan)["If-Range"] == MODIFIED


@pytest.mark.parametrize("date", [MODIFIED, "nonsense", ""])
def test_point_23_a_date_of_the_same_second_proves_nothing(date: str) -> None:
    plan = resuming(written=sidecar(last_modified=MODIFIED, date=date))
    assert "Range" not in headers_of(plan)


def test_point_24_there_is_no_if_range_without_range() -> None:
    plan = resuming()
    start_over(plan, 206, {"content-range": "garbage"})


def test_point_25_a_whole_answer_to_a_range_request_drops_the_partial() -> None:
    plan = resuming(400)
    assert receive(plan, 200, {"etag": '"v2"', "content-length": "700"}).offset == 0
    assert plan.on_end(700, End.COMPLETE) == Finish(700)
    assert plan.entry(DIGEST, NOW).validators.etag == '"v2"'


def test_point_26_a_part_that_fits_is_taken() -> None:
    plan = resuming(400)
    part = receive(plan, 206, {"content-range": "bytes 400-999/1000", "etag": '"v1"'})
    assert (part.offset, part.length, part.total) == (400, 600, 1000)
    assert plan.on_end(600, End.COMPLETE) == Finish(1000)
    assert plan.entry(DIGEST, NOW).validators.etag == '"v1"'


@pytest.mark.parametrize(
    "content_range",
    [
        "items 400-999/1000",
        "bytes 400-999/1001",
        "bytes 400-1000/1000",
        "bytes 999-400/1000",
        "bytes */1000",
        "bytes 400-/1000",
        "bytes 400-9999999999999999999999/1000",
    ],
)
def test_point_26_a_part_with_other_unit_order_or_length_starts_over(content_range: str) -> None:
    start_over(resuming(400), 206, {"content-range": content_range})


def test_point_26_a_part_whose_body_is_not_as_long_as_its_range_starts_over() -> None:
    start_over(resuming(400), 206, {"content-range": "bytes 400-999/1000", "content-length": "599"})


def test_point_27_a_part_that_starts_earlier_cuts_the_partial() -> None:
    plan = resuming(400)
    part = receive(plan, 206, {"content-range": "bytes 300-999/1000"})
    assert (part.offset, part.length) == (300, 700)
    assert plan.on_end(700, End.COMPLETE) == Finish(1000)


def test_point_27_a_part_that_starts_later_starts_over() -> None:
    start_over(resuming(400), 206, {"content-range": "bytes 401-999/1000"})


def test_point_28_a_part_with_another_tag_starts_over() -> None:
    start_over(resuming(400), 206, {"content-range": "bytes 400-999/1000", "etag": '"v2"'})


def test_point_28_a_part_with_another_date_starts_over() -> None:
    plan = resuming(written=sidecar(last_modified=MODIFIED, date=LATER))
    start_over(plan, 206, {"content-range": "bytes 400-999/1000", "last-modified": LATER})


def test_point_28_a_part_in_another_coding_starts_over() -> None:
    start_over(resuming(400), 206, {"content-range": "bytes 400-999/1000", "content-encoding": "gzip"})


@pytest.mark.parametrize("content_type", ["application/octet-stream", "multipart/byteranges; boundary=x"])
def test_points_29_and_30_a_part_that_does_not_say_which_starts_over(content_type: str) -> None:
    start_over(resuming(400), 206, {"content-type": content_type, "content-length": "600"})


def test_point_31_a_part_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(ProtocolError, match="206"):
        plan_for().on_response(206, {"content-range": "bytes 0-999/1000"}, NOW)


def test_point_32_a_part_of_unknown_length_is_gone_on_from_until_the_length_is_learnt() -> None:
    plan = resuming(400, sidecar(total=None))
    assert receive(plan, 206, {"content-range": "bytes 400-499/*"}).total is None
    assert isinstance(plan.on_end(100, End.COMPLETE), Again)
    assert headers_of(plan)["Range"] == "bytes=500-"
    receive(plan, 206, {"content-range": "bytes 500-599/600"})
    assert plan.on_end(100, End.COMPLETE) == Finish(600)


def test_point_33_a_short_part_is_gone_on_from() -> None:
    plan = resuming(400)
    receive(plan, 206, {"content-range": "bytes 400-499/1000"})
    assert isinstance(plan.on_end(100, End.COMPLETE), Again)
    headers = headers_of(plan)
    assert headers["Range"] == "bytes=500-"
    assert headers["If-Range"] == '"v1"'
    receive(plan, 206, {"content-range": "bytes 500-999/1000"})
    assert plan.on_end(500, End.COMPLETE) == Finish(1000)


def test_point_33_a_part_cut_short_is_incomplete_where_it_was_cut() -> None:
    plan = resuming(400)
    receive(plan, 206, {"content-range": "bytes 400-999/1000"})
    with pytest.raises(IncompleteError, match="450 of 1000"):
        plan.on_end(50, End.BROKEN)
    assert plan.can_resume


def test_point_34_nothing_left_of_a_complete_partial_finishes_it() -> None:
    plan = resuming(1000)
    assert headers_of(plan)["Range"] == "bytes=1000-"
    assert plan.on_response(416, {"content-range": "bytes */1000"}, NOW) == Finish(1000)
    assert plan.entry(DIGEST, NOW).validators.etag == '"v1"'


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-range": "bytes */999"},
        {"content-range": "bytes */*"},
        {"content-range": "bytes 0-999/1000"},
        {"content-range": "bytes */1000", "etag": '"v2"'},
    ],
    ids=str,
)
def test_point_34_nothing_left_of_something_else_starts_over(headers: dict[str, str]) -> None:
    start_over(resuming(1000), 416, headers)


def test_point_34_nothing_left_of_a_shorter_partial_starts_over() -> None:
    start_over(resuming(400), 416, {"content-range": "bytes */400"})


def test_point_35_a_whole_answer_with_content_range_is_asked_for_again_without_range() -> None:
    start_over(resuming(400), 200, {"content-range": "bytes 400-999/1000", "content-length": "600"})


def test_point_35_a_whole_answer_with_content_range_to_a_plain_request_is_refused() -> None:
    with pytest.raises(ProtocolError, match="Content-Range"):
        plan_for().on_response(200, {"content-range": "bytes 0-999/1000", "content-length": "1000"}, NOW)


def test_point_36_an_origin_that_says_it_has_no_ranges_is_not_asked_for_one() -> None:
    plan = plan_for()
    receive(plan, 200, STRONG | {"accept-ranges": "none"})
    assert not plan.can_resume
    assert "Range" not in headers_of(resuming(400, plan.sidecar()))


def test_an_origin_that_never_makes_sense_is_given_up() -> None:
    plan = resuming(400)
    plan.on_response(206, {}, NOW)
    for _ in range(MAX_RESTARTS):
        with pytest.raises(ProtocolError):
            plan.on_response(206, {}, NOW)


# -- change, freshness --------------------------------------------------------------------------------


def test_point_41_a_tag_is_revalidated_even_if_weak() -> None:
    plan = TransferPlan(FetchRequest(URL), TransferOptions(), entry=entry_of())
    headers = headers_of(plan)
    assert headers["If-None-Match"] == 'W/"v1"'
    assert "If-Modified-Since" not in headers


def test_point_41_without_a_tag_the_date_is() -> None:
    dated = entry_of(validators=Validators(last_modified=MODIFIED))
    plan = TransferPlan(FetchRequest(URL), TransferOptions(), entry=dated)
    assert headers_of(plan)["If-Modified-Since"] == MODIFIED


def test_point_41_a_copy_with_another_digest_than_the_callers_is_no_reason_to_ask_conditionally() -> None:
    plan = TransferPlan(FetchRequest(URL, sha256=OTHER), TransferOptions(), entry=entry_of())
    assert "If-None-Match" not in headers_of(plan)


def test_point_42_not_modified_keeps_the_object_and_updates_the_rest() -> None:
    plan = TransferPlan(FetchRequest(URL), TransferOptions(), entry=entry_of())
    plan.next_request()
    decision = plan.on_response(304, {"etag": '"v1"', "cache-control": "max-age=500"}, NOW)
    assert isinstance(decision, Unchanged)
    assert decision.entry == entry_of(
        stored_at=NOW,
        fresh_until=NOW + 500,
        validators=Validators(etag='"v1"', last_modified=MODIFIED),
    )


def test_point_42_not_modified_without_a_condition_is_refused() -> None:
    with pytest.raises(ProtocolError, match="304"):
        plan_for().on_response(304, {}, NOW)


def test_point_42_not_modified_about_another_version_is_asked_for_again_without_condition() -> None:
    plan = TransferPlan(FetchRequest(URL), TransferOptions(), entry=entry_of())
    assert isinstance(plan.on_response(304, {"etag": '"v9"'}, NOW), Again)
    assert "If-None-Match" not in headers_of(plan)


def test_point_43_changed_content_makes_a_new_entry() -> None:
    plan = TransferPlan(FetchRequest(URL), TransferOptions(), entry=entry_of())
    receive(plan, 200, {"etag": '"v2"', "content-length": "5"})
    plan.on_end(5, End.COMPLETE)
    new = plan.entry(OTHER, NOW)
    assert (new.object, new.size, new.validators.etag) == (OTHER, 5, '"v2"')


def test_point_45_an_error_has_no_body_to_receive() -> None:
    for status in (400, 404, 500):
        with pytest.raises((OriginRefusedError, OriginBusyError)):
            plan_for().on_response(status, {"content-length": "5"}, NOW)


def test_point_47_a_tag_that_looks_like_a_digest_is_only_a_tag() -> None:
    plan = plan_for()
    receive(plan, 200, {"etag": '"d41d8cd98f00b204e9800998ecf8427e"', "content-length": "5"})
    assert plan.on_end(5, End.COMPLETE) == Finish(5)
    assert plan.on_digest(OTHER) is None


# -- integrity ----------------------------------------------------------------------------------------


def test_point_55_a_wrong_digest_is_fetched_once_more_past_all_caches_then_fails() -> None:
    plan = plan_for(sha256=DIGEST)
    receive(plan, 200, STRONG)
    plan.on_end(1000, End.COMPLETE)
    assert isinstance(plan.on_digest(OTHER), Again)
    headers = headers_of(plan)
    assert headers["Cache-Control"] == "no-cache"
    assert "Range" not in headers
    receive(plan, 200, STRONG)
    plan.on_end(1000, End.COMPLETE)
    with pytest.raises(DigestMismatchError) as caught:
        plan.on_digest(OTHER)
    text = str(caught.value)
    assert URL in text
    assert DIGEST in text
    assert OTHER in text
    assert "check the digest" in text
    assert not caught.value.transient


def test_point_55_the_callers_digest_is_asked_of_resumed_bytes_too() -> None:
    plan = resuming(400, sha256=DIGEST)
    receive(plan, 206, {"content-range": "bytes 400-999/1000"})
    plan.on_end(600, End.COMPLETE)
    assert isinstance(plan.on_digest(OTHER), Again)
    assert "Range" not in headers_of(plan)
    assert receive(plan, 200, STRONG).offset == 0
    plan.on_end(1000, End.COMPLETE)
    assert plan.on_digest(DIGEST) is None


# -- redirects and credentials ------------------------------------------------------------------------


def hop(plan: TransferPlan, location: str, status: int = 302) -> str:
    assert isinstance(plan.on_response(status, {"location": location}, NOW), Again)
    return plan.next_request().url.text


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_point_63_a_redirect_is_followed(status: int) -> None:
    plan = plan_for()
    assert hop(plan, "https://mirror.example/x", status) == "https://mirror.example/x"
    assert receive(plan, 200, STRONG).length == 1000


def test_point_63_ten_hops_are_followed_and_no_eleventh() -> None:
    plan = plan_for()
    for number in range(10):
        hop(plan, f"/{number}")
    with pytest.raises(RedirectError, match="more than 10 hops"):
        hop(plan, "/10")


def test_point_63_a_circle_is_noticed_at_once() -> None:
    plan = plan_for()
    hop(plan, "/b")
    with pytest.raises(RedirectError, match="circle"):
        hop(plan, URL)


def test_point_64_secrets_stay_with_their_origin() -> None:
    secrets = {"Authorization": "Bearer x", "Cookie": "s=1", "X-Api-Key": "k"}
    plan = TransferPlan(FetchRequest(URL), TransferOptions(), secrets=secrets)
    assert secrets.items() <= headers_of(plan).items()
    hop(plan, "/same-origin")
    assert secrets.items() <= headers_of(plan).items()
    hop(plan, "https://origin.example:8443/other-port")
    assert not secrets.keys() & headers_of(plan).keys()
    hop(plan, "https://origin.example/back")
    assert not secrets.keys() & headers_of(plan).keys()


def test_point_65_https_does_not_lead_to_http() -> None:
    with pytest.raises(RedirectError, match=r"from https to http://origin\.example/x"):
        hop(plan_for(), "http://origin.example/x")


def test_point_65_except_where_the_digest_proves_the_bytes_and_no_secret_is_sent() -> None:
    assert hop(plan_for(sha256=DIGEST), "http://origin.example/x") == "http://origin.example/x"
    plan = TransferPlan(
        FetchRequest(URL, sha256=DIGEST), TransferOptions(), secrets={"Authorization": "Bearer x"}
    )
    with pytest.raises(RedirectError):
        hop(plan, "http://origin.example/x")


@pytest.mark.parametrize("location", ["ftp://origin.example/x", "file:///etc/passwd", "javascript:alert(1)"])
def test_point_66_only_http_and_https_are_followed(location: str) -> None:
    with pytest.raises(RedirectError, match=r"its target is refused: (unknown )?scheme"):
        hop(plan_for(), location)


def test_point_69_a_redirect_with_a_password_is_refused_and_not_shown() -> None:
    with pytest.raises(RedirectError) as caught:
        hop(plan_for(), "https://user:hunter2@origin.example/x")
    assert "hunter2" not in str(caught.value)


def test_point_71_a_signature_is_in_no_error_and_no_sidecar() -> None:
    plan = plan_for(URL + "?X-Amz-Signature=hunter2&part=1")
    assert "hunter2" in plan.next_request().url.text
    receive(plan, 200, STRONG)
    assert "hunter2" not in str(plan.sidecar())
    with pytest.raises(IncompleteError) as caught:
        plan.on_end(1, End.BROKEN)
    assert "hunter2" not in str(caught.value.to_dict())


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("other.nxs", "https://origin.example/data/other.nxs"),
        ("../x?y=1#part", "https://origin.example/x?y=1"),
        ("//mirror.example/x", "https://mirror.example/x"),
        ("/with space", "https://origin.example/with%20space"),
        ("/gr\u00c3\u00bcn", "https://origin.example/gr%C3%BCn"),
    ],
)
def test_point_72_a_relative_location_is_resolved(location: str, target: str) -> None:
    assert hop(plan_for(), location) == target


def test_a_redirect_without_a_location_makes_no_sense() -> None:
    with pytest.raises(ProtocolError, match="does not say where to"):
        plan_for().on_response(302, {}, NOW)
