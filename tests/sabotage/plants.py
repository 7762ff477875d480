"""The bugs that are planted stand in the package, where `dp-train audit --self-test` plants them too."""

from __future__ import annotations

from dp_train.audit.plants import DRAW as DRAW
from dp_train.audit.plants import NOISE as NOISE
from dp_train.audit.plants import OPTIMIZER as OPTIMIZER
from dp_train.audit.plants import PLAN as PLAN
from dp_train.audit.plants import PLANTS as PLANTS
from dp_train.audit.plants import SELF_CHECK as SELF_CHECK
from dp_train.audit.plants import STILL as STILL
from dp_train.audit.plants import Plant as Plant
from dp_train.audit.plants import Run as Run
