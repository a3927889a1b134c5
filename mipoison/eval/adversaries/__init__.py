"""The adversaries: each learns from served vectors and reconstructs inputs.

Every adversary is a small class with ``fit(defended, inputs)`` and ``reconstruct(defended)``, see `base.Adversary`.
`attack` assembles the clean, the standard and the adaptive adversary, and lets each attack all defenses side by side.
"""
