"""Files and folders: written whole, private, or of a person; and confinement of what may be written."""
