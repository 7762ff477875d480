"""The bugs that are planted stand in the package, where `dp-train audit --self-test` plants them too."""

from __future__ import annotations

from dp_train.audit.planting import COMPANY as COMPANY
from dp_train.audit.planting import DRAW as DRAW
from dp_train.audit.planting import ENCODING as ENCODING
from dp_train.audit.planting import HELD as HELD
from dp_train.audit.planting import NOISE as NOISE
from dp_train.audit.planting import OPTIMIZER as OPTIMIZER
from dp_train.audit.planting import PLAN as PLAN
from dp_train.audit.planting import SELF_CHECK as SELF_CHECK
from dp_train.audit.planting import STILL as STILL
from dp_train.audit.planting import Plant as Plant
from dp_train.audit.planting import Run as Run
from dp_train.audit.plants import PLANTS as PLANTS
