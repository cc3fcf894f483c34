"""`python -m workers`: one worker on this home, until it is told to stop."""

import sys

from service import schema
from service.errors import ServiceError
from service.home import make_private_folders
from service.logs import configure
from service.settings import Settings
from workers.worker import Worker


def main() -> int:
    settings = Settings()
    configure(settings.log_level)
    try:
        make_private_folders(settings)
        worker = Worker(settings)
        schema.require_current(worker.database)
        worker.run()
    except ServiceError as error:
        print(f"trainbox worker: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
