"""The metrics of a service: what is published of it, as families of Prometheus, over HTTP."""
