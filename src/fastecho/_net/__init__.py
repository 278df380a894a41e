"""Listening sockets: bind, accept, TLS, descriptor limits."""
