"""Messages to people's phones and mail: one for each happening, with its picture; never a flood.

`channel` is what the dispatcher holds. `happenings` and `watch` decide what is worth a message, `post` whether it goes
now, later in a digest, or not, and `services` is the door to apprise.
"""
