"""The service as processes: supervisor, worker processes, rolling restart, signals, announcements."""
