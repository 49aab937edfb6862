"""Which ensemble answers: loaded, checked, swapped and watched. Begin with `service`."""
