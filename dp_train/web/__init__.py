"""The consent service: `dp-train consent serve`, for systems with a token and for a person with a link.

`service` does it, `tokens` says who may, `guard` stands before every request, `pages` is what a person sees, `app` is
the one place that knows HTTP paths. Nothing here logs an id, a name or a body.
"""
