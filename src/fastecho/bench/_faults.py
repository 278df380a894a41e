"""The first error of each kind, as a line."""

import os


def reason(details: tuple[str, ...]) -> str:
    return details[0].partition(": ")[2] if details else ""


def describe(kind: str, connection: int, error: int, offset: int, expected: int, got: int, *, timeout: float) -> str:
    where = f"connection {connection}"
    if kind == "connect":
        return f"connect: {os.strerror(error)}"
    if kind == "corrupt":
        return f"corrupt: {where}, byte {offset} of the echo is 0x{got:02x}, not 0x{expected:02x}"
    if kind == "timeout":
        return f"timeout: {where}, nothing for {timeout:g} s after {offset} bytes of echo"
    if kind == "short":
        return f"short: {where}, closed by the server after {offset} bytes of echo"
    if kind == "excess":
        return f"excess: {where}, more than was sent came back, after {offset} bytes of echo"
    return f"reset: {where}, after {offset} bytes of echo: {os.strerror(error)}"
