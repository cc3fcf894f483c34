"""The two reads of jobs as a person would write them with FastAPI and plain `sqlite3`: the baseline of `reads`.

`python -m benchmarks.plain DATABASE PORT`. It knows no users, no limits, no log and no filters.
"""

import sqlite3
import sys
import threading
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI, Response

SELECT = """
    SELECT runs.id, runs.name, runs.project, runs."user", runs.tags, runs.created_at,
        jobs.spec, jobs.plan, jobs.warnings, jobs.status, jobs.reason_code, jobs.reason_message, jobs.reason_since,
        jobs.priority, jobs.attempt, jobs.step, jobs.active_seconds, jobs.retry_of, jobs.study_id, jobs.error_code,
        jobs.error_message, jobs.exit_code, jobs.signal, jobs.started_at, jobs.finished_at
    FROM runs JOIN jobs ON jobs.seq = runs.seq
"""


def application(database: str) -> FastAPI:
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    of_thread = threading.local()

    def rows(query: str, *parameters: object) -> list[Any]:
        if not hasattr(of_thread, "connection"):
            of_thread.connection = sqlite3.connect(database)
            of_thread.connection.row_factory = sqlite3.Row
        found: list[Any] = of_thread.connection.execute(query, parameters).fetchall()
        return found

    @app.get("/v1/jobs")
    def list_jobs(limit: int = 50) -> Response:
        found = rows(f"{SELECT} ORDER BY runs.seq DESC LIMIT ?", limit + 1)
        shown, has_more = [job(row) for row in found[:limit]], len(found) > limit
        last = shown[-1]["id"] if has_more else None
        return answer({"data": shown, "has_more": has_more, "next_after": last})

    @app.get("/v1/jobs/{job_id}")
    def get_job(job_id: str) -> Response:
        return answer(job(rows(f"{SELECT} WHERE runs.id = ?", job_id)[0]))

    return app


def answer(body: Any) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


def job(row: Any) -> dict[str, Any]:
    plan = orjson.loads(row["plan"])
    samples = min(row["step"] * plan["batch_size"], plan["total_samples"])
    active = row["active_seconds"]
    error = row["error_code"] and {
        "code": row["error_code"],
        "message": row["error_message"],
        "exit_code": row["exit_code"],
        "signal": row["signal"],
    }
    return {
        "id": row["id"],
        "object": "job",
        "name": row["name"],
        "project": row["project"],
        "user": row["user"],
        "status": row["status"],
        "status_reason": {
            "code": row["reason_code"],
            "message": row["reason_message"],
            "since": row["reason_since"],
        },
        "spec": orjson.loads(row["spec"]),
        "plan": plan,
        "warnings": orjson.loads(row["warnings"]),
        "tags": orjson.loads(row["tags"]),
        "priority": row["priority"],
        "attempt": row["attempt"],
        "progress": {
            "step": row["step"],
            "total_steps": plan["total_steps"],
            "epoch": row["step"] / plan["steps_per_epoch"],
            "samples": samples,
            "samples_per_second": samples / active if active else None,
            "eta_seconds": None,
        }
        if row["attempt"]
        else None,
        "retry_of": row["retry_of"],
        "study_id": row["study_id"],
        "error": error,
        "created_at": row["created_at"],
        "started_at": row["started_at"],
        "finished_at": row["finished_at"],
    }


def main() -> None:
    database, port = sys.argv[1:]
    uvicorn.run(
        application(database),
        port=int(port),
        http="httptools",
        ws="none",
        loop="uvloop",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
