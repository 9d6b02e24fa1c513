"""Asking the Dagster web server: is a job there, does it run, start it once (S-425).

What belongs here: three GraphQL requests over HTTP. What does not: Dagster's Python, which the server never imports.
"""

from __future__ import annotations

import logging
from typing import Any

from monitoring_pipelines.api.answers import ApiError, conflict, missing

log = logging.getLogger(__name__)
_TIMEOUT_S = 15
#: Starting a run asks the code server; on a busy machine that takes longer than any question.
_LAUNCH_TIMEOUT_S = 60
_LOCATION = "monitoring_pipelines"
_REPOSITORY = "__repository__"
_UNFINISHED = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")

_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PipelineNotFoundError { message }
    ... on PythonError { message }
  }
}
"""
_RUNS = """
query Runs($filter: RunsFilter!) {
  runsOrError(filter: $filter, limit: 1) { __typename ... on Runs { results { runId status } } }
}
"""
_STATE = "query State { instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } } }"


class DagsterClient:
    """Requests to one web server.

    Args:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/graphql"

    def running(self, job: str) -> str | None:
        """Id of an unfinished run of the job; None without any."""
        data = self._ask(_RUNS, {"filter": {"pipelineName": job, "statuses": list(_UNFINISHED)}})
        results = data["runsOrError"].get("results") or []
        return results[0]["runId"] if results else None

    def launch(self, job: str, tags: dict[str, str]) -> str:
        """Start the job once, without touching its schedule; the id of the run.

        Raises:
            ApiError: 404 when Dagster does not know the job; 503 when it cannot start it, or does not say in time whether
                it did.
        """
        params = {
            "selector": {"jobName": job, "repositoryName": _REPOSITORY, "repositoryLocationName": _LOCATION},
            "runConfigData": {}, "mode": "default",
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }  # fmt: skip
        answer = self._ask(
            _LAUNCH,
            {"params": params},
            _LAUNCH_TIMEOUT_S,
            "Dagster does not say whether it started the job; see its runs",
        )["launchRun"]
        if answer["__typename"] == "LaunchRunSuccess":
            return str(answer["run"]["runId"])
        log.error("Dagster did not start %s: %s %s", job, answer["__typename"], answer.get("message"))
        if answer["__typename"] == "PipelineNotFoundError":
            raise missing("Dagster does not know this job")
        if answer["__typename"] in ("RunConflict", "ConflictingExecutionParamsError"):
            raise conflict("the job is running", "running")
        raise ApiError(503, "Dagster could not start the job; its log says why", "launch_failed")

    def is_scheduling(self) -> bool:
        """Whether the daemon that obeys schedules is alive."""
        statuses = self._ask(_STATE, {})["instance"]["daemonHealth"]["allDaemonStatuses"]
        return all(one["healthy"] for one in statuses if one["daemonType"] == "SCHEDULER")

    def _ask(
        self, query: str, variables: dict[str, Any], timeout_s: float = _TIMEOUT_S, when_late: str | None = None
    ) -> dict[str, Any]:
        import requests

        session = requests.Session()
        session.trust_env = False  # a proxy never knows this address
        try:
            answer = session.post(self._url, json={"query": query, "variables": variables}, timeout=timeout_s)
            answer.raise_for_status()
            document = answer.json()
        except (requests.RequestException, ValueError) as error:
            log.warning("the Dagster web server did not answer: %s", error)
            if when_late is not None and isinstance(error, requests.ReadTimeout):  # it has the request
                raise ApiError(503, when_late, "outcome_unknown") from None
            raise ApiError(503, "the Dagster web server does not answer", "dagster_unavailable") from None
        finally:
            session.close()
        if document.get("errors"):
            log.error("Dagster refused a request: %s", document["errors"])
            raise ApiError(503, "the Dagster web server refused the request", "dagster_unavailable")
        data: dict[str, Any] = document["data"]
        return data
