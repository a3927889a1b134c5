"""Label-preserving poisoning: the defense, and one file for each objective."""

from mipoison.defenses.lpa.defense import LPA, OBJECTIVES, lpa

__all__ = ["LPA", "OBJECTIVES", "lpa"]
