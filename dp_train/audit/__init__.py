"""Attacks on a run, as a library: canaries in, scores in, lower bounds on ε out; usable on any trainer's scores.

`canaries` and `one_run` attack a recipe of ours; `scores`, `bounds`, `exposure` and `roc` take and give plain numbers.
A bound is "consistent with" a claim or "refutes" it; it proves nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dp_train.audit.bounds import LowerBound as LowerBound
    from dp_train.audit.bounds import f_dp as f_dp
    from dp_train.audit.bounds import steinke as steinke
    from dp_train.audit.bounds import tightest as tightest
    from dp_train.audit.bounds import two_run as two_run
    from dp_train.audit.bounds import verdict as verdict
    from dp_train.audit.canaries import CanaryKind as CanaryKind
    from dp_train.audit.canaries import CanaryPeople as CanaryPeople
    from dp_train.audit.canaries import DiracCanaries as DiracCanaries
    from dp_train.audit.canaries import draw_coins as draw_coins
    from dp_train.audit.exposure import Exposure as Exposure
    from dp_train.audit.exposure import chance_of_ranks as chance_of_ranks
    from dp_train.audit.exposure import exposure_of as exposure_of
    from dp_train.audit.guesses import planned_guesses as planned_guesses
    from dp_train.audit.one_run import OneRun as OneRun
    from dp_train.audit.one_run import black_box as black_box
    from dp_train.audit.one_run import black_box_bounds as black_box_bounds
    from dp_train.audit.one_run import exposure_run as exposure_run
    from dp_train.audit.one_run import unit_losses as unit_losses
    from dp_train.audit.one_run import white_box as white_box
    from dp_train.audit.one_run import white_box_bounds as white_box_bounds
    from dp_train.audit.roc import Interval as Interval
    from dp_train.audit.roc import Roc as Roc
    from dp_train.audit.roc import area_interval as area_interval
    from dp_train.audit.roc import clopper_pearson as clopper_pearson
    from dp_train.audit.roc import roc_curve as roc_curve
    from dp_train.audit.scores import banded_scores as banded_scores
    from dp_train.audit.scores import loss_difference as loss_difference
    from dp_train.audit.scores import mechanism_scores as mechanism_scores
    from dp_train.audit.scores import rmia as rmia
    from dp_train.audit.scores import sampled_gaussian_scores as sampled_gaussian_scores
    from dp_train.audit.scores import seen_noise as seen_noise
    from dp_train.audit.scores import simulate as simulate
    from dp_train.privacy.trade_off import Claim as Claim

_HOMES = {
    "CanaryKind": "audit.canaries",
    "CanaryPeople": "audit.canaries",
    "Claim": "privacy.trade_off",
    "DiracCanaries": "audit.canaries",
    "Exposure": "audit.exposure",
    "Interval": "audit.roc",
    "LowerBound": "audit.bounds",
    "OneRun": "audit.one_run",
    "Roc": "audit.roc",
    "area_interval": "audit.roc",
    "banded_scores": "audit.scores",
    "black_box": "audit.one_run",
    "black_box_bounds": "audit.one_run",
    "chance_of_ranks": "audit.exposure",
    "clopper_pearson": "audit.roc",
    "draw_coins": "audit.canaries",
    "exposure_of": "audit.exposure",
    "exposure_run": "audit.one_run",
    "f_dp": "audit.bounds",
    "loss_difference": "audit.scores",
    "mechanism_scores": "audit.scores",
    "planned_guesses": "audit.guesses",
    "rmia": "audit.scores",
    "roc_curve": "audit.roc",
    "sampled_gaussian_scores": "audit.scores",
    "steinke": "audit.bounds",
    "seen_noise": "audit.scores",
    "simulate": "audit.scores",
    "tightest": "audit.bounds",
    "two_run": "audit.bounds",
    "unit_losses": "audit.one_run",
    "verdict": "audit.bounds",
    "white_box": "audit.one_run",
    "white_box_bounds": "audit.one_run",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'dp_train.audit' has no attribute {name!r}") from None
    value = getattr(import_module(f"dp_train.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
