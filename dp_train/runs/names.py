"""The words of a run in a configuration, where it chooses by name; those of a room below stand in the room's `spec`."""

from __future__ import annotations

from dp_train.words import Word


class StartMode(Word):
    """From which weights a run starts."""

    AUTO = "auto"
    PUBLIC = "public"
    PUBLISHED = "published"
    NONE = "none"


class PrivacyMode(Word):
    """Whether a run clips and adds noise."""

    DP = "dp"
    NONE = "none"


class NoiseSourceName(Word):
    """Where the noise comes from: a secret seed (resumes bit for bit) or the system's CSPRNG."""

    SEEDED = "seeded"
    SECURE = "secure"


class TuneOn(Word):
    """Whose texts settings are chosen on: people of the evaluation population who are not reported (`split`), published
    text (`public`), or the very people who are reported (`reported`)."""

    SPLIT = "split"
    PUBLIC = "public"
    REPORTED = "reported"


class TrackerName(Word):
    """Where runs are recorded."""

    MLFLOW = "mlflow"
    OFF = "off"


class PrecisionName(Word):
    """What layers compute in; weights, norms, sums and noise are float32 in all of them."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    BF16 = "bfloat16"


class DeviceName(Word):
    """Where the model is trained."""

    CPU = "cpu"
    CUDA = "cuda"
