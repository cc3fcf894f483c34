"""What `/metrics` tells: request times as they are met, and the box's counts at the moment of asking."""

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector, generate_latest

from service.box import Counts

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


class Measures:
    """One registry for each application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)  # memory, CPU time and open files of the API's process
        self._seconds = Histogram(
            "trainbox_request_seconds",
            "Time to the end of an answer",
            ["method", "route", "status"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._jobs = Gauge("trainbox_jobs", "Jobs by status", ["status"], registry=self._registry)
        self._workers = self._gauge("workers", "Workers that are alive")
        self._slots = Gauge("trainbox_slots", "CPU threads that workers have", ["state"], registry=self._registry)
        self._lost = self._gauge("devices_out_of_service", "GPUs that cannot be given out again")
        self._lag = self._gauge("recorder_lag_bytes", "What trainers have written and is not in the database yet")
        self._wait = self._gauge("queue_wait_seconds", "Longest time that a queued job has waited, 0 without one")
        self._speed = self._gauge(
            "training_steps_per_second", "Steps per second of active training, summed over the running jobs"
        )
        self._database = self._gauge("database_bytes", "Size of the database file, without its write-ahead log")
        self._log = self._gauge("database_log_bytes", "Size of the database's write-ahead log")
        self._disk = self._gauge("disk_bytes", "Size of the disk that the home lies on")
        self._free = self._gauge("disk_free_bytes", "What is free of the disk that the home lies on")

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(f"trainbox_{name}", help_text, registry=self._registry)

    def met(self, method: str, route: str, status: int, seconds: float) -> None:
        """Notes one answer. route: the template, so that there are not as many series as ids."""
        self._seconds.labels(method, route, str(status)).observe(seconds)

    def exposition(self, counts: Counts) -> bytes:
        for status, number in counts.jobs.items():
            self._jobs.labels(status.value).set(number)
        self._slots.labels("total").set(counts.slots)
        self._slots.labels("used").set(counts.slots_used)
        self._slots.labels("out_of_service").set(counts.slots_out_of_service)
        self._lost.set(counts.devices_out_of_service)
        self._lag.set(counts.recorder_lag_bytes)
        self._workers.set(counts.workers)
        self._wait.set(counts.queue_wait_seconds)
        self._speed.set(counts.steps_per_second)
        self._database.set(counts.database_bytes)
        self._log.set(counts.log_bytes)
        self._disk.set(counts.disk_bytes)
        self._free.set(counts.disk_free_bytes)
        return generate_latest(self._registry)
