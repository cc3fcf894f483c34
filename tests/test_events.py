"""What happens to a job, as a list and as a stream, and its log as it comes: to readers good, slow and gone."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import shelves
from boxes import digits, finish, submit, train, values
from conftest import Box, MakeToken, Serve, Until

from service import clock, curves, intake, jobs, leases, queue
from service.api import streams
from service.api.events import EventList
from service.api.limits import Limits
from service.api.server import GRACEFUL_SECONDS, Server
from service.curves import Batch
from service.database import Database
from service.leases import Lease, Terms
from service.order import Room
from service.queue import QueueLimits
from service.settings import Settings
from service.states import Scope
from service.tables import JobEvent
from service.users import Principal

ADMIN = Principal("admin", Scope.ADMIN, "")
TERMS = Terms(lease=30.0, backoff=0.0)
STEPS = 2300
LONG = {"epochs": 100_000}
STREAM = {"Accept": "text/event-stream"}


@dataclass(frozen=True)
class Message:
    id: str
    event: str
    data: Any


def messages(answer: httpx.Response) -> Iterator[Message]:
    """The messages of a stream, without its comments."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, text = line.partition(": ")
            fields[name] = text
        elif "event" in fields:
            yield Message(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
            fields = {}


@contextmanager
def stream(client: httpx.Client, job_id: str, last: str | None = None) -> Iterator[Iterator[Message]]:
    headers = STREAM | ({} if last is None else {"Last-Event-ID": last})
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield messages(answer)


def whole(client: httpx.Client, job_id: str, last: str | None = None) -> list[Message]:
    with stream(client, job_id, last) as told:
        return list(told)


class Chart:
    """What a client keeps of the points that it is sent, by metric."""

    def __init__(self) -> None:
        self.columns: dict[str, dict[str, list[Any]]] = {}
        self.sent: dict[str, int] = {}

    def take(self, message: Message) -> None:
        if message.event != "points":
            return
        data = message.data
        metric, points = data["metric"], data["points"]
        kept = self.columns.setdefault(metric, {name: [] for name in points})
        for name, column in points.items():
            assert len(column) == data["count"]
            kept[name][data["position"] :] = column
        self.sent[metric] = self.sent.get(metric, 0) + data["count"]


@pytest.fixture(scope="module")
def finished(box: Box) -> dict[str, Any]:
    return train(box.admin, digits(epochs=100))


@dataclass(frozen=True)
class Hand:
    """A job that the test drives itself, in the place of a worker."""

    database: Database
    settings: Settings
    job_id: str

    def start(self) -> Lease:
        with self.database.write() as session:
            claim = leases.claim(session, "hand", Room(1, 0), Room(1, 0), TERMS)
        assert claim is not None
        assert claim.lease.job_id == self.job_id
        return claim.lease

    def record(self, lease: Lease, first: int, losses: list[float], metric: str = "train_loss") -> None:
        steps = np.arange(first, first + len(losses))
        batch = Batch(metric, first - 1, steps, np.array(losses), steps / 100)
        with self.database.write() as session:
            leases.hold(session, lease, TERMS, step=int(steps[-1]))
            curves.append_all(session, lease.seq, [batch])

    def print(self, attempt: int, content: bytes) -> None:
        folder = jobs.attempt_folder(self.settings.jobs_path, self.job_id, attempt)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log").open("ab") as log:
            log.write(content)

    def lose(self, lease: Lease) -> None:
        with self.database.write() as session:
            leases.lose(session, lease, TERMS, "its worker was lost")

    def succeed(self, lease: Lease) -> None:
        with self.database.write() as session:
            leases.succeed(session, lease)


@pytest.fixture
def hand(database: Database, settings: Settings) -> Hand:
    with database.write() as session:
        session.add(shelves.bare())
        session.flush()
        made = intake.draft(session, ADMIN, {"task": "classification", "dataset": "rows"})
        return Hand(database, settings, queue.submit(session, ADMIN, made, QueueLimits(9, 9)))


@dataclass
class Listener:
    """A stream that is read in a thread of its own."""

    told: list[Message]
    thread: threading.Thread
    seconds: float = 0.0

    @property
    def codes(self) -> list[str]:
        return [message.event for message in self.told]


@pytest.fixture
def listen() -> Iterator[Callable[[httpx.Client, str], Listener]]:
    with ExitStack() as listening:

        def start(client: httpx.Client, job_id: str) -> Listener:
            def run() -> None:
                began = time.monotonic()
                with stream(client, job_id) as told:
                    for message in told:
                        listener.told.append(message)
                listener.seconds = time.monotonic() - began

            listener = Listener([], threading.Thread(target=run))
            listener.thread.start()
            listening.callback(listener.thread.join, 20)
            return listener

        yield start


Listen = Callable[[httpx.Client, str], Listener]


def test_the_events_of_a_job_come_in_order(admin: httpx.Client, finished: dict[str, Any]) -> None:
    answer = admin.get(f"/v1/jobs/{finished['id']}/events")
    EventList.model_validate_json(answer.content)
    events = answer.json()["data"]
    assert [event["code"] for event in events] == ["submitted", "started", "succeeded"]
    assert events == sorted(events, key=lambda event: event["id"])
    assert finished["created_at"] <= events[0]["at"] <= finished["started_at"] <= events[1]["at"] <= events[2]["at"]
    assert events[0]["message"] == "submitted by admin"


def test_events_are_paged_by_their_numbers(admin: httpx.Client, finished: dict[str, Any]) -> None:
    path = f"/v1/jobs/{finished['id']}/events"
    all_at_once = admin.get(path).json()
    assert (all_at_once["has_more"], all_at_once["next_after"]) == (False, None)
    seen: list[dict[str, Any]] = []
    after = 0
    while after is not None:
        page = admin.get(path, params={"limit": 1, "after": after}).json()
        seen += page["data"]
        after = page["next_after"]
    assert seen == all_at_once["data"]
    assert admin.get(path, params={"after": seen[-1]["id"]}).json()["data"] == []


def test_events_come_in_the_forms_of_every_list(admin: httpx.Client, finished: dict[str, Any]) -> None:
    path = f"/v1/jobs/{finished['id']}/events"
    lines = admin.get(path, headers={"Accept": "application/x-ndjson"}).text.splitlines()
    assert [json.loads(line) for line in lines] == admin.get(path).json()["data"]
    assert admin.get(f"{path}?format=csv").text.splitlines()[0] == "id,at,code,message"
    assert "all steps are done" in admin.get(f"{path}?format=text").text
    as_stream = admin.get(f"{path}?format=sse", headers={"Accept": "application/json"})
    assert as_stream.headers["content-type"].startswith("text/event-stream")
    preferred = admin.get(path, headers={"Accept": "application/json, text/event-stream"})
    assert preferred.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "query", ["after=x", "after=-1", f"after={10**18}", "after=1..2", "after=", "limit=0", "limit=201", "format=xml"]
)
def test_a_wrong_query_is_refused_and_named(admin: httpx.Client, finished: dict[str, Any], query: str) -> None:
    answer = admin.get(f"/v1/jobs/{finished['id']}/events?{query}")
    assert answer.status_code == 422
    assert [problem["param"] for problem in answer.json()["errors"]] == [query.split("=")[0]]


def test_a_last_event_id_that_was_never_given_is_refused(admin: httpx.Client, finished: dict[str, Any]) -> None:
    headers = STREAM | {"Last-Event-ID": "1'; --"}
    assert admin.get(f"/v1/jobs/{finished['id']}/events", headers=headers).status_code == 422


def test_the_private_job_of_another_user_does_not_exist(box: Box) -> None:
    with box.speaking_as("ann") as ann, box.speaking_as("bob") as bob:
        assert ann.put("/v1/projects/hidden-events", json={"visibility": "private"}).status_code in (200, 201)
        job = submit(ann, digits() | {"project": "hidden-events"})
        for path in ("events", "events?format=sse", "logs?follow=true"):
            assert ann.get(f"/v1/jobs/{job['id']}/{path}").status_code == 200
            hidden, unknown = (bob.get(f"/v1/jobs/{each}/{path}") for each in (job["id"], "00000000-0000000"))
            assert hidden.status_code == unknown.status_code == 404
            assert hidden.json()["detail"] == unknown.json()["detail"] == "no such job"


def test_the_stream_of_a_job_has_its_events_and_every_point_once(admin: httpx.Client) -> None:
    job = submit(admin, digits(epochs=100, seed=3))
    told = whole(admin, job["id"])
    assert [message.event for message in told if message.event != "points"] == [
        "submitted",
        "started",
        "succeeded",
        "end",
    ]
    assert told[-1].event == "end"
    assert told[-1].data == {"status": "succeeded"}
    listed = admin.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    assert [message.data for message in told if message.event in ("submitted", "started", "succeeded")] == listed
    chart = Chart()
    for message in told:
        chart.take(message)
    for metric, summary in admin.get(f"/v1/runs/{job['id']}").json()["metrics"].items():
        curve = values(admin, job, metric)
        assert chart.columns[metric]["step"] == curve["step"]
        assert chart.columns[metric]["value"] == curve["y"]
        assert chart.sent[metric] == summary["count"]
    assert chart.columns["train_loss"]["step"] == list(range(1, STEPS + 1))


def test_a_stream_that_is_cut_anywhere_goes_on_without_a_gap_or_a_double(
    admin: httpx.Client, finished: dict[str, Any]
) -> None:
    """One connection for each message of a job."""
    uncut = whole(admin, finished["id"])
    seen: list[Message] = []
    while not seen or seen[-1].event != "end":
        with stream(admin, finished["id"], seen[-1].id if seen else None) as told:
            seen.append(next(told))
    chart, expected = Chart(), Chart()
    for message in seen:
        chart.take(message)
    for message in uncut:
        expected.take(message)
    assert len(seen) > 10
    assert chart.columns == expected.columns
    assert chart.sent == expected.sent
    by_query = admin.get(f"/v1/jobs/{finished['id']}/events", params={"after": seen[3].id}, headers=STREAM)
    assert list(messages(by_query)) == whole(admin, finished["id"], seen[3].id)


def test_a_stream_of_a_running_job_is_cut_and_goes_on(admin: httpx.Client) -> None:
    job = submit(admin, digits(**LONG))
    chart, last = Chart(), None
    for _ in range(4):
        with stream(admin, job["id"], last) as told:
            fresh = 0
            while fresh < 3:
                message = next(told)
                chart.take(message)
                last, fresh = message.id, fresh + (message.event == "points")
    admin.post(f"/v1/jobs/{job['id']}/cancel")
    for message in whole(admin, job["id"], last):
        chart.take(message)
    assert finish(admin, job)["status"] == "cancelled"
    steps = chart.columns["train_loss"]["step"]
    assert len(steps) == chart.sent["train_loss"]
    assert steps == list(range(1, len(steps) + 1))


def test_points_come_as_they_are_recorded(client: httpx.Client, hand: Hand, listen: Listen, until: Until) -> None:
    listener = listen(client, hand.job_id)
    until(lambda: listener.codes == ["submitted"])
    lease = hand.start()
    hand.record(lease, 1, [3.0, float("nan"), float("inf")])
    until(lambda: "points" in listener.codes)
    assert listener.told[-1].data == {
        "metric": "train_loss",
        "position": 0,
        "count": 3,
        "downsampled": False,
        "points": {"step": [1, 2, 3], "value": [3.0, "NaN", "Infinity"], "time": [0.01, 0.02, 0.03]},
    }
    hand.record(lease, 4, [1.0])
    until(lambda: listener.codes.count("points") == 2)
    assert listener.told[-1].data["position"] == 3
    hand.succeed(lease)
    listener.thread.join(5)
    assert listener.codes == ["submitted", "started", "points", "points", "succeeded", "end"]


def test_a_new_attempt_sends_its_curves_from_their_beginning(client: httpx.Client, hand: Hand) -> None:
    first = hand.start()
    hand.record(first, 1, [5.0, 4.0, 3.0])
    with stream(client, hand.job_id) as told:
        before = [next(told) for _ in range(3)]
    assert before[-1].data["points"]["value"] == [5.0, 4.0, 3.0]
    hand.lose(first)
    second = hand.start()
    hand.record(second, 1, [7.0, 6.0, 5.0, 4.0])
    hand.succeed(second)
    after = whole(client, hand.job_id, before[-1].id)
    assert [message.event for message in after] == ["worker_lost", "started", "succeeded", "points", "end"]
    chart = Chart()
    for message in before + after:
        chart.take(message)
    assert chart.columns["train_loss"]["value"] == [7.0, 6.0, 5.0, 4.0]


def test_a_reader_far_behind_is_shown_the_way_in_few_points(client: httpx.Client, hand: Hand) -> None:
    lease = hand.start()
    losses = np.linspace(9.0, 1.0, 30_000)
    losses[12_345] = -1.0
    hand.record(lease, 1, losses.tolist())
    with stream(client, hand.job_id) as told:
        overview = [next(told) for _ in range(3)][-1]
    hand.record(lease, 30_001, losses[:20_000].tolist())
    hand.succeed(lease)
    for message, position, count, low in [
        (overview, 0, 30_000, -1.0),
        (whole(client, hand.job_id, overview.id)[1], 30_000, 20_000, -1.0),
    ]:
        data = message.data
        assert (data["position"], data["count"], data["downsampled"]) == (position, count, True)
        steps = data["points"]["step"]
        assert (steps[0], steps[-1]) == (position + 1, position + count)
        assert len(steps) <= 1000
        assert min(data["points"]["min"]) == low
        assert max(data["points"]["max"]) == 9.0


def test_thousands_of_events_come_in_parts(client: httpx.Client, hand: Hand) -> None:
    lease = hand.start()
    with hand.database.write() as session:
        session.add_all(
            JobEvent(job=lease.seq, at=clock.now(), code="noted", message=str(number), data={"number": number})
            for number in range(2000)
        )
    hand.succeed(lease)
    noted = [message.data["data"]["number"] for message in whole(client, hand.job_id) if message.event == "noted"]
    assert noted == list(range(2000))


def test_a_quiet_stream_keeps_its_line_alive(client: httpx.Client, hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ALIVE_SECONDS", 0.1)
    monkeypatch.setattr(streams, "IDLE_SECONDS", 0.1)
    with client.stream("GET", f"/v1/jobs/{hand.job_id}/events", headers=STREAM) as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(6)][4:] == [":", ""]


@pytest.mark.parametrize("path", ["events?format=sse", "logs?follow=true"])
def test_revoking_a_token_ends_its_streams(
    client: httpx.Client, server: Server, hand: Hand, make_token: MakeToken, path: str
) -> None:
    text = make_token()
    token_id = text.split("_")[1]
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {text}"}, timeout=10) as reader:
        with reader.stream("GET", f"/v1/jobs/{hand.job_id}/{path}") as answer:
            began = time.monotonic()
            assert client.delete(f"/v1/tokens/{token_id}").status_code < 300
            told = answer.read()
            assert time.monotonic() - began < 5
        assert b"event: end" not in told
        assert reader.get("/v1/whoami").status_code == 401


def test_a_token_has_eight_streams_and_no_more(
    client: httpx.Client, server: Server, hand: Hand, make_token: MakeToken, until: Until
) -> None:
    path = f"/v1/jobs/{hand.job_id}"
    open_streams = server.application.state.place.streams
    with ExitStack() as opened:
        for each in ["events?format=sse", "logs?follow=true"] * 4:
            assert opened.enter_context(client.stream("GET", f"{path}/{each}")).status_code == 200
        for each in ("events?format=sse", "logs?follow=true"):
            refused = client.get(f"{path}/{each}")
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
            assert int(refused.headers["Retry-After"]) > 0
        assert client.get(f"{path}/events").status_code == 200
        headers = {"Authorization": f"Bearer {make_token()}"}
        with client.stream("GET", f"{path}/events?format=sse", headers=headers) as another:
            assert another.status_code == 200
    until(lambda: not open_streams)
    with client.stream("GET", f"{path}/events?format=sse") as again:
        assert again.status_code == 200


def test_a_service_that_stops_says_so_to_every_stream(
    serve: Serve, settings: Settings, hand: Hand, make_token: MakeToken, until: Until
) -> None:
    server = serve()
    ends: list[bytes] = []

    def read(path: str, token: str) -> None:
        with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=20) as client:
            ends.append(client.get(f"/v1/jobs/{hand.job_id}/{path}").content)

    paths = ["events?format=sse", "logs?follow=true"]
    tokens = [make_token(user=name) for name in ("ada", "ben", "cleo")]
    readers = [threading.Thread(target=read, args=(paths[each % 2], tokens[each % 3])) for each in range(20)]
    for reader in readers:
        reader.start()
    until(lambda: server.application.state.place.streams.total() == 20)
    began = time.monotonic()
    server.should_exit = True
    for reader in readers:
        reader.join(10)
    assert time.monotonic() - began < GRACEFUL_SECONDS
    assert sum(end.endswith(b"event: shutdown\ndata: {}\n\n") for end in ends) == 10
    assert sum(end.endswith(b"--- the service stops ---\n") for end in ends) == 10


def test_a_followed_log_is_the_whole_log_when_the_job_has_ended(admin: httpx.Client) -> None:
    job = submit(admin, digits(seed=4))
    followed = admin.get(f"/v1/jobs/{job['id']}/logs?follow=true")
    assert followed.headers["content-type"].startswith("text/plain")
    assert admin.get(f"/v1/jobs/{job['id']}").json()["status"] == "succeeded"
    assert followed.content == admin.get(f"/v1/jobs/{job['id']}/logs").content
    assert "classification of digits" in followed.text
    assert admin.get(f"/v1/jobs/{job['id']}/logs?follow=true&offset=10").content == followed.content[10:]


def test_a_followed_log_goes_on_with_the_next_attempt(client: httpx.Client, hand: Hand, until: Until) -> None:
    with client.stream("GET", f"/v1/jobs/{hand.job_id}/logs?follow=true") as answer:
        first = hand.start()
        hand.print(1, b"one\xff")
        hand.lose(first)
        second = hand.start()
        hand.print(2, b"two\n" * 100_000)
        hand.lose(second)
        third = hand.start()
        hand.succeed(third)
        followed = answer.read()
    assert followed == b"one\xff\n--- attempt 2 ---\n" + b"two\n" * 100_000 + b"--- attempt 3 ---\n"
    assert client.get(f"/v1/jobs/{hand.job_id}/logs?follow=true&attempt=1").content == b"one\xff"
    assert client.get(f"/v1/jobs/{hand.job_id}/logs?follow=true&attempt=4").status_code == 404


def test_one_attempt_is_followed_to_its_own_end(client: httpx.Client, hand: Hand) -> None:
    lease = hand.start()
    hand.print(1, b"one\n")
    with client.stream("GET", f"/v1/jobs/{hand.job_id}/logs?follow=true&attempt=1") as answer:
        hand.lose(lease)
        assert answer.read() == b"one\n"


def test_a_reader_that_takes_nothing_costs_nothing_and_is_cut(
    serve: Serve, hand: Hand, token: str, patient: Limits, until: Until
) -> None:
    server = serve(allowed=replace(patient, write_seconds=1.0))
    hand.start()
    hand.print(1, b"")
    with (jobs.attempt_folder(hand.settings.jobs_path, hand.job_id, 1) / "log").open("ab") as log:
        for _ in range(64):  # MiB: much more than what the kernel takes in for a reader
            log.write((b"." * 1023 + b"\n") * 1024)
    process = psutil.Process()
    host, port = server.listener.getsockname()[:2]
    head = (
        f"GET /v1/jobs/{hand.job_id}/logs?follow=true HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}"
    )
    open_streams = server.application.state.place.streams
    with ExitStack() as opened:
        before = process.memory_info().rss
        for _ in range(8):
            idle = opened.enter_context(socket.create_connection((host, port)))
            idle.sendall(f"{head}\r\n\r\n".encode())
        until(lambda: open_streams.total() == 8)
        with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}) as client:
            while open_streams:
                assert client.get(f"/v1/jobs/{hand.job_id}", timeout=2).status_code == 200
                time.sleep(0.02)  # fewer than what a token may ask
                assert process.memory_info().rss - before < 48 << 20
