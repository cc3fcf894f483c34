"""Curves and comparisons as pictures, as files and as streams, over HTTP; and answers that the client has already."""

import csv
import gzip
import io
import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
import pyarrow.parquet
import pytest
from boxes import digits, finish, submit
from conftest import Box, Until
from matplotlib import image

from service.api import delivery, whole_curves
from service.api.views.compare import ComparisonView
from service.pictures import CurveFile, Line, Panel, Picture, Studio, StudioFailed

SVG = "{http://www.w3.org/2000/svg}"


def words(picture: bytes) -> set[str]:
    """The texts in an SVG file."""
    return {text.strip() for text in ElementTree.fromstring(picture).itertext()}


@pytest.fixture(scope="module")
def trained(box: Box) -> list[dict[str, Any]]:
    """Two seeds of two learning rates each."""
    jobs = [
        submit(box.admin, digits(learning_rate=rate, seed=seed, epochs=6) | {"tags": {"set": "pictures"}})
        for rate in (0.003, 0.0001)
        for seed in (0, 1, 2)
    ]
    return [finish(box.admin, job) for job in jobs]


@pytest.fixture(scope="module")
def path(trained: list[dict[str, Any]]) -> str:
    return f"/v1/runs/{trained[0]['id']}/curves?metric=train_loss&metric=val_loss&metric=val_accuracy"


def test_curves_come_as_a_picture(admin: httpx.Client, path: str) -> None:
    answer = admin.get(f"{path}&format=png")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    picture = image.imread(io.BytesIO(answer.content))
    assert picture.shape[0] > 700
    assert picture.shape[1] > 1000
    assert picture[..., :3].std() > 0.05, "something is drawn"
    assert admin.get(path, headers={"Accept": "image/png"}).content == answer.content


def test_a_picture_in_svg_names_its_axes_and_holds_names_as_text(admin: httpx.Client, box: Box) -> None:
    name = '<script>alert("x")</script> $x^2$ _'
    job = finish(admin, submit(admin, digits(epochs=2) | {"name": name}))
    answer = admin.get(f"/v1/runs/{job['id']}/curves?metric=val_loss&format=svg&x=samples&log=true")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert {name, "training samples seen", "val_loss"} <= words(answer.content)
    assert not list(ElementTree.fromstring(answer.content).iter(f"{SVG}script"))


def test_a_comparison_is_drawn_with_what_differs_as_its_legend(admin: httpx.Client, trained: Any) -> None:
    query: dict[str, Any] = {
        "tag.set": "pictures",
        "metric": "val_accuracy",
        "format": "svg",
        "x": "epoch",
        "target": 0.5,
    }
    assert {"learning_rate=0.003, seed=0", "target 0.5"} <= words(admin.get("/v1/compare", params=query).content)
    grouped = admin.get("/v1/compare", params=query | {"group_by": "learning_rate"})
    assert "learning_rate=0.003 (mean of 3)" in words(grouped.content)


def test_curves_and_comparisons_come_as_parquet(admin: httpx.Client, path: str, trained: Any) -> None:
    points = admin.get(path).json()["data"][0]["points"]
    answer = admin.get(f"{path}&format=parquet")
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    table = pyarrow.parquet.read_table(io.BytesIO(answer.content)).to_pydict()
    assert table["y"][: len(points["y"])] == points["y"]
    assert set(table["metric"]) == {"train_loss", "val_loss", "val_accuracy"}
    query = {"tag.set": "pictures", "metric": "val_loss", "format": "parquet"}
    table = pyarrow.parquet.read_table(io.BytesIO(admin.get("/v1/compare", params=query).content)).to_pydict()
    assert set(table["run_id"]) == {job["id"] for job in trained}
    grouped = admin.get("/v1/compare", params=query | {"group_by": "learning_rate"}).content
    table = pyarrow.parquet.read_table(io.BytesIO(grouped)).to_pydict()
    assert set(table) == {"group", "x", "mean", "lower", "upper"}


def test_groups_over_seeds_and_verdicts_have_the_documented_form(admin: httpx.Client, trained: Any) -> None:
    query = {"tag.set": "pictures", "metric": "val_loss", "group_by": "hyperparameters.learning_rate", "x": "epoch"}
    answer = admin.get("/v1/compare", params=query | {"target": 0.5})
    found = ComparisonView.model_validate_json(answer.content)
    assert [group.key for group in found.groups] == [0.0001, 0.003]
    assert [group.rank for group in found.groups] == [2, 1]
    for group in found.groups:
        assert group.curve is not None
        assert group.curve.x == [1, 2, 3, 4, 5, 6]
        assert group.curve.lower is not None
        assert group.curve.upper is not None
        bounds = zip(group.curve.lower, group.curve.mean, group.curve.upper, strict=True)
        assert all(float(low or 0) <= float(mean or 0) <= float(high or 0) for low, mean, high in bounds)
    [verdict] = found.verdicts
    assert (verdict.a, verdict.b, verdict.verdict, verdict.basis) == (0.0001, 0.003, "worse", "seeds")
    assert verdict.more_seeds_needed is None
    fast = next(run for run in found.runs if run.parameters["hyperparameters.learning_rate"] == 0.003)
    assert fast.summary is not None
    assert fast.summary.reached is not None
    assert {"step", "epoch", "samples", "time", "gpu_seconds"} == set(fast.summary.reached)
    text = admin.get("/v1/compare", params=query | {"format": "text", "width": 90}).text
    assert max(map(len, text.splitlines())) <= 90
    assert "learning_rate=0.0001 is worse than learning_rate=0.003 (by seeds" in text.replace("\n  ", " ")
    lines = admin.get("/v1/compare", params=query | {"format": "ndjson"}).text.splitlines()
    assert [json.loads(line)["key"] for line in lines] == [0.0001, 0.003]
    rows = list(csv.DictReader(io.StringIO(admin.get("/v1/compare", params=query | {"format": "csv"}).text)))
    assert [(row["learning_rate"], row["runs"]) for row in rows] == [("0.003", "3"), ("0.0001", "3")]


def test_all_points_come_as_a_stream(
    admin: httpx.Client, path: str, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_curves, "WINDOW", 50)  # so that a short curve takes several
    thinned = admin.get(path).json()["data"]
    whole = admin.get(f"{path}&points=all").json()
    assert whole["data"] == thinned
    alone = f"/v1/runs/{trained[0]['id']}/curves?metric=train_loss&points=all&x=epoch"
    assert admin.get(alone).json()["points"]["y"] == thinned[0]["points"]["y"]
    rows = list(csv.DictReader(io.StringIO(admin.get(f"{alone}&format=csv").text)))
    assert [float(row["y"]) for row in rows] == thinned[0]["points"]["y"]
    lines = [json.loads(line) for line in admin.get(f"{alone}&format=ndjson").text.splitlines()]
    assert [line["step"] for line in lines] == thinned[0]["points"]["step"]
    part = admin.get(f"{alone}&from=60&to=69").json()
    assert (part["count"], part["points"]["step"]) == (10, list(range(60, 70)))
    for query, param in ("format=png", "points"), ("smooth=0.5", "smooth"):
        answer = admin.get(f"{alone}&{query}")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["param"] == param


def test_what_the_client_has_of_a_run_that_is_over_is_not_sent_again(
    admin: httpx.Client, path: str, trained: Any
) -> None:
    compared = f"/v1/compare?runs={trained[0]['id']},{trained[1]['id']}&metric=val_loss"
    for url in (path, f"{path}&format=png", f"{path}&points=all", compared):
        first = admin.get(url)
        tag = first.headers["ETag"]
        second = admin.get(url, headers={"If-None-Match": f'"other", {tag}'})
        assert (second.status_code, second.content) == (304, b"")
        assert second.headers["ETag"] == tag
        assert admin.get(url, headers={"If-None-Match": '"other"'}).status_code == 200
        assert admin.get(f"{url}&x=epoch").headers["ETag"] != tag


def test_a_run_that_goes_on_has_no_tag(shared: httpx.Client) -> None:
    run_id = shared.post("/v1/runs", json={"name": "goes on"}).json()["id"]
    shared.post(f"/v1/runs/{run_id}/points", json={"points": [{"metric": "loss", "step": 1, "value": 1.0}]})
    assert "ETag" not in shared.get(f"/v1/runs/{run_id}/curves?metric=loss").headers
    assert "ETag" not in shared.get(f"/v1/compare?runs={run_id}&metric=loss").headers


def test_large_answers_are_packed_for_those_who_unpack(
    admin: httpx.Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "LARGE", 8 << 10)
    for url in (path, f"{path}&points=all"):
        plain = admin.get(url, headers={"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in plain.headers
        with admin.stream("GET", url, headers={"Accept-Encoding": "gzip"}) as packed:
            raw = b"".join(packed.iter_raw())
        assert packed.headers["Content-Encoding"] == "gzip"
        assert len(raw) < len(plain.content) / 2
        assert gzip.decompress(raw) == plain.content
        refused = admin.get(url, headers={"Accept-Encoding": "gzip;q=0"})
        assert "Content-Encoding" not in refused.headers


def test_lists_are_not_drawn(admin: httpx.Client) -> None:
    for url in ("/v1/runs?format=png", "/v1/jobs?format=parquet"):
        answer = admin.get(url)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["param"] == "format"


def test_a_picture_does_not_keep_others_waiting(admin: httpx.Client, box: Box, path: str, until: Until) -> None:
    studio = box.server.application.state.place.studio
    assert admin.get(f"{path}&format=png").status_code == 200
    with box.speaking_as("ada") as other, ThreadPoolExecutor() as pool:
        studio._process.send_signal(signal.SIGSTOP)
        waiting = pool.submit(other.get, f"{path}&format=png&x=epoch")
        until(studio._taken.locked)
        answered = admin.get(f"{path}&format=json")
        assert not waiting.done()
        studio._process.send_signal(signal.SIGCONT)
        assert (answered.status_code, waiting.result().status_code) == (200, 200)


# The process that makes pictures


def picture(*lines: Line, form: Any = "png") -> Picture:
    return Picture("a title", [Panel(lines, "loss")], "step", form)


def line(values: list[float], **bounds: Any) -> Line:
    return Line("a line", np.arange(len(values)), np.array(values, np.float64), **bounds)


@pytest.fixture(scope="module")
def studio() -> Any:
    made = Studio()
    yield made
    made.close()


@pytest.mark.parametrize(
    "values",
    [[], [np.nan], [np.inf, -np.inf], [1.0], [0.0, 0.0], [1e308, -1e308], [5e-324, 1.0], [-1.0, -2.0], [1e-300, 1e300]],
)
def test_whatever_the_values_there_is_a_picture(studio: Studio, values: list[float]) -> None:
    low, high = np.array(values) - 1, np.array(values) + 1
    assert studio.make(picture(line(values), line(values, low=low, high=high))).startswith(b"\x89PNG")
    logarithmic = Picture("", [Panel([line(values)], "loss", log=True, target=-1.0)], "step", "svg")
    assert b"</svg>" in studio.make(logarithmic)


def test_many_curves_have_a_legend_beside_them(studio: Studio) -> None:
    lines = [Line(f"run {number}", np.arange(9), np.arange(9.0) + number) for number in range(50)]
    assert {"run 0", "and 26 more"} <= words(studio.make(picture(*lines, form="svg")))


def test_a_legend_hides_no_line(studio: Studio) -> None:
    rising, up_and_down = line([0.0, 1.0]), line([0.0, 1.0] * 450)

    def right_end(curve: Line) -> float:
        """How far to the right the axes go."""
        drawn = ElementTree.fromstring(studio.make(picture(line([0.5]), curve, form="svg")))
        patch = drawn.find(f".//{SVG}g[@id='patch_2']/{SVG}path")
        assert patch is not None
        return max(float(number) for number in re.findall(r"[\d.]+", patch.get("d", ""))[::2])

    assert right_end(up_and_down) < right_end(rising) - 50
    banded = line([0.0, 1.0], low=np.array([-2.0, -2.0]), high=np.array([3.0, 3.0]))
    assert right_end(banded) < right_end(rising) - 50


def test_an_axis_of_many_decades_names_its_powers_of_ten(studio: Studio) -> None:
    drawn = studio.make(picture(line((10.0 ** -np.arange(9)).tolist()), form="svg")).decode()
    assert {"10⁻²", "10⁻⁸"} <= words(drawn.encode())
    assert "$" not in drawn


def test_what_a_picture_cannot_draw_it_tells(studio: Studio) -> None:
    below = Picture("", [Panel([line([1.0, 0.0, -1.0, 0.5])], "loss", log=True)], "step", "svg")
    assert "a line (without 2 at 0 or below)" in words(studio.make(below))
    assert "values beyond 1e+100 are not drawn" in words(studio.make(picture(line([1e300, 1e299]), form="svg")))
    assert "no points to draw" in words(studio.make(picture(line([np.nan]), form="svg")))
    many = [Line(f"run {number}", np.arange(9), np.arange(9.0) + number) for number in range(30)]
    aimed = Picture("", [Panel(many, "loss", target=2.0)], "step", "svg")
    assert {"target 2", "and 7 more"} <= words(studio.make(aimed))


def test_a_line_through_means_does_not_dive_to_the_last_single_point(studio: Studio) -> None:
    """Of buckets between 0 and 2 with means of 1, behind which the last point, 0, stands by itself."""
    steps, beside = np.arange(40), np.arange(40) == 39
    means, low, high = np.ones(40), np.zeros(40), np.full(40, 2.0)
    means[39] = high[39] = 0.0

    def lowest(number: int) -> float:
        """How far down the line with the buckets goes: y grows downwards. Beside it are others without surroundings."""
        others = [line([1.0, 1.0])] * number
        drawn = studio.make(picture(Line("", steps, means, low, high, beside), *others, form="svg"))
        lines = ElementTree.fromstring(drawn).iterfind(f".//{SVG}g[@id='axes_1']/{SVG}g/{SVG}path[@clip-path]")
        [path] = [
            each.get("d", "")
            for each in lines
            if "#0072b2" in each.get("style", "") and "fill: none" in each.get("style", "")
        ]
        numbers = [float(each) for each in re.findall(r"-?[\d.]+", path)]
        return max(numbers[1::2]) - min(numbers[1::2])

    assert lowest(1) == 0
    assert lowest(7) > 50, "nothing else shows the point where the surroundings of many are left out"


def test_a_point_that_no_neighbour_makes_a_line_is_a_dot(studio: Studio) -> None:
    together, apart = (
        studio.make(picture(line(values), form="svg")).count(b"<use")
        for values in ([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, np.nan, 3.0, np.nan, 5.0])
    )
    assert apart == together + 4, "three dots, and one of the legend that now tells of NaN"


def test_steps_have_no_parts_and_what_is_lost_to_rounding_no_slope(studio: Studio) -> None:
    single = words(studio.make(picture(Line("", np.array([7]), np.array([0.5])), form="svg")))
    assert {"6", "7", "8"} <= single
    assert not single & {"6.5", "7.5", "7.2"}
    flat = words(studio.make(picture(line((3e-4 + 1e-19 * np.arange(50)).tolist()), form="svg")))
    assert "0.000300" in flat


def test_a_target_is_seen_however_far_it_is(studio: Studio) -> None:
    near = Picture("", [Panel([line([0.90, 0.95, 0.97])], "val_accuracy", target=0.5)], "step", "svg")
    assert {"0.5", "0.9", "target 0.5"} <= words(studio.make(near))
    logarithmic = Picture("", [Panel([line([1.0, 0.1, 0.01])], "loss", log=True, target=1e-4)], "step", "svg")
    assert "10⁻⁴" in words(studio.make(logarithmic))


def test_what_is_better_the_more_it_is_has_a_logarithmic_axis_only_when_asked(shared: httpx.Client) -> None:
    run = shared.post("/v1/runs", json={"name": "scored"}).json()["id"]
    points = [
        {"metric": metric, "step": step, "value": 0.01 * step}
        for metric in ("val_accuracy", "val_loss")
        for step in range(1, 100)
    ]
    assert shared.post(f"/v1/runs/{run}/points", json={"points": points}).status_code == 200
    shared.post(f"/v1/runs/{run}/finish", json={"status": "succeeded"})
    for url in (f"/v1/runs/{run}/curves?", f"/v1/compare?runs={run}&"):
        score, loss = (shared.get(f"{url}metric={metric}&format=svg") for metric in ("val_accuracy", "val_loss"))
        assert "0.4" in words(score.content)
        assert "0.05" in words(loss.content)
        assert "0.05" in words(shared.get(f"{url}metric=val_accuracy&format=svg&log=true").content)
        assert "0.4" in words(shared.get(f"{url}metric=val_loss&format=svg&log=false").content)


def test_a_picture_that_fails_leaves_a_studio_that_works(studio: Studio) -> None:
    with pytest.raises(StudioFailed):
        studio.make(CurveFile({"x": np.arange(3), "y": np.arange(4)}))
    assert studio.make(picture(line([1.0, 2.0]))).startswith(b"\x89PNG")
    assert studio._process is not None
    studio._process.kill()
    studio._process.wait()
    assert studio.make(picture(line([1.0, 2.0]))).startswith(b"\x89PNG")


ODD: dict[str, list[Any]] = {
    "huge": [1.7e308, -1.7e308, 1.7e308] * 9,
    "tiny": [5e-324, 0.0, -5e-324] * 9,
    "broken": ["NaN", "Infinity", "-Infinity"] * 9,
    "mixed": [1.0, "NaN", 1e300, -1e-300, 0.5] * 9,
    "flat": [1.0] * 30,
    "one": [2.0],
}


def test_whatever_a_script_logs_can_be_read_compared_drawn_and_diagnosed(shared: httpx.Client) -> None:
    ids = []
    for seed, (name, values) in enumerate(ODD.items()):
        parameters = {"hyperparameters": {"learning_rate": 10.0 ** (300 * (-1) ** seed), "seed": seed}, "odd": name}
        sizes = {"batch_size": 2**40, "train_samples": 2**40} if seed % 2 else {}
        run = {"name": f"{name} $x$ \u202e _", "tags": {"set": "odd"}, "parameters": parameters, **sizes}
        ids.append(shared.post("/v1/runs", json=run).json()["id"])
        steps = [step * (2**63 - 1) // max(1, len(values) - 1) for step in range(len(values))]
        for metric in ("train_loss", "val_loss", "val_accuracy"):
            points = [
                {"metric": metric, "step": step, "value": value} for step, value in zip(steps, values, strict=True)
            ]
            assert shared.post(f"/v1/runs/{ids[-1]}/points", json={"points": points}).status_code == 200
    urls = [f"/v1/runs/{run_id}/diagnosis?format=text" for run_id in ids]
    for form in ("json", "csv", "ndjson", "text", "png", "parquet"):
        for x in ("step", "samples", "gpu_seconds"):
            urls += [f"/v1/runs/{ids[0]}/curves?metric=train_loss&points=10&x={x}&smooth=0.9&format={form}&log=true"]
            query = f"metric=train_loss&metric=val_accuracy&x={x}&format={form}"
            urls += [f"/v1/runs/{run_id}/curves?{query}" for run_id in ids[:: 1 if form == "json" else 4]]
        urls += [
            f"/v1/compare?tag.set=odd&metric=val_loss&target=1&format={form}",
            f"/v1/compare?tag.set=odd&metric=val_accuracy&group_by=odd&x=time&format={form}",
            f"/v1/compare?runs={','.join(ids[1::2])}&metric=val_loss&group_by=seed&x=epoch&format={form}&smooth=0.5",
        ]
    urls += [
        f"/v1/runs/{ids[3]}/curves?metric=train_loss&points=all&x=samples&format={form}" for form in ("json", "csv")
    ]
    statuses = {url: shared.get(url).status_code for url in urls}
    # A run that says nothing of its batches has no samples.
    assert {url: status for url, status in statuses.items() if status != 200 and "x=samples" not in url} == {}
    assert all(status in (200, 422) for status in statuses.values())
