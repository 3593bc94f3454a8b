"""HTTP points 39, 46, 49, 59 and 73 end to end: logins, signed URLs, what may be shared, names; on both drivers."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import pytest

from stager.cache.store import FileCache
from stager.errors import CredentialRequiredError, IncompleteError, OriginRefusedError
from tests.support.origin import Exchange, Origin, content, redirect, status
from tests.support.points import CUT, LARGE, SMALL, Fetch, is_right, leftovers, objects

HTML = {"Content-Type": "text/html; charset=utf-8"}
LOGIN = b"""<!DOCTYPE html><html><form action="/sso" method="post"><input name=u>
<INPUT class="x" autocomplete=off type='password' name=p></form></html>"""
PAGE = b"<!DOCTYPE html><html><h1>Type of password</h1>Choose a good password.</html>"
LONG = LOGIN + b" " * (2 << 20)


@pytest.fixture
def second() -> Iterator[Origin]:
    with Origin(host="127.0.0.2") as origin:
        yield origin


@pytest.mark.parametrize("page", [LOGIN, LONG], ids=["short", "long"])
@pytest.mark.parametrize("path", ["/run.nxs", "/data/run.tar.gz", "/x.csv?version=2"])
def test_point_49_a_login_page_in_place_of_data_wants_a_credential(
    origin: Origin, fetch: Fetch, cache: FileCache, path: str, page: bytes
) -> None:
    url = origin.serve(path, content(page, etag='"1"', headers=HTML))
    with pytest.raises(CredentialRequiredError, match=r"login page came instead of data.*html_hosts"):
        fetch(url)
    assert objects(cache) == leftovers(cache) == []


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("/wiki/Main_Page", LOGIN),
        ("/index.html", LOGIN),
        ("/show.php?run=7", LOGIN),
        ("/", LOGIN),
        ("/run.nxs", PAGE),
        ("/login", LOGIN),
    ],
)
def test_point_49_a_page_that_was_asked_for_or_has_no_form_is_data(
    origin: Origin, fetch: Fetch, path: str, page: bytes
) -> None:
    assert is_right(fetch(origin.serve(path, content(page, headers=HTML))), page)


def test_point_49_a_page_in_place_of_what_was_data_before_wants_a_credential(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    kind = {"Content-Type": "application/octet-stream"}
    url = origin.serve("/download?id=7", content(SMALL, headers=kind), content(LOGIN, headers=HTML))
    fetch(url)
    with pytest.raises(CredentialRequiredError, match="login page"):
        fetch(url, refresh=True)
    entry = cache.lookup(url)
    assert entry is not None
    assert entry.object == sha256(SMALL).hexdigest()


def test_point_49_a_page_with_the_wrong_digest_is_a_login_and_one_with_the_right_one_is_right(
    origin: Origin, fetch: Fetch
) -> None:
    url = origin.serve("/download?id=7", content(LOGIN, headers=HTML))
    with pytest.raises(CredentialRequiredError, match="login page"):
        fetch(url, sha256=sha256(SMALL).hexdigest())
    assert len(origin.seen()) == 1, "asking once more would not help"
    assert is_right(
        fetch(origin.serve("/run.nxs", content(LOGIN, headers=HTML)), sha256=sha256(LOGIN).hexdigest()), LOGIN
    )


@pytest.mark.parametrize(
    "place", ["/login?next=/run", "/idp/profile/SAML2/Redirect/SSO", "/users/sign_in", "/cas/login.jsp"]
)
def test_point_49_a_redirect_to_a_login_wants_a_credential_whatever_the_page_looks_like(
    origin: Origin, second: Origin, fetch: Fetch, cache: FileCache, place: str
) -> None:
    target = second.serve(place, content(PAGE, headers=HTML))
    with pytest.raises(CredentialRequiredError, match=r"127\.0\.0\.2:\d+ wants a credential"):
        fetch(origin.serve("/download?id=7", redirect(target)))
    assert objects(cache) == []


def test_point_49_a_redirect_to_data_or_to_another_page_is_no_login(
    origin: Origin, second: Origin, fetch: Fetch
) -> None:
    data = second.serve("/auth/run.nxs", content(SMALL))
    assert is_right(fetch(origin.serve("/a", redirect(data))), SMALL)
    page = second.serve("/catalogue/blogin/authors", content(PAGE, headers=HTML))
    assert is_right(fetch(origin.serve("/b", redirect(page))), PAGE)


def test_point_49_a_site_says_whose_pages_are_data(origin: Origin, second: Origin, fetch: Fetch) -> None:
    url = origin.serve("/run.nxs", content(LOGIN, headers=HTML))
    assert is_right(fetch(url, html_hosts=("127.0.0.*",)), LOGIN)
    target = second.serve("/login", content(LOGIN, headers=HTML))
    assert is_right(fetch(origin.serve("/x", redirect(target)), html_hosts=("127.0.0.2",)), LOGIN)
    with pytest.raises(CredentialRequiredError):
        fetch(origin.serve("/y", redirect(target)), html_hosts=("127.0.0.1",))


def signed(number: int) -> str:
    return f"/store/run.nxs?X-Amz-Signature={number}&X-Amz-Expires=1"


def test_point_59_a_signed_url_that_is_refused_is_resolved_again_once(
    origin: Origin, second: Origin, fetch: Fetch
) -> None:
    old, new = second.serve(signed(1), status(403)), second.serve(signed(2), content(SMALL))
    assert is_right(fetch(origin.serve("/run.nxs", redirect(old), redirect(new))), SMALL)
    assert len(origin.seen()) == 2
    never = origin.serve("/never", redirect(old))
    with pytest.raises(OriginRefusedError, match="403") as caught:
        fetch(never)
    assert len(origin.seen("/never")) == 2
    assert "X-Amz-Signature=1" not in str(caught.value)


def test_point_59_what_is_refused_without_a_signature_is_not_asked_again(
    origin: Origin, second: Origin, fetch: Fetch
) -> None:
    url = origin.serve("/run.nxs", redirect(second.serve("/store", status(403))))
    with pytest.raises(CredentialRequiredError):
        fetch(url)
    assert len(origin.seen()) == 1
    direct = origin.serve("/direct?sig=1", status(403))
    with pytest.raises(OriginRefusedError):
        fetch(direct)
    assert len(origin.seen("/direct?sig=1")) == 1


def test_point_39_a_partial_older_than_its_signed_url_is_gone_on_with_at_the_new_one(
    origin: Origin, second: Origin, fetch: Fetch
) -> None:
    cut = content(LARGE, etag='"1"', cut=CUT)
    old = second.serve(signed(1), cut, status(403))
    new = second.serve(signed(2), content(LARGE, etag='"1"'))
    url = origin.serve("/run.nxs", redirect(old), redirect(old), redirect(new))
    with pytest.raises(IncompleteError):
        fetch(url)
    result = fetch(url)
    assert is_right(result, LARGE)
    assert result.resumed_from == CUT
    assert [seen.headers.get("range") for seen in second.seen()] == [None, f"bytes={CUT}-", f"bytes={CUT}-"]


def test_point_39_a_signed_url_that_ends_in_the_middle_is_resolved_again_within_the_try(
    origin: Origin, second: Origin, fetch: Fetch
) -> None:
    """An origin that gives a part at a time, as some stores do."""

    def part(exchange: Exchange) -> None:
        first = int(
            exchange.request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-")
        )
        exchange.head(
            206,
            {
                "Content-Range": f"bytes {first}-{first + CUT - 1}/{len(LARGE)}",
                "Content-Length": str(CUT),
                "ETag": '"1"',
            },
        )
        exchange.body(LARGE[first : first + CUT])

    old = second.serve(signed(1), content(LARGE, etag='"1"', cut=100_000), part, status(403))
    new = second.serve(signed(2), content(LARGE, etag='"1"'))
    url = origin.serve("/run.nxs", redirect(old), redirect(old), redirect(new))
    with pytest.raises(IncompleteError):
        fetch(url)
    assert is_right(fetch(url), LARGE)
    assert second.seen(signed(2))[0].headers["range"] == f"bytes={100_000 + CUT}-"


@pytest.mark.parametrize(
    ("control", "sharing"),
    [("private, max-age=60", "private"), ("no-store", "no-store"), ("private, no-store", "no-store"), ("public", ""), ("", "")],
)  # fmt: skip
def test_point_46_what_the_origin_says_about_sharing_is_recorded(
    origin: Origin, fetch: Fetch, cache: FileCache, control: str, sharing: str
) -> None:
    url = origin.serve("/run.nxs", content(SMALL, headers={"Cache-Control": control} if control else {}))
    fetch(url)
    entry = cache.lookup(url)
    assert entry is not None
    assert entry.sharing == sharing


def test_point_46_a_confirmation_may_change_what_was_said(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    url = origin.serve(
        "/run.nxs",
        content(SMALL, etag='"1"', headers={"Cache-Control": "max-age=0"}),
        content(SMALL, etag='"1"', headers={"Cache-Control": "private"}),
    )
    fetch(url)
    assert fetch(url).cached
    entry = cache.lookup(url)
    assert entry is not None
    assert entry.sharing == "private"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ('attachment; filename="run 7.nxs"', "run 7.nxs"),
        ("attachment; filename=run7.nxs; size=5", "run7.nxs"),
        ("attachment; filename=\"x\"; filename*=UTF-8''n%C3%A4he.nxs", "n\u00e4he.nxs"),
        ('attachment; filename="/etc/passwd"', "passwd"),
        ('attachment; filename="..\\\\..\\\\evil.exe"', "evil.exe"),
        ("attachment; filename*=UTF-8''..%2F..%2Fetc%2Fcron.d%2Fx", "x"),
        ('attachment; filename=".."', ""),
        ("attachment; filename*=UTF-8''a%00b", ""),
        ("attachment; filename*=UTF-8''a%0Ab", ""),
        ("inline", ""),
    ],
)
def test_point_73_a_proposed_name_is_advice_and_no_path(
    origin: Origin, fetch: Fetch, cache: FileCache, given: str, name: str
) -> None:
    url = origin.serve("/download?id=7", content(SMALL, headers={"Content-Disposition": given}))
    result = fetch(url)
    entry = cache.lookup(url)
    assert entry is not None
    assert entry.name == name
    assert result.path == cache.object_path(result.sha256)
