"""An echo server on gevent: a StreamServer, a greenlet per connection.

usage: gevent_echo.py PORT     listens on 127.0.0.1, prints the port when ready
"""

import contextlib
import sys

from gevent.server import StreamServer
from gevent.socket import socket


def echo(client: socket, address: object) -> None:
    with contextlib.suppress(ConnectionError):
        while data := client.recv(65536):
            client.sendall(data)


if __name__ == "__main__":
    server = StreamServer(("127.0.0.1", int(sys.argv[1])), echo, backlog=4096)
    server.start()
    print(server.server_port, flush=True)
    server.serve_forever()
