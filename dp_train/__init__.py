"""Trains meeting-summary and chat-compose models only on what people agreed to, with a true per-person (ε, δ).

Names below load what they need at first use: ``import dp_train`` itself imports nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dp_train.anonymize import Anonymizer as Anonymizer
    from dp_train.consent.event_json import read_events as read_events
    from dp_train.consent.events import ConsentEvent as ConsentEvent
    from dp_train.consent.events import Purpose as Purpose
    from dp_train.consent.gate import ConsentedCorpus as ConsentedCorpus
    from dp_train.consent.gate import ConsentPolicy as ConsentPolicy
    from dp_train.consent.gate import gate as gate
    from dp_train.consent.principals import PrincipalKey as PrincipalKey
    from dp_train.consent.registry import ConsentRegistry as ConsentRegistry
    from dp_train.conversations import Conversation as Conversation
    from dp_train.conversations import Example as Example
    from dp_train.conversations import Turn as Turn
    from dp_train.corpora.published import public as public
    from dp_train.corpora.readers import read_csv as read_csv
    from dp_train.corpora.readers import read_jsonl as read_jsonl
    from dp_train.corpora.readers import read_parquet as read_parquet
    from dp_train.corpora.synthetic import Population as Population
    from dp_train.corpora.synthetic import SyntheticCorpus as SyntheticCorpus
    from dp_train.engines.base import Clipping as Clipping
    from dp_train.engines.base import EngineName as EngineName
    from dp_train.engines.noise import NoiseKind as NoiseKind
    from dp_train.errors import DpTrainError as DpTrainError
    from dp_train.models.build import TINY as TINY
    from dp_train.models.build import Architecture as Architecture
    from dp_train.models.build import ModelSpec as ModelSpec
    from dp_train.models.build import build_model as build_model
    from dp_train.models.tokenizer import train_tokenizer as train_tokenizer
    from dp_train.models.weights import declare_origin as declare_origin
    from dp_train.privacy.monitor import EpsilonClaim as EpsilonClaim
    from dp_train.privacy.plan import PrivacyPlan as PrivacyPlan
    from dp_train.privacy.plan import Unit as Unit
    from dp_train.privacy.tables import UnitTables as UnitTables
    from dp_train.privacy.units import Units as Units
    from dp_train.privacy.units import build_units as build_units
    from dp_train.runs.inventory import inventory as inventory
    from dp_train.runs.prepare import Parts as Parts
    from dp_train.runs.prepare import prepare as prepare
    from dp_train.runs.recipe import Recipe as Recipe
    from dp_train.runs.result import RunResult as RunResult
    from dp_train.runs.run import run as run
    from dp_train.runs.tracker import MlflowTracker as MlflowTracker
    from dp_train.tasks.chat_compose import ChatCompose as ChatCompose
    from dp_train.tasks.meeting_summary import MeetingSummary as MeetingSummary
    from dp_train.training.callbacks import Callback as Callback
    from dp_train.training.callbacks import PrivateStep as PrivateStep
    from dp_train.training.callbacks import Result as Result
    from dp_train.training.callbacks import RunStart as RunStart
    from dp_train.training.callbacks import StepEnd as StepEnd
    from dp_train.training.checkpoint import CheckpointFolder as CheckpointFolder
    from dp_train.training.method import Execution as Execution
    from dp_train.training.method import Method as Method
    from dp_train.training.optimizers import adamw as adamw
    from dp_train.training.optimizers import from_scheduler as from_scheduler
    from dp_train.training.optimizers import sgd as sgd
    from dp_train.training.seeds import Seeds as Seeds
    from dp_train.training.trainer import Trainer as Trainer

_HOMES = {
    "Anonymizer": "anonymize",
    "Architecture": "models.build",
    "Callback": "training.callbacks",
    "ChatCompose": "tasks.chat_compose",
    "CheckpointFolder": "training.checkpoint",
    "Clipping": "engines.base",
    "ConsentEvent": "consent.events",
    "ConsentPolicy": "consent.gate",
    "ConsentRegistry": "consent.registry",
    "ConsentedCorpus": "consent.gate",
    "Conversation": "conversations",
    "DpTrainError": "errors",
    "EngineName": "engines.base",
    "EpsilonClaim": "privacy.monitor",
    "Example": "conversations",
    "Execution": "training.method",
    "MeetingSummary": "tasks.meeting_summary",
    "Method": "training.method",
    "MlflowTracker": "runs.tracker",
    "ModelSpec": "models.build",
    "NoiseKind": "engines.noise",
    "Parts": "runs.prepare",
    "Population": "corpora.synthetic",
    "PrincipalKey": "consent.principals",
    "PrivacyPlan": "privacy.plan",
    "PrivateStep": "training.callbacks",
    "Purpose": "consent.events",
    "Recipe": "runs.recipe",
    "Result": "training.callbacks",
    "RunResult": "runs.result",
    "RunStart": "training.callbacks",
    "Seeds": "training.seeds",
    "StepEnd": "training.callbacks",
    "SyntheticCorpus": "corpora.synthetic",
    "TINY": "models.build",
    "Trainer": "training.trainer",
    "Turn": "conversations",
    "Unit": "privacy.plan",
    "UnitTables": "privacy.tables",
    "Units": "privacy.units",
    "adamw": "training.optimizers",
    "build_model": "models.build",
    "build_units": "privacy.units",
    "declare_origin": "models.weights",
    "from_scheduler": "training.optimizers",
    "gate": "consent.gate",
    "inventory": "runs.inventory",
    "prepare": "runs.prepare",
    "public": "corpora.published",
    "read_csv": "corpora.readers",
    "read_events": "consent.event_json",
    "read_jsonl": "corpora.readers",
    "read_parquet": "corpora.readers",
    "run": "runs.run",
    "sgd": "training.optimizers",
    "train_tokenizer": "models.tokenizer",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'dp_train' has no attribute {name!r}") from None
    value = getattr(import_module(f"dp_train.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
