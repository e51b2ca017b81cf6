"""Training images: from the manifest to batches, every one drawn from (seed, epoch, place) alone."""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch
from ultralytics.cfg import get_cfg
from ultralytics.data.augment import Mosaic
from ultralytics.data.dataset import YOLODataset

from components.shared.errors import InvalidInput
from components.train.settings import TrainSettings


class LabeledImages(YOLODataset):
    """Ultralytics' data set over manifest rows: its augmentation, without its label files and caches.

    Those would rewrite JPEGs in place, drop an image for one bad row and call a missing file a background.
    """

    def __init__(
        self,
        rows: pa.Table,
        files: Sequence[Path],
        class_names: Sequence[str],
        settings: TrainSettings,
        augment: bool,
    ) -> None:
        self._settings = settings
        self._labels = [_label(row, file) for row, file in zip(rows.to_pylist(), files, strict=True)]
        names = dict(enumerate(class_names))
        super().__init__(
            img_path="",
            imgsz=settings.image_size_px,
            cache="ram",
            augment=augment,
            hyp=self.hyperparameters(settings.mosaic, settings.mixup),
            data={"names": names, "nc": len(names), "channels": 3},
        )

    def hyperparameters(self, mosaic: float, mixup: float) -> Any:
        """Our settings under Ultralytics' names; a fresh value each time, since its transforms change theirs."""
        chosen = self._settings
        return get_cfg(
            overrides={
                "mosaic": mosaic,
                "mixup": mixup,
                "scale": chosen.scale,
                "translate": chosen.translate,
                "degrees": chosen.rotate_degrees,
                "fliplr": chosen.flip_left_right,
                "flipud": chosen.flip_up_down,
                "hsv_h": chosen.hue,
                "hsv_s": chosen.saturation,
                "hsv_v": chosen.brightness,
                "deterministic": False,
            }
        )

    def get_img_files(self, img_path: Any) -> list[str]:
        return [label["im_file"] for label in self._labels]

    def get_labels(self) -> list[dict]:
        return self._labels

    def cache_images(self) -> None:
        """As the parent's, without its progress bar, which no setting silences."""
        with ThreadPoolExecutor() as pool:
            loaded = list(pool.map(self.load_image, range(self.ni)))
        images, self.im_hw0, self.im_hw = (list(part) for part in zip(*loaded, strict=True))
        self.ims: Any = self._ImageCache(images)

    def load_image(self, i: int, rect_mode: bool = True, resize_short: bool = False) -> tuple:
        """As the parent's.

        Raises:
            InvalidInput: the object does not decode to an image.
        """
        try:
            return super().load_image(i, rect_mode, resize_short)
        except (FileNotFoundError, cv2.error, OSError) as broken:
            raise InvalidInput(
                f"image {self.im_files[i]}: does not decode; its object in the store is corrupt"
            ) from broken


def _label(row: dict[str, Any], file: Path) -> dict[str, Any]:
    size = np.array([row["width_px"], row["height_px"]] * 2, np.float32)
    corners = np.asarray(row["boxes"], np.float32).reshape(-1, 4) / size
    low, high = corners[:, :2], corners[:, 2:]
    return {
        "im_file": str(file),
        "shape": (row["height_px"], row["width_px"]),
        "cls": np.asarray(row["class_ids"], np.float32).reshape(-1, 1),
        "bboxes": np.concatenate([(low + high) / 2, high - low], axis=1),
        "segments": [],
        "keypoints": None,
        "normalized": True,
        "bbox_format": "xywh",
    }


class Epoch(torch.utils.data.Dataset):
    """One epoch's images in their order.

    Every place seeds the generators for itself, so that neither the number of ranks nor of data processes nor a
    restart changes what it shows.
    """

    def __init__(self, images: LabeledImages, repeats: Sequence[int], seed: int, epoch: int) -> None:
        self.images = images
        self.seed = seed
        self.epoch = epoch
        pool = np.repeat(np.arange(len(images)), repeats)
        self.order = np.random.default_rng([seed, epoch]).permutation(pool)
        for transform in _flattened(images.transforms):
            if isinstance(transform, Mosaic):
                transform.get_indexes = partial(  # type: ignore[method-assign]
                    random.choices, pool.tolist(), k=transform.n - 1
                )

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> dict[str, Any]:
        draw = np.random.SeedSequence([self.seed, self.epoch, place]).generate_state(1)[0]
        random.seed(int(draw))
        np.random.seed(draw)
        return self.images[int(self.order[place])]


def _flattened(transform: Any) -> Iterator[Any]:
    yield transform
    inner = [*getattr(transform, "transforms", []), getattr(transform, "pre_transform", None)]
    for part in inner:
        if part is not None:
            yield from _flattened(part)


def batches(
    epoch: Epoch, batch_size: int, workers: int, rank: int = 0, world_size: int = 1
) -> Iterator[dict[str, Any]]:
    """This rank's share of every batch of the epoch, in order; the places of a batch go to the ranks in turn.

    The last batch is left out where it would fill less than a quarter (batch statistics of two images are noise),
    unless it is the only one.
    """
    full = len(epoch) // batch_size
    places = [range(start * batch_size, (start + 1) * batch_size) for start in range(full)]
    rest = range(full * batch_size, len(epoch))
    if len(rest) * 4 >= batch_size or not places:
        places.append(rest)
    mine = [list(batch[rank::world_size]) for batch in places]
    if workers == 0:
        for chosen in mine:
            yield LabeledImages.collate_fn([epoch[place] for place in chosen])
        return
    yield from torch.utils.data.DataLoader(
        epoch,
        batch_sampler=mine,
        num_workers=workers,
        collate_fn=LabeledImages.collate_fn,
        pin_memory=torch.cuda.is_available(),
    )
