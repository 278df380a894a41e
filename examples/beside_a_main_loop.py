"""A server beside your own main loop: it runs in a thread of its own, your code stays as it is."""

import socket

import fastecho


def main() -> None:
    with fastecho.serve(port=0, terminator=None) as server:
        print("serving on", *server.addresses)
        for number in range(3):  # your program
            with socket.create_connection(server.address) as client:
                client.sendall(b"message %d" % number)
                client.shutdown(socket.SHUT_WR)
                print("echoed:", client.makefile("rb").read().decode())
        print("served", server.stats.accepted, "connections")


if __name__ == "__main__":
    main()
