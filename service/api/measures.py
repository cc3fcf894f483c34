"""What `/metrics` tells: request times as they are met, and the box's counts at the moment of asking."""

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from service.box import Counts

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


class Measures:
    """One registry for each application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "trainbox_request_seconds",
            "Time to the end of an answer",
            ["method", "route", "status"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._jobs = Gauge("trainbox_jobs", "Jobs by status", ["status"], registry=self._registry)
        self._workers = Gauge("trainbox_workers", "Workers that are alive", registry=self._registry)
        self._bytes = Gauge("trainbox_database_bytes", "Size of the database file", registry=self._registry)

    def met(self, method: str, route: str, status: int, seconds: float) -> None:
        """Notes one answer. route: the template, so that there are not as many series as ids."""
        self._seconds.labels(method, route, str(status)).observe(seconds)

    def exposition(self, counts: Counts) -> bytes:
        for status, number in counts.jobs.items():
            self._jobs.labels(status.value).set(number)
        self._workers.set(counts.workers)
        self._bytes.set(counts.database_bytes)
        return generate_latest(self._registry)
