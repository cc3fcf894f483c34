"""Projects: who may see what, and who may change it."""

from collections.abc import Callable, Iterator

import httpx
import pytest
from sqlalchemy import select

from service import clock, projects
from service.api.server import Server
from service.database import Database
from service.errors import NotFound
from service.ids import new_id
from service.states import Scope, Visibility
from service.tables import Run
from service.users import Principal

ADA, BOB = Principal("ada", Scope.SUBMIT, "1"), Principal("bob", Scope.SUBMIT, "2")
ADMIN = Principal("admin", Scope.ADMIN, "3")


@pytest.fixture
def ada(server: Server, make_token: Callable[..., str]) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {make_token(Scope.SUBMIT, 'ada')}"}
    with httpx.Client(base_url=server.url, headers=headers) as opened:
        yield opened


@pytest.fixture
def bob(server: Server, make_token: Callable[..., str]) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {make_token(Scope.SUBMIT, 'bob')}"}
    with httpx.Client(base_url=server.url, headers=headers) as opened:
        yield opened


def names(client: httpx.Client) -> list[str]:
    return [project["name"] for project in client.get("/v1/projects").json()["data"]]


def test_there_is_a_default_project_that_nobody_owns(client: httpx.Client, ada: httpx.Client) -> None:
    found = ada.get("/v1/projects/default").json()
    assert (found["owner"], found["visibility"], found["members"]) == (None, "team", [])
    assert ada.put("/v1/projects/default", json={"visibility": "private"}).status_code == 403
    assert client.put("/v1/projects/default", json={"members": ["ada"]}).json()["members"] == ["ada"]


def test_a_private_project_does_not_exist_for_others(
    client: httpx.Client, ada: httpx.Client, bob: httpx.Client
) -> None:
    made = ada.put("/v1/projects/secret", json={"visibility": "private"})
    assert (made.status_code, made.json()["owner"], made.json()["members"]) == (201, "ada", ["ada"])
    unknown, hidden = bob.get("/v1/projects/unknown"), bob.get("/v1/projects/secret")
    assert unknown.status_code == hidden.status_code == 404
    assert unknown.json()["detail"] == hidden.json()["detail"]
    assert bob.put("/v1/projects/secret", json={"visibility": "team"}).status_code == 404
    assert names(bob) == ["default"]
    assert names(ada) == names(client) == ["default", "secret"]


def test_members_see_a_private_project_and_only_its_owner_or_an_admin_changes_it(
    client: httpx.Client, ada: httpx.Client, bob: httpx.Client
) -> None:
    ada.put("/v1/projects/secret", json={"visibility": "private", "members": ["bob"]})
    assert bob.get("/v1/projects/secret").json()["members"] == ["ada", "bob"]
    answer = bob.put("/v1/projects/secret", json={"members": []})
    assert (answer.status_code, answer.json()["code"]) == (403, "not_owner")
    assert client.put("/v1/projects/secret", json={"members": []}).json()["members"] == ["ada"]
    assert bob.get("/v1/projects/secret").status_code == 404


def test_a_change_leaves_alone_what_it_does_not_name(ada: httpx.Client) -> None:
    ada.put("/v1/projects/mine", json={"visibility": "private"})
    again = ada.put("/v1/projects/mine", json={"members": ["ada"]})
    assert (again.status_code, again.json()["visibility"]) == (200, "private")
    assert ada.put("/v1/projects/mine", json={}).json() == again.json()
    assert ada.get("/v1/projects/mine").json() == again.json()


def test_members_are_users(ada: httpx.Client) -> None:
    answer = ada.put("/v1/projects/mine", json={"members": ["ada", "eve", "a b", "admin"]})
    assert [problem["param"] for problem in answer.json()["errors"]] == ["members.2"]
    answer = ada.put("/v1/projects/mine", json={"members": ["ada", "eve", "admin"]})
    assert [problem["param"] for problem in answer.json()["errors"]] == ["members.1"]
    assert names(ada) == ["default"]


def test_projects_come_in_pages_and_as_tables(ada: httpx.Client) -> None:
    for name in ("a", "b", "c"):
        ada.put(f"/v1/projects/{name}", json={})
    page = ada.get("/v1/projects", params={"limit": 2}).json()
    assert ([project["name"] for project in page["data"]], page["next_after"]) == (["a", "b"], "b")
    rest = ada.get("/v1/projects", params={"limit": 2, "after": "b"}).json()
    assert ([project["name"] for project in rest["data"]], rest["has_more"]) == (["c", "default"], False)
    lines = ada.get("/v1/projects", params={"format": "csv"}).text.splitlines()
    assert lines[0] == "name,owner,visibility,members,created_at"
    assert lines[1].startswith("a,ada,team,ada,20")
    assert "default" in ada.get("/v1/projects", headers={"Accept": "text/plain"}).text


def test_a_submit_makes_the_project_it_names(database: Database, make_token: Callable[..., str]) -> None:
    make_token(Scope.SUBMIT, "ada"), make_token(Scope.SUBMIT, "bob")
    with database.write() as session:
        projects.use(session, ADA, "new")
        projects.use(session, BOB, "new")
        projects.use(session, BOB, "default")
        assert projects.get(session, BOB, "new").owner == "ada"
        assert projects.members(session, ["new"]) == {"new": ["ada"]}
        projects.put(session, ADA, "new", Visibility.PRIVATE)
        with pytest.raises(NotFound):
            projects.use(session, BOB, "new")
        projects.use(session, ADMIN, "new")


def test_every_query_of_runs_can_leave_out_what_is_hidden(database: Database, make_token: Callable[..., str]) -> None:
    make_token(Scope.SUBMIT, "ada"), make_token(Scope.SUBMIT, "bob")
    with database.write() as session:
        projects.put(session, ADA, "hers", Visibility.PRIVATE)
        projects.put(session, BOB, "his", Visibility.PRIVATE)
        projects.put(session, BOB, "both", Visibility.PRIVATE, ["ada"])
        for project in ("hers", "his", "both", "default"):
            session.add(
                Run(id=new_id(), name="", project=project, user="ada", tags={}, parameters={}, created_at=clock.now())
            )
    with database.read() as session:

        def seen(principal: Principal) -> set[str]:
            return set(session.scalars(select(Run.project).where(projects.visible(principal))))

        assert seen(ADA) == {"hers", "both", "default"}
        assert seen(BOB) == {"his", "both", "default"}
        assert seen(ADMIN) == {"hers", "his", "both", "default"}
        assert seen(Principal("eve", Scope.READ, "4")) == {"default"}
