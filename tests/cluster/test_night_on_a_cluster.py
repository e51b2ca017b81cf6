"""One smoke night on a real KFP server; says why it was skipped where none was named."""

import os
from pathlib import Path

import pytest

from pipelines.dag import compile_pipeline
from pipelines.recipes import find_recipe

NEEDED = ("KF_PIPELINES_ENDPOINT", "YANSHAN_TEST_INBOX", "YANSHAN_TEST_STORE")
missing = [name for name in NEEDED if not os.environ.get(name)]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(missing), reason=f"needs a KFP server: {', '.join(missing)} not set"),
]


def test_a_smoke_night_ends_well(tmp_path: Path) -> None:
    from kfp import Client

    compile_pipeline(find_recipe("smoke"), tmp_path / "pipeline.yaml")
    client = Client(host=os.environ["KF_PIPELINES_ENDPOINT"])
    places = {"inbox_uri": os.environ["YANSHAN_TEST_INBOX"], "store_uri": os.environ["YANSHAN_TEST_STORE"]}
    run = client.create_run_from_pipeline_package(str(tmp_path / "pipeline.yaml"), arguments=places)
    assert client.wait_for_run_completion(run.run_id, timeout=3600).state == "SUCCEEDED"
