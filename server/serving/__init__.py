"""Which ensemble answers: loads it, checks it, swaps it and watches it. Begin with `service`."""
