"""What is wrong with a training, if anything, told from its curves. Arrays in, findings out; no database here."""

from service.diagnosis.case import RATE, Case, Sibling, learning_rate
from service.diagnosis.findings import Code, Diagnosis, Finding, Severity
from service.diagnosis.rules import diagnose
from service.diagnosis.signals import Signal

__all__ = [
    "RATE",
    "Case",
    "Code",
    "Diagnosis",
    "Finding",
    "Severity",
    "Sibling",
    "Signal",
    "diagnose",
    "learning_rate",
]
