"""The data sets, and who holds which rows of them.

Every data set is one file with a ``DESCRIPTION`` and a ``load``; `catalogue.split` finds it by
name. `roles` has what a split consists of, `deal` says who gets which rows, `strangers` lets the
adversary hold other classes than the target.
"""

from mipoison.eval.data.catalogue import check_auxiliary, check_dataset, describe, split
from mipoison.eval.data.roles import Role, Split

__all__ = ["Role", "Split", "check_auxiliary", "check_dataset", "describe", "split"]
