"""A network between the processes and Redis, which fails on command."""

import enum
import socket
import threading
import time

CHUNK = 64 * 1024
SLOWLY_S = 0.4


class Weather(enum.Enum):
    FAIR = "fair"
    # Connections are cut, and new ones closed at once.
    CUT = "cut"
    # What is asked arrives and is done; the connection breaks before the answer comes home.
    SWALLOWING = "swallowing"
    # Every answer comes late.
    SLOW = "slow"


class Proxy:
    """In front of a port of this machine, until it is closed."""

    def __init__(self, port: int):
        self.weather = Weather.FAIR
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.weather is Weather.CUT:
                    raise OSError
                server = socket.create_connection(self._target, timeout=5.0)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, sink, answers), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while chunk := source.recv(CHUNK):
                if self.weather is Weather.CUT or (answers and self.weather is Weather.SWALLOWING):
                    break
                if answers and self.weather is Weather.SLOW:
                    time.sleep(SLOWLY_S)
                sink.sendall(chunk)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
