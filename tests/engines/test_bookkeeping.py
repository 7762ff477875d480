from __future__ import annotations

from engine_contract import EngineContract

from dp_train.engines.base import EngineName


class TestBookkeeping(EngineContract):
    engine = EngineName.BOOKKEEPING
