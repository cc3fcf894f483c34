"""Studies as tests ask for them, small ones on digits."""

from typing import Any

import httpx
from boxes import Spec, digits

RATE, BATCH = "hyperparameters.learning_rate", "hyperparameters.batch_size"
OVER = ("succeeded", "failed", "cancelled")


def grid(**more: Any) -> Spec:
    return {"kind": "grid", "base": digits(epochs=1), "grid": {RATE: [0.001, 0.01]}} | more


ENDLESS = grid(base=digits(epochs=100_000))


def search(**more: Any) -> Spec:
    space = {RATE: {"low": 1e-4, "high": 1.0, "log": True}, BATCH: {"choices": [64, 256]}}
    return {"kind": "search", "base": digits(epochs=1), "space": space, "trials": 6} | more


def rates(**more: Any) -> Spec:
    span = {"low": 1e-4, "high": 3, "count": 8}
    return {"kind": "lr_range", "base": digits(), "learning_rates": span, "steps": 30, "seeds": 1} | more


def sizes(**more: Any) -> Spec:
    target = {"metric": "val_accuracy", "value": 0.5}
    return {"kind": "batch_size", "base": digits(epochs=2), "batch_sizes": [32, "full"], "target": target} | more


def begin(client: httpx.Client, study: Spec, **headers: str) -> Spec:
    answer = client.post("/v1/studies", json=study, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    begun: Spec = answer.json()
    return begun


def end(client: httpx.Client, study: Spec) -> Spec:
    ended: Spec = client.get(f"/v1/studies/{study['id']}", params={"wait": 60}).json()
    assert ended["status"] in OVER, ended["progress"]
    return ended


def look(client: httpx.Client, study: Spec, **query: Any) -> httpx.Response:
    return client.get(f"/v1/studies/{study['id']}", params=query)
