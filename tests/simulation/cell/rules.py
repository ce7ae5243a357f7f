"""What a broken rule is."""


class RuleBroken(AssertionError):
    """Raised when a run broke a rule; the message names the rule and the evidence."""


def require(condition: bool, rule: str, evidence: object) -> None:
    """Raise unless a rule is kept.

    Raises:
        RuleBroken: it is not.
    """
    if not condition:
        raise RuleBroken(f"{rule}: {evidence}")
