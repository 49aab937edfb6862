"""From labels to votes and verdicts. Begin with `judgement`."""
