"""Sends announcements to a receiver of HTTP requests. README.md has the keys, the forms and how to check a signature.

`channel` decides what an answer means, `messages` writes what is sent, `exchange` makes one request and reads its
answer.
"""
