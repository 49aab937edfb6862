"""From boxes to tracks and their visits to sectors. Begin with `track`."""
