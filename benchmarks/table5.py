"""Table 5: table 4's protocol on photographs at 224 x 224: nine categories known, one learned on the device.

Made for a folder of ten categories (Imagenette's layout works as it is). The teacher is trained here from scratch on
these photographs alone, a thousand or so, and so is far from what ImageNet's million would make of it: what the methods
keep and learn can be compared, the accuracies not with the paper's. The baselines' hyper-parameters are those that were
chosen on CIFAR-10, and so are those of our round. Where the new category has 50 test images, its
accuracy is known to within 12 points.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks import table4
from benchmarks.cells import Cell
from benchmarks.setting import Setting

TABLE = replace(table4.TABLE, title="9+1 on photographs at 224")


def cells(setting: Setting) -> list[Cell]:
    """Those of table 4; data, teacher and recipes are the photographs' own."""
    return table4.cells(setting)
