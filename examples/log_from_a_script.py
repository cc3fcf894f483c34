"""Log a training that runs anywhere else: copy the class into your script. It needs nothing but httpx.

    with Log("my model", parameters={"lr": 0.1}) as log:
        for step in range(1, 1001):
            log(step, loss=..., val_accuracy=...)

Logging never waits for the network: a thread sends what has gathered, and sends it again until the service has it, also
when that is restarted meanwhile. Nothing is doubled by that: each step of a metric stands once.
"""

import math
import os
import queue
import threading
import time
import uuid
from types import TracebackType
from typing import Any

import httpx


class Log:
    def __init__(self, name: str, url: str = "", token: str = "", patience: float = 600.0, **facts: Any) -> None:
        """facts: project, parameters, tags, batch_size, train_samples. patience: seconds to wait for the service."""
        self.patience = patience
        self.http = httpx.Client(
            base_url=url or os.environ.get("TRAINBOX_URL", "http://127.0.0.1:8000"),
            headers={"Authorization": f"Bearer {token or os.environ['TRAINBOX_TOKEN']}"},
            timeout=30,
        )
        key = {"Idempotency-Key": uuid.uuid4().hex}
        self.run_id = self._send("/v1/runs", {"name": name, **facts}, key)["id"]
        self.waiting: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.failure: Exception | None = None
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def __call__(self, step: int, **metrics: float) -> None:
        at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now := time.time()))}.{int(now % 1 * 1000):03}Z"
        for metric, value in metrics.items():
            self.waiting.put({"metric": metric, "step": step, "value": _said(float(value)), "at": at})

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.waiting.put(None)
        self.thread.join()
        status = "succeeded" if kind is None else "cancelled" if kind is KeyboardInterrupt else "failed"
        try:
            self._send(f"/v1/runs/{self.run_id}/finish", {"status": status})
        except Exception as error:  # must not stand in the place of what ended the training
            self.failure = self.failure or error
        if self.failure is not None and kind is None:
            raise self.failure

    def _work(self) -> None:
        over = False
        while not over:
            points = [self.waiting.get()]
            time.sleep(0.2 if points[0] else 0)  # more comes meanwhile, and goes with it
            while len(points) < 10_000 and not self.waiting.empty():
                points.append(self.waiting.get())
            over = None in points
            try:
                self._send(f"/v1/runs/{self.run_id}/points", {"points": [point for point in points if point]})
            except Exception as error:  # told at the end: the training is worth more than its log
                self.failure = error

    def _send(self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
        """Again and again, while nobody answers or the service is busy."""
        end, delay = time.monotonic() + self.patience, 0.1
        while True:
            try:
                answer = self.http.post(path, json=body, headers=headers)
                if answer.status_code not in (429, 503) or time.monotonic() > end:
                    answer.raise_for_status()
                    return answer.json()
            except httpx.TransportError:
                if time.monotonic() > end:
                    raise
            time.sleep(delay)
            delay = min(2 * delay, 5.0)


def _said(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def main() -> None:
    """Gradient descent on a parabola, with a little noise: something to look at."""
    parameters = {"lr": 0.02, "start": 3.0}
    with Log("a parabola", project="scripts", parameters=parameters, batch_size=1) as log:
        x = parameters["start"]
        for step in range(1, 301):
            log(step, loss=x * x + 0.01 * abs(math.sin(7 * step)))
            x -= parameters["lr"] * 2 * x
    print(log.http.base_url.join(f"v1/runs/{log.run_id}"))


if __name__ == "__main__":
    main()
