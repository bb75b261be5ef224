"""What a training run is: frozen dataclasses, read from and written to plain dictionaries."""

from dataclasses import dataclass, field
from typing import Literal

from train.features import VisualInput
from train.model.attention import AttentionKernel
from train.model.frame_sampling_block import SkipForm
from train.model.fusion import Fusion
from train.model.space_time import SpaceTime
from train.model.sparse_sampling import Draws
from train.options import ConfigError, Options

Task = Literal["answer", "choose", "pretrain"]
Method = Literal[
    "videodistill",
    "mean_frame",
    "single_random_frame",
    "text_only",
    "atp",
    "temp_atp",
    "hcrn",
    "psac",
    "mist",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSizes:
    """The sizes that the store decides: width, frames and patches of every clip."""

    dim: int
    """D, the width of CLS, patch and sentence features."""
    frames: int
    """N, the cached frames of a clip."""
    patches: int
    """P, the patch tokens of a frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig(Options):
    """VideoDistill's options; where the paper is silent, `docs/paper-map.md` says why this default."""

    selected: int = 16
    """K, the frames that the sampler picks (paper: 16)."""
    sampling_blocks: int = 3
    """L, the FS-Blocks (paper: 3)."""
    refinement_blocks: int = 2
    """The VR-Blocks (paper: silent), or the transformer's layers (Table 4 (d): 3)."""
    heads: int = 8
    """Attention and gate heads; must divide the feature width (paper: silent)."""
    mlp_ratio: int = 4
    """Hidden width of the MLPs over D (paper: silent; ViT's and Frozen in Time's)."""
    sampler: Literal["learned", "uniform", "random", "clip_similarity"] = "learned"
    """`learned` is the paper's; the others learn nothing, and two are blind to the question."""
    draws: Draws = "independent"
    """`independent` is Eq. 4-5 to the letter; `without_replacement` never picks a frame twice."""
    selection: Literal["hard", "soft"] = "hard"
    """`hard` is Eq. 5-6; `soft` reads the weighted sums of all frames (Table 4 (c))."""
    gradient_frames: int = 0
    """Frames besides the selected ones that Eq. 6 has a gradient for, drawn at random: an unbiased,
    cheaper estimate (docs/model-speed.md). 0 computes the exact gradient, of all frames."""
    fusion: Fusion = "la_gate"
    """How text acts on vision in both modules; `v2t` and `t2v` are cross-attention (Table 4 (e))."""
    refinement: Literal["gated", "transformer"] = "gated"
    """The paper's VR-Blocks, or the plain transformer that replaces them (Table 4 (a), (d))."""
    space_time: SpaceTime = "frozen"
    """The space-time layer of a VR-Block (paper: "any existing")."""
    skip: SkipForm = "frozen"
    """Where the FS-Block's residual starts: the block's input, or the gate's output."""
    gate_init: Literal["identity", "random"] = "identity"
    """Start of w_q and w_k in every LA-Gate."""
    sampler_init: Literal["clip_prior", "random"] = "clip_prior"
    """Start of the sampler; `clip_prior` ranks frames by CLIP similarity before any training."""
    sampler_gain: float = 20.0
    """How sharp the clip prior starts: first logits per unit of cosine(question, frame)."""
    text: Literal["linear", "none", "finetune"] = "linear"
    """A trainable linear map on the cached t_cls, starting as the identity; that feature itself; or
    the text encoder, trained with the rest (the paper)."""
    standardise: bool = True
    """Centre and scale the frozen features with training statistics."""
    whitened_text: bool = False
    """Give the refinement two rows of text: t_cls, and t_cls whitened over the training questions,
    which tells apart what a frozen text tower makes nearly alike (docs/demo.md)."""
    temporal_on_selected: bool = True
    """Add an embedding of the selected frame's index to its patches."""
    spatial_on_patches: bool = True
    """Add an embedding of the patch's place."""
    refinement_final_norm: bool = True
    """Close the refinement with Frozen in Time's LayerNorm."""
    head_dropout: float = 0.0
    """Dropout inside the answer head."""
    attention: AttentionKernel = "auto"
    """`auto` is explicit matrix products on CPU and torch's fused kernels elsewhere, which on a CPU are
    slower (docs/adr/0005-attention-on-cpu.md)."""

    def __post_init__(self) -> None:
        self._check_types()
        for name in ("selected", "sampling_blocks", "refinement_blocks", "heads", "mlp_ratio"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require(
            "selection",
            self.selection == "hard" or self.sampler == "learned",
            "hard but for sampler='learned'",
        )
        self._require(
            "whitened_text",
            not self.whitened_text or (self.standardise and self.text != "finetune"),
            "false where features are not standardised or the text encoder is trained",
        )
        self._require("gradient_frames", self.gradient_frames >= 0, "0 or more")
        self._require("sampler_gain", self.sampler_gain > 0, "above 0")
        self._require("head_dropout", 0 <= self.head_dropout < 1, "in [0, 1)")

    def check_selected(self, sizes: FeatureSizes) -> None:
        """Refuse more selected frames than a clip has.

        Raises:
            ConfigError: K is above N.
        """
        if self.selected > sizes.frames:
            raise ConfigError(
                f"ModelConfig.selected is {self.selected}, but the store has {sizes.frames} frames "
                "per clip; choose at most that many"
            )

    def check_text(self, has_tower: bool) -> None:
        """Refuse to train a text encoder that is not there.

        Raises:
            ConfigError: the option asks for a tower and there is none.
        """
        if self.text == "finetune" and not has_tower:
            raise ConfigError(
                'ModelConfig.text is "finetune", and no text tower was given to be trained; name the '
                "encoder's weights, or use the cached sentence features: --set model.text=linear"
            )

    def check_heads(self, sizes: FeatureSizes) -> None:
        """Refuse heads that do not divide the feature width.

        Raises:
            ConfigError: D is no multiple of the heads.
        """
        if sizes.dim % self.heads:
            raise ConfigError(
                f"ModelConfig.heads is {self.heads}, which does not divide the feature width "
                f"{sizes.dim}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainingConfig(Options):
    """Which of Eq. 10's losses a pretraining run sums, and their constants."""

    matching: bool = True
    """Video-text matching, Eq. 7. Without it pairs are ranked by the cosine that Eq. 8 trains."""
    exchange: float = 0.5
    """Probability that two pairs exchange their captions (paper: 0.5)."""
    contrastive: bool = True
    """The contrastive constraint on matched pairs, Eq. 8."""
    contrastive_tau: float = 0.07
    """Its temperature (paper: 0.07)."""
    masked_words: bool = True
    """Vision-guided masked language modelling, Eq. 9; needs the encoder's text tower."""
    mask_share: float = 0.15
    """Share of a caption's words that are to be told (BERT, and so the paper: 0.15)."""
    mask_by_token: float = 0.8
    """Share of those that a mask replaces (BERT: 0.8)."""
    mask_by_random: float = 0.1
    """Share of those that any other word replaces (BERT: 0.1); the rest stay as they are."""

    def __post_init__(self) -> None:
        self._check_types()
        self._require("mask_share", 0 < self.mask_share <= 1, "in (0, 1]")
        for name in ("mask_by_token", "mask_by_random"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        self._require(
            "mask_by_random",
            self.mask_by_token + self.mask_by_random <= 1,
            f"at most 1 - mask_by_token, which is {self.mask_by_token}",
        )
        self._require("exchange", 0 <= self.exchange <= 1, "in [0, 1]")
        self._require("contrastive_tau", self.contrastive_tau > 0, "above 0")
        self._require(
            "matching",
            self.matching or self.contrastive,
            "true where contrastive is not: nothing else learns which clip a caption is of",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig(Options):
    """One training run: the task, the model, the schedule and the machine."""

    task: Task = "answer"
    """Answers in words, choices by the matching head, or pretraining on captions."""
    start_from: str = ""
    """Folder of the run whose best weights this one starts from, as seen from this run's folder."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Options of the model."""
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    """Options of the task `pretrain`."""
    method: Method = "videodistill"
    """The model, or one of the baselines that it is measured against."""
    visual: VisualInput = "real"
    """`static` and `noise` train and evaluate without the video: the language-only run."""
    seed: int = 1
    """Seeds weights, order and noise."""
    steps: int = 2000
    """Optimisation steps; the schedule's length."""
    clips_per_batch: int = 16
    """Groups of questions in a step's batch, each about one clip, whose features are read once."""
    questions_per_clip: int = 4
    """Questions in a group; 1 is the paper's sampling."""
    accumulate: int = 1
    """Equal parts that a step's batch is computed in, one after the other or by several processes."""
    lr: float = 5e-4
    """Peak learning rate (paper: silent)."""
    text_lr_scale: float = 0.02
    """What the learning rate is multiplied by for the text tower of `model.text = "finetune"`: it
    is trained already, and gets 1e-5 where the rest gets 5e-4 (paper: silent)."""
    weight_decay: float = 0.01
    """AdamW's decay of matrices; biases, norms and embeddings have none."""
    warmup_steps: int = 100
    """Steps of linear warm-up, then cosine to 0."""
    clip_norm: float = 1.0
    """The gradient's largest norm."""
    label_smoothing: float = 0.0
    """Of the cross-entropy over answer classes; only the task `answer` has them."""
    ema_decay: float = 0.0
    """Validate and keep an exponential moving average of the weights; 0 is off."""
    patience: int = 0
    """Stop after so many validations without a new best; 0 never stops early."""
    tau_start: float = 1.0
    """Temperature of Eq. 4 at the first step (paper: silent)."""
    tau_end: float = 0.5
    """Temperature of Eq. 4 at the last step; evaluation uses this one."""
    vocabulary_limit: int = 4000
    """Most answer classes kept; questions with a rarer answer are left out of training."""
    validate_every: int = 200
    """Steps between validations; each writes a checkpoint."""
    evaluation_questions: int = 64
    """Questions in an evaluation batch."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` runs matrix products in bfloat16 by autocast; weights stay float32."""
    device: str = "cpu"
    """A torch device; everything but `cpu` is not run by the default tests."""
    cache_in_ram: Literal["auto", "always", "never"] = "auto"
    """Hold all features of the run in memory; `auto` does where they fit under the limit."""
    ram_limit_mib: int = 4096
    """The limit that `cache_in_ram="auto"` keeps."""
    device_limit_mib: int = 0
    """Hold all features of the run on `device` where they take at most this; 0 never does."""
    read_ahead: int = 2
    """Batches that are read while the model works on one."""
    read_ahead_mib: int = 2048
    """Memory that these batches may take together; one is held in any case."""
    read_threads: int = 4
    """Parts of a batch that are read at a time."""
    statistics_clips: int = 256
    """Training clips that the standardisation is computed from, at most."""
    min_coverage: float = 1.0
    """Least share of a split's questions whose clips have features; those without are left out."""
    allow_unknown_identity: bool = False
    """Train on an imported store of which nobody told all that changes a feature."""

    def __post_init__(self) -> None:
        self._check_types()
        for name in (
            "steps",
            "clips_per_batch",
            "questions_per_clip",
            "accumulate",
            "vocabulary_limit",
            "validate_every",
            "evaluation_questions",
            "read_ahead",
            "read_threads",
            "statistics_clips",
        ):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("lr", "clip_norm", "tau_start", "tau_end"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in (
            "seed",
            "text_lr_scale",
            "weight_decay",
            "warmup_steps",
            "ram_limit_mib",
            "device_limit_mib",
            "read_ahead_mib",
            "patience",
        ):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in ("label_smoothing", "ema_decay"):
            self._require(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        self._require(
            "label_smoothing",
            self.task == "answer" or not self.label_smoothing,
            "0 but for task='answer'",
        )
        self._require("min_coverage", 0 <= self.min_coverage <= 1, "in [0, 1]")
        self._require("warmup_steps", self.warmup_steps < self.steps, f"below steps={self.steps}")
        self._require(
            "accumulate",
            self.clips_per_batch % self.accumulate == 0,
            f"a divisor of clips_per_batch={self.clips_per_batch}",
        )
        self._require(
            "method",
            self.task != "pretrain" or self.method == "videodistill",
            "'videodistill' for task='pretrain': the losses are on v*_cls",
        )
        self._require(
            "method",
            self.model.text != "finetune" or self.method == "videodistill",
            "'videodistill' for model.text='finetune': baselines read cached sentence features",
        )

    @property
    def clips_per_part(self) -> int:
        """Groups of questions that go through the model at once."""
        return self.clips_per_batch // self.accumulate
