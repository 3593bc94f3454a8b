"""Real servers of other schemes, each as a process of its own on the loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import requests

from stager.transfer.decisions import Identity, Request
from stager.transfer.remote.base import Site
from stager.transfer.remote.transport import RemoteTransport
from stager.transfer.schemes import SchemesTransport
from stager.transfer.transport import Lane, Pulse, Response, Transport
from tests.support.metered import Metered
from tests.support.needs import needs
from tests.support.ports import free_port
from tests.support.reach import LOOPBACK

PATIENCE = 60.0
LONG_AGO = 1_700_000_000
RATE = 4 << 20
"""Bytes per second of a transfer that is to be met half-way."""


class _Asking(SchemesTransport):
    """Another transport, with an identity for those requests that have none."""

    def __init__(self, transport: Transport, identity: Callable[[], Identity]) -> None:
        super().__init__({"": transport})
        self._transport = transport
        self._identity = identity

    def open(self, request: Request, pulse: Pulse) -> Response:
        return self._transport.open(request._replace(identity=request.identity or self._identity()), pulse)

    def spare(self, origin: str) -> Lane | None:
        return self._transport.spare(origin)


class Remote(ABC):
    """A server with a few files.

    Args:
        root: for its files, configuration and logs.
    """

    scheme = ""
    identity = Identity()
    wrong = Identity("ada", "no")
    is_of_site = False
    """Whether it is read by the site, whoever asks."""
    replaces = False
    """Whether a new file is put in the place of the old one, which whoever reads it keeps."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = root / "files"
        self.files.mkdir()
        self.port = free_port()
        self.slow = False
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it."""

    def environment(self) -> dict[str, str]:
        """Variables for it."""
        return {}

    @abstractmethod
    def sent(self) -> int:
        """Bytes that it has sent, of files or over all."""

    def url(self, name: str) -> str:
        return f"{self.scheme}://{self.place}{quote(str(self.files / name))}"

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    def put(self, name: str, data: bytes, when: int = LONG_AGO) -> None:
        path = self.files / name
        path.write_bytes(data)
        os.utime(path, (when, when))

    def site(self) -> Site:
        return Site(connect_timeout_seconds=5.0, read_timeout_seconds=10.0, reach=LOOPBACK)

    def transport(self, identity: Identity | None = None, site: Site | None = None) -> Transport:
        """One for which `identity` asks, by default the one that may."""
        return _Asking(RemoteTransport(site or self.site()), lambda: identity or self.identity)

    def start(self) -> None:
        with (self.root / "said").open("ab") as said:
            self.process = subprocess.Popen(
                self.command(),
                stdout=said,
                stderr=said,
                start_new_session=True,
                env=os.environ | self.environment(),
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
            except OSError:
                assert self.process.poll() is None, (self.root / "said").read_text()
                assert time.monotonic() < deadline, "it does not listen"
                time.sleep(0.02)
            else:
                return

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def pace(self, *, slow: bool) -> None:
        """Send at `RATE`, or as fast as it can."""
        if slow != self.slow:
            self.slow = slow
            self.kill()
            self.start()

    def pause(self) -> None:
        """It is there and says nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self._signal(signal.SIGKILL)
            self.process.wait(PATIENCE)

    def stop(self) -> None:
        self.kill()

    def _signal(self, number: int) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)  # of a group that has no others: it is its own session


class FtpRemote(Remote):
    scheme = "ftp"
    identity = Identity("ada", "lovelace")

    def url(self, name: str) -> str:
        return f"ftp://{self.place}/{quote(name)}"

    def command(self) -> list[str]:
        rate = str(RATE if self.slow else 0)
        log = self.root / "log"
        return [sys.executable, "-m", "tests.support.ftp_server", str(self.port), str(self.files),
                self.identity.password, rate, str(log)]  # fmt: skip

    def log(self) -> list[str]:
        path = self.root / "log"
        return path.read_text().splitlines() if path.exists() else []

    def sent(self) -> int:
        return sum(int(line.split()[1]) for line in self.log() if line.startswith("SENT"))


class MeteredRemote(Remote):
    """One behind a wire that counts."""

    rate = RATE

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.wire = Metered(self.port)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.wire.port}"

    def sent(self) -> int:
        return self.wire.received

    def pace(self, *, slow: bool) -> None:
        self.wire.rate = self.rate if slow else 0

    def pause(self) -> None:
        self.wire.flowing.clear()

    def go_on(self) -> None:
        self.wire.flowing.set()

    def kill(self) -> None:
        super().kill()
        self.wire.cut()

    def stop(self) -> None:
        super().stop()
        self.wire.__exit__()


class BlockwiseRemote(MeteredRemote):
    """One that is read in blocks, which grow where they come quickly: three of them may be under way, and are not to
    be the whole file."""

    rate = RATE // 2


class SftpRemote(BlockwiseRemote):
    scheme = "sftp"

    def __init__(self, root: Path) -> None:
        needs(Path("/usr/sbin/sshd").exists(), "sshd; scripts/system-packages installs it")
        super().__init__(root)
        for name in ("host", "user", "stranger"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / name],
                check=True,
                timeout=PATIENCE,
            )
        shutil.copy(root / "user.pub", root / "authorized")
        (root / "authorized").chmod(0o600)
        (root / "sshd.conf").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {root}/host\nPidFile {root}/pid\n"
            f"AuthorizedKeysFile {root}/authorized\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nSubsystem sftp internal-sftp\n"
        )
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        self.identity = Identity(user, key=(root / "user").read_text())
        self.wrong = Identity(user, key=(root / "stranger").read_text())
        self.know("host")

    def know(self, key: str) -> None:
        public = (self.root / f"{key}.pub").read_text()
        (self.root / "known").write_text(f"[127.0.0.1]:{self.wire.port} {public}")

    def site(self) -> Site:
        return replace(super().site(), known_hosts=(self.root / "known",))

    def command(self) -> list[str]:
        Path("/run/sshd").mkdir(exist_ok=True)
        return ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.root / "sshd.conf")]


class SshRemote(SftpRemote):
    """The same server through fsspec's own file system for it, which knows one user: the site."""

    scheme = "ssh"
    is_of_site = True

    def site(self) -> Site:
        given = {
            "username": self.identity.user,
            "client_keys": [str(self.root / "user")],
            "known_hosts": str(self.root / "known"),
            "config": None,
            "agent_path": None,
        }
        return replace(super().site(), generic={"ssh": given})


class S3Remote(MeteredRemote):
    """moto's server, which asks who asks; it forgets everything when it ends, so that is put anew."""

    scheme = "s3"
    wrong = Identity("AKIAIOSFODNN7EXAMPLE", "no")
    replaces = True

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._put: dict[str, bytes] = {}
        self._client: Any = None

    def url(self, name: str) -> str:
        return f"s3://bucket/{quote(name)}"

    def site(self) -> Site:
        return replace(super().site(), endpoints={"s3": f"http://{self.place}"})

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def environment(self) -> dict[str, str]:
        return {"INITIAL_NO_AUTH_ACTION_COUNT": "5"}

    def start(self) -> None:
        super().start()
        endpoint = f"http://127.0.0.1:{self.port}"

        def client(service: str, identity: Identity) -> Any:
            return boto3.client(
                service,
                endpoint_url=endpoint,
                region_name="us-east-1",
                aws_access_key_id=identity.user,
                aws_secret_access_key=identity.password,
            )

        iam = client("iam", Identity("first", "first"))
        iam.create_user(UserName="ada")
        rule = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
        iam.put_user_policy(UserName="ada", PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName="ada")["AccessKey"]
        self.identity = Identity(key["AccessKeyId"], key["SecretAccessKey"])
        self._client = client("s3", self.identity)
        self._client.create_bucket(Bucket="bucket")
        self._client.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
        for name, data in self._put.items():
            self.put(name, data)

    def put(self, name: str, data: bytes, when: int = LONG_AGO) -> None:  # noqa: ARG002 - it has its own clock
        self._put[name] = data
        self.version = self._client.put_object(Bucket="bucket", Key=name, Body=data)["VersionId"]


class WebdavRemote(MeteredRemote):
    scheme = "webdav"
    identity = Identity("ada", "lovelace")

    def url(self, name: str) -> str:
        return f"webdav://{self.place}/{quote(name)}"

    def site(self) -> Site:
        endpoints = {f"webdav://{self.place}": f"http://{self.place}"}
        return replace(super().site(), schemes=("webdav",), endpoints=endpoints)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.support.dav_server", str(self.port), str(self.files),
                self.identity.password]  # fmt: skip


class GsRemote(BlockwiseRemote):
    """gcp-storage-emulator's server, behind a door that asks for a token."""

    scheme = "gs"
    identity = Identity(token="ya29.lovelace")
    wrong = Identity(token="ya29.no")

    def url(self, name: str) -> str:
        return f"gs://bucket/{quote(name)}"

    def site(self) -> Site:
        return replace(super().site(), schemes=("gs",), endpoints={"gs": f"http://{self.place}"})

    def put(self, name: str, data: bytes, when: int = LONG_AGO) -> None:  # noqa: ARG002 - it has its own clock
        requests.post(
            f"http://127.0.0.1:{self.port}/upload/storage/v1/b/bucket/o",
            params={"uploadType": "multipart"},
            headers={
                "Authorization": f"Bearer {self.identity.token}",
                "Content-Type": 'multipart/related; boundary="-"',
            },
            data=b"---\r\nContent-Type: application/json\r\n\r\n"
            + json.dumps({"name": name}).encode()
            + b"\r\n---\r\nContent-Type: application/octet-stream\r\n\r\n"
            + data
            + b"\r\n-----\r\n",
            timeout=PATIENCE,
        ).raise_for_status()

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.support.gs_server", str(self.port), str(self.files),
                self.identity.token]  # fmt: skip


class SmbRemote(BlockwiseRemote):
    """Samba, with a share for the user of the tests."""

    scheme = "smb"

    def __init__(self, root: Path) -> None:
        needs(Path("/usr/sbin/smbd").exists(), "smbd; scripts/system-packages installs it")
        needs(os.getuid() == 0, "root: smbd takes the user's rights")
        super().__init__(root)
        own = root / "smbd"
        own.mkdir()
        kinds = ("private dir", "state directory", "cache directory", "lock directory", "pid directory")
        (own / "conf").write_text(
            "[global]\nserver role = standalone server\nserver min protocol = SMB2\ndisable spoolss = yes\n"
            f"interfaces = lo\nbind interfaces only = yes\nsmb ports = {self.port}\nload printers = no\n"
            f"passdb backend = smbpasswd:{own}/passwords\nncalrpc dir = {own}/ncalrpc\nprinting = bsd\n"
            + "".join(f"{kind} = {own}\n" for kind in kinds)
            + f"[data]\npath = {self.files}\nread only = yes\nguest ok = no\n"
        )
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        self.identity = Identity(user, "lovelace")
        self.wrong = Identity(user, "no")
        subprocess.run(
            ["smbpasswd", "-c", own / "conf", "-s", "-a", user],
            input="lovelace\nlovelace\n",
            text=True,
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )

    def url(self, name: str) -> str:
        return f"smb://{self.place}/data/{quote(name)}"

    def site(self) -> Site:
        return replace(super().site(), schemes=("smb",))

    def command(self) -> list[str]:
        return ["/usr/sbin/smbd", "--foreground", "--no-process-group", "--debug-stdout", "-s",
                str(self.root / "smbd" / "conf")]  # fmt: skip


REMOTES: dict[str, type[Remote]] = {
    "ftp": FtpRemote, "sftp": SftpRemote, "s3": S3Remote, "webdav": WebdavRemote, "gs": GsRemote,
    "smb": SmbRemote, "generic": SshRemote,
}  # fmt: skip
