"""Making training images: all cores against a plain loop over the same transforms, 640 px (aim: 1.8x on two cores)."""

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from components.augment.settings import AugmentSettings
from components.augment.variants import _jobs, _make, make_variants, plan_variants
from components.shared.dataset import object_name
from components.shared.digests import digest_bytes
from components.shared.store import FolderStore
from tests.training_sets import shape_rows

IMAGES, SIDE_PX = 2000, 640
EVERY = AugmentSettings(photometry_share=1.0, paste_share=1.0, crop_share=1.0)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        store = FolderStore(Path(name))
        rows = shape_rows(store, train=IMAGES, val=0, side_px=SIDE_PX).to_pylist()
        planned = plan_variants(rows, EVERY, 3, [], "ab" * 32)
        started = time.perf_counter()
        for job in _jobs(store, rows, planned):
            data = _make(job).data
            store.put_new(object_name(digest_bytes(data)) + "-plain", data)
        plain_s = time.perf_counter() - started
        started = time.perf_counter()
        made = list(make_variants(store, rows, planned))
        pooled_s = time.perf_counter() - started
    print(
        f"augmentation: {len(made) / pooled_s:.0f} images/s on {os.cpu_count()} cores, {len(made) / plain_s:.0f} in a "
        f"plain loop, {plain_s / pooled_s:.2f}x (aim: 1.8x)"
    )


if __name__ == "__main__":
    main()
