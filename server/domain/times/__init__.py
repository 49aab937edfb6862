"""Clock, local times and lateness."""
