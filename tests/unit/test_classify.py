"""Which answers may be others later."""

from __future__ import annotations

import pytest

from stager.errors import (
    ConnectionFailedError,
    CredentialRequiredError,
    OriginBusyError,
    OriginRefusedError,
)
from stager.model.urls import parse_url
from stager.transfer.classify import is_transient, os_cause, status_error
from stager.transfer.exchange import broken_connection

URL = parse_url("https://origin.example/run.nxs?sig=hunter2")
NOW = 1_700_000_000.0


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 202, 520, 599])
def test_point_59_a_status_that_may_pass_is_transient(status: int) -> None:
    error = status_error(URL, status, {}, NOW)
    assert isinstance(error, OriginBusyError)
    assert error.transient
    assert is_transient(status)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 416, 451, 501, 505, 204, 300])
def test_point_59_a_status_that_will_not_pass_is_permanent(status: int) -> None:
    error = status_error(URL, status, {}, NOW)
    assert isinstance(error, OriginRefusedError)
    assert not error.transient


def test_point_58_retry_after_goes_with_the_error() -> None:
    error = status_error(URL, 503, {"retry-after": "7"}, NOW)
    assert error.retry_after == 7.0
    assert "try again in 7 s" in str(error)


def test_a_permanent_error_carries_no_retry_after() -> None:
    assert status_error(URL, 404, {"retry-after": "7"}, NOW).retry_after is None


def test_an_error_names_the_url_the_cause_and_the_way_out_and_no_secret() -> None:
    at = parse_url("https://mirror.example/run.nxs?token=hunter3")
    error = status_error(URL, 404, {}, NOW, at=at)
    assert str(error) == (
        "https://origin.example/run.nxs?sig=*** can't be fetched: 404 Not Found at "
        "https://mirror.example/run.nxs?token=***; check the URL; the origin has no such file"
    )
    assert error.details == {"url": "https://origin.example/run.nxs?sig=***", "status": 404}


def test_an_unknown_status_is_named_by_its_number() -> None:
    assert "799 unknown status" in str(status_error(URL, 799, {}, NOW))


def test_a_cause_is_one_line() -> None:
    assert os_cause(OSError(104, "Connection reset by peer")) == "Connection reset by peer"
    assert os_cause(ValueError("one\ntwo")) == "one"
    assert os_cause(TimeoutError()) == "TimeoutError"


@pytest.mark.parametrize("status", [401, 403])
def test_a_request_for_a_credential_says_for_which_host_and_how_to_give_it(status: int) -> None:
    error = status_error(parse_url("https://data.example:8443/x"), status, {}, NOW)
    assert isinstance(error, CredentialRequiredError)
    assert error.details["host"] == "data.example:8443"
    assert "stager credentials add data.example:8443" in str(error)


@pytest.mark.parametrize(
    ("url", "challenge", "command"),
    [
        ("https://h.example/x", 'Bearer realm="basic, or not"', "add h.example`"),
        ("https://h.example/x", 'Basic realm="x"', "add h.example --user NAME`"),
        ("https://h.example/x", 'Negotiate, basic realm="x"', "add h.example --user NAME`"),
        ("http://h.example/x", "", "add h.example --allow-http`, which lets it go unencrypted"),
        ("ftp://h.example/x", "", "add h.example --user NAME --allow-http`"),
        ("sftp://h.example/x", "", "add h.example --user NAME`"),
        ("s3://bucket/x", "", "add bucket --kind s3 --user ACCESS_KEY`"),
        ("webdav://h.example/x", "", "add h.example --user NAME`"),
        ("gs://bucket/x", "", "add bucket`"),
    ],
)
def test_the_command_that_gives_a_credential_can_be_typed_as_it_is_shown(
    url: str, challenge: str, command: str
) -> None:
    error = status_error(parse_url(url), 401, {"www-authenticate": challenge}, NOW)
    assert f"stager credentials {command}" in str(error)


def test_a_signed_url_that_is_refused_is_no_request_for_a_credential() -> None:
    assert not isinstance(status_error(URL, 403, {}, NOW), CredentialRequiredError)


def test_an_origin_that_ends_the_connection_for_want_of_a_certificate_wants_a_credential() -> None:
    cause = "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2580)"
    assert isinstance(broken_connection(URL, cause), CredentialRequiredError)
    assert isinstance(broken_connection(URL, "Connection reset by peer"), ConnectionFailedError)
