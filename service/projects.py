"""Projects: the names that runs are filed under, and who may see what lies in them. It knows no HTTP."""

from collections.abc import Iterable

from sqlalchemy import BindParameter, ColumnElement, delete, exists, select, true, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from service import clock
from service.errors import FieldProblem, InvalidInput, NotFound, NotOwner
from service.states import Scope, Visibility
from service.tables import Project, ProjectMember, Run, User
from service.users import Principal

DEFAULT = "default"
Filed = InstrumentedAttribute[str]


def visible(principal: Principal, project: Filed = Run.project) -> ColumnElement[bool]:
    """The condition that belongs into every query of what is filed under projects, such as runs.

    What is private exists for members and admins.
    """
    return true() if principal.scope is Scope.ADMIN else visible_to(principal.user, project)


def visible_to(user: str | BindParameter[str], project: Filed = Run.project) -> ColumnElement[bool]:
    """The same for somebody who is no admin; a parameter as the user makes a statement that can be kept."""
    hidden = select(Project.name).where(Project.visibility == Visibility.PRIVATE, ~_has_member(user))
    return project.not_in(hidden)


def ensure_default(session: Session) -> None:
    """The team's project that nobody owns and every spec without a project goes to."""
    if session.get(Project, DEFAULT) is None:
        session.add(_new(DEFAULT, None, Visibility.TEAM))
        session.flush()


def use(session: Session, principal: Principal, name: str) -> None:
    """Makes sure that the principal may file a run there. An unknown name becomes a team project of the user's own.

    Raises NotFound for a private project of others.
    """
    if session.get(Project, name) is None:
        if name == DEFAULT:
            ensure_default(session)
        else:
            _create(session, principal, name, Visibility.TEAM)
    get(session, principal, name)


def get(session: Session, principal: Principal, name: str) -> Project:
    """Raises NotFound, also for a private project of others."""
    found = session.scalars(select(Project).where(Project.name == name, _is_visible(principal))).one_or_none()
    if found is None:
        raise NotFound("project")
    return found


def page(session: Session, principal: Principal, after: str | None, limit: int) -> list[Project]:
    """The projects that the principal may see, by name."""
    query = select(Project).where(_is_visible(principal)).order_by(Project.name).limit(limit)
    if after is not None:
        query = query.where(Project.name > after)
    return list(session.scalars(query))


def members(session: Session, names: Iterable[str]) -> dict[str, list[str]]:
    """The members of each of the projects, by name."""
    found: dict[str, list[str]] = {name: [] for name in names}
    rows = select(ProjectMember).where(ProjectMember.project.in_(found)).order_by(ProjectMember.user)
    for row in session.scalars(rows):
        found[row.project].append(row.user)
    return found


def put(
    session: Session,
    principal: Principal,
    name: str,
    visibility: Visibility | None = None,
    wanted: list[str] | None = None,
) -> bool:
    """Creates or changes a project; None leaves a thing as it is. Whether it was created.

    wanted: the members; the owner is always one of them. Raises NotFound for a private project of others, NotOwner
    for a team project of others, InvalidInput for members who are no users.
    """
    unknown = _strangers(session, wanted or [])
    if unknown:
        raise InvalidInput([FieldProblem(f"members.{place}", "unknown_user", "no such user") for place in unknown])
    created = session.get(Project, name) is None
    if created:
        _create(session, principal, name, visibility or Visibility.TEAM)
    else:
        project = get(session, principal, name)
        if principal.scope is not Scope.ADMIN and principal.user != project.owner:
            raise NotOwner("project")
        if visibility is not None:
            session.execute(update(Project).where(Project.name == name).values(visibility=visibility))
    if wanted is not None:
        owner = session.scalars(select(Project.owner).where(Project.name == name)).one()
        _set_members(session, name, {*wanted, *([owner] if owner else [])})
    return created


def _create(session: Session, principal: Principal, name: str, visibility: Visibility) -> None:
    session.add(_new(name, principal.user, visibility))
    session.flush()
    session.add(ProjectMember(project=name, user=principal.user))
    session.flush()


def _new(name: str, owner: str | None, visibility: Visibility) -> Project:
    return Project(name=name, owner=owner, visibility=visibility, created_at=clock.now())


def _set_members(session: Session, name: str, wanted: set[str]) -> None:
    session.execute(delete(ProjectMember).where(ProjectMember.project == name))
    session.add_all(ProjectMember(project=name, user=user) for user in sorted(wanted))
    session.flush()


def _strangers(session: Session, names: list[str]) -> list[int]:
    """The places of the names that no present user has."""
    known = set(session.scalars(select(User.name).where(User.name.in_(names), User.removed_at.is_(None))))
    return [place for place, name in enumerate(names) if name not in known]


def _is_visible(principal: Principal) -> ColumnElement[bool]:
    if principal.scope is Scope.ADMIN:
        return true()
    return (Project.visibility == Visibility.TEAM) | _has_member(principal.user)


def _has_member(user: str | BindParameter[str]) -> ColumnElement[bool]:
    return exists().where(ProjectMember.project == Project.name, ProjectMember.user == user)
