"""An echo server on Twisted: the protocol of its documentation.

usage: twisted_echo.py PORT     listens on 127.0.0.1, prints the port when ready
"""

import sys

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


if __name__ == "__main__":
    port = reactor.listenTCP(int(sys.argv[1]), Factory.forProtocol(Echo), backlog=4096, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()
