"""The settings file. `settings` declares every setting; `load` reads the file and explains what is wrong with it."""
