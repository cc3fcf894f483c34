"""The importances of a search's parameters, in a process of their own: a question on the input, the answer printed."""

import json
import sys

from service.studies import search
from service.studies.requests import SearchRequest


def main() -> None:
    question = json.load(sys.stdin)
    asked = SearchRequest.model_validate(question["asked"])
    sys.stdout.write(json.dumps(search.importances(asked, question["report"])))


if __name__ == "__main__":
    main()
