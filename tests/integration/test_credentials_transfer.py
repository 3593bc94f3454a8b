"""Credentials on their way to an origin, on both drivers: which one, where to, where not, and renewed in time."""

from __future__ import annotations

import itertools
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from random import Random
from urllib.parse import parse_qs

import pytest

from stager.cache.store import FileCache
from stager.errors import (
    CredentialExpiredError,
    CredentialRefusedError,
    CredentialRequiredError,
    CredentialUnreadableError,
    InputError,
    RedirectError,
    StagerError,
)
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult
from stager.model.urls import parse_url
from tests.support.drivers import DRIVERS, AnyFetcher, Driver
from tests.support.origin import CA_BUNDLE, TLS_DIRECTORY, Exchange, Origin, content, redirect, status
from tests.support.vault import TokenEndpoint, Vault, basic, bearer, guarded, place

DATA = Random(5).randbytes(30_000)
LARGE = Random(6).randbytes(3_000_000)
PASSWORD = "canary-password"
Fetch = Callable[..., FetchResult]
_numbers = itertools.count(1)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def other() -> Iterator[Origin]:
    with Origin(host="127.0.0.2") as origin:
        yield origin


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "credentials")


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


@pytest.fixture
def fetch(tmp_path: Path, driver: Driver, vault: Vault) -> Iterator[Fetch]:
    cache = FileCache(tmp_path / "cache")
    made: list[AnyFetcher] = []

    def fetch(url: str, *, owner: str = "ann", ca: str = "", refresh: bool = False) -> FetchResult:
        if not made or ca:
            made.append(driver(cache, wallet=vault.wallet(), ca_bundle=ca))
        number = next(_numbers)
        return made[-1].fetch(FetchOrder(f"f{number}", 1, FetchRequest(url, owner=owner, refresh=refresh)))

    yield fetch
    for one in made:
        one.close()


def is_right(result: FetchResult, data: bytes = DATA) -> bool:
    return result.sha256 == sha256(data).hexdigest() == sha256(result.path.read_bytes()).hexdigest()


# -- the kinds ----------------------------------------------------------------------------------------


def test_a_basic_credential_is_shown(origin: Origin, fetch: Fetch, vault: Vault) -> None:
    vault.give(place(origin.base))
    url = origin.serve("/a", guarded(DATA, lambda h: h.get("authorization") == basic()))
    assert is_right(fetch(url))
    assert len(origin.seen()) == 1, "it is not asked without first"


def test_a_bearer_token_and_a_header_are_shown(origin: Origin, fetch: Fetch, vault: Vault) -> None:
    vault.give(place(origin.base), "bearer", prefix="/t", token="canary-token")
    vault.give(place(origin.base), "header", prefix="/h", name="X-Api-Key", value="canary-key")
    assert is_right(fetch(origin.serve("/t/a", guarded(DATA, lambda h: bearer(h) == "canary-token"))))
    assert is_right(fetch(origin.serve("/h/a", guarded(DATA, lambda h: h.get("x-api-key") == "canary-key"))))
    assert "authorization" not in origin.seen("/h/a")[0].headers


def test_a_client_certificate_is_shown(fetch: Fetch, vault: Vault) -> None:
    with Origin(tls=True) as origin:
        assert origin.tls is not None
        origin.tls.verify_mode = ssl.CERT_REQUIRED
        origin.tls.load_verify_locations(TLS_DIRECTORY / "client.pem")
        vault.give(
            place(origin.base),
            "certificate",
            allow_http=False,
            certificate=(TLS_DIRECTORY / "client.pem").read_text(),
            key=(TLS_DIRECTORY / "client-key.pem").read_text(),
        )
        url = origin.serve("/a", content(DATA))
        assert is_right(fetch(url, ca=CA_BUNDLE))


def test_a_certificate_without_its_key_is_told_and_not_asked_for_at_a_terminal(
    fetch: Fetch, vault: Vault
) -> None:
    with Origin(tls=True) as origin:
        vault.give(place(origin.base), "certificate", allow_http=False, certificate="no", key="canary-key")
        with pytest.raises(CredentialUnreadableError) as caught:
            fetch(origin.serve("/a", content(DATA)), ca=CA_BUNDLE)
        assert "canary" not in str(caught.value)


def login_form(origin: Origin, path: str = "/login") -> list[dict[str, str]]:
    """A form with a hidden field, which sets a session and leads elsewhere; what was posted."""
    posted: list[dict[str, str]] = []

    def answer(exchange: Exchange) -> None:
        page = (
            b"<form><input type=hidden name=csrf value=c1><input name=username><input name=password></form>"
        )
        if exchange.request.method == "GET":
            exchange.head(200, {"Content-Length": str(len(page)), "Set-Cookie": "pre=1; Path=/"})
            exchange.body(page)
            return
        form = {name: values[0] for name, values in parse_qs(exchange.request.body.decode()).items()}
        posted.append(form)
        right = form.get("password") == PASSWORD and form.get("csrf") == "c1"
        if right and "pre=1" in exchange.request.headers.get("cookie", ""):
            cookie = f"session=canary-session-{len(posted)}; Path=/; HttpOnly"
            exchange.head(302, [("Location", "/home"), ("Set-Cookie", cookie), ("Set-Cookie", "x=1, 2"),
                                ("Content-Length", "0")])  # fmt: skip
        else:
            exchange.head(200, {"Content-Length": str(len(page))})
            exchange.body(page)

    origin.serve(path, answer)
    origin.serve("/home", content(b"welcome"))
    return posted


def session_of(headers: Mapping[str, str]) -> str:
    pairs = dict(pair.strip().partition("=")[::2] for pair in headers.get("cookie", "").split(";"))
    return pairs.get("session", "")


def test_a_session_is_obtained_once_from_a_login_form_used_and_renewed(
    origin: Origin, fetch: Fetch, vault: Vault
) -> None:
    posted = login_form(origin)
    login = origin.url("/login")
    vault.give(place(origin.base), "form", user="ada", password=PASSWORD, login_url=login)
    for path in ("/a", "/b"):
        url = origin.serve(path, guarded(DATA, lambda h: session_of(h) == "canary-session-1"))
        assert is_right(fetch(url))
    assert len(posted) == 1
    url = origin.serve("/c", guarded(DATA, lambda h: session_of(h) == "canary-session-2"))
    assert is_right(fetch(url)), "the portal had ended the session"
    assert len(posted) == 2


def test_a_form_that_comes_again_is_a_refusal(origin: Origin, fetch: Fetch, vault: Vault) -> None:
    posted = login_form(origin)
    vault.give(
        place(origin.base), "form", user="ada", password="canary-wrong", login_url=origin.url("/login")
    )
    url = origin.serve("/a", guarded(DATA, lambda h: bool(session_of(h))))
    for _ in range(3):
        with pytest.raises(CredentialRefusedError) as caught:
            fetch(url)
        assert "canary" not in str(caught.value.to_dict())
    assert len(posted) == 1, "once is enough: the account might be locked there"


def test_client_credentials_give_a_token_for_all_fetches(origin: Origin, fetch: Fetch, vault: Vault) -> None:
    tokens = TokenEndpoint(lambda _, h: h.get("authorization", "") == basic("me", "canary-secret"))
    token_url = origin.serve("/token", tokens)
    vault.give(
        place(origin.base),
        "oauth2-client",
        client_id="me",
        client_secret="canary-secret",
        token_url=token_url,
    )
    for path in ("/a", "/b", "/c"):
        assert is_right(fetch(origin.serve(path, guarded(DATA, lambda h: bearer(h) == "canary-token-1"))))
    assert [form["grant_type"] for form in tokens.asked] == ["client_credentials"]


def test_a_refresh_token_that_is_replaced_is_kept_and_used_next(
    origin: Origin, fetch: Fetch, vault: Vault
) -> None:
    valid = ["canary-refresh-1"]

    def accepts(form: dict[str, str], _: Mapping[str, str]) -> bool:
        if form.get("refresh_token") != valid[-1] or form.get("client_id") != "me":
            return False
        valid.append(f"canary-refresh-{len(valid) + 1}")
        return True

    tokens = TokenEndpoint(accepts, rotates=True, seconds=0.0)
    token_url = origin.serve("/token", tokens)
    vault.give(
        place(origin.base),
        "oauth2-refresh",
        client_id="me",
        refresh_token="canary-refresh-1",
        token_url=token_url,
    )
    for path in ("/a", "/b", "/c"):
        url = origin.serve(path, guarded(DATA, lambda h: bearer(h) == tokens.issued[-1]))
        assert is_right(fetch(url))
    assert len(tokens.asked) == 3


def test_a_token_is_renewed_before_it_ends(origin: Origin, fetch: Fetch, vault: Vault) -> None:
    tokens = TokenEndpoint(lambda *_: True, seconds=2.0)
    token_url = origin.serve("/token", tokens)
    vault.give(place(origin.base), "oauth2-client", client_id="me", client_secret="s", token_url=token_url)
    url = origin.serve("/a", guarded(DATA, lambda h: bool(bearer(h))))
    wallet_session = fetch(url)
    assert is_right(wallet_session)
    (credential,) = vault.service.list()
    assert credential.renewed_until is not None
    until = credential.renewed_until - 0.4
    while vault.clock.time() < until:
        threading.Event().wait(0.05)
    fetch(url, refresh=True)
    assert len(tokens.issued) == 2, "in the last part of its life, and not after it"


@pytest.mark.parametrize(
    "seconds", [float("inf"), float("nan"), int("9" * 400)], ids=["inf", "nan", "400 digits"]
)
def test_a_token_that_is_said_to_hold_for_ever_is_used_and_listed(
    origin: Origin, fetch: Fetch, vault: Vault, seconds: float
) -> None:
    tokens = TokenEndpoint(lambda *_: True, seconds=seconds)
    token_url = origin.serve("/token", tokens)
    vault.give(place(origin.base), "oauth2-client", client_id="me", client_secret="s", token_url=token_url)
    url = origin.serve("/a", guarded(DATA, lambda h: bool(bearer(h))))
    assert is_right(fetch(url))
    (credential,) = vault.service.list()
    json.dumps(asdict(credential), allow_nan=False)


def test_points_78_and_81_a_credential_is_renewed_only_where_a_fetch_may_reach(
    origin: Origin, fetch: Fetch, vault: Vault
) -> None:
    """Else whoever gives a credential could have the server post to what it alone can reach."""
    inside = "http://169.254.169.254/latest/api/token"
    vault.give(place(origin.base), "oauth2-client", client_id="me", client_secret="s", token_url=inside)
    url = origin.serve("/a", guarded(DATA, lambda h: bool(bearer(h))))
    with pytest.raises(StagerError, match=r"169\.254\.169\.254.*is not allowed here"):
        fetch(url)
    assert [seen.headers.get("authorization") for seen in origin.seen()] in ([], [None])


def test_one_of_many_renews_for_all(origin: Origin, fetch: Fetch, vault: Vault) -> None:
    tokens = TokenEndpoint(lambda *_: True)
    token_url = origin.serve("/token", tokens)
    vault.give(place(origin.base), "oauth2-client", client_id="me", client_secret="s", token_url=token_url)
    fetch(origin.serve("/public", content(DATA)))
    vault.service.rotate(place(origin.base), {"client_secret": "t"})
    urls = [origin.serve(f"/{n}", guarded(DATA, lambda h: bearer(h) == "canary-token-2")) for n in range(6)]
    results: list[FetchResult] = []
    threads = [threading.Thread(target=lambda url: results.append(fetch(url)), args=(url,)) for url in urls]
    threading.Event().wait(1.1)  # until the wallet looks again
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert len(tokens.asked) == 2


def test_a_transfer_that_is_resumed_goes_on_with_the_new_token(
    origin: Origin, fetch: Fetch, vault: Vault
) -> None:
    tokens = TokenEndpoint(lambda *_: True)
    token_url = origin.serve("/token", tokens)
    vault.give(place(origin.base), "oauth2-client", client_id="me", client_secret="s", token_url=token_url)
    first = content(LARGE, etag='"1"', cut=2_000_000)
    rest = guarded(LARGE, lambda h: bearer(h) == "canary-token-2", etag='"1"')
    url = origin.serve("/a", first, rest)
    with pytest.raises(Exception, match="incomplete"):
        fetch(url)
    result = fetch(url)
    assert is_right(result, LARGE)
    assert result.resumed_from == 2_000_000, "the refusal in between threw nothing away"


# -- where it goes, and where not ---------------------------------------------------------------------


def test_point_64_a_redirect_to_another_origin_takes_no_secret_along(
    origin: Origin, other: Origin, fetch: Fetch, vault: Vault
) -> None:
    vault.give(place(origin.base), "header", name="X-Api-Key", value="canary-key")
    elsewhere = other.serve("/b", content(DATA))
    assert is_right(fetch(origin.serve("/a", redirect(elsewhere))))
    assert origin.seen("/a")[0].headers["x-api-key"] == "canary-key"
    assert not [h for h in other.seen("/b")[0].headers if h in {"x-api-key", "authorization", "cookie"}]


def test_point_64_each_origin_on_the_way_gets_its_own(
    origin: Origin, other: Origin, fetch: Fetch, vault: Vault
) -> None:
    vault.give(place(origin.base), "bearer", token="canary-one")
    vault.give(place(other.base), "bearer", token="canary-two")
    elsewhere = other.serve("/b", guarded(DATA, lambda h: bearer(h) == "canary-two"))
    assert is_right(fetch(origin.serve("/a", redirect(elsewhere))))
    assert bearer(origin.seen("/a")[0].headers) == "canary-one"


def test_point_65_a_credential_is_not_followed_to_http(other: Origin, fetch: Fetch, vault: Vault) -> None:
    with Origin(tls=True) as origin:
        vault.give(place(origin.base), allow_http=False)
        url = origin.serve("/a", redirect(other.serve("/b", content(DATA))))
        with pytest.raises(RedirectError):
            fetch(url, ca=CA_BUNDLE)
    assert other.seen() == []


def test_point_67_a_credential_goes_only_to_hosts_on_its_own_list(
    origin: Origin, other: Origin, fetch: Fetch, vault: Vault
) -> None:
    vault.give(place(origin.base))
    vault.give("127.0.0.2")  # without a port: that of the scheme
    with pytest.raises(CredentialRequiredError):
        fetch(other.serve("/a", guarded(DATA, lambda h: "authorization" in h)))
    assert "authorization" not in other.seen("/a")[0].headers


def test_point_67_a_prefix_is_of_whole_segments_and_dots_do_not_lead_into_it(
    origin: Origin, fetch: Fetch, vault: Vault
) -> None:
    vault.give(place(origin.base), prefix="/secret")
    for path in ("/secrets", "/x/../secretly", "/secret/%2e%2e/open"):
        shown = parse_url(origin.url(path)).target
        fetch(origin.url(path) if origin.serve(shown, content(DATA)) else "")
        assert "authorization" not in origin.seen(shown)[0].headers
    assert is_right(
        fetch(origin.serve("/secret/x", guarded(DATA, lambda h: h.get("authorization") == basic())))
    )


def test_a_credential_goes_over_plain_http_only_if_that_is_allowed(
    origin: Origin, fetch: Fetch, vault: Vault
) -> None:
    vault.give(place(origin.base), allow_http=False)
    with pytest.raises(CredentialRequiredError, match="--allow-http"):
        fetch(origin.serve("/a", guarded(DATA, lambda h: "authorization" in h)))
    assert "authorization" not in origin.seen("/a")[0].headers


def test_point_68_netrc_does_not_replace_what_was_given(
    origin: Origin, fetch: Fetch, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login user password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    vault.give(place(origin.base), "bearer", token="canary-token")
    assert is_right(fetch(origin.serve("/a", guarded(DATA, lambda h: bearer(h) == "canary-token"))))


def test_point_69_a_password_in_a_url_is_refused_and_the_way_out_is_told() -> None:
    with pytest.raises(InputError, match="stager credentials add") as caught:
        FetchRequest("https://ada:canary-password@data.example/x")
    assert "canary" not in str(caught.value.to_dict())


def test_point_70_cookies_of_one_fetch_are_not_seen_by_another(
    origin: Origin, fetch: Fetch, vault: Vault
) -> None:
    vault.give(place(origin.base))
    origin.serve("/b", content(DATA))
    url = origin.serve("/a", status(302, {"Location": "/b", "Set-Cookie": "s=canary-cookie"}))
    fetch(url)
    assert origin.seen("/b")[0].headers["cookie"] == "s=canary-cookie", "within the fetch it is"
    fetch(origin.serve("/c", content(DATA)))
    assert "cookie" not in origin.seen("/c")[0].headers


def test_a_login_by_redirects_that_ends_where_it_began_is_no_circle(
    origin: Origin, other: Origin, fetch: Fetch, vault: Vault
) -> None:
    """As NASA's Earthdata does it: the credential is for the login host, the data host wants its cookie."""
    vault.give(place(other.base))
    back = origin.serve("/back", status(302, {"Location": "/a", "Set-Cookie": "s=canary-cookie; Path=/"}))

    def data(exchange: Exchange) -> None:
        if exchange.request.headers.get("cookie") == "s=canary-cookie":
            content(DATA)(exchange)
        else:
            redirect(other.url("/login"))(exchange)

    def login(exchange: Exchange) -> None:
        admitted = exchange.request.headers.get("authorization") == basic()
        (redirect(back) if admitted else status(401))(exchange)

    other.serve("/login", login)
    assert is_right(fetch(origin.serve("/a", data)))


# -- whose, and how long ------------------------------------------------------------------------------


def test_the_narrowest_scope_wins_and_nobody_gets_anothers(
    origin: Origin, fetch: Fetch, vault: Vault
) -> None:
    here = place(origin.base)
    vault.give(here, "bearer", token="canary-site")
    vault.give(here, "bearer", owner="ann", token="canary-ann")
    vault.give(here, "bearer", prefix="/deep", token="canary-deep")
    for path, owner, token in (
        ("/1", "ann", "canary-ann"),
        ("/2", "bob", "canary-site"),
        ("/deep/3", "bob", "canary-deep"),
        ("/deep/4", "ann", "canary-ann"),
    ):
        fetch(origin.serve(path, content(DATA)), owner=owner)
        assert bearer(origin.seen(path)[0].headers) == token


def test_an_expired_credential_is_not_shown_and_named_when_one_is_wanted(
    origin: Origin, fetch: Fetch, vault: Vault
) -> None:
    vault.give(place(origin.base), expires_at=vault.clock.time() + 0.2)
    threading.Event().wait(0.3)
    with pytest.raises(CredentialExpiredError, match="rotate"):
        fetch(origin.serve("/a", guarded(DATA, lambda h: "authorization" in h)))
    assert is_right(fetch(origin.serve("/public", content(DATA))))
    assert all("authorization" not in seen.headers for seen in origin.seen())


def test_a_refused_password_is_shown_once_and_not_by_every_fetch(
    origin: Origin, fetch: Fetch, vault: Vault
) -> None:
    vault.give(place(origin.base), user="ada", password="canary-wrong")
    for number in range(5):
        with pytest.raises(CredentialRefusedError):
            fetch(origin.serve(f"/{number}", guarded(DATA, lambda h: h.get("authorization") == basic())))
    assert len([seen for seen in origin.seen() if "authorization" in seen.headers]) == 1
    (listed,) = vault.service.list()
    assert listed.state == "refused"


def test_what_was_given_meanwhile_is_used_by_the_same_try(origin: Origin, fetch: Fetch, vault: Vault) -> None:
    vault.give("elsewhere.example.org")
    fetch(origin.serve("/public", content(DATA)))

    def give(exchange: Exchange) -> None:
        vault.give(place(origin.base))
        status(401)(exchange)

    assert is_right(
        fetch(origin.serve("/a", give, guarded(DATA, lambda h: h.get("authorization") == basic())))
    )


def test_a_sealed_text_that_was_moved_to_another_row_is_refused(
    origin: Origin, fetch: Fetch, vault: Vault
) -> None:
    from dataclasses import replace

    vault.give("elsewhere.example.org", owner="bob")
    vault.give(place(origin.base), owner="ann")
    theirs, ours = (vault.service.find(word) for word in ("elsewhere.example.org", place(origin.base)))
    vault.store.put(replace(ours, sealed=theirs.sealed))
    with pytest.raises(CredentialUnreadableError, match="moved or altered"):
        fetch(origin.serve("/a", guarded(DATA, lambda h: "authorization" in h)))
    assert "authorization" not in origin.seen("/a")[0].headers


def test_trouble_with_the_store_harms_only_what_needs_a_credential(
    origin: Origin, fetch: Fetch, vault: Vault
) -> None:
    vault.give(place(origin.base))
    (vault.root / "version").write_text("99\n")
    assert is_right(fetch(origin.serve("/public", content(DATA))))
    with pytest.raises(CredentialUnreadableError, match="version '99'"):
        fetch(origin.serve("/a", status(401)))


def test_a_lost_key_is_told_with_the_way_out(origin: Origin, fetch: Fetch, vault: Vault) -> None:
    vault.give(place(origin.base))
    vault.keys.private.unlink()
    with pytest.raises(CredentialUnreadableError, match="give the credentials again"):
        fetch(origin.serve("/a", status(401)))


def test_a_key_that_others_can_read_opens_nothing(origin: Origin, fetch: Fetch, vault: Vault) -> None:
    vault.give(place(origin.base))
    vault.keys.private.chmod(0o640)
    with pytest.raises(CredentialUnreadableError, match="open to others"):
        fetch(origin.serve("/a", status(401)))
