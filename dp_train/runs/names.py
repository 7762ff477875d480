"""The words that a configuration may use, where it chooses by name; written by name (`engine.name: HOOKS`).

Enums of the rooms below that need torch are repeated here: a typing error in a configuration is then
found in half a second, not after five. A test holds the words together.
"""

from __future__ import annotations

from enum import Enum


class TaskName(Enum):
    """The tasks that a configuration can name."""

    MEETING_SUMMARY = "meeting_summary"
    CHAT_COMPOSE = "chat_compose"


class ContextName(Enum):
    """`dp_train.tasks.chat_compose.ContextKind`."""

    OWN = "own"
    THREAD = "thread"


class ArchitectureName(Enum):
    """`dp_train.models.build.Architecture`."""

    DECODER = "decoder"
    ENCODER_DECODER = "encoder_decoder"


class ModelSource(Enum):
    """Where a model's first weights come from."""

    SCRATCH = "scratch"
    PRETRAINED = "pretrained"
    SMOLLM2 = "smollm2"


class ExportName(Enum):
    """`dp_train.models.export.Export`."""

    MERGED = "merged"
    ADAPTER = "adapter"


class TrainableName(Enum):
    """`dp_train.models.trainable.Trainable`."""

    ALL = "all"
    NORMS_AND_BIASES = "norms_and_biases"
    LAST_LAYERS = "last_layers"
    LORA = "lora"


class PrivateEngineName(Enum):
    """Those of `dp_train.engines.base.EngineName` that clip; without privacy no choice is left."""

    NAIVE = "naive"
    HOOKS = "hooks"
    GHOST = "ghost"
    FUNCTORCH = "functorch"
    BOOKKEEPING = "bookkeeping"


class ClippingName(Enum):
    """`dp_train.engines.base.Clipping`."""

    FLAT = "flat"
    AUTOMATIC = "automatic"
    PER_LAYER = "per_layer"


class CorpusSource(Enum):
    """Where conversations come from; the public corpora among them are for research alone."""

    EMBEDDED = "embedded"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    HF = "hf"
    GITTER = "gitter"
    QMSUM = "qmsum"
    CRD3 = "crd3"
    DIALOGSUM = "dialogsum"

    @property
    def benchmark(self) -> bool:
        """Whether its people consented to nothing."""
        return self in (CorpusSource.GITTER, CorpusSource.QMSUM, CorpusSource.CRD3, CorpusSource.DIALOGSUM)


class LanguageName(Enum):
    """`dp_train.corpora.adapters.language.Language`."""

    EN = "en"


class TrainOn(Enum):
    """Whose text a run learns from: the private population's, or published text, to choose settings on for nothing."""

    PRIVATE = "private"
    PUBLIC = "public"


class StartMode(Enum):
    """From which weights a run starts."""

    AUTO = "auto"
    PUBLIC = "public"
    NONE = "none"


class PrivacyMode(Enum):
    """Whether a run clips and adds noise."""

    DP = "dp"
    NONE = "none"


class NoiseSourceName(Enum):
    """Where the noise comes from: a secret seed (resumes bit for bit) or the system's CSPRNG."""

    SEEDED = "seeded"
    SECURE = "secure"


class OptimizerName(Enum):
    """The optimizers that a configuration can name."""

    ADAMW = "adamw"
    SGD = "sgd"
    NOISE_SCALED = "noise_scaled"


class ScheduleName(Enum):
    """How the learning rate moves over the steps."""

    CONSTANT = "constant"
    LINEAR = "linear"


class TrackerName(Enum):
    """Where runs are recorded."""

    MLFLOW = "mlflow"
    OFF = "off"


class PrecisionName(Enum):
    """What layers compute in; weights, norms, sums and noise are float32 in all of them."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class DeviceName(Enum):
    """Where the model is trained."""

    CPU = "cpu"
    CUDA = "cuda"
