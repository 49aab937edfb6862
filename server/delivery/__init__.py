"""Events and notices on their way out. `dispatcher` drains the outbox; `channels` holds the ways out."""
