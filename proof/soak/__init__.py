"""Hours of mixed load on fastecho services, every echoed byte compared with what was sent.

service   one fastecho service as a child: its processes, a killed worker, a reload, its end
loads     the kinds of load, each in a separate process, most of them the C engine of `fastecho bench`
slow      clients that read slowly, half-close, or reset
growth    memory and descriptors over time: samples, and the least-squares line through them
rounds    the services under all loads, a round at a time
summary   a soak as evidence and as a table

Two services of four workers have the same load. `steady` is left alone: there each connection that ends is an error,
and its memory is that of processes as old as the soak. In `disturbed` a worker is killed in every second round and
all workers are replaced (SIGHUP) in the rounds between: there a connection may end, and only by that. A third service
speaks TLS.

A round ends with no connection open. What is resident then, and the descriptors that are open then, are the samples.
"""
