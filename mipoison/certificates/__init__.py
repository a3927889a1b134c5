"""Certificates: what no adversary can reconstruct from a defense with few answers."""

from mipoison.certificates.certificate import Certificate, Secret
from mipoison.certificates.certify import certify

__all__ = ["Certificate", "Secret", "certify"]
