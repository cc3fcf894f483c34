"""Routes for projects: what runs are filed under, and who sees them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Response
from pydantic import Field

from service import patterns, projects
from service.api.access import Reader, Submitter
from service.api.answers import Json
from service.api.formats import Wanted, Width, listing
from service.api.listings import AfterName, Limit
from service.api.place import Here
from service.api.strict_route import StrictRoute
from service.api.views import View
from service.spec import Name, Part
from service.states import Visibility
from service.tables import Project

router = APIRouter(prefix="/v1/projects", tags=["projects"], route_class=StrictRoute)

ProjectName = Annotated[str, Path(pattern=patterns.NAME)]


class ProjectView(View):
    """`id` is the name. Nobody owns `default`: only admins change it."""

    id: str
    object: str
    name: str
    owner: str | None
    visibility: str
    members: list[str]
    created_at: str


class ProjectList(View):
    data: list[ProjectView]
    has_more: bool
    next_after: str | None


class ProjectChange(Part):
    visibility: Literal["team", "private"] | None = Field(
        default=None, description="what is private does not exist for others; team when new, else as it is"
    )
    members: Annotated[list[Name], Field(max_length=1000)] | None = Field(
        default=None, description="users who see a private project, the owner always among them; else as they are"
    )


@router.get("", responses={200: {"model": ProjectList}})
def list_projects(
    principal: Reader, here: Here, form: Wanted, after: AfterName = None, limit: Limit = 50, width: Width = 100
) -> Response:
    """The projects that you may see, by name."""
    with here.database.read() as session:
        page = projects.page(session, principal, after, limit + 1)
        members = projects.members(session, [project.name for project in page])
    found = [project_view(project, members[project.name]) for project in page]
    headers = ("name", "owner", "visibility", "members", "created_at")
    rows = [[*(each[name] for name in headers[:3]), " ".join(each["members"]), each["created_at"]] for each in found]
    return listing(found, limit, form, headers, rows, width)


@router.get("/{name}", responses={200: {"model": ProjectView}})
def show_project(name: ProjectName, principal: Reader, here: Here) -> Json:
    """One project."""
    with here.database.read() as session:
        project = projects.get(session, principal, name)
        members = projects.members(session, [name])[name]
    return Json(project_view(project, members))


@router.put("/{name}", responses={200: {"model": ProjectView}, 201: {"model": ProjectView}})
def put_project(name: ProjectName, body: ProjectChange, principal: Submitter, here: Here) -> Json:
    """Create a project of your own, or change one that you own."""
    visibility = Visibility(body.visibility) if body.visibility else None
    with here.database.write() as session:
        created = projects.put(session, principal, name, visibility, body.members)
        project = projects.get(session, principal, name)
        members = projects.members(session, [name])[name]
    return Json(project_view(project, members), 201 if created else 200)


def project_view(project: Project, members: list[str]) -> dict[str, Any]:
    return {
        "id": project.name,
        "object": "project",
        "name": project.name,
        "owner": project.owner,
        "visibility": project.visibility.value,
        "members": members,
        "created_at": project.created_at,
    }
