"""What models are recommended for."""

USES = ("chat", "code", "reasoning", "drafting")
