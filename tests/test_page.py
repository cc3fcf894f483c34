"""The page in a real browser: what it shows, what it keeps to itself, and that everyone can use it."""

import os
import re
import shutil
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from boxes import digits, submit, train
from conftest import Box, Until
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    Route,
    expect,
    sync_playwright,
)

from service import datasets, intake, queue, users
from service.api.server import Server
from service.api.web import FILES, FOLDER
from service.database import Database
from service.queue import QueueLimits
from service.settings import Settings
from service.states import Scope
from service.users import Principal

ROOT = Path(__file__).parent.parent
HOSTILE = '<img src=x onerror="window.taken = true">'
NEEDLE = {"found": "needle"}
FIRST_LOAD_BYTES = 150_000
PATIENCE_MILLISECONDS = 30_000
WIDE, PHONE = (1280, 900), (390, 844)
OWN = [path for path in sorted(FOLDER.rglob("*")) if path.is_file() and "vendor" not in path.parts]

expect.set_options(timeout=PATIENCE_MILLISECONDS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; `make test` installs it where it can."""
    program = shutil.which("chromium")
    if program is None:
        warnings.warn("THE PAGE IS NOT TESTED: Chromium is missing (apt-get install chromium)", stacklevel=1)
        pytest.skip("Chromium is missing")
    # Chromium's own sandbox does not start for root.
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield opened
        opened.close()


@dataclass
class Visit:
    """A tab that was looked over: what it said, and where it reached out to."""

    page: Page
    url: str
    said: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.set_default_timeout(PATIENCE_MILLISECONDS)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", self._meet)
        self.page.on("request", self._look)

    def show(self, state: str = "") -> Page:
        self.page.goto(f"{self.url}/#/{state}")
        return self.page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(f"{message.text} {message.location.get('url')}")

    def _meet(self, dialog: Dialog) -> None:
        self.said.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _look(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "blob:")):
            self.strangers.append(request.url)


@contextmanager
def visiting(
    browser: Browser, url: str, token: str | None, size: tuple[int, int] = WIDE, **options: Any
) -> Iterator[Visit]:
    """A tab in a profile of its own. Whatever is done in it: no error, and no request to anywhere else."""
    context: BrowserContext = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    if token is not None:
        context.add_init_script(f"sessionStorage.setItem('trainbox.token', {token!r})")
    visit = Visit(context.new_page(), url)
    visit.watch()
    try:
        yield visit
        assert visit.said == []
        assert visit.strangers == []
    finally:
        context.close()


def secret(client: httpx.Client) -> str:
    return client.headers["Authorization"].removeprefix("Bearer ")


@pytest.fixture
def visit(browser: Browser, box: Box) -> Iterator[Visit]:
    """Signed in as the admin of the shared service."""
    with visiting(browser, box.server.url, secret(box.admin)) as opened:
        yield opened


@pytest.fixture(scope="module")
def pair(box: Box) -> list[str]:
    """Two short runs that differ in their learning rate, with hostile names and tags."""
    made = []
    for rate in (0.001, 0.01):
        spec = digits(learning_rate=rate, epochs=3) | {"name": HOSTILE, "tags": {HOSTILE: "javascript:alert(1)"}}
        made.append(str(train(box.admin, spec)["id"]))
    return made


@pytest.fixture(scope="module")
def study(box: Box) -> str:
    """A small one that is over."""
    asked = {"kind": "lr_range", "name": HOSTILE, "base": digits(), "steps": 10, "seeds": 1}
    rates = {"low": 1e-4, "high": 1e-1, "count": 4}
    answer = box.admin.post("/v1/studies", json=asked | {"learning_rates": rates})
    assert answer.status_code == 201, answer.text
    found = box.admin.get(f"/v1/studies/{answer.json()['id']}", params={"wait": 60}, timeout=70).json()
    assert found["status"] == "succeeded"
    return str(found["id"])


def counted(page: Page) -> int:
    """How many points of train_loss the first chart says it shows."""
    label = page.locator(".chart").first.get_attribute("aria-label") or ""
    found = re.search(r"train_loss, ([\d\u202f]+) points?", label)
    return int(found[1].replace("\u202f", "")) if found else 0


def test_one_signs_in_with_a_token_that_stays_in_the_tab(browser: Browser, box: Box) -> None:
    token = secret(box.admin)
    with visiting(browser, box.server.url, None) as visit:
        page = visit.show()
        page.get_by_label("Token").fill("tbx_nobody")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("not valid")
        assert all("401" in line for line in visit.said)
        visit.said.clear()
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Box", exact=True)).to_be_visible()
        assert token not in page.url
        assert page.evaluate("[sessionStorage.length, localStorage.length]") == [1, 0]
        page.reload()
        expect(page.get_by_role("heading", name="Box", exact=True)).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        assert page.evaluate("[sessionStorage.length, localStorage.length]") == [0, 0]
        page.get_by_label("Token").fill(token)
        page.get_by_label("stay signed in").check()
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Box", exact=True)).to_be_visible()
        assert page.evaluate("[sessionStorage.length, localStorage.length]") == [0, 1]
        page.evaluate("localStorage.setItem('trainbox.token', 'tbx_nobody')")
        page.get_by_role("link", name="Runs").click()
        expect(page.get_by_role("alert")).to_have_text("This token is no longer valid.")
        assert all("401" in line for line in visit.said)
        visit.said.clear()


def test_a_job_from_the_form_is_planned_trained_and_watched(visit: Visit, until: Until) -> None:
    page = visit.show("submit")
    page.get_by_label("dataset").fill("digits")
    page.get_by_label("epochs").fill("100000")
    plan = page.locator("aside")
    expect(plan).to_contain_text("2\u202f300\u202f000")  # steps: 23 an epoch
    expect(page.get_by_label("task")).to_have_value("classification")
    page.get_by_label("learning rate").fill("0.5")
    expect(plan).to_contain_text("the usual start lies between")
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.locator(".badge").first).to_contain_text("running")
    expect(page.locator(".chart").first).to_have_attribute("aria-label", re.compile(r"train_loss, [1-9]"))
    first = counted(page)
    until(lambda: counted(page) > first)
    page.get_by_role("tab", name="Events").click()
    events = page.get_by_role("table", name="Events")
    expect(events).to_contain_text("started")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator(".badge").first).to_contain_text("cancelled")
    expect(events).to_contain_text("cancelled")
    page.get_by_role("tab", name="Logs").click()
    expect(page.locator(".log")).not_to_be_empty()


def test_the_form_adds_up_the_steps_and_leads_to_a_study_of_what_it_says(visit: Visit) -> None:
    page = visit.show("submit?dataset=digits")
    told = page.locator(".help")
    expect(told).to_contain_text("between 0.001 and 0.01")
    expect(told).to_contain_text("1\u202f437 samples in batches of 64: 23 steps an epoch, the last of 29 samples")
    page.get_by_label("drop last").check()
    page.get_by_label("epochs", exact=True).fill("3")
    expect(told).to_contain_text("22 steps an epoch, 29 samples left out. 3 epochs: 66 steps")
    told.get_by_role("link", name="learning rates").click()
    asked = page.get_by_label("The request, as JSON")
    expect(asked).to_have_value(re.compile('"kind": "lr_range"(?s:.)*"dataset": "digits"(?s:.)*"drop_last": true'))
    expect(page.get_by_text("24 jobs")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("dataset")).to_have_value("digits")
    expect(page.get_by_label("epochs", exact=True)).to_have_value("3")
    page.reload()
    expect(page.get_by_label("drop last")).to_be_checked()


def test_what_is_wrong_stands_beside_its_field(visit: Visit) -> None:
    page = visit.show("submit")
    page.get_by_label("dataset").fill("digits")
    page.get_by_label("learning rate").fill("-1")
    expect(page.locator("#field-hyperparameters-learning_rate-told")).to_contain_text("greater than 0")
    expect(page.get_by_label("learning rate")).to_have_attribute("aria-invalid", "true")
    assert all("422" in line for line in visit.said)
    visit.said.clear()


def test_a_copy_tells_what_its_changes_mean_before_it_is_made(visit: Visit, box: Box, pair: list[str]) -> None:
    before = len(box.admin.get("/v1/jobs", params={"limit": 200}).json()["data"])
    page = visit.show(f"submit?clone={pair[0]}")
    page.get_by_label("batch size").fill("32")
    expect(page.locator(".changes")).to_contain_text("64 → 32")
    expect(page.locator(".changes li")).to_have_count(1)
    page.get_by_text("early stopping", exact=True).click()
    page.get_by_label("with early stopping").check()
    expect(page.locator(".changes")).to_contain_text("early_stopping")
    assert len(box.admin.get("/v1/jobs", params={"limit": 200}).json()["data"]) == before
    page.get_by_role("button", name="Submit the copy").click()
    page.wait_for_url(re.compile("#/run/"))
    copy = box.admin.get(f"/v1/jobs/{page.url.rpartition('/')[2]}").json()
    assert copy["spec"]["hyperparameters"]["batch_size"] == 32
    assert copy["spec"]["early_stopping"]["patience"] == 5


def test_two_runs_are_selected_and_compared_by_key(visit: Visit, pair: list[str]) -> None:
    page = visit.show("runs")
    boxes = page.get_by_role("checkbox", name=f"Select {HOSTILE}")
    boxes.nth(0).check()
    boxes.nth(1).check()
    assert "selected=" in page.url
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("c")
    expect(page.get_by_role("heading", name="Compare")).to_be_visible()
    ranking = page.locator(".ranking")
    expect(ranking.locator("tbody tr")).to_have_count(2)
    expect(ranking).to_contain_text("learning_rate")
    page.get_by_label("target").fill("1.5")
    page.get_by_label("target").press("Enter")
    expect(ranking).to_contain_text("to_target")
    page.reload()
    expect(page.get_by_label("target")).to_have_value("1.5")


def test_a_running_job_is_cancelled_with_a_question_first(visit: Visit, box: Box) -> None:
    job = submit(box.admin, digits(epochs=100_000) | {"name": "to be cancelled"})
    page = visit.show("box")
    cancel = page.get_by_role("button", name="Cancel to be cancelled")
    cancel.click()
    page.get_by_role("button", name="Leave it").click()
    assert box.admin.get(f"/v1/jobs/{job['id']}").json()["status"] != "cancelled"
    cancel.click()
    page.get_by_role("button", name="Cancel the job").click()
    page.goto(f"{visit.url}/#/run/{job['id']}")
    expect(page.locator(".badge").first).to_contain_text("cancelled")


def test_zooming_fetches_the_points_of_the_stretch(visit: Visit, pair: list[str]) -> None:
    page = visit.show(f"run/{pair[0]}")
    expect(page.locator(".chart").first).to_have_attribute("aria-label", re.compile(r"train_loss, \d+ points"))
    over = page.locator(".chart .u-over").first
    plot = over.bounding_box()
    assert plot is not None
    with page.expect_request(re.compile(r"/curves\?.*from=\d+&to=\d+")):
        # Within the element, which moves when what is above it comes later.
        over.hover(position={"x": plot["width"] * 0.3, "y": 50})
        page.mouse.down()
        over.hover(position={"x": plot["width"] * 0.6, "y": 60})
        page.mouse.up()
    assert "from=" in page.url
    with page.expect_request(re.compile(r"/curves\?(?!.*from=)")):
        page.get_by_role("button", name="All of it").click()


def test_two_fingers_zoom_a_chart_on_a_phone(browser: Browser, box: Box, pair: list[str]) -> None:
    with visiting(browser, box.server.url, secret(box.admin), PHONE, has_touch=True) as visit:
        page = visit.show(f"run/{pair[0]}")
        expect(page.locator(".chart").first).to_have_attribute("aria-label", re.compile(r"train_loss, \d+ points"))
        over = page.locator(".chart .u-over").first
        over.scroll_into_view_if_needed()
        plot = over.bounding_box()
        assert plot is not None
        fingers = page.context.new_cdp_session(page)
        middle, y = plot["x"] + plot["width"] / 2, plot["y"] + plot["height"] / 2
        for kind, apart in (("touchStart", 30), ("touchMove", 60), ("touchMove", 100)):
            points = [{"x": middle - apart / 2, "y": y, "id": 0}, {"x": middle + apart / 2, "y": y, "id": 1}]
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        with page.expect_request(re.compile(r"/curves\?.*from=\d+&to=\d+")):
            fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert "from=" in page.url


def test_a_file_is_uploaded_and_looked_into(visit: Visit) -> None:
    rows = "\n".join(f"{number},{number % 7},{'odd' if number % 2 else 'even'}" for number in range(200))
    page = visit.show("datasets")
    page.get_by_label("File").set_input_files(
        {"name": "counted numbers.csv", "mimeType": "text/csv", "buffer": f"number,rest,kind\n{rows}\n".encode()}
    )
    expect(page.get_by_label("Name")).to_have_value("counted-numbers")
    page.get_by_label("Target").fill("kind")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("Version 1")
    expect(page.get_by_role("table", name="Columns")).to_contain_text("rest")
    expect(page.get_by_text("even (100)")).to_be_visible()


def test_a_trained_model_is_asked_about_pasted_samples(visit: Visit, box: Box) -> None:
    run = train(box.admin, {"task": "classification", "dataset": "iris", "hyperparameters": {"epochs": 2}})["id"]
    page = visit.show(f"run/{run}?tab=predictions")
    samples, told = page.get_by_label("Samples", exact=True), page.locator("#samples-told")
    names = "sepal length (cm),sepal width (cm),petal length (cm)"
    samples.fill(f"{names},petal widht (cm)\n5.1,3.5,1.4,0.2")
    page.get_by_role("button", name="Predict").click()
    expect(told.locator("code")).to_have_text("sample 1, petal widht (cm)")
    assert all("422" in line for line in visit.said)
    visit.said.clear()
    samples.fill(f"{names},petal width (cm)\n5.1,3.5,1.4,0.2\n6.2,2.9,4.3,1.3")
    page.get_by_role("button", name="Predict").click()
    rows = page.get_by_role("table", name="Predictions").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text(re.compile("setosa|versicolor|virginica"))


def test_a_service_that_is_away_is_told_of_for_as_long_as_it_is(browser: Browser, server: Server, token: str) -> None:
    with visiting(browser, server.url, token) as visit:
        page = visit.show("box")
        expect(page.get_by_text("Nothing waits.")).to_be_visible()
        page.route("**/v1/**", lambda route: route.abort())
        away = page.get_by_text("the service cannot be reached: what is shown may be old")
        expect(away).to_be_visible()
        page.unroute("**/v1/**")
        expect(away).to_have_count(0)
        expect(page.get_by_text("Nothing waits.")).to_be_visible()
        assert all("ERR_FAILED" in line for line in visit.said)
        visit.said.clear()


def test_the_box_says_that_it_is_asking_before_the_first_answer(visit: Visit) -> None:
    page = visit.page
    held: list[Route] = []
    page.route("**/v1/box", lambda route: held.append(route))  # a built-in method is not taken
    visit.show("box")
    expect(page.get_by_text("Asking …")).to_have_count(6)
    for route in held:
        route.continue_()
    page.unroute("**/v1/box")
    expect(page.get_by_text("Asking …")).to_have_count(0)
    expect(page.locator(".card").first).to_contain_text("of")


VIEWS = {
    "box": "box",
    "runs": "runs?sort=val_loss.best&status=succeeded",
    "run": "run/{0}?smooth=0.6&logy=1",
    "spec": "run/{0}?tab=spec",
    "predictions": "run/{0}?tab=predictions",
    "compare": "compare?runs={0},{1}&metric=train_loss",
    "studies": "studies",
    "study": "study/{2}",
    "data": "datasets?name=iris",
    "submit": "submit?dataset=iris",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_accessible_and_runs_no_script_of_a_name(
    browser: Browser, box: Box, pair: list[str], study: str, scheme: str
) -> None:
    size = WIDE if scheme == "light" else PHONE
    with visiting(browser, box.server.url, secret(box.admin), size, color_scheme=scheme) as visit:
        for name, state in VIEWS.items():
            page = visit.show(state.format(*pair, study))
            expect(page.locator("h1")).to_be_visible()
            page.wait_for_load_state("networkidle" if name not in ("box",) else "load")
            found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
            assert [(name, each["id"], each["nodes"][0]["html"]) for each in found] == []
            assert page.evaluate("window.taken") is None
            assert page.locator("main img").count() == 0
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name


def test_a_study_is_asked_for_and_shown_with_its_picture(visit: Visit, box: Box, study: str) -> None:
    page = visit.show(f"study/{study}")
    expect(page.get_by_role("img", name="Loss after the first steps, by learning rate")).to_be_visible()
    expect(page.get_by_role("table", name="Jobs").locator("tbody tr")).to_have_count(4)
    report = box.admin.get(f"/v1/studies/{study}").json()["report"]
    follow = page.get_by_role("link", name="A job with this rate")
    expect(follow).to_have_count(1 if report["suggested"] else 0)
    page = visit.show("studies")
    page.get_by_role("heading", name="New study").click()
    expect(page.get_by_text("24 jobs")).to_be_visible()  # 12 rates with two seeds, and nothing is created
    page.get_by_label("The request, as JSON").fill("{")
    expect(page.get_by_text("This is no JSON yet.")).to_be_visible()
    expect(page.get_by_text("24 jobs")).to_have_count(0)


def test_groups_over_seeds_are_drawn_with_what_is_said_of_them(visit: Visit, box: Box) -> None:
    runs = [
        train(box.admin, digits(learning_rate=rate, seed=seed, epochs=1))["id"]
        for rate in (0.001, 0.02)
        for seed in (0, 1)
    ]
    page = visit.show(f"compare?runs={','.join(runs)}&metric=val_loss")
    page.get_by_label("group by").select_option(label="learning_rate")
    groups = page.get_by_role("table", name="Groups")
    expect(groups.locator("tbody tr")).to_have_count(2)
    expect(page.locator(".verdicts").first).to_contain_text("learning_rate 0.02")
    assert "group_by=hyperparameters.learning_rate" in page.url


def test_hostile_names_are_shown_as_they_are(visit: Visit, pair: list[str]) -> None:
    page = visit.show(f"run/{pair[0]}")
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    page = visit.show(f"runs?search={quote('onerror javascript:alert')}")
    expect(page.get_by_role("link", name=HOSTILE).first).to_be_visible()
    assert page.evaluate("window.taken") is None


def test_the_first_load_is_small(browser: Browser, box: Box) -> None:
    with visiting(browser, box.server.url, secret(box.admin)) as visit:
        sizes: list[float] = []
        network = visit.page.context.new_cdp_session(visit.page)
        network.send("Network.enable")
        network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        page = visit.show("box")
        expect(page.get_by_role("heading", name="Running", exact=True)).to_be_visible()
        assert 20_000 < sum(sizes) < FIRST_LOAD_BYTES


def test_the_keys_search_and_help(visit: Visit) -> None:
    page = visit.show("box")
    expect(page.get_by_role("heading", name="Running", exact=True)).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("compare the runs")
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    expect(page.get_by_role("heading", name="Data", exact=True)).to_be_visible()
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.url.endswith("#/datasets")
    page.keyboard.press("/")
    expect(page.get_by_label("Search runs")).to_be_focused()
    page.keyboard.type("c")  # is a letter here, and no command
    expect(page.get_by_label("Search runs")).to_have_value("c")


def test_a_view_can_be_copied_as_curl(browser: Browser, box: Box) -> None:
    allowed = ["clipboard-read", "clipboard-write"]
    with visiting(browser, box.server.url, secret(box.admin), permissions=allowed) as visit:
        page = visit.show("runs?sort=val_loss.best&user=admin")
        page.get_by_role("button", name="Copy as curl").click()
        expect(page.get_by_role("status").last).to_contain_text("Copied")
        copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith('curl -H "Authorization: Bearer $TRAINBOX_TOKEN"')
    assert f"'{box.server.url}/v1/runs?sort=val_loss.best&limit=200&user=admin'" in copied


def test_of_many_runs_only_those_in_sight_are_in_the_document(
    browser: Browser, server: Server, database: Database, token: str, settings: Settings
) -> None:
    """With 450 runs, more than two pages of the list, all of which the search looks through."""
    datasets.furnish(database, settings.datasets_path)
    principal = Principal(users.FIRST_ADMIN, Scope.ADMIN, "a test")
    with database.write() as session:
        for number in range(450):
            draft = intake.draft(
                session,
                principal,
                {**digits(), "name": f"number {number}", "tags": NEEDLE if number % 100 == 0 else {}},
            )
            queue.submit(session, principal, draft, QueueLimits(10_000, 10_000))
    with visiting(browser, server.url, token) as visit:
        page = visit.show("runs")
        table = page.get_by_role("table", name="Runs")
        expect(table).to_contain_text("number 449")
        page.locator(".scroll").evaluate("each => { each.scrollTop = 150 * 30; }")
        expect(table).to_contain_text("number 295")
        assert table.locator("tbody tr").count() < 80
        page.wait_for_function("() => history.state?.top === 150 * 30")
        page.get_by_role("link", name="number 295").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("number 295")
        page.go_back()
        expect(table).to_contain_text("number 295")
        page.get_by_label("Search runs").fill("number NEEDLE")
        expect(page.locator("h1 + .muted")).to_have_text("5")
        expect(table).to_contain_text("number 0")
        page.wait_for_url(re.compile("search=number"))


def test_a_run_of_a_script_is_shown_without_what_only_jobs_have(visit: Visit, box: Box) -> None:
    asked = {"name": HOSTILE, "project": "default", "parameters": {HOSTILE: HOSTILE}, "tags": {"t": HOSTILE}}
    run = box.admin.post("/v1/runs", json=asked).json()["id"]
    points = [{"metric": "my/loss", "step": step, "value": 1 / step} for step in range(1, 6)]
    points.append({"metric": "my/loss", "step": 6, "value": "NaN"})
    assert box.admin.post(f"/v1/runs/{run}/points", json={"points": points}).status_code == 200
    page = visit.show(f"run/{run}")
    expect(page.locator(".chart").first).to_have_attribute("aria-label", re.compile("my/loss, 6 points, from 1 to NaN"))
    expect(page.get_by_role("tab")).to_have_count(1)
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    assert page.evaluate("window.taken") is None
    box.admin.post(f"/v1/runs/{run}/finish", json={"status": "succeeded"})
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete the run").click()
    page.wait_for_url(re.compile("#/runs"))
    assert box.admin.get(f"/v1/runs/{run}").status_code == 404


def test_a_chart_says_what_its_axis_cannot_show(visit: Visit, box: Box) -> None:
    run = box.admin.post("/v1/runs", json={"name": "a logarithm of a likelihood"}).json()["id"]
    points = [{"metric": "loss", "step": step, "value": 2.0 - step} for step in range(1, 6)]
    assert box.admin.post(f"/v1/runs/{run}/points", json={"points": points}).status_code == 200
    page = visit.show(f"run/{run}?logy=1")
    expect(page.locator("figcaption").first).to_contain_text("5 points 4 values of 0 or below are not shown")
    page.get_by_label("log y").uncheck()
    expect(page.locator("figcaption").first).not_to_contain_text("not shown")
    page = visit.show(f"compare?runs={run}&metric=loss&logy=1")
    expect(page.locator("figcaption").first).to_contain_text("4 values of 0 or below are not shown")


CHARTED = """async ([options, lines]) => {
  const { Chart } = await import("/web/charts/chart.js");
  const host = document.body.appendChild(document.createElement("div"));
  const found = [];
  for (const y of lines) {
    const chart = new Chart(host, { label: "a chart", xLabel: "step", ...options });
    const x = Float64Array.from(y, (_, place) => place + 1);
    chart.show([{ label: "a line", color: "black", x, y: Float64Array.from(y) }]);
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    found.push(chart.plot.axes.map((axis) => axis._values.filter(Boolean)));
  }
  host.remove();
  return found;
}"""
PARALLEL = """async (sizes) => {
  const { parallel } = await import("/web/charts/parallel.js");
  const entries = sizes.map((size, id) => ({ id, name: "a run", parameters: { size }, best: id }));
  const made = parallel("loss", "min", ["size"], entries);
  const texts = [...made.querySelector(".axis").querySelectorAll("text:not(.head)")];
  return texts.sort((a, b) => b.getAttribute("y") - a.getAttribute("y")).map((text) => text.textContent);
}"""


# Opaque is what the line and dots cover, faint what the band does: pixels of the upper half, at each of the columns.
THINNED = """async (curve) => {
  const [{ Chart }, line] = await Promise.all(["chart", "line"].map((name) => import(`/web/charts/${name}.js`)));
  const host = document.body.appendChild(document.createElement("div"));
  const chart = new Chart(host, { label: "a chart", xLabel: "step" });
  chart.show([line.of(curve, { label: "a line", color: "rgb(0, 0, 0)" })]);
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  const { ctx, bbox } = chart.plot;
  const frame = chart.frame(chart.plot);
  const { data, width, height } = ctx.getImageData(0, 0, bbox.left + bbox.width, bbox.top + bbox.height / 2);
  const above = (x) => {
    const found = { opaque: 0, faint: 0 };
    for (let row = bbox.top + 3; row < height; row += 1) {
      for (let column = Math.round(frame.x(x)) - 2; column < frame.x(x) + 3; column += 1) {
        const at = 4 * (row * width + column);
        if (Math.max(...data.slice(at, at + 3)) > 60) continue; // the lines of the grid
        if (data[at + 3] > 200) found.opaque += 1;
        else if (data[at + 3] > 40) found.faint += 1;
      }
    }
    return found;
  };
  const found = [250, 500, 750].map(above);
  host.remove();
  return found;
}"""


def test_a_thinned_curve_is_a_calm_line_from_whose_band_no_spike_is_lost(visit: Visit) -> None:
    """Bucket 250 holds the largest value, which the answer shows as a point too; bucket 750 one nearly as large."""
    high = [10.0 if bucket == 250 else 9.5 if bucket == 750 else 1.1 for bucket in range(1000)]
    columns: dict[str, list[float]] = {
        "y": [1.0] * 1000,
        "step": list(range(1000)),
        "min": [0.9] * 1000,
        "max": high,
    }
    for name, column in columns.items():
        column.insert(251, 250 if name == "step" else 10.0)
    curve = {"downsampled": True, "beside": [251], "points": {**columns, "x": columns["step"]}}
    largest, nothing, spike = visit.show("studies").evaluate(THINNED, curve)
    assert nothing == {"opaque": 0, "faint": 0}
    assert spike["opaque"] == 0
    assert spike["faint"] > 50
    assert 3 < largest["opaque"] < 40  # a dot, and no line up to it
    assert largest["faint"] > 50


def test_axes_are_marked_where_numbers_are(visit: Visit) -> None:
    given = [[0.5], [1, 2, 3], [3e-4, 3e-4 + 1e-19, 3e-4], [1e300, 5e299, 1e298], [0.123456, 0.123457, 0.123458]]
    page = visit.show("studies")
    found = page.evaluate(CHARTED, [{"wholeX": True}, given])
    assert all(mark.isdigit() for across, _ in found for mark in across)
    assert all(len(set(upward)) == len(upward) > 1 for _, upward in found)
    assert "0.0003" in found[2][1]
    assert "5e299" in found[3][1] or "4e299" in found[3][1]
    ticks = [[1, "one"], [50, "fifty"], [50.1, "beside it"], [100, "full"]]
    [[across, _]] = page.evaluate(CHARTED, [{"xTicks": ticks}, [list(range(100))]])
    assert across == ["one", "fifty", "full"]


def test_sizes_stand_in_order_beside_their_axis_where_one_of_them_is_a_word(visit: Visit) -> None:
    assert visit.show("studies").evaluate(PARALLEL, [128, 8, "full", 16]) == ["8", "16", "128", "full"]


def test_numbers_of_a_table_stand_to_the_right_and_words_to_the_left(visit: Visit, study: str) -> None:
    page = visit.show(f"study/{study}")
    heads = page.get_by_role("table", name="Rates").locator("th")
    expect(heads).to_have_count(5)
    aligned = heads.evaluate_all("each => each.map((head) => [head.textContent, getComputedStyle(head).textAlign])")
    assert [side for _, side in aligned[:2]] == ["right", "right"]
    jobs = page.get_by_role("table", name="Jobs").locator("th").first
    assert jobs.evaluate("head => getComputedStyle(head).textAlign") != "right"


def test_whoever_may_only_read_is_offered_nothing_else(browser: Browser, box: Box, pair: list[str]) -> None:
    with box.speaking_as("reader", Scope.READ) as reader, visiting(browser, box.server.url, secret(reader)) as visit:
        page = visit.show(f"run/{pair[0]}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_role("tab", name="Logs")).to_be_visible()
        assert page.get_by_role("tab", name="Predictions").count() == 0
        for name in ("Delete", "Clone with changes", "Submit"):
            assert page.get_by_role("link", name=name).count() + page.get_by_role("button", name=name).count() == 0


def test_the_files_are_open_compressed_and_kept_by_the_browser(anonymous: httpx.Client) -> None:
    for path in FILES:
        answer = anonymous.get(path, headers={"Accept-Encoding": "gzip"})
        assert answer.status_code == 200
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.content == FILES[path].read_bytes()
        tag = answer.headers["ETag"]
        assert anonymous.get(path, headers={"If-None-Match": tag}).status_code == 304
        plain = anonymous.get(path, headers={"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in plain.headers
        assert plain.content == answer.content
        assert anonymous.head(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/web/", "/web/index.html", "/web/../gate.py", "/web/%2e%2e/%2e%2e/settings.py", "/web//main.js", "/web/MAIN.js"],
)
def test_nothing_but_the_files_is_open(anonymous: httpx.Client, client: httpx.Client, path: str) -> None:
    assert anonymous.get(path).status_code == 401
    assert client.get(path).status_code == 404


def test_a_link_from_elsewhere_may_lead_to_the_page_and_to_nothing_else(anonymous: httpx.Client) -> None:
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert anonymous.get("/", headers=elsewhere).status_code == 200
    assert anonymous.get("/web/main.js", headers=elsewhere).status_code == 403
    assert anonymous.get("/", headers={"Origin": "http://elsewhere.example"}).status_code == 403
    assert anonymous.post("/").status_code == 401


def test_the_page_makes_no_markup_of_text_and_names_no_other_place() -> None:
    for path in OWN:
        text = path.read_text(encoding="utf-8")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert word not in text, (path, word)
        assert set(re.findall(r"https?://[^\s\"'`]+", text)) <= {"http://www.w3.org/2000/svg"}, path


def test_every_module_opens_with_a_sentence_and_stays_small() -> None:
    for path in OWN:
        if path.suffix == ".js":
            text = path.read_text(encoding="utf-8")
            assert re.match(r"/\*\* [A-Z].*[.:?] ?.*\*/\n", text), path
            assert text.count("\n") <= 320, path


def test_an_installed_package_has_the_page() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["service"]
    for path in FILES.values():
        inside = path.relative_to(ROOT / "service").as_posix()
        assert any(fnmatch(inside, pattern) and inside.count("/") == pattern.count("/") for pattern in patterns), path
