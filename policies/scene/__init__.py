"""What a camera's state remembers of its scene: what it shows, and where things move that go nowhere."""
