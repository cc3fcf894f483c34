"""Pictures of the page for the documents, from real runs: `python -m benchmarks.pictures` writes `docs/pictures`.

Takes a minute. Ends with 1 where there is no Chromium.
"""

import os
import shutil
import sys
import time
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright

from benchmarks import stage
from benchmarks.stage import Service

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
SIZE = ViewportSize(width=1280, height=800)
SETTLED_MILLISECONDS = 1500
SEEDS, RATES = (0, 1, 2), (0.0003, 0.001, 0.003, 0.01)


def main() -> int:
    program = shutil.which("chromium")
    if program is None:
        print("Chromium is missing")
        return 1
    FOLDER.mkdir(exist_ok=True)
    with stage.furnished() as settings, stage.running(settings) as service:
        runs = [submit(service, f"digits, lr {rate:g}", rate, 20, seed) for rate in RATES for seed in SEEDS]
        for run in runs:
            service.get(f"/v1/jobs/{run}?wait=60")
        for name in ("baseline, long", "cosine, long", "wide, long", "last"):
            submit(service, name, 0.001, 4000, 0)
        time.sleep(8)
        compared = f"runs={','.join(runs)}&metric=val_loss&group_by=hyperparameters.learning_rate"
        views = {
            "box-light": "box",
            "run-dark": f"run/{runs[-4]}?smooth=0.6&logy=1",
            "compare-light": f"compare?{compared}&logy=1",
        }
        take(program, service, views)
    return 0


def submit(service: Service, name: str, rate: float, epochs: int, seed: int) -> str:
    tuned = {"learning_rate": rate, "epochs": epochs, "seed": seed}
    spec = {"name": name, "task": "classification", "dataset": "digits", "hyperparameters": tuned}
    return str(service.post("/v1/jobs", spec)["id"])


def take(program: str, service: Service, views: dict[str, str]) -> None:
    """views: states of the page by the names of their pictures, which end with the theme."""
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=flags)
        for name, state in views.items():
            page = browser.new_page(viewport=SIZE, color_scheme="dark" if name.endswith("dark") else "light")
            page.add_init_script(f"sessionStorage.setItem('trainbox.token', {service.token!r})")
            page.goto(f"http://127.0.0.1:{service.port}/#/{state}")
            page.wait_for_timeout(SETTLED_MILLISECONDS)
            page.screenshot(path=FOLDER / f"{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
