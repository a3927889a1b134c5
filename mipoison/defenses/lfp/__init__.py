"""Label-flipping poisoning of a small subset of output vectors (arXiv 2412.07575)."""

from mipoison.defenses.lfp.audit import Audit
from mipoison.defenses.lfp.call import lfp
from mipoison.defenses.lfp.defense import LFP
from mipoison.defenses.lfp.targets import runner_up, surrogate_worst

__all__ = ["LFP", "Audit", "lfp", "runner_up", "surrogate_worst"]
