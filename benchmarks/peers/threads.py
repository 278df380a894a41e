"""An echo server with a thread per connection: socketserver of the standard library.

usage: threads.py PORT     listens on 127.0.0.1, prints the port when ready
"""

import contextlib
import socketserver
import sys


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(65536):
                self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 4096


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1])), Echo) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
