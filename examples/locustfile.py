"""A load for Locust: locust -f examples/locustfile.py --headless --host tcp://127.0.0.1:8007 -t 10s"""

from fastecho.bench.locust import EchoUser


class Echo(EchoUser):
    """50 connections with messages of 64 bytes: each user is one of these loads."""

    connections = 50
    size = 64
