"""A wire between a client and a server that counts, slows down and cuts."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Self

PIECE_BYTES = 32_768


class Metered:
    """Takes connections on a free port of the loopback and passes what comes on to `target`, a port there.

    Attributes:
        received: bytes that clients were sent.
        rate: of what clients are sent, bytes per second over all; 0: as fast as it comes.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self.received = 0
        self.requests = b""
        """What clients sent, all of it."""
        self.rate = 0
        self.flowing = threading.Event()
        """While it is not set, clients are sent nothing."""
        self.flowing.set()
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._all: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """Break all connections."""
        self.flowing.set()
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets += [client, server]
                self._all += [client, server]
            for arguments in ((client, server, False), (server, client, True)):
                thread = threading.Thread(target=self._pass_on, args=arguments, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, to_client: bool) -> None:
        with suppress(OSError):
            while data := source.recv(PIECE_BYTES):
                if to_client:
                    self.flowing.wait()
                    self.received += len(data)
                    if self.rate:
                        time.sleep(len(data) / self.rate)
                else:
                    self.requests += data
                sink.sendall(data)
        for sock in (source, sink):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()
        for sock in self._all:
            sock.close()
