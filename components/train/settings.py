"""Settings of the train step."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from components.shared.settings import Settings

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class TrainSettings(Settings):
    """What a night may vary in train."""

    architecture: str = "yolo26n"
    """A name that `yanshan models` prints, or an Ultralytics detection architecture with its size letter."""
    weights: str = ""
    """Own starting weights (a .pt file) for the first night; empty starts from scratch."""
    warm_start: bool = True
    """Start from the champion's weights where there is a champion of the same architecture."""
    epochs: PositiveInt = 100
    """Epochs of a night without a champion."""
    warm_start_epochs: PositiveInt = 40
    """Epochs of a night that starts from the champion."""
    image_size_px: Annotated[int, Field(gt=0, multiple_of=32)] = 640
    """Side of the square network input."""
    batch_size: NonNegativeInt = 16
    """Images a step, over all ranks; 0 tries out how many fit into memory, at most `effective_batch_size`."""
    effective_batch_size: PositiveInt = 64
    """Gradients are summed over steps until they hold this many images."""
    optimizer: Literal["auto", "AdamW", "SGD", "MuSGD"] = "auto"
    """`auto` takes AdamW for short runs and MuSGD beyond 10,000 updates, each with its own learning rate."""
    learning_rate: PositiveFloat = 0.01
    """Peak rate; `auto` sets its own."""
    final_learning_rate_share: Share = 0.01
    """The last step's rate as a share of the peak."""
    warm_start_learning_rate_share: Share = 0.5
    """The peak as a share of `learning_rate` where the champion's weights are the start."""
    schedule: Literal["linear", "cosine"] = "linear"
    momentum: Share = 0.937
    weight_decay: NonNegativeFloat = 0.0005
    warmup_epochs: NonNegativeFloat = 3.0
    average_updates: PositiveFloat = 2000.0
    """Time constant, in updates, after which the weight average (EMA) has its full memory."""
    box_gain: PositiveFloat = 7.5
    class_gain: PositiveFloat = 0.5
    distribution_gain: PositiveFloat = 1.5
    key_classes: tuple[str, ...] = ()
    """Classes that must not be missed: their class loss counts `key_class_gain` times."""
    key_class_gain: Annotated[float, Field(ge=1.0)] = 2.0
    mosaic: Share = 1.0
    """Chance that an image becomes a mosaic of four."""
    mosaic_off_epochs: NonNegativeInt = 10
    """Epochs at the end without mosaic, so that training ends on images as they are."""
    mixup: Share = 0.0
    scale: Share = 0.5
    translate: Share = 0.1
    rotate_degrees: NonNegativeFloat = 0.0
    flip_left_right: Share = 0.5
    flip_up_down: Share = 0.0
    hue: Share = 0.015
    saturation: Share = 0.7
    brightness: Share = 0.4
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto`: bfloat16 where the processor multiplies it natively, else fp16 on a GPU and fp32 on a CPU."""
    workers: NonNegativeInt = 8
    """Data processes a rank on a GPU machine; a CPU run loads its images itself."""
    validate_every_epochs: NonNegativeInt = 10
    """How often val is measured while training; 0 measures after the last epoch only."""
    patience_epochs: NonNegativeInt = 0
    """Stop when mAP has not risen for so many epochs; 0 never stops early."""
    keep: Literal["last", "best"] = "last"
    """Which weight average is kept: the last one (nothing chosen on val), or the best on val."""
    teacher: str = ""
    """Checkpoint (model.pt) of a larger network to learn from beside the labels; empty learns from labels alone."""
    distill_gain: NonNegativeFloat = 1.0
    """How much the distance from the teacher weighs beside the loss on labels."""
    ranks: NonNegativeInt = 0
    """Processes of this machine, or of each node, that share every batch; 0 takes one a GPU."""
    nodes: PositiveInt = 1
    """Machines that train together, as a TrainJob of Kubeflow Trainer; 1 trains where the step runs."""
    sync_batch_norm: bool = False
    """Batch-norm statistics over the batches of all ranks instead of each rank's own; GPUs only."""
    compile: bool = False
    """Let `torch.compile` fuse the network's kernels: minutes before the first step, which pay in long trainings."""
    state_every_epochs: PositiveInt = 1
    """How often the full state goes to the store; a killed run repeats at most so many epochs."""
    seed: NonNegativeInt = 0
