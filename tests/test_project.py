"""Rules about the project itself: who imports whom, where the environment is read, what documents must name."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from service.cli import app
from service.settings import ClientSettings, Settings

ROOT = Path(__file__).parent.parent

# The trunk, from the ground up: a module imports only from rows below its own.
LAYERS = (
    {"bell", "clock", "extensions", "ids", "logs", "plain_files", "settings", "states"},
    {"job_logs", "patterns"},
    {"errors", "tables"},
    {"disk", "errands", "field_problems", "inspection", "precision", "tasks"},
    {"database", "driver", "locks", "spec"},
    {"idempotency", "plan", "raw_spec", "retention", "schema", "usage", "users"},
    {"advice", "curves", "datasets", "estimate", "meaning", "memory", "order", "projects"},
    {"intake"},
    {"abilities", "diagnosis", "events", "queue", "runs", "sent", "statistics"},
    {"subjects"},
    {"checkpoints", "compare", "examination", "outside"},
    {"control", "home", "jobs", "leases"},
    {"charts", "crew", "forecast", "gates", "pace"},
    {"box", "outlook"},
    {"backup", "explain", "pictures"},
    {"studies"},
)
# What stands on the trunk: nothing of the trunk imports it.
FACES = {"api", "cli", "client"}
HEAVY = {"torch", "torchmetrics", "torchvision"}
HOMELESS = {"utils", "common", "helpers", "core", "misc", "util", "helper"}


def modules(package: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> set[str]:
    """Dotted names of all that is imported, also inside functions; `from service import x` gives `service.x`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def part(dotted: str) -> str:
    """The second name of a dotted one: `queue` of `service.queue.submit`."""
    return dotted.split(".")[1]


def test_the_service_never_imports_the_workers_or_torch() -> None:
    for path, tree in modules("service"):
        roots = {name.split(".")[0] for name in imports(tree)}
        assert not roots & (HEAVY | {"workers"}), path


def test_nothing_unpickles_what_others_have_written() -> None:
    for path, tree in [*modules("service"), *modules("workers")]:
        found = {name.split(".")[0] for name in imports(tree)}
        if path.parent != Path("service/pictures"):  # which gets by a pipe what its own parent has made
            assert not found & {"pickle", "marshal", "shelve", "dill", "joblib"}, path
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert said.get("weights_only") == "True", path
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert ast.unparse(node.value) == "False", path


def test_the_workers_never_import_the_api_or_the_command_line() -> None:
    for path, tree in modules("workers"):
        found = imports(tree)
        assert not {name.split(".")[0] for name in found} & {"fastapi", "starlette", "uvicorn", "typer"}, path
        assert not {part(name) for name in found if name.startswith("service.")} & FACES, path


def test_inside_the_trunk_arrows_point_down() -> None:
    height = {name: level for level, names in enumerate(LAYERS) for name in names}
    for path, tree in modules("service"):
        name = path.with_suffix("").parts[1]
        if name in FACES or name == "__init__":
            continue
        assert name in height, f"{path} has no place in the table of layers"
        below = {part(found) for found in imports(tree) if found.startswith("service.")} - {name, "__version__"}
        for found in below:
            assert found not in FACES, f"{path} imports {found}, which stands on the trunk"
            assert height[found] < height[name], f"{path} imports {found}, which is not below it"


def test_the_command_line_never_imports_the_api_but_to_run_it() -> None:
    for path, tree in modules("service/cli"):
        found = {name for name in imports(tree) if name.startswith("service.api")}
        assert found <= ({"service.api.listener", "service.api.server"} if path.name == "server.py" else set()), path


@pytest.mark.parametrize("package", ["service", "workers"])
def test_only_the_settings_read_the_environment(package: str) -> None:
    for path, tree in modules(package):
        if path != Path("service/settings.py"):
            assert not set(environment_reads(tree)), path


def environment_reads(tree: ast.Module) -> Iterator[str]:
    """Every mention of the environment, but for `os.environ[name] = value`, which only marks this process."""
    marks = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node not in marks and ast.unparse(node.value) == "os":
            yield from {node.attr} & {"environ", "environb", "getenv"}
    yield from imports(tree) & {"os.environ", "os.environb", "os.getenv"}


def test_every_module_says_what_it_is_and_none_is_a_drawer() -> None:
    for package in ("service", "workers", "benchmarks"):
        for path, tree in modules(package):
            assert ast.get_docstring(tree), f"{path} opens with no sentence"
            assert not HOMELESS & {part.removesuffix(".py") for part in path.parts}, path


def test_every_setting_stands_in_the_documentation_with_its_default() -> None:
    documented = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `TRAINBOX_(\w+)` \| ([^|]*) \|", documented, re.MULTILINE))
    fields = {name.upper(): field for model in (Settings, ClientSettings) for name, field in model.model_fields.items()}
    assert rows.keys() == fields.keys()
    for name, told in rows.items():
        default = fields[name].default
        if isinstance(default, int | float | str):  # else words say what it is
            assert told == f"`{str(default).lower().removesuffix('.0')}`", name


def test_every_case_in_the_documentation_of_reliability_has_tests_that_exist() -> None:
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| |")]
    rows += [line for line in text.splitlines() if line.startswith("| |") and "what must hold" not in line]
    assert len(rows) > 40
    known = {
        f"{path.name}::{node.name}": "pytest.mark.chaos" in "".join(map(ast.unparse, node.decorator_list))
        for path in (ROOT / "tests").glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    for row in rows:
        named = re.findall(r"`(test_\w+\.py::\w+)`", row)
        assert named, f"no test: {row}"
        assert set(named) <= known.keys(), set(named) - known.keys()
        assert ("*long*" in row) == any(known[name] for name in named), row


def test_every_variable_in_the_documentation_is_a_setting() -> None:
    known = {f"TRAINBOX_{name.upper()}" for model in (Settings, ClientSettings) for name in model.model_fields}
    for path in [ROOT / "README.md", ROOT / "docker-compose.yml", *(ROOT / "docs").glob("*.md")]:
        assert set(re.findall(r"TRAINBOX_[A-Z_]*[A-Z]", path.read_text(encoding="utf-8"))) <= known, path


def commands() -> dict[str, set[str]]:
    """The commands of the command line, with the long and short options of each."""
    top = typer.main.get_command(app)
    found: dict[str, set[str]] = {}
    for name, command in top.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", {})
        for path, leaf in [(name, command), *((f"{name} {below}", each) for below, each in inner.items())]:
            found[path] = {option for parameter in leaf.params for option in parameter.opts}
    return found


def test_the_containers_run_commands_that_exist() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert set(compose["services"]) == {"migrate", "api", "worker"}
    for service in compose["services"].values():
        assert service["command"][0] in commands()
        assert service["volumes"] == ["home:/data"]
    assert compose["services"]["api"]["ports"] == ["127.0.0.1:8000:8000"]


@pytest.mark.parametrize("name", ["README.md", "docs/operations.md", "docs/api.md", "docs/choosing.md"])
def test_the_documents_name_only_commands_that_exist(name: str) -> None:
    known = commands()
    text = (ROOT / name).read_text(encoding="utf-8")
    for line in re.findall(r"^\$ (?:\.venv/bin/)?(trainbox [^\n#]*)", text, re.MULTILINE) + re.findall(
        r"`(trainbox [^`]*)`", text
    ):
        words = shlex.split(line, comments=True)[1:]
        command = next((name for name in (" ".join(words[:2]), words[0]) if name in known), None)
        assert command is not None, line
        used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert used <= known[command], line


def test_the_readme_names_only_make_targets_that_exist() -> None:
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"[$`] ?make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {"demo", "serve", "test", "check"} <= named <= made


def test_every_package_that_the_project_asks_for_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert all(re.fullmatch(r"[0-9][0-9.]*", version) for version in pinned.values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    names = {re.split(r"[^a-z0-9-]", line.lower().replace("_", "-"))[0] for line in asked}
    assert names <= {name.lower().replace("_", "-") for name in pinned}


def test_the_command_line_answers_without_its_heavy_parts() -> None:
    """What `trainbox --help` imports: a server, a database or an HTTP client would make it slow."""
    script = "import sys, service.cli; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"fastapi", "uvicorn", "sqlalchemy", "httpx", "pydantic", "numpy", "torch"} & set(loaded)
