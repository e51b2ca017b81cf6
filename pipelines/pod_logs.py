"""What the steps of a run on a cluster say, line by line, as they say it."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

MAX_LINES = 2000
"""Of one pod between two looks; a step that says more is read in Kubeflow's UI."""


class PodLogs:
    """Remembers what it has told of each pod."""

    def __init__(self, core: "CoreV1Api", namespace: str, run_id: str) -> None:
        self._core, self._namespace = core, namespace
        # The first label is Kubeflow's on every pod of a run, the second ours on the steps among them.
        self._selector = f"pipeline/runid={run_id},app.kubernetes.io/part-of=yanshan"
        self._told: dict[str, str] = {}

    def new_lines(self) -> Iterator[str]:
        """Lines since the last call; a pod that cannot be read now is read the next time."""
        import urllib3
        from kubernetes.client.exceptions import ApiException

        away = (ApiException, urllib3.exceptions.HTTPError, OSError)
        with contextlib.suppress(*away):
            for pod in self._core.list_namespaced_pod(self._namespace, label_selector=self._selector).items:
                with contextlib.suppress(*away):
                    task = pod.metadata.labels.get("yanshan/task", pod.metadata.name)
                    yield from (f"  {task:<16} | {line}" for line in self._read(pod.metadata.name))

    def _read(self, pod: str) -> Iterator[str]:
        text = self._core.read_namespaced_pod_log(
            pod, self._namespace, container="main", timestamps=True, tail_lines=MAX_LINES
        )
        for line in text.splitlines():
            stamp, _, rest = line.partition(" ")
            if stamp > self._told.get(pod, ""):
                self._told[pod] = stamp
                yield rest
