"""Lists of files in every form, good and bad."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager.errors import InputError
from stager.model.lists import ListedFile, ListFormat, ParsedList, parse_list

A, B, C = "http://a.test/x", "https://b.test/x?sig=1", "http://c.test/y"
SHA = "ab" * 32
OTHER = "cd" * 32
MD5 = "ef" * 16
METALINK = f"""<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink">
  <published>2026-01-01T00:00:00Z</published>
  <file name="x.dat">
    <size>14</size>
    <hash type="md5">{MD5}</hash>
    <hash type="sha-256">
      {SHA}
    </hash>
    <pieces length="7" type="sha-256"><hash>{OTHER}</hash></pieces>
    <url location="de" priority="2">{B.replace("&", "&amp;")}</url>
    <url>http://last.test/x</url>
    <url priority="1">{A}</url>
    <url priority="1">rsync://a.test/x</url>
    <metaurl mediatype="torrent">http://a.test/x.torrent</metaurl>
  </file>
  <file name="y.dat"><url>{C}</url></file>
</metalink>
"""


def parsed(text: str | bytes, name: str = "list", form: ListFormat | None = None) -> ParsedList:
    return parse_list(text if isinstance(text, bytes) else text.encode(), name, form)


def files(text: str, name: str = "list", form: ListFormat | None = None) -> list[ListedFile]:
    return parsed(text, name, form).files


# -- plain ---------------------------------------------------------------------------------------


def test_a_plain_list_is_a_url_per_line_without_comments_and_blank_lines() -> None:
    assert files(f"# what\n\n{A}\r\n  {C}#part  \n") == [
        ListedFile((A,), place="list:3"),
        ListedFile((f"{C}#part",), place="list:4"),
    ]


def test_a_bad_url_is_named_with_its_line_and_without_a_password() -> None:
    with pytest.raises(InputError, match=r"list:2: .*user name") as caught:
        files(f"{A}\nhttp://me:hush@host/\n")
    assert "hush" not in str(caught.value)


def test_an_empty_list_names_nothing() -> None:
    assert files("\n# nothing\n") == []


def test_a_byte_order_mark_is_no_part_of_a_url() -> None:
    assert files(f"\ufeff{A}\n")[0].urls == (A,)


def test_bytes_that_are_no_text_are_refused_with_their_line() -> None:
    with pytest.raises(InputError, match=r"list:2 can't be read: it is not UTF-8"):
        parsed(b"http://a.test/\n\xff\xfe\n")


# -- aria2 ---------------------------------------------------------------------------------------


def test_an_input_file_of_aria2_has_mirrors_and_options() -> None:
    text = f"""# of aria2
{A}\t{B}
  out=x.dat
  checksum=sha-256={SHA}
  split=5
{C}
\tchecksum=adler32=0123
{A}
  checksum=md5={MD5}
"""
    found = parsed(text)
    assert found.files == [
        ListedFile((A, B), SHA, None, "x.dat", "list:2"),
        ListedFile((C,), place="list:6"),
        ListedFile((A,), f"md5:{MD5}", place="list:8"),
    ]
    assert list(found.notes) == [
        "option split is left out",
        "checksums of adler32 are not checked",
    ]


@pytest.mark.parametrize("text", [f" out=x\n{A}\n", f"{A}\n out\n", f"{A}\n checksum=sha-256=12\n"])
def test_an_option_without_a_url_a_value_or_a_digest_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^list:[12]"):
        files(text, form=ListFormat.ARIA2)


def test_a_mirror_that_can_not_be_read_is_left_out_and_told_unless_it_is_the_only_one() -> None:
    found = parsed(f"rsync://a.test/x\t{A}\n")
    assert found.files[0].urls == (A,)
    assert "left out" in next(iter(found.notes))
    with pytest.raises(InputError, match=r"list:1: unknown scheme"):
        files("rsync://a.test/x\n")
    with pytest.raises(InputError, match=r"list:1 can't be read: no URL"):
        files("rsync://a.test/x\trsync://b.test/x\n")


# -- Metalink ------------------------------------------------------------------------------------


def test_a_metalink_has_mirrors_by_priority_a_size_and_a_digest() -> None:
    found = parsed(METALINK)
    assert found.files == [
        ListedFile((A, B, "http://last.test/x"), SHA, 14, "x.dat", "list:4"),
        ListedFile((C,), None, None, "y.dat", "list:17"),
    ]
    assert any("metaurl" in note for note in found.notes)
    assert any("rsync" in note for note in found.notes)


def test_a_metalink_with_other_hashes_only_says_that_they_are_not_checked() -> None:
    weaker = METALINK.replace('type="sha-256"', 'type="sha3-256"', 1)
    assert parsed(weaker).files[0].digest == f"md5:{MD5}"
    text = weaker.replace('type="md5"', 'type="md4"')
    assert "hashes of other algorithms than sha and md5 are not checked" in parsed(text).notes


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True))
    + ']><metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="&i;"/></metalink>'
)
EXTERNAL = (
    '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    f'<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="x"><url>{A}?&a;</url></file></metalink>'
)


@pytest.mark.parametrize(
    "text", [BOMB, EXTERNAL, '<!DOCTYPE x SYSTEM "http://h/"><x/>'], ids=["bomb", "file", "dtd"]
)
def test_a_document_type_is_refused_before_any_entity_is_read(text: str) -> None:
    with pytest.raises(InputError, match="document type"):
        files(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<metalink", "list:1"),
        ("<x/>", "no Metalink"),
        ('<metalink version="3.0" xmlns="http://www.metalinker.org/"/>', "Metalink 3"),
        (METALINK.replace("<size>14", "<size>many"), "list:4"),
        (METALINK.replace('priority="2"', 'priority="first"'), "list:11 .*priority"),
        (METALINK.replace(SHA, "12"), "list:4: .*digest"),
        (METALINK.replace('encoding="UTF-8"', 'encoding="klingon"'), "list:1"),
        (METALINK.replace(f"<url>{C}</url>", ""), "list:17 .*no URL"),
    ],
)
def test_a_metalink_that_makes_no_sense_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        files(text)


# -- BagIt ---------------------------------------------------------------------------------------

FETCH = f"{A} 14 data/x%25.dat\n{C}\t-\tdata/y.dat\n"


def bag(manifest: bytes | None, text: str = FETCH) -> ParsedList:
    return parse_list(text.encode(), "bag/fetch.txt", None, {"manifest-sha256.txt": manifest}.get)


def test_a_bag_takes_its_digests_from_the_manifest_beside_it() -> None:
    found = bag(f"{SHA.upper()}  data/x%25.dat\n{OTHER} *data/y.dat\n".encode())
    assert found.files == [
        ListedFile((A,), SHA, 14, "data/x%.dat", "bag/fetch.txt:1"),
        ListedFile((C,), OTHER, None, "data/y.dat", "bag/fetch.txt:2"),
    ]
    assert not found.notes


def test_a_bag_without_a_manifest_or_with_a_short_one_says_what_is_not_checked() -> None:
    assert "digests are not checked" in next(iter(bag(None).notes))
    found = bag(f"{SHA}  data/x%.dat\n".encode())
    assert [file.digest for file in found.files] == [SHA, None]
    assert "data/y.dat is not in" in next(iter(found.notes))


def test_a_bag_whose_fetch_or_manifest_has_another_form_is_refused() -> None:
    with pytest.raises(InputError, match=r"fetch.txt:2"):
        bag(None, f"{A} 14 data/x\n{A}\n")
    with pytest.raises(InputError, match=r"manifest-sha256.txt:1"):
        bag(b"12 data/x\n")


# -- CSV and JSON --------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_columns_are_found_by_their_names(mark: str) -> None:
    rows = [["Size", "URL", "note", "sha256"], ["14", A, "hello", SHA], ["", f"{B} {C}", "", ""]]
    found = parsed("\n".join(mark.join(row) for row in rows) + "\n")
    assert found.files == [
        ListedFile((A,), SHA, 14, place="list:2"),
        ListedFile((B, C), place="list:3"),
    ]
    assert list(found.notes) == ["column 'note' is left out"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "list.csv:1 .*no column is named url"),
        (f"url,size\n{A}\n", "list.csv:2 .*1 columns"),
        (f"url,size\n{A},-1\n", "list.csv:2 .*size"),
        (f"url,size\n{A},{'9' * 30}\n", "list.csv:2 .*size"),
        (f'url,size\n"{A},14\n', "list.csv:"),
        ("url,size\n,14\n", "list.csv:2 .*no URL"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        files(text, "list.csv")


OBJECT = f'{{"url": "{A}", "sha256": "{SHA}", "size": 14, "name": "x", "more": 1}}'
MIRRORS = f'{{"urls": ["{B}", "{C}"]}}'


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (f"[{OBJECT}, {MIRRORS}]", ["list, file 1", "list, file 2"]),
        (f'{{"files": [{OBJECT}, {MIRRORS}]}}', ["list, file 1", "list, file 2"]),
        (f"{OBJECT}\n\n{MIRRORS}\n", ["list:1", "list:3"]),
    ],
    ids=["array", "files", "lines"],
)
def test_json_is_an_array_or_an_object_per_line(text: str, places: list[str]) -> None:
    found = parsed(text)
    assert found.files == [ListedFile((A,), SHA, 14, "x", places[0]), ListedFile((B, C), place=places[1])]
    assert list(found.notes) == ["'more' is left out"]


def test_json_may_be_urls_alone() -> None:
    assert [file.urls for file in files(f'["{A}", "{C}"]')] == [(A,), (C,)]


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[1]",
        "{}",
        '{"url": 1}',
        '{"urls": []}',
        f'{{"url": "{A}", "size": true}}',
        f'{{"url": "{A}", "size": 1.5}}',
        f'{{"url": "{A}", "sha256": 7}}',
        f'{{"url": "{A}"}}\nnonsense\n',
        "[" * 100_000,
        f'{{"url": "{A}", "size": {"9" * 5000}}}',
        '{"url": "http://a.test/\\ud800"}',
    ],
    ids=lambda text: text[:30],
)
def test_json_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^list"):
        files(text)


# -- which form ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("x.meta4", METALINK, 2),
        ("fetch.txt", f"{A} - data/x\n", 1),
        ("list", f"{A} 14 data/x\n{C} - data/y\n", 2),
        ("x.tsv", f"url\tsize\n{A}\t1\n", 1),
        ("x.jsonl", f'"{A}"\n"{C}"\n', 2),
        ("x.aria2", f"{A}\n", 1),
        ("x.txt", f"{A}\n{C}\n", 2),
    ],
)
def test_the_form_is_told_by_the_name_or_the_content(name: str, text: str, count: int) -> None:
    assert len(files(text, name)) == count


def test_a_form_that_is_given_goes_first() -> None:
    assert files(f"{A}\n", "x.json", ListFormat.PLAIN)[0].urls == (A,)
    with pytest.raises(InputError, match=r"x\.json:1"):
        files(f"{A}\n", "x.json")


WORDS = st.sampled_from(
    [
        A, B, "rsync://x/y", "\n", "\t", " ", ",", ";", '"', "url", "sha256", "size", SHA, "-1", "14", "#", "[", "]", "{", "}",
        ":", '"url"', '"urls"', f'"{A}"', "null", "<", ">", "</", "file", "metalink", '<metalink xmlns="urn:ietf:params:xml:ns:metalink">',
        '<file name="x">', "</file>", "</metalink>", "<url>", "</url>", "<size>", "</size>", "checksum=sha-256=", " out=", "\x00", "\r",
        "<!DOCTYPE x>", "&a;", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ]
)  # fmt: skip


@given(
    data=st.one_of(st.binary(max_size=300), st.lists(WORDS, max_size=25).map("".join).map(str.encode)),
    name=st.sampled_from(["list", "x.csv", "x.json", "x.meta4", "fetch.txt"]),
    form=st.sampled_from([None, *ListFormat]),
)
def test_whatever_a_list_holds_it_is_read_or_refused(data: bytes, name: str, form: ListFormat | None) -> None:
    try:
        found = parse_list(data, name, form, lambda _: data)
    except InputError:
        return
    assert all(file.urls and file.place.startswith(name) for file in found.files)
