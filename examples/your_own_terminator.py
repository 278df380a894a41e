"""A session that ends at a blank line, wherever it stands in the stream; what follows it is not echoed."""

import socket

import fastecho


def main() -> None:
    with fastecho.serve(port=0, terminator=b"\r\n\r\n", match="anywhere") as server:
        with socket.create_connection(server.address) as client:
            for cut in (b"GET / HTTP/1.1\r\nHost: example.org\r", b"\n\r", b"\nthis is not echoed"):
                client.sendall(cut)
            client.shutdown(socket.SHUT_WR)
            print(client.makefile("rb").read().decode(), end="")
        print("discarded:", server.stats.bytes_discarded, "bytes")


if __name__ == "__main__":
    main()
