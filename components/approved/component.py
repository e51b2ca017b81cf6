"""Face of the approved step: one unnamed string, because a condition on anything else is skipped in silence."""

from kfp import dsl

from components.shared import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def is_approved(decision: dsl.Input[dsl.Artifact]) -> str:
    """Answer "yes" when the gate approved or leaves it to a reviewer, "no" when it refused.

    Args:
        decision: Folder written by judge_release.
    """
    from pathlib import Path

    from components.approved.approved import answer
    from components.shared.step import start_logging

    start_logging()
    return answer(Path(decision.path))
