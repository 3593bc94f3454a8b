"""Keys, the seal, and the directory with what is sealed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stager.credentials.files import FileStore
from stager.credentials.keys import KeyFiles
from stager.errors import ConflictError, CredentialStoreError, InputError, NotFoundError
from stager.model.credentials import Kind, Notes, SealedSession
from tests.support.vault import Vault


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "credentials")


def test_what_is_stored_is_found_again_and_has_no_secret_in_clear(vault: Vault) -> None:
    given = vault.give("data.example.org", prefix="/d", owner="ann")
    (row,) = FileStore(vault.root).rows()
    assert (row.id, row.scope.host, row.scope.prefix, row.scope.owner, row.user) == (
        given.id, "data.example.org", "/d", "ann", "ada",
    )  # fmt: skip
    for path in vault.root.rglob("*"):
        assert path.is_dir() or b"canary" not in path.read_bytes()


def test_everything_is_for_its_owner_alone(vault: Vault) -> None:
    vault.give("data.example.org")
    for path in [vault.root, *vault.root.rglob("*")]:
        if path.name != "key.pub":
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_second_one_for_the_same_place_replaces_the_first(vault: Vault) -> None:
    first = vault.give("data.example.org")
    vault.store.put_session(first.id, SealedSession(1, "x", "k"))
    again = vault.give("data.example.org", user="eve", password="canary-2")
    other = vault.give("data.example.org", "bearer", token="canary-3")
    assert again.id == first.id != other.id
    assert [(row.serial, row.user) for row in vault.store.rows() if row.kind is Kind.BASIC] == [(2, "eve")]
    assert vault.store.session(first.id) is None, "it was obtained with the other secret"


def test_rotation_takes_a_new_secret_and_keeps_the_rest(vault: Vault) -> None:
    given = vault.give("data.example.org", owner="ann")
    vault.service.rotate(given.id, {"password": "canary-new"})
    (row,) = vault.store.rows()
    inside = vault.keys.opener().open(row.sealed, row.key)
    assert inside["parts"] == {"user": "ada", "password": "canary-new"}
    with pytest.raises(InputError, match="needs password"):
        vault.service.rotate(given.id, {})


def test_a_credential_is_named_by_its_id_or_its_host(vault: Vault) -> None:
    one = vault.give("a.example.org")
    vault.give("b.example.org", owner="ann")
    vault.give("b.example.org", owner="bob")
    assert vault.service.find("a.example.org").id == one.id
    with pytest.raises(NotFoundError):
        vault.service.find("c.example.org")
    with pytest.raises(ConflictError):
        vault.service.find("b.example.org")
    vault.service.remove("a.example.org")
    assert [view.owner for view in vault.service.list()] == ["ann", "bob"]
    assert [view.host for view in vault.service.list(owner="bob")] == ["b.example.org"]


def test_an_end_that_is_past_is_refused_and_nothing_is_kept(vault: Vault) -> None:
    with pytest.raises(InputError, match="expired already"):
        vault.give("data.example.org", expires_at=vault.clock.time() - 1)
    assert vault.store.rows() == []


def test_a_change_gives_another_stamp_also_within_one_tick(vault: Vault) -> None:
    seen = []
    for number in range(20):
        vault.give(f"h{number}.example.org")
        seen.append(vault.store.stamp())
    assert len(set(seen)) == 20


def test_a_store_of_another_version_is_refused_and_left_as_it_is(vault: Vault) -> None:
    given = vault.give("data.example.org")
    (vault.root / "version").write_text("2\n")
    for store in (vault.store, FileStore(vault.root)):
        with pytest.raises(CredentialStoreError, match="version '2'"):
            store.rows()
        with pytest.raises(CredentialStoreError, match="version '2'"):
            vault.give("other.example.org")
    assert [path.stem for path in (vault.root / "rows").iterdir()] == [given.id]


def test_a_store_that_is_open_to_others_is_refused(vault: Vault) -> None:
    vault.give("data.example.org")
    vault.root.chmod(0o755)
    with pytest.raises(CredentialStoreError, match="chmod 700"):
        vault.store.rows()


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b"\xff", b'{"id": "x"}'])
def test_a_damaged_row_is_named(vault: Vault, damage: bytes) -> None:
    given = vault.give("data.example.org")
    path = vault.root / "rows" / f"{given.id}.json"
    path.write_bytes(damage)
    with pytest.raises(CredentialStoreError, match="damaged") as caught:
        vault.store.rows()
    assert str(path) in str(caught.value)


def test_an_id_that_leads_elsewhere_is_refused(vault: Vault) -> None:
    with pytest.raises(InputError):
        vault.store.remove("../key")
    assert vault.keys.private.exists()


def test_notes_of_what_is_gone_are_not_kept(vault: Vault) -> None:
    given = vault.give("data.example.org")
    vault.store.put_notes(given.id, Notes(1, 5.0))
    assert vault.store.notes(given.id).used_at == 5.0
    vault.service.remove(given.id)
    vault.store.put_notes(given.id, Notes(1, 6.0))
    assert vault.store.notes(given.id) == Notes()


def test_a_lease_is_one_process_s_and_ends_with_it(vault: Vault) -> None:
    given = vault.give("data.example.org")
    code = (
        "import sys; from pathlib import Path; from stager.credentials.files import FileStore;"
        f"s = FileStore(Path({str(vault.root)!r})); print(s.lease({given.id!r}, 60), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert not vault.store.lease(given.id, 60)
        other.kill()
    assert vault.store.lease(given.id, 60)
    assert not vault.store.lease(given.id, 60), "not for another thread either"
    vault.store.release(given.id)
    assert vault.store.lease(given.id, 60)


# -- keys ---------------------------------------------------------------------------------------------


def test_a_seal_that_was_altered_does_not_open(vault: Vault) -> None:
    vault.give("data.example.org")
    (row,) = vault.store.rows()
    flipped = row.sealed[:-6] + ("A" if row.sealed[-6] != "A" else "B") + row.sealed[-5:]
    for sealed in (flipped, row.sealed[:20], "no base64!"):
        with pytest.raises(ValueError, match="altered"):
            vault.keys.opener().open(sealed, row.key)
    with pytest.raises(LookupError):
        vault.keys.opener().open(row.sealed, "another")


def test_who_has_the_public_key_alone_can_give_and_replace_but_not_open(tmp_path: Path) -> None:
    data_node, server = Vault(tmp_path / "node"), Vault(tmp_path / "server")
    server.keys.private.unlink()
    server.keys.public.write_bytes(data_node.keys.public.read_bytes())
    server.give("data.example.org")
    server.give("data.example.org", user="ada", password="canary-2")
    (row,) = server.store.rows()
    with pytest.raises(CredentialStoreError, match="private key"):
        server.keys.opener()
    assert data_node.keys.opener().open(row.sealed, row.key)["parts"]["password"] == "canary-2"


def test_keys_are_made_once_also_by_many_at_once(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from stager.credentials.keys import KeyFiles;"
        f"p = Path({str(tmp_path)!r}); k = KeyFiles(p / 'key', p / 'key.pub'); k.make();"
        "print(k.closer().key, k.opener().keys[0])"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    said = {word for other in others for word in other.communicate()[0].split()}
    assert len(said) == 1
    assert all(other.returncode == 0 for other in others)


def test_a_public_key_that_a_kill_left_out_is_written_again(vault: Vault) -> None:
    vault.keys.public.unlink()
    vault.keys.make()
    vault.keys.private.rename(vault.root / "elsewhere")
    assert vault.keys.closer().key == KeyFiles(vault.root / "elsewhere", vault.keys.public).opener().keys[0]


def test_a_host_that_got_another_private_key_seals_for_that(vault: Vault, tmp_path: Path) -> None:
    """Not for the public key that it had written before: nobody could open what it obtains."""
    another = Vault(tmp_path / "another")
    vault.keys.private.write_bytes(another.keys.private.read_bytes())
    assert vault.keys.closer().key == another.keys.opener().keys[0]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_private_key_that_others_can_read_is_refused(vault: Vault, mode: int) -> None:
    vault.keys.private.chmod(mode)
    with pytest.raises(CredentialStoreError, match=f"{mode:o}.*chmod 600"):
        vault.keys.opener()


@pytest.mark.parametrize(
    "text", ["", "stager-credentials-key-1 canary\n", "stager-credentials-key-9 AAAA\n", "\xff"]
)
def test_what_is_no_key_is_refused_and_not_repeated(vault: Vault, text: str) -> None:
    vault.keys.private.write_bytes(text.encode("latin-1"))
    with pytest.raises(CredentialStoreError) as caught:
        vault.keys.opener()
    assert "canary" not in str(caught.value)


def test_during_a_rotation_both_keys_open_and_the_new_one_seals(vault: Vault) -> None:
    vault.give("old.example.org")
    vault.keys.add()
    vault.give("new.example.org")
    opener = vault.keys.opener()
    assert len(opener.keys) == 2
    for row in vault.store.rows():
        assert opener.open(row.sealed, row.key)["parts"]["password"] == "canary-password"
    new = vault.service.find("new.example.org")
    assert new.key == opener.keys[0]
    vault.keys.retire()
    left = vault.keys.opener()
    assert left.keys == [new.key]
    with pytest.raises(LookupError):
        left.open(vault.service.find("old.example.org").sealed, vault.service.find("old.example.org").key)


def test_a_row_is_replaced_whole(vault: Vault) -> None:
    given = vault.give("data.example.org")
    (row,) = vault.store.rows()
    vault.store.put(replace(row, serial=7))
    assert [one.serial for one in vault.store.rows()] == [7]
    assert sorted(path.name for path in (vault.root / "rows").iterdir()) == [f"{given.id}.json"]
