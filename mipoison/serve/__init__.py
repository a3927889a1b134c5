"""Serve a defense and watch what it does to traffic."""

from mipoison.defenses.expected import Expected
from mipoison.serve.meter import Drift, Meter
from mipoison.serve.readings import BOUNDS, Lengths, Readings, Traffic

__all__ = ["BOUNDS", "Drift", "Expected", "Lengths", "Meter", "Readings", "Traffic"]
