// Tells a page that something changed: a `changed` event on the body, which htmx waits for.
