"""The site policy: all that a person can tune, and how it is read from TOML. Begin with `site_policy`."""
