"""Whether an answer is what ``/openapi.json`` says of its operation and status.

What belongs here: finding the description and comparing. What does not: which answers are asked for.
"""

from __future__ import annotations

import re
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match


def problem_of(document: dict[str, Any], method: str, path: str, status: int, answer: Any) -> str | None:
    """What is wrong with a JSON answer; None when it is as described.

    Args:
        document: The OpenAPI document.
        method: HTTP method.
        path: Path as it was asked, with values and without a query.
        status: HTTP status of the answer.
        answer: Its body.
    """
    for template, methods in document["paths"].items():
        if method.lower() in methods and re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path):
            described = methods[method.lower()]["responses"].get(str(status))
            if described is None:
                return f"{method} {template} does not answer {status}"
            schema = described["content"]["application/json"]["schema"] | {"components": document["components"]}
            problem = best_match(Draft202012Validator(schema).iter_errors(answer))
            return problem and f"{method} {template} {status} {problem.json_path}: {problem.message}"[:1000]
    return f"{method} {path} is not in the document"
