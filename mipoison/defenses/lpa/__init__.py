"""Label-preserving poisoning: the defense, and one file for each objective."""

from mipoison.defenses.lpa.call import lpa
from mipoison.defenses.lpa.defense import AUTO, LPA, OBJECTIVES

__all__ = ["AUTO", "LPA", "OBJECTIVES", "lpa"]
