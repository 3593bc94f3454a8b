from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stager.errors import InputError
from stager.model.urls import MAX_LENGTH, Url, parse_url


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("HTTP://Example.ORG", "http://example.org/"),
        ("http://example.org:80/a", "http://example.org/a"),
        ("https://example.org:443/a", "https://example.org/a"),
        ("https://example.org:80/a", "https://example.org:80/a"),
        ("http://example.org:/a", "http://example.org/a"),
        ("http://example.org:0080/a", "http://example.org/a"),
        ("http://example.org./a", "http://example.org/a"),
        ("http://example.org/a#part", "http://example.org/a"),
        ("http://example.org/a?", "http://example.org/a"),
        ("http://example.org?q=1", "http://example.org/?q=1"),
        ("http://example.org/%7Euser/%e4", "http://example.org/~user/%E4"),
        ("http://example.org/a%2Fb", "http://example.org/a%2Fb"),
        ("http://example.org/a%2fb", "http://example.org/a%2Fb"),
        ("http://example.org/100%", "http://example.org/100%25"),
        ("http://example.org/ä", "http://example.org/%C3%A4"),
        ("http://example.org/a?x=ä", "http://example.org/a?x=%C3%A4"),
        ("http://example.org/a/./b/../c", "http://example.org/a/c"),
        ("http://example.org/../a", "http://example.org/a"),
        ("http://example.org/..", "http://example.org/"),
        ("http://example.org/a/..", "http://example.org/"),
        ("http://example.org/a/.", "http://example.org/a/"),
        ("http://example.org/%2e%2E/a", "http://example.org/a"),
        ("http://example.org/a//b", "http://example.org/a//b"),
        ("http://example.org//a", "http://example.org//a"),
        ("http://example.org/a;v=1", "http://example.org/a;v=1"),
        ("http://example.org/a?x=1&y=[2]", "http://example.org/a?x=1&y=[2]"),
        ("http://[2001:DB8::1]:8080/a", "http://[2001:db8::1]:8080/a"),
        ("http://[::1]/a", "http://[::1]/a"),
        ("http://[0:0::0:1]/a", "http://[::1]/a"),
        ("http://bücher.example/a", "http://xn--bcher-kva.example/a"),
        ("http://127.0.0.1:8000/a", "http://127.0.0.1:8000/a"),
        ("http://127.0.0.1./a", "http://127.0.0.1/a"),
        ("http://127.1/a", "http://127.0.0.1/a"),
        ("http://2130706433/a", "http://127.0.0.1/a"),
        ("http://0x7F.0x1/a", "http://127.0.0.1/a"),
        ("http://0177.0.0.01/a", "http://127.0.0.1/a"),
        ("http://\uff11\uff12\uff17.0.0.1/a", "http://127.0.0.1/a"),
        ("http://[::ffff:127.0.0.1]/a", "http://[::ffff:7f00:1]/a"),
        ("s3://2130706433/a", "s3://2130706433/a"),
        ("http://7up.example/a", "http://7up.example/a"),
        ("http://1.2.3.example/a", "http://1.2.3.example/a"),
        ("http://my_host/a", "http://my_host/a"),
        ("FILE:///a/../b%20c", "file:///b%20c"),
        ("file:/a", "file:///a"),
        ("file://localhost/a", "file:///a"),
        ("file:///a%FF", "file:///a%FF"),
        ("ftp://H:21/a", "ftp://h/a"),
        ("ftp://h:2121/a%3Fb", "ftp://h:2121/a%3Fb"),
        ("sftp://h:22/a", "sftp://h/a"),
        ("s3://My.Bucket/a%2Fb", "s3://my.bucket/a%2Fb"),
        ("s3://bucket/a?versionId=x.Y_1", "s3://bucket/a?versionId=x.Y_1"),
    ],
)
def test_a_url_has_one_canonical_text(text: str, canonical: str) -> None:
    assert parse_url(text).text == canonical


def test_different_resources_keep_different_texts() -> None:
    texts = [
        "http://h/a", "http://h/A", "http://h/a/", "http://h/a?x", "http://h/a?x=", "http://h/a%2Fb", "http://h/a/b",
        "http://h/a?x=1+2", "http://h/a?x=1%202", "http://h/a?x=1%2B2", "http://h/a?x&y", "http://h/a?x%26y",
        "https://h/a", "http://h:81/a",
    ]  # fmt: skip
    assert len({parse_url(text).text for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "/a/b",
        "//host/a",
        "http:",
        "http:/a",
        "http:///a",
        "http://",
        "http://?q",
        "http://#f",
        "http://:80/a",
        "http://h:0/a",
        "http://h:65536/a",
        "http://h:x/a",
        "http://h:-1/a",
        "http://256.0.0.1/a",
        "http://4294967296/a",
        "http://1.2.3.4.5/a",
        "http://1..2/a",
        "http://089.0.0.1/a",
        "http://host.7/a",
        "http://1_0.0.0.1/a",
        "http://h:8\u0660/a",
        "http://h o/a",
        "http://h/a b",
        "http://h/a\nb",
        "http://h/a\tb",
        " http://h/a",
        "http://h/a ",
        "http://h\\@evil/a",
        "http://[::1/a",
        "http://::1/a",
        "http://[zz]/a",
        "http://[1.2.3.4]/a",
        "http://[]/a",
        "http://[fe80::1%25eth0]/a",
        "http://-/a",
        "http://h%41/a",
        "http://h%2Fx/a",
        "http://../a",
        "http://./a",
        "http://a..b/a",
        "http://" + "a" * 64 + ".example/a",
        "http://h/\ud800",
        "http://h/?\udfff",
        "http://\ud800/a",
        "gopher://h/a",
        "memory://h/a",
        "javascript:alert(1)",
        "file://h/a",
        "file:a",
        "file:///a?b",
        "file:///a%00b",
        "ftp:///a",
        "ftp://h/a?b",
        "ftp://h/a%0D%0ADELE%20b",
        "ftp://h/%FF",
        "sftp://h/a?versionId=1",
        "s3://bucket:80/a",
        "s3://bucket/a?versionId=",
        "s3://bucket/a?versionId=1&x=2",
        "http://h/" + "a" * MAX_LENGTH,
    ],
)
def test_what_is_not_a_url_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://user:hunter2@h/a",
        "https://hunter2@h/a",
        "https://user:hunter2@h:port/a",
        "https://user:hunter2@h:0/a",
        "https://user:hunter2@[::1/a",
        "https://user:hunter2@h/a b",
        "ftp://user:hunter2@h/a",
        "https://user:hunter2@/a",
        "https://user:hunter2@h/" + "a" * MAX_LENGTH,
        "https://h/a b?token=hunter2",
        "https://h:0/a?X-Amz-Signature=hunter2",
        "ftp://h/a?password=hunter2",
        "https:///a?sig=hunter2",
    ],
)
def test_a_refusal_repeats_no_secret(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse_url(text)
    assert "hunter2" not in str(refusal.value)
    assert "hunter2" not in repr(refusal.value.details)
    chain = refusal.value.__context__
    assert chain is None or refusal.value.__suppress_context__


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h/a?token=s3cret&x=1", "https://h/a?token=***&x=1"),
        ("https://h/a?X-Amz-Signature=s3cret", "https://h/a?X-Amz-Signature=***"),
        ("https://h/a?Access_Token=s3cret", "https://h/a?Access_Token=***"),
        ("https://h/a?api-key=s3cret", "https://h/a?api-key=***"),
        ("https://h/a?apikey=s3cret", "https://h/a?apikey=***"),
        ("https://h/a?client_secret=s3cret", "https://h/a?client_secret=***"),
        ("https://h/a?auth=s3cret", "https://h/a?auth=***"),
        ("https://h/a?passwd=s3cret", "https://h/a?passwd=***"),
        ("https://h/a?tok%65n=s3cret", "https://h/a?token=***"),
        ("https://h/a?t%6Fken%20=s3cret", "https://h/a?token%20=***"),
        ("https://h/a?x=1;token=s3cret", "https://h/a?x=1;token=***"),
        ("https://h/a?x=1", "https://h/a?x=1"),
        ("https://h/a?token", "https://h/a?token"),
        ("https://h:8443/a?token=s3cret", "https://h:8443/a?token=***"),
    ],
)
def test_the_shown_form_hides_what_looks_like_a_secret(text: str, shown: str) -> None:
    assert parse_url(text).redacted == shown


def test_the_parts_say_where_to_connect_and_what_to_ask() -> None:
    url = parse_url("https://Example.org:8443/a/b%20c.txt?x=1#f")
    assert (url.scheme, url.host, url.port, url.target) == ("https", "example.org", 8443, "/a/b%20c.txt?x=1")
    assert url.origin == "https://example.org:8443"
    assert url.name == "b c.txt"
    assert parse_url("http://h/a?b/c").name == "a"
    assert parse_url("http://h/a/").name == ""


def _check(url: Url) -> None:
    again = parse_url(url.text)
    assert again == url
    assert url.text.isascii()
    assert url.text == url.origin + url.target
    parts = urlsplit(url.text)
    assert (parts.scheme, parts.port or {"http": 80, "https": 443}[url.scheme]) == (url.scheme, url.port)
    assert not any(segment in {".", ".."} for segment in url.target.partition("?")[0].split("/"))
    assert not set(url.target) & set(" \r\n\\#")
    assert url.name == url.name.encode("utf-8").decode("utf-8")
    parse_url(url.redacted)


PIECES = st.sampled_from(
    [
        "a",
        "A",
        "h",
        ".",
        "..",
        "/",
        "//",
        "/./",
        "/../",
        "%2e",
        "%2E%2e",
        "%2F",
        "%41",
        "%",
        "%4",
        "%zz",
        "%25",
        "?",
        "&",
        "=",
        "#",
        ":",
        "@",
        "[",
        "]",
        ";",
        "+",
        "~",
        "|",
        "^",
        "`",
        "{",
        "}",
        '"',
        "<",
        ">",
        "ä",
        "ß",
        "\u3002",
        "\uff0e",
        "日",
        "xn--",
        "xn--a",
        "-",
        "_",
        "80",
        "443",
        "0",
        "99999",
        "::1",
        "127.0.0.1",
        "token=",
        "\\",
        "\x00",
        "\x7f",
        "\u200d",
        "\xad",
        "�",
        "\u2028",
    ]
)
URLISH = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["http://", "https://", "HTTP://", "http:", "//", ""]),
        st.lists(PIECES, max_size=12).map("".join),
    ),
)


@given(
    URLISH
    | st.text()
    | st.text().map(lambda text: "http://h/" + text)
    | st.text().map(lambda t: f"http://{t}/")
)
@example("http://h/a?b?c")
@example("http://ß.example/")
@example("http://a\u3002b/")
@example("http://h/%2e%2e/%2e%2e")
def test_any_text_is_refused_or_has_a_canonical_form_that_stays(text: str) -> None:
    try:
        url = parse_url(text)
    except InputError:
        return
    _check(url)
