"""Pages for people: what they show, made from requests, schemas and runs."""
